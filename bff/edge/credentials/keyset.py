"""An issuer's public keys (RFC 7517), fetched when needed and kept while its provider is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from math import inf
from typing import Annotated

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK
from pydantic import Field

from bff.core.recent import Recent
from bff.core.settings import Duration, Settings, Size
from bff.edge.credentials.jwk import Kid, usable
from bff.edge.credentials.provider import Provider, ProviderFailed
from bff.edge.credentials.refusals import uncheckable

_MAX_KID = 256


class KeySetSettings(Settings):
    """How issuers' public keys are fetched and kept."""

    refresh: Duration = 300.0
    """How old keys get before they are fetched anew, in the background. A key that its issuer has withdrawn is not
    honoured for longer than this and one fetch."""
    cooldown: Duration = 30.0
    """Between fetches that fail, and between those for a `kid` that is not in the set: clients make those up."""
    retry: Duration = 1.0
    """Between any two fetches; no longer as long as there are no keys at all, and nobody can be served."""
    unknown_for: Duration = 120.0
    """How long such a `kid` is remembered, and not asked for again."""
    timeout: Duration = 2.0
    """For one fetch, and so the longest that a request waits for one."""
    keep: Duration = 86400.0
    """How long keys are used while their provider cannot be reached."""
    max_size: Size = 256 * 1024
    """Of a key set, or a discovery document."""
    max_keys: Annotated[int, Field(ge=1, le=10_000)] = 100
    """In one key set."""
    max_unknown: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Names of unknown keys that are remembered."""


class KeySet:
    """The keys of one issuer.

    Args:
        locate: where the set is, asked with each fetch.
        algorithms: those that its keys may be used with.
        provider: what it is fetched through.
        timer: seconds, never going back.
        changed: called when a fetch brought other keys than there were.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[str]],
        algorithms: Sequence[str],
        settings: KeySetSettings,
        provider: Provider,
        timer: Callable[[], float],
        changed: Callable[[set[Kid], set[Kid]], None],
    ) -> None:
        self._locate, self._provider, self._changed = locate, provider, changed
        self._algorithms, self._settings, self._timer = algorithms, settings, timer
        self._keys: dict[tuple[Kid, str], PyJWK] = {}
        self._unknown: Recent[Kid, float] = Recent(settings.max_unknown)
        self._tried = self._sought = self._loaded = -inf
        self._task: asyncio.Task[None] | None = None

    async def find(self, kid: Kid, algorithm: str) -> PyJWK | None:
        """The key of that name for that algorithm; without a name, the only one there is for the algorithm.

        Raises:
            UpstreamUnavailable: there is no set, since it could not be fetched.
        """
        now = self._timer()
        self.refresh()
        key = self._keys.get((kid, algorithm))
        return key if key is not None else await self._seek(kid, algorithm, now)

    def refresh(self) -> None:
        """Begin to fetch the set where it is due, so that nobody has to wait for it."""
        now = self._timer()
        age = now - self._loaded
        if age >= self._settings.refresh and now - self._tried >= self._pause():
            self._fetch()
        if age >= self._settings.keep and self._keys:
            self._take({})

    def take_over(self, before: KeySet) -> None:
        """Have what it has, as old as it is."""
        self._keys, self._loaded = before._keys, before._loaded
        self._tried, self._sought = before._tried, before._sought

    async def warm(self) -> None:
        """Fetch the set for the first time, or have tried to, in `timeout`."""
        self.refresh()
        if self._task:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _seek(self, kid: Kid, algorithm: str, now: float) -> PyJWK | None:
        if now - self._unknown.get(kid, -inf) < self._settings.unknown_for or len(kid or "") > _MAX_KID:
            return None
        if self._keys and now - self._sought >= self._settings.cooldown and now - self._tried >= self._settings.retry:
            self._sought = now if self._fetch() else self._sought
        if self._task and not self._task.done():
            # Not awaited itself: a waiter that is cancelled would take the fetch of all the others with it.
            await asyncio.wait({self._task}, timeout=self._settings.timeout)
        if not self._keys:
            raise uncheckable()
        key = self._keys.get((kid, algorithm))
        # A set that was asked for before this token came may be older than the token's key.
        if key is None and self._loaded >= self._tried >= now:
            self._unknown[kid] = now
        return key

    def _pause(self) -> float:
        return self._settings.cooldown if self._keys else self._settings.retry

    def _fetch(self) -> bool:
        """One at a time, whatever it was asked for; whether one was begun."""
        if self._task and not self._task.done():
            return False
        self._tried = self._timer()
        # An empty context: the fetch serves all, and belongs to no request's trace.
        self._task = asyncio.create_task(self._load(), context=Context())
        return True

    async def _load(self) -> None:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.timeout):
                url = await self._locate()
                document = await self._provider.get(url, within=settings.timeout, limit=settings.max_size)
            keys = usable(document, self._algorithms, settings.max_keys)
        except (ProviderFailed, TimeoutError, ValueError):
            return  # The keys from before go on. The transport has counted the call.
        self._loaded = self._timer()
        self._take(keys)

    def _take(self, keys: dict[tuple[Kid, str], PyJWK]) -> None:
        before, self._keys = self._keys, keys
        if _material(before) != _material(keys):
            self._changed({kid for kid, _ in before}, {kid for kid, _ in keys})


def _material(keys: dict[tuple[Kid, str], PyJWK]) -> dict[tuple[Kid, str], bytes]:
    return {name: key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for name, key in keys.items()}
