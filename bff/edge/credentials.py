"""Who a request comes from: an API key by its hash, or a JWT (RFC 7519, RFC 9068) by the rules of its own issuer."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import jwt
import orjson
from pydantic import Field

from bff.core.errors import BadRequest, Unauthenticated
from bff.core.identity import ANONYMOUS, Caller
from bff.core.settings import Complaint, Duration, Secret, Settings, Size, Url
from bff.edge.keyset import Fetch, KeySet, Kid

Name = Annotated[str, Field(pattern=r"^[!-~]{1,256}$")]
"""Printable ASCII without spaces: names go into headers, and scopes are separated by spaces there."""

Symmetric = Literal["HS256", "HS384", "HS512"]
Asymmetric = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]

_NAME = re.compile(r"[!-~]{1,256}")
_LOOPBACK = re.compile(r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1")
_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2: as long as the hash
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_LATEST = 2**53  # JSON's largest exact integer; no time is later, and NaN and Infinity are not below it
# A key that its issuer has withdrawn is not honoured for longer than this after the key set is fetched anew.
_TRUSTED_FOR = 600.0

INVALID_TOKEN = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class ClaimSettings(Settings):
    """Which claims say what."""

    subject: str = "sub"
    scopes: str = "scope"
    """Text separated by spaces (RFC 8693 §4.2), or a list."""
    tier: str = "plan"


class IssuerSettings(Settings):
    """Who may issue tokens, and how they are checked."""

    issuer: str = Field(min_length=1)
    """What `iss` has to be, to the letter."""
    audience: str = Field(min_length=1)
    """What `aud` has to be or to contain."""
    algorithms: tuple[Symmetric | Asymmetric, ...] = Field(min_length=1)
    jwks: Url | None = None
    """Where the issuer's public keys are, https except on loopback; asymmetric algorithms need it."""
    secret: Secret | None = None
    """The key shared with the issuer, at least as long as the hash; symmetric algorithms need it."""
    leeway: Duration = 30.0
    """How far apart the issuer's clock and ours may be."""
    claims: ClaimSettings = ClaimSettings()

    def problems(self) -> Iterable[Complaint]:
        symmetric = [algorithm for algorithm in self.algorithms if algorithm in _SECRET_BYTES]
        if symmetric and len(symmetric) < len(self.algorithms):
            yield ("algorithms",), "must be all symmetric (HS...) or all asymmetric: make two entries, of two issuers"
        elif symmetric and self.jwks:
            yield ("jwks",), "must be left out where algorithms are symmetric (HS...): they need `secret`"
        elif not symmetric and self.secret:
            yield ("secret",), "must be left out where algorithms are asymmetric: they need `jwks`"
        elif not (self.jwks or self.secret):
            yield ((), "must have `secret`" if symmetric else "must have `jwks`")
        if self.secret:
            least = max((_SECRET_BYTES[algorithm] for algorithm in symmetric), default=0)
            if len(self.secret.reveal().encode()) < least:
                yield ("secret",), f"must be at least {least} bytes long for these algorithms"
        if self.jwks and not _is_safe(self.jwks):
            yield ("jwks",), "must be https: whoever can change the keys on their way can issue tokens"


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or bool(_LOOPBACK.fullmatch(parts.hostname or ""))


class ApiKeySettings(Settings):
    """One API key, of which only the hash is known."""

    consumer: Name
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """`sha256:` and the hash of a random key of 256 bits, as `bff keys create` prints it."""
    scopes: tuple[Name, ...] = ()
    tier: str = "default"


class AuthSettings(Settings):
    """Which credentials are taken."""

    jwt: tuple[IssuerSettings, ...] = ()
    api_keys: tuple[ApiKeySettings, ...] = ()
    realm: str = Field(default="bff", pattern=r"^[ !#-\[\]-~]{1,100}$")
    """What `WWW-Authenticate` calls this gateway."""
    max_token: Size = 8 * 1024
    """The longest token or key that is looked at."""
    cache_size: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many tokens are remembered as verified."""

    def problems(self) -> Iterable[Complaint]:
        yield from _repeated("jwt", "issuer", [each.issuer for each in self.jwt])
        yield from _repeated("api_keys", "hash", [each.hash for each in self.api_keys])


def _repeated(section: str, key: str, values: list[str]) -> Iterable[Complaint]:
    counts = Counter(values)
    for index, value in enumerate(values):
        if counts[value] > 1 and index > values.index(value):
            yield (section, index, key), f"must differ from that of {section}.{values.index(value)}"


class Credentials:
    """All credentials that the gateway takes.

    Args:
        settings: what it takes.
        fetch: GET of a key set's address; see `KeySet`.
        clock: seconds since 1970, for what tokens say of time.
        timer: seconds, never going back.
        tiers: those that exist; a credential of any other is of the tier `default`.
    """

    def __init__(
        self,
        settings: AuthSettings,
        fetch: Fetch,
        clock: Callable[[], float] = time.time,
        *,
        timer: Callable[[], float] = time.monotonic,
        tiers: frozenset[str] = frozenset(),
    ) -> None:
        self._max_token = settings.max_token
        self._cache_size = settings.cache_size
        self._clock = clock
        self._api_keys = ApiKeys(settings.api_keys, tiers)
        self._issuers = {each.issuer: Jwt(each, fetch, timer, tiers) for each in settings.jwt}
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    async def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller that the request's credential stands for; without any, `ANONYMOUS`.

        Raises:
            Unauthenticated: the credential is not good; it never counts as none.
            BadRequest: there is more than one.
            UpstreamUnavailable: the issuer's keys could not be fetched even once.
        """
        authorization = key = None
        for name, value in headers:
            if name == b"authorization":
                if authorization is not None:
                    raise _ambiguous()
                authorization = value
            elif name == b"x-api-key":
                if key is not None:
                    raise _ambiguous()
                key = value
        if authorization is None:
            return ANONYMOUS if key is None else self._holder(key)
        if key is not None:
            raise _ambiguous()
        return await self._bearer(authorization)

    async def close(self) -> None:
        await asyncio.gather(*(issuer.close() for issuer in self._issuers.values()))

    def _holder(self, key: bytes) -> Caller:
        caller = self._api_keys.find(key) if len(key) <= self._max_token else None
        if caller is None:
            raise Unauthenticated("The API key is not known: check X-API-Key", headers=INVALID_TOKEN)
        return caller

    async def _bearer(self, authorization: bytes) -> Caller:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated("Send the token as `Authorization: Bearer ...`", headers=INVALID_TOKEN)
        if len(token) > self._max_token:
            raise Unauthenticated(f"The token is longer than {self._max_token} bytes", headers=INVALID_TOKEN)
        token = token.strip(b" ")
        digest = sha256(token).digest()
        found = self._verified.get(digest)
        if found and self._clock() < found[1]:
            self._verified.move_to_end(digest)
            return found[0]
        return await self._verify(token, digest)

    async def _verify(self, token: bytes, digest: bytes) -> Caller:
        self._verified.pop(digest, None)
        header, issuer = _peek(token)
        entry = self._issuers.get(issuer)
        if entry is None:
            raise _invalid()
        caller, expiry = await entry.verify(token, header, self._clock)
        now = self._clock()
        if now < expiry:
            self._verified[digest] = caller, min(expiry, now + _TRUSTED_FOR)
            if len(self._verified) > self._cache_size:
                self._verified.popitem(last=False)
        return caller


class ApiKeys:
    """Callers by the hash of their key: a key is random, so a plain hash of it is as hard to guess as itself."""

    def __init__(self, settings: Iterable[ApiKeySettings], tiers: frozenset[str]) -> None:
        self._holders = {digest: (digest, caller) for digest, caller in (_holder(each, tiers) for each in settings)}

    def find(self, key: bytes) -> Caller | None:
        digest = sha256(key).digest()
        kept, caller = self._holders.get(digest, (b"", None))
        return caller if hmac.compare_digest(kept, digest) else None


def _holder(key: ApiKeySettings, tiers: frozenset[str]) -> tuple[bytes, Caller]:
    caller = Caller(
        consumer=key.consumer, scopes=frozenset(key.scopes), tier=_tier(key.tier, tiers), credential="api_key"
    )
    return bytes.fromhex(key.hash.removeprefix("sha256:")), caller


class Jwt:
    """The tokens of one issuer."""

    def __init__(
        self, settings: IssuerSettings, fetch: Fetch, timer: Callable[[], float], tiers: frozenset[str]
    ) -> None:
        self._settings = settings
        self._tiers = tiers
        self._keys: KeySet | SharedKey = (
            SharedKey(settings.secret, settings.algorithms)
            if settings.secret
            else KeySet(settings.jwks or "", settings.algorithms, fetch, timer)
        )

    async def verify(self, token: bytes, header: dict[str, Any], clock: Callable[[], float]) -> tuple[Caller, float]:
        """The caller and when the token ends, in seconds since 1970."""
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not (
            algorithm in self._settings.algorithms
            and (kid is None or isinstance(kid, str))
            and isinstance(kind, str)
            and kind.lower() in _TYPES
            and "crit" not in header
        ):
            raise _invalid()
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise _invalid()
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                # Times are checked below: PyJWT takes text and booleans for them, and reads a clock of its own.
                options={
                    "require": ["exp", "iss", "aud"],
                    "enforce_minimum_key_length": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError as error:
            raise _invalid() from error
        return self._caller(claims), _expiry(claims, clock(), self._settings.leeway)

    async def close(self) -> None:
        await self._keys.close()

    def _caller(self, claims: dict[str, Any]) -> Caller:
        named = self._settings.claims
        subject = _name(claims.get(named.subject))
        consumer = _name(claims.get("client_id", claims.get("azp")))
        if subject is None and consumer is None:
            raise _invalid()
        return Caller(
            subject=subject,
            consumer=consumer,
            scopes=_scopes(claims.get(named.scopes)),
            tier=_tier(claims.get(named.tier), self._tiers),
            credential="jwt",
        )


class SharedKey:
    """A secret in the place of a key set: one key, whatever the token calls it."""

    def __init__(self, secret: Secret, algorithms: Iterable[str]) -> None:
        encoded = {"kty": "oct", "k": urlsafe_b64encode(secret.reveal().encode()).rstrip(b"=").decode()}
        self._keys = {each: jwt.PyJWK(encoded, each) for each in algorithms if each in _SECRET_BYTES}

    async def find(self, _kid: Kid, algorithm: str) -> jwt.PyJWK | None:
        return self._keys.get(algorithm)

    async def close(self) -> None:
        """There is nothing to close."""


def _peek(token: bytes) -> tuple[dict[str, Any], str]:
    """The header and the issuer, both unverified: good for choosing by which rules to verify, and for nothing else."""
    segments = token.split(b".")
    if len(segments) != 3:
        raise _invalid()
    try:
        header, payload = (orjson.loads(urlsafe_b64decode(segment + b"==")) for segment in segments[:2])
    except ValueError as error:
        raise _invalid() from error
    issuer = payload.get("iss") if isinstance(payload, dict) else None
    if not isinstance(header, dict) or not isinstance(issuer, str):
        raise _invalid()
    return header, issuer


def _expiry(claims: dict[str, Any], now: float, leeway: float) -> float:
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
            raise _invalid()
    if now - leeway >= claims["exp"]:
        raise _invalid("The token has expired: get a new one")
    if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + leeway:
        raise _invalid("The token is not valid yet: send it later")
    return float(claims["exp"])


def _name(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _invalid()
    return value


def _scopes(value: object) -> frozenset[str]:
    if isinstance(value, str):
        value = [scope for scope in value.split(" ") if scope]
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(scope, str) and _NAME.fullmatch(scope) for scope in value):
        raise _invalid()
    return frozenset(value)


def _tier(value: object, tiers: frozenset[str]) -> str:
    return value if isinstance(value, str) and value in tiers else "default"


def _invalid(detail: str = "The token is not valid here: get a new one from its issuer") -> Unauthenticated:
    return Unauthenticated(detail, headers=INVALID_TOKEN)


def _ambiguous() -> BadRequest:
    return BadRequest(
        "Send one credential: either `Authorization` or `X-API-Key`, once",
        headers={"WWW-Authenticate": 'Bearer error="invalid_request"'},
    )
