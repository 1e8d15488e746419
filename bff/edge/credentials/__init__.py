"""Who a request comes from. The first credential that is present decides: a bad one never falls back to another, nor to
none. Each kind is a module here; what is verified once is remembered by its raw bytes, no longer than it lives.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import Field
from starlette.types import Scope

from bff.core.certificates import Certificate, certificate_of
from bff.core.errors import GatewayError, Unauthenticated
from bff.core.head import Head, head_of
from bff.core.identity import ANONYMOUS, Caller
from bff.core.loading import ConfigError
from bff.core.settings import Complaint, Duration, File, Settings, Size, Url
from bff.core.telemetry import Telemetry
from bff.edge.credentials.api_keys import ApiKeys, ApiKeySettings, is_called, shown, the_one_called
from bff.edge.credentials.client_certificates import ClientCertificates, ClientCertificateSettings, is_bound_to
from bff.edge.credentials.cookies import Cookie, CookieSettings
from bff.edge.credentials.introspection import Introspection, IntrospectionSettings
from bff.edge.credentials.jwk import Kid
from bff.edge.credentials.jwt import IssuerSettings, Jwt, peek
from bff.edge.credentials.keys_file import Followed
from bff.edge.credentials.keyset import KeySetSettings
from bff.edge.credentials.provider import Provider
from bff.edge.credentials.refusals import Challenge, ambiguous, invalid
from bff.edge.credentials.revocations import Revocations
from bff.edge.credentials.verified import Verified
from bff.upstream.identity import SigningSettings

__all__ = ["AuthSettings", "Credentials", "headers_in"]

Headers = Iterable[tuple[bytes, bytes]]

_LOOK_EVERY = 1.0  # whether something is due that no request has to wait for


class AuthSettings(Settings):
    """Which credentials are taken."""

    jwt: tuple[IssuerSettings, ...] = ()
    introspection: IntrospectionSettings | None = None
    """Who explains the tokens that are no JWTs of these issuers (RFC 7662)."""
    cookie: CookieSettings | None = None
    """A cookie that holds a token, for pages; it counts where there is no other credential."""
    key_sets: KeySetSettings = KeySetSettings()
    """How issuers' public keys are fetched and kept."""
    api_keys: tuple[ApiKeySettings, ...] = ()
    client_certificates: tuple[ClientCertificateSettings, ...] = ()
    """Whose the certificates of clients are (mutual TLS); one counts where there is no other credential."""
    api_keys_file: File | None = None
    """More of the same entries: `bff keys` writes them, and they are followed without a restart."""
    api_keys_refresh: Duration = 2.0
    """How often the file is looked at: the longest that a key works after it was revoked there."""
    signing: SigningSettings = SigningSettings()
    """The tokens for services with `identity: signed`."""
    resource: Url | None = None
    """What the gateway is called by those who ask issuers for tokens: with it, clients find the issuers (RFC 9728)."""
    realm: str = Field(default="bff", pattern=r"^[ !#-\[\]-~]{1,100}$")
    """What `WWW-Authenticate` calls this gateway."""
    max_token: Size = 8 * 1024
    """The longest token or key that is looked at."""
    cache: Duration = 600.0
    """How long a verified token is remembered: never past its end, nor once its key has left the key set."""
    cache_size: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many tokens are remembered as verified."""
    recheck: Annotated[Duration, Field(gt=0)] = 30.0
    """How often the credential of a connection that goes on is judged again: websockets and event streams."""

    @property
    def of_tokens(self) -> object:
        """What it depends on whether a token is good, and for whom."""
        return self.jwt, self.introspection, self.key_sets, self.max_token, self.cache, self.cache_size

    @property
    def metadata_path(self) -> str | None:
        """Where the document about the resource is (RFC 9728 §3.1)."""
        return f"/.well-known/oauth-protected-resource{urlsplit(self.resource).path}" if self.resource else None

    @property
    def issuers(self) -> set[str]:
        """Those with an address, where clients can ask for tokens."""
        opaque = [self.introspection.issuer or ""] if self.introspection else []
        return {each for each in (*(each.issuer for each in self.jwt), *opaque) if "://" in each}

    @property
    def challenge(self) -> Challenge:
        base = urlsplit(self.resource or "")
        return Challenge(self.realm, f"{base.scheme}://{base.netloc}{self.metadata_path}" if self.resource else None)

    @property
    def schemes(self) -> dict[str, dict[str, Any]]:
        """How callers may show who they are, as the security schemes of OpenAPI 3.1 (§4.8.27)."""
        found: dict[str, dict[str, Any]] = {}
        if self.jwt or self.introspection:
            found["token"] = {"type": "http", "scheme": "bearer", "description": "A token of a known issuer"}
        if self.api_keys or self.api_keys_file:
            found["key"] = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A partner's API key"}
        if self.cookie:
            found["cookie"] = {"type": "apiKey", "in": "cookie", "name": self.cookie.name}
        return found

    def problems(self) -> Iterable[Complaint]:
        yield from _repeated("jwt", "issuer", [each.issuer for each in self.jwt])
        yield from _repeated("api_keys", "hash", [each.hash for each in self.api_keys])
        known: dict[object, int] = {}
        for index, each in enumerate(self.client_certificates):
            first = known.setdefault((each.key, each.issuer), index)
            if first != index and each.key[0]:
                yield (
                    ("client_certificates", index, each.key[0]),
                    f"must differ from that of client_certificates.{first}",
                )


def _repeated(section: str, key: str, values: list[str]) -> Iterable[Complaint]:
    counts = Counter(values)
    for index, value in enumerate(values):
        if counts[value] > 1 and index > values.index(value):
            yield (section, index, key), f"must differ from that of {section}.{values.index(value)}"


class Credentials:
    """All credentials that the gateway takes.

    Args:
        settings: what it takes.
        network: what identity providers are asked through.
        clock: seconds since 1970, for what tokens say of time.
        timer: seconds, never going back.
        tiers: those that exist; a credential of any other is of the tier `default`.
        telemetry: where it is said which credentials came and went.
        revocations: what all gateways that share a store know of keys that were revoked.
        before: those that it takes the place of: what they know of tokens is not asked for again.

    Raises:
        ConfigError: the file of API keys cannot be used.
    """

    def __init__(
        self,
        settings: AuthSettings,
        network: httpx.AsyncBaseTransport,
        clock: Callable[[], float] = time.time,
        *,
        timer: Callable[[], float] = time.monotonic,
        tiers: frozenset[str] = frozenset(),
        telemetry: Telemetry | None = None,
        revocations: Revocations | None = None,
        before: Credentials | None = None,
    ) -> None:
        self._settings, self._tiers, self._before = settings, tiers, before
        self.cookie = Cookie(settings.cookie) if settings.cookie else None
        self._max_token = settings.max_token
        self._cache = settings.cache
        self._recheck = settings.recheck
        self._clock = clock
        self._telemetry = telemetry or Telemetry()
        self._api_keys = ApiKeys(settings.api_keys, tiers, clock, settings.max_token)
        self._file = (
            Followed(settings.api_keys_file, self._api_keys, settings.api_keys_refresh, self._telemetry)
            if settings.api_keys_file
            else None
        )
        self._revocations = revocations
        self._certificates = ClientCertificates(settings.client_certificates, tiers, clock)
        provider = Provider(network)
        self._issuers = {
            each.issuer: Jwt(each, settings.key_sets, provider, timer, tiers, self._keys_changed)
            for each in settings.jwt
        }
        self._introspection = (
            Introspection(settings.introspection, provider, clock, tiers, settings.cache_size, self._telemetry)
            if settings.introspection
            else None
        )
        self._introspection_cache = settings.introspection.cache if settings.introspection else 0.0
        self._verified = Verified(settings.cache_size)

    @property
    def api_keys(self) -> ApiKeys:
        """Those that are listed, and which of them are refused."""
        return self._api_keys

    @property
    def shared(self) -> bool:
        """Whether other gateways hear of a key that is revoked here; then those of the configuration can be, too."""
        return self._revocations is not None

    async def revoke(self, name: str) -> tuple[ApiKeySettings, bool]:
        """Refuse an API key from now on, in all gateways that share the store; in the file, it is taken out.

        Args:
            name: how the key or its hash begins, as `/-/keys` shows it.

        Returns:
            The key; whether all know of it, or some will only when the store is back.

        Raises:
            ConfigError: no key is called so, or it can only be taken out of the configuration.
        """
        if not self._revocations:
            if not self._file:
                raise ConfigError.of(name, "only keys of auth.api_keys_file can be revoked, and none is configured")
            if any(is_called(each, name) for each in self._api_keys.configured):
                raise ConfigError.of(name, "is in the configuration: take it out of auth.api_keys there")
            return await self._file.revoke(name), True
        key = the_one_called(name, self._api_keys.listed)
        known = await self._revocations.revoke(key)
        if self._file and key in self._api_keys.added:
            with suppress(ConfigError):  # a file that is not ours to write has it still, and it is refused all the same
                await self._file.revoke(shown(key))
        return key, known

    async def identify(
        self, headers: Headers, method: str = "WEBSOCKET", certificate: Certificate | None = None
    ) -> Caller:
        """The caller of a request with these headers, as `identified` says it."""
        found = self.identified(head_of(list(headers)), method, certificate)
        return found if isinstance(found, Caller) else await found

    def identified(
        self, said: Head, method: str, certificate: Certificate | None = None
    ) -> Caller | Coroutine[Any, Any, Caller]:
        """The caller that the request's credential stands for; without any, `ANONYMOUS`. One that was not seen before
        may have to be asked about.

        Args:
            said: the request's head.
            method: a cookie counts for less where it could change something.
            certificate: what the client has shown in its handshake.

        Raises:
            Unauthenticated: the credential is not good; it never counts as none.
            BadRequest: there is more than one.
            CsrfPrevented: it is a cookie or certificate, and another site's page may have had the request sent.
            UpstreamUnavailable: its issuer cannot be asked for what is needed to check it.
        """
        authorization, key = said.once(_presented)
        if key is not None:
            return self._api_keys.holder(key)
        if authorization is None:
            token = self.cookie.token(said.headers, method) if self.cookie else None
            if token is None:
                return self._by_connection(certificate, said.headers)
            authorization = b"Bearer " + token
        caller = self._verified.find(authorization, self._clock())
        if caller is None:
            return self._bearer(authorization, certificate)
        return caller if caller.bound_to is None else _bound(caller, certificate)

    def _by_connection(self, certificate: Certificate | None, headers: Headers) -> Caller:
        if certificate is None or not self._certificates:
            return ANONYMOUS
        return self._certificates.holder(certificate, headers)

    async def identify_connection(
        self, handshake: Caller, payload: Mapping[str, Any] | None, certificate: Certificate | None = None
    ) -> Caller:
        """The caller of a websocket, by the payload of its `connection_init`; without a credential there, `handshake`.

        `Authorization` and `X-API-Key` are taken in any case, at the top of the payload or under `headers`:

            {"Authorization": "Bearer ..."}

        The connection is to end at the caller's `expires`. Raises what `identify` raises.
        """
        headers = _sent_in(payload)
        return await self.identify(headers, certificate=certificate) if headers else handshake

    async def until_revoked(self, scope: Scope, payload: Mapping[str, Any] | None = None) -> None:
        """Wait until a connection that goes on is no longer of `scope["bff.caller"]`, by what was sent when it began.

        A provider that cannot be asked revokes nothing. The credential's own end is the caller's `expires`.
        """
        caller: Caller = scope["bff.caller"]
        sent = _sent_in(payload) or scope.get("bff.sent", scope["headers"])
        certificate = certificate_of(scope)
        while True:
            await asyncio.sleep(self._recheck)
            try:
                again = await self.identify(sent, "GET", certificate)
            except GatewayError as error:
                if error.status < 500:
                    return
            else:
                if again != caller:
                    return
            by_certificate = caller.credential == "client_certificate" or caller.bound_to is not None
            if by_certificate and certificate is not None and certificate.withdrawn:
                return

    async def begin(self) -> None:
        """Go on with what is known already, and have asked for the rest, so that who comes first does not wait.

        A provider or store that is away holds nobody.
        """
        if self._before:
            self._take_over(self._before)
            self._before = None
        asked = [issuer.warm() for issuer in self._issuers.values()]
        if self._revocations:
            self._revocations.hold(self._api_keys)
            asked.append(self._revocations.look())
        await asyncio.gather(*asked)

    def _take_over(self, before: Credentials) -> None:
        for name in self._issuers.keys() & before._issuers.keys():
            self._issuers[name].take_over(before._issuers[name])
        if (self._settings.of_tokens, self._tiers) == (before._settings.of_tokens, before._tiers):
            self._verified.take_over(before._verified)

    async def follow(self) -> None:
        """Fetch keys before they are needed, and follow the file of API keys, until cancelled."""
        await asyncio.gather(self._refresh(), *([self._file.follow()] if self._file else []))

    async def _refresh(self) -> None:
        while True:
            for issuer in self._issuers.values():
                issuer.refresh()
            await asyncio.sleep(_LOOK_EVERY)

    async def close(self) -> None:
        if self._revocations:
            self._revocations.leave(self._api_keys)
        await asyncio.gather(*(issuer.close() for issuer in self._issuers.values()))
        if self._introspection:
            await self._introspection.close()

    async def _bearer(self, authorization: bytes, certificate: Certificate | None) -> Caller:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise invalid("Send the token as `Authorization: Bearer ...`")
        if len(token) > self._max_token:
            raise invalid(f"The token is longer than {self._max_token} bytes")
        token = token.strip(b" ")
        header, issuer = peek(token) or ({}, "")
        entry = self._issuers.get(issuer)
        if entry is not None:
            caller, longest = await entry.verify(token, header, self._clock), self._cache
        elif self._introspection:
            caller, longest = await self._introspection.verify(token), self._introspection_cache
        else:
            raise invalid()
        self._verified.remember(authorization, caller, self._clock(), longest)
        return _bound(caller, certificate)

    def _keys_changed(self, issuer: str, before: set[Kid], after: set[Kid]) -> None:
        self._verified.forget(issuer)
        for action, kids in (("issuer_key_added", after - before), ("issuer_key_removed", before - after)):
            for kid in kids - {None}:
                self._telemetry.audit(action, issuer=issuer, kid=kid)


def _bound(caller: Caller, certificate: Certificate | None) -> Caller:
    if not is_bound_to(caller, certificate):
        raise invalid("The token is bound to a client certificate, which this connection has not shown")
    return caller


def _presented(said: Head) -> tuple[bytes | None, bytes | None]:
    """What is in `Authorization` or else in `X-API-Key`.

    Raises:
        BadRequest: there is more than one.
    """
    authorization = key = None
    for name, value in said.headers:
        if name == b"authorization":
            if authorization is not None:
                raise ambiguous()
            authorization = value
        elif name == b"x-api-key":
            if key is not None:
                raise ambiguous()
            key = value
    if authorization is not None and key is not None:
        raise ambiguous()
    return authorization, key


def _sent_in(payload: Mapping[str, Any] | None) -> list[tuple[bytes, bytes]]:
    return list(dict.fromkeys(headers_in(payload or {})))  # some clients send it in two cases: it is one then


def headers_in(payload: Mapping[str, Any]) -> Headers:
    """The credentials in the payload of `connection_init`, as the headers that they would be.

    Raises:
        Unauthenticated: one is no text.
    """
    nested = payload.get("headers")
    for part in (payload, nested if isinstance(nested, dict) else {}):
        for name, value in part.items():
            if name.lower() in {"authorization", "x-api-key"}:
                if not isinstance(value, str) or not value.isascii():
                    raise Unauthenticated("A credential in `connection_init` has to be text")
                yield name.lower().encode(), value.encode()
