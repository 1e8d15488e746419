"""Opaque OAuth 2.0 tokens, which their provider alone can explain (RFC 7662)."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import quote_plus

from pydantic import Field

from bff.core.errors import GatewayError, Unauthenticated
from bff.core.identity import Caller
from bff.core.recent import Recent
from bff.core.settings import Complaint, Duration, Secret, Settings, Size, Url
from bff.core.telemetry import Telemetry
from bff.edge.credentials.claims import ClaimSettings, caller_of, expiry_in, meant_for
from bff.edge.credentials.provider import Provider, ProviderFailed, is_safe
from bff.edge.credentials.refusals import invalid, uncheckable

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1
_TYPES = frozenset({"bearer", "access_token"})
_SAY_EVERY = 10.0  # in the log, that the provider fails


class IntrospectionSettings(Settings):
    """Who says what an opaque token means, and for how long that is believed."""

    url: Url
    """The provider's introspection endpoint, https except on loopback."""
    client_id: str = Field(min_length=1)
    """What the gateway is called there."""
    client_secret: Secret
    client_auth: Literal["basic", "post"] = "basic"
    """Whether the gateway says who it is in `Authorization` or in the form, as the provider wants it."""
    issuer: str | None = None
    """What `iss` has to be, to the letter, where the answer has it."""
    audience: str | None = None
    """What `aud` has to be or to contain."""
    cache: Duration = 30.0
    """How long an answer is believed, never past the token's end: the longest that a revoked token works."""
    cache_refused: Duration = 5.0
    """How long a token that is not active is not asked about again."""
    timeout: Duration = 2.0
    """For one answer; without it, 503."""
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Questions at a time, one for each token; past it, 503 at once."""
    max_answer: Size = 64 * 1024
    leeway: Duration = 30.0
    """How far apart the provider's clock and ours may be."""
    subject_prefix: str | None = Field(default=None, pattern=r"^[!-~]{1,64}$")
    """Put before subjects, where several issuers may mean different people by the same one."""
    claims: ClaimSettings = ClaimSettings()

    def problems(self) -> Iterable[Complaint]:
        if not is_safe(self.url):
            yield ("url",), "must be https: tokens and the gateway's own secret are sent there"


class Introspection:
    """Asks about each token once at a time, whoever waits for the answer.

    Args:
        settings: whom it asks.
        provider: what it asks through.
        clock: seconds since 1970.
        tiers: those that exist.
        size: how many tokens are remembered as refused.
        telemetry: where it is said that the provider fails.
    """

    def __init__(
        self,
        settings: IntrospectionSettings,
        provider: Provider,
        clock: Callable[[], float],
        tiers: frozenset[str],
        size: int,
        telemetry: Telemetry,
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self._tiers = tiers
        self._telemetry = telemetry
        self._form, self._authorization = _client(settings)
        self._asked: dict[bytes, asyncio.Task[Caller | GatewayError]] = {}
        self._refused: Recent[bytes, tuple[float, str]] = Recent(size)
        self._said = 0.0

    async def verify(self, token: bytes) -> Caller:
        """The caller that the token stands for.

        Raises:
            Unauthenticated: it is not active, or not meant for us.
            UpstreamUnavailable: the provider cannot be asked.
        """
        if not _TOKEN.fullmatch(token):
            raise invalid()
        digest = sha256(token).digest()
        until, why = self._refused.get(digest, (0.0, ""))
        if self._clock() < until:
            raise invalid(why)
        task = self._asked.get(digest) or self._ask(token, digest)
        # Not awaited itself: a waiter that is cancelled would take the answer of all the others with it.
        await asyncio.wait({task})
        outcome = uncheckable() if task.cancelled() else task.result()
        if isinstance(outcome, GatewayError):
            raise outcome
        return outcome

    async def close(self) -> None:
        if self._asked:
            for task in self._asked.values():
                task.cancel()
            await asyncio.wait(self._asked.values())

    def _ask(self, token: bytes, digest: bytes) -> asyncio.Task[Caller | GatewayError]:
        if len(self._asked) >= self._settings.max_in_flight:
            raise uncheckable()
        # An empty context: the answer serves all who wait, and belongs to no request's trace.
        task = asyncio.create_task(self._outcome(token, digest), context=Context())
        self._asked[digest] = task
        task.add_done_callback(lambda _: self._asked.pop(digest))
        return task

    async def _outcome(self, token: bytes, digest: bytes) -> Caller | GatewayError:
        settings = self._settings
        try:
            answer = await self._provider.post(
                settings.url,
                {"token": token.decode(), "token_type_hint": "access_token", **self._form},
                self._authorization,
                within=settings.timeout,
                limit=settings.max_answer,
            )
            return self._caller(answer)
        except ProviderFailed as error:
            self._say(error)
            return uncheckable()
        except Unauthenticated as error:
            self._remember_refused(digest, error)
            return error

    def _caller(self, answer: Mapping[str, Any]) -> Caller:
        settings = self._settings
        issuer = answer.get("iss", settings.issuer or settings.url)
        if (
            answer.get("active") is not True
            or not isinstance(issuer, str)
            or (settings.issuer is not None and issuer != settings.issuer)
            or (settings.audience is not None and not meant_for(answer, settings.audience))
            or str(answer.get("token_type", "bearer")).lower() not in _TYPES
        ):
            raise invalid()
        return caller_of(
            answer,
            settings.claims,
            issuer=issuer,
            prefix=settings.subject_prefix or "",
            tiers=self._tiers,
            credential="introspection",
            expires=expiry_in(answer, self._clock(), settings.leeway),
        )

    def _remember_refused(self, digest: bytes, refusal: Unauthenticated) -> None:
        self._refused[digest] = self._clock() + self._settings.cache_refused, refusal.detail

    def _say(self, error: ProviderFailed) -> None:
        if self._clock() - self._said >= _SAY_EVERY:
            self._said = self._clock()
            self._telemetry.log.warning("introspection_failed", problem=str(error))


def _client(settings: IntrospectionSettings) -> tuple[dict[str, str], str | None]:
    """How the gateway says who it is: by what in the form, and what in `Authorization` (RFC 6749 §2.3.1)."""
    client, secret = settings.client_id, settings.client_secret.reveal()
    if settings.client_auth == "post":
        return {"client_id": client, "client_secret": secret}, None
    pair = f"{quote_plus(client)}:{quote_plus(secret)}".encode()
    return {}, f"Basic {b64encode(pair).decode()}"
