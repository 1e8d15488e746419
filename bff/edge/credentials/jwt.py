"""JWTs (RFC 7519, RFC 9068), each judged by the rules of its own issuer alone (RFC 8725)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jwt
import orjson
from pydantic import Field

from bff.core.identity import Caller
from bff.core.settings import Complaint, Duration, Secret, Settings, Url
from bff.edge.credentials.claims import ClaimSettings, caller_of, expiry_in
from bff.edge.credentials.discovery import Discovery, fixed
from bff.edge.credentials.jwk import Kid
from bff.edge.credentials.keyset import KeySet, KeySetSettings
from bff.edge.credentials.provider import Provider, is_safe
from bff.edge.credentials.refusals import invalid

Symmetric = Literal["HS256", "HS384", "HS512"]
Asymmetric = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2: as long as the hash
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_PARTS = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")


class IssuerSettings(Settings):
    """Who may issue tokens, and how they are checked."""

    issuer: str = Field(min_length=1)
    """What `iss` has to be, to the letter."""
    audience: str = Field(min_length=1)
    """What `aud` has to be or to contain."""
    algorithms: tuple[Symmetric | Asymmetric, ...] = Field(min_length=1)
    jwks: Url | None = None
    """Where the issuer's public keys are, https except on loopback; asymmetric algorithms need it, or `oidc`."""
    oidc: bool = False
    """Whether the issuer's own `/.well-known/openid-configuration` says where its keys are."""
    secret: Secret | None = None
    """The key shared with the issuer, at least as long as the hash; symmetric algorithms need it."""
    leeway: Duration = 30.0
    """How far apart the issuer's clock and ours may be."""
    max_lifetime: Duration | None = None
    """Tokens that end later than this from now are refused: a bound for how long a leaked one is good."""
    subject_prefix: str | None = Field(default=None, pattern=r"^[!-~]{1,64}$")
    """Put before subjects, where several issuers may mean different people by the same one."""
    claims: ClaimSettings = ClaimSettings()

    def problems(self) -> Iterable[Complaint]:
        symmetric = [algorithm for algorithm in self.algorithms if algorithm in _SECRET_BYTES]
        if symmetric and len(symmetric) < len(self.algorithms):
            yield ("algorithms",), "must be all symmetric (HS...) or all asymmetric: make two entries, of two issuers"
        elif symmetric and (self.jwks or self.oidc):
            key = "jwks" if self.jwks else "oidc"
            yield (key,), "must be left out where algorithms are symmetric (HS...): they need `secret`"
        elif not symmetric and self.secret:
            yield ("secret",), "must be left out where algorithms are asymmetric: they need `jwks` or `oidc: true`"
        elif self.jwks and self.oidc:
            yield ("jwks",), "must be left out with `oidc: true`, which finds it"
        elif not (self.jwks or self.secret or self.oidc):
            yield ((), "must have `secret`" if symmetric else "must have `jwks` or `oidc: true`")
        if self.secret:
            least = max((_SECRET_BYTES[algorithm] for algorithm in symmetric), default=0)
            if len(self.secret.reveal().encode()) < least:
                yield ("secret",), f"must be at least {least} bytes long for these algorithms"
        if self.jwks and not is_safe(self.jwks):
            yield ("jwks",), "must be https: whoever can change the keys on their way can issue tokens"
        if self.oidc and not (self.issuer.startswith(("https://", "http://")) and is_safe(self.issuer)):
            yield ("issuer",), "must be an https address for `oidc: true`: its document says where the keys are"


class Jwt:
    """The tokens of one issuer."""

    def __init__(
        self,
        settings: IssuerSettings,
        key_sets: KeySetSettings,
        provider: Provider,
        timer: Callable[[], float],
        tiers: frozenset[str],
        changed: Callable[[str, set[Kid], set[Kid]], None],
    ) -> None:
        self._settings = settings
        self._tiers = tiers
        self._origin = settings.issuer, settings.jwks, settings.oidc, settings.algorithms, key_sets
        self._keys: KeySet | SharedKey
        if settings.secret:
            self._keys = SharedKey(settings.secret.reveal().encode(), settings.algorithms)
        else:
            locate = (
                Discovery(settings.issuer, provider, key_sets.timeout, key_sets.max_size)
                if settings.oidc
                else fixed(settings.jwks or "")
            )
            self._keys = KeySet(
                locate,
                settings.algorithms,
                key_sets,
                provider,
                timer,
                lambda before, after: changed(settings.issuer, before, after),
            )

    async def verify(self, token: bytes, header: dict[str, Any], clock: Callable[[], float]) -> Caller:
        """The caller that the token names.

        Raises:
            Unauthenticated: it is not good.
            UpstreamUnavailable: there are no keys to check it with.
        """
        settings = self._settings
        algorithm = judged(header, settings.algorithms)
        key = await self._keys.find(header.get("kid"), algorithm)
        if key is None:
            raise invalid()
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
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
            raise invalid() from error
        now = clock()
        expires = expiry_in(claims, now, settings.leeway)
        if expires is None:
            raise invalid()
        if settings.max_lifetime is not None and expires > now + settings.max_lifetime + settings.leeway:
            raise invalid("The token is valid for longer than tokens may be here: get one that ends sooner")
        return caller_of(
            claims,
            settings.claims,
            issuer=settings.issuer,
            prefix=settings.subject_prefix or "",
            tiers=self._tiers,
            credential="jwt",
            expires=expires,
        )

    def take_over(self, before: Jwt) -> None:
        """Go on with the keys that it had fetched, if they are where these would be: their provider may be away now."""
        if isinstance(self._keys, KeySet) and isinstance(before._keys, KeySet) and self._origin == before._origin:
            self._keys.take_over(before._keys)

    def refresh(self) -> None:
        self._keys.refresh()

    async def warm(self) -> None:
        await self._keys.warm()

    async def close(self) -> None:
        await self._keys.close()


class SharedKey:
    """A secret in the place of a key set: one key, whatever the token calls it."""

    def __init__(self, secret: bytes, algorithms: Iterable[str]) -> None:
        encoded = {"kty": "oct", "k": urlsafe_b64encode(secret).rstrip(b"=").decode()}
        self._keys = {each: jwt.PyJWK(encoded, each) for each in algorithms if each in _SECRET_BYTES}

    async def find(self, _kid: Kid, algorithm: str) -> jwt.PyJWK | None:
        return self._keys.get(algorithm)

    def refresh(self) -> None:
        """A secret is not fetched."""

    async def warm(self) -> None:
        """Nor is it waited for."""

    async def close(self) -> None:
        """There is nothing to close."""


def peek(token: bytes) -> tuple[dict[str, Any], str] | None:
    """The header and the issuer, both unverified: good for choosing by which rules to verify, and for nothing else.

    None for what has not the form of a JWT with an issuer.
    """
    try:
        header, payload = split(token)
        claims = orjson.loads(payload)
    except ValueError:
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return (header, issuer) if isinstance(issuer, str) else None


def split(token: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the payload of a JWS in its compact form (RFC 7515 §3.1).

    Raises:
        ValueError: it has not that form.
    """
    parts = _PARTS.fullmatch(token)
    if not parts:
        raise ValueError("not three parts in base64url")
    header, payload, _ = (_decoded(part) for part in parts.groups())
    said = orjson.loads(header)
    if not isinstance(said, dict):
        raise ValueError("the header is no object")  # noqa: TRY004 - it came from outside
    return said, payload


def judged(header: dict[str, Any], algorithms: Iterable[str]) -> str:
    """The algorithm that the header names, if its issuer may use it and the header asks for nothing that we lack.

    Raises:
        Unauthenticated: one of these does not hold.
    """
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if (
        isinstance(algorithm, str)
        and algorithm in algorithms
        and (kid is None or isinstance(kid, str))
        and isinstance(kind, str)
        and kind.lower() in _TYPES
        and "crit" not in header
    ):
        return algorithm
    raise invalid()


def _decoded(part: bytes) -> bytes:
    """Only the one way to write it is taken (RFC 4648 §3.5): one token is to be one text."""
    raw = urlsafe_b64decode(part + b"==")
    if urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise ValueError
    return raw
