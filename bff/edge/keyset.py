"""An issuer's public keys (RFC 7517), fetched when needed and kept while its provider is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import Context
from math import inf
from typing import Any

import orjson
from jwt import PyJWK, PyJWTError

from bff.core.errors import UpstreamUnavailable

Fetch = Callable[[str], Awaitable[bytes]]
Kid = str | None

MAX_BYTES = 256 * 1024
_MAX_KEYS = 100
_MAX_KID = 256
_MAX_UNKNOWN = 1000
_RSA_BITS = range(2048, 8192 + 1)

_REFRESH_AFTER = 0.8 * 600  # keys live for ten minutes and are fetched anew ahead of that, so that nobody waits
_COOLDOWN = 30.0  # between fetches, whatever kids are asked for: clients make those up
_COLD_PAUSE = 1.0  # the same as long as there are no keys at all, and nobody can be served
_UNKNOWN_FOR = 120.0  # so that one client with an old token does not use up the fetch that a rotation needs
_WAIT = 3.0

_PUBLIC_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class KeySet:
    """The keys behind one `jwks` address.

    Args:
        url: where the set is.
        algorithms: those that its keys may be used with.
        fetch: GET of an address, without redirects, that stops reading past `MAX_BYTES`.
        timer: seconds, never going back.
    """

    def __init__(
        self, url: str, algorithms: Sequence[str], fetch: Fetch, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._fetch = fetch
        self._timer = timer
        self._keys: dict[tuple[Kid, str], PyJWK] = {}
        self._unknown: dict[Kid, float] = {}
        self._tried = self._loaded = -inf
        self._task: asyncio.Task[None] | None = None

    async def find(self, kid: Kid, algorithm: str) -> PyJWK | None:
        """The key of that name for that algorithm; without a name, the only one there is for the algorithm.

        Raises:
            UpstreamUnavailable: the set could not be fetched even once.
        """
        key = self._keys.get((kid, algorithm))
        if key is None:
            return await self._seek(kid, algorithm)
        if self._timer() - self._loaded >= _REFRESH_AFTER:
            self._refresh(_COOLDOWN)
        return key

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _seek(self, kid: Kid, algorithm: str) -> PyJWK | None:
        now = self._timer()
        if now - self._unknown.get(kid, -inf) < _UNKNOWN_FOR or len(kid or "") > _MAX_KID:
            return None
        task = self._refresh(_COOLDOWN if self._keys else _COLD_PAUSE)
        if task:
            # Not awaited itself: a waiter that is cancelled would take the fetch of all the others with it.
            await asyncio.wait({task}, timeout=_WAIT)
        if not self._keys:
            raise UpstreamUnavailable("identity", "Tokens cannot be checked now: try again", retry_after=_COLD_PAUSE)
        key = self._keys.get((kid, algorithm))
        if key is None and self._loaded >= now:
            self._remember_unknown(kid, now)
        return key

    def _remember_unknown(self, kid: Kid, now: float) -> None:
        self._unknown.pop(kid, None)
        self._unknown[kid] = now
        if len(self._unknown) > _MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]

    def _refresh(self, pause: float) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None within `pause` of the last."""
        if self._task and not self._task.done():
            return self._task
        if self._timer() - self._tried < pause:
            return None
        self._tried = self._timer()
        # An empty context: the fetch serves all, and belongs to no request's trace.
        self._task = asyncio.create_task(self._load(), context=Context())
        self._task.add_done_callback(_keep_old_keys)
        return self._task

    async def _load(self) -> None:
        async with asyncio.timeout(_WAIT):
            body = await self._fetch(self._url)
        self._keys = _usable(body, self._algorithms)
        self._loaded = self._timer()


def _keep_old_keys(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # Looked at, or asyncio writes it to stderr. The transport has counted and logged the call.


def _usable(body: bytes, algorithms: Iterable[str]) -> dict[tuple[Kid, str], PyJWK]:
    """What of a key set may be used, by name and algorithm.

    Raises:
        ValueError: there is nothing to use, so that the keys from before go on.
    """
    if len(body) > MAX_BYTES:
        raise ValueError(f"the key set is larger than {MAX_BYTES} bytes")
    document = orjson.loads(body)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > _MAX_KEYS:
        raise ValueError(f"not a key set of at most {_MAX_KEYS} keys")
    keys: dict[tuple[Kid, str], PyJWK] = {}
    for algorithm in algorithms:
        named = list(_keys_for(algorithm, entries))
        for kid, key in named:
            keys.setdefault((kid, algorithm), key)
        if len(named) == 1:
            keys[None, algorithm] = named[0][1]
        else:
            keys.pop((None, algorithm), None)
    if not keys:
        raise ValueError("the key set has no key that could be used")
    return keys


def _keys_for(algorithm: str, entries: list[Any]) -> Iterator[tuple[Kid, PyJWK]]:
    for entry in entries:
        if not isinstance(entry, dict) or not _is_meant_for(algorithm, entry):
            continue
        # The public members alone: a provider that publishes its private key too gets no other use of it here.
        public = {member: entry.get(member) for member in ("kty", *_PUBLIC_MEMBERS[entry["kty"]])}
        if not all(isinstance(value, str) for value in public.values()):
            continue
        try:
            key = PyJWK(public, algorithm)
        except PyJWTError:
            continue
        if entry["kty"] == "EC" or key.key.key_size in _RSA_BITS:
            yield entry.get("kid"), key


def _is_meant_for(algorithm: str, entry: dict[str, Any]) -> bool:
    """RFC 7517 §4.2 to 4.5, and RFC 8725 §3.1: a key is used with the algorithm it was made for."""
    operations = entry.get("key_ops", ["verify"])
    curve = _CURVES.get(algorithm)
    return (
        (entry.get("kty") == "EC" and entry.get("crv") == curve if curve else entry.get("kty") == "RSA")
        and algorithm.startswith(("RS", "PS", "ES"))
        and entry.get("alg", algorithm) == algorithm
        and entry.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and isinstance(entry.get("kid", ""), str)
    )
