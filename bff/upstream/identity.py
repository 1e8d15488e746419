"""What a service is told of who asks: identity headers, a token that the gateway signs, or nothing."""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Annotated, Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field

from bff.core.identity import Caller
from bff.core.recent import Recent
from bff.core.settings import Complaint, Duration, Secret, Settings

Headers = list[tuple[bytes, bytes]]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_LEAST_RSA_BITS = 2048
_THUMBED = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}  # RFC 7638 §3.2
_USED_FOR = 0.75  # of a token's life, so that it does not end on its way


class SigningSettings(Settings):
    """The tokens for services with `identity: signed`."""

    issuer: str = Field(default="bff", min_length=1)
    """What their `iss` is."""
    keys: tuple[Secret, ...] = ()
    """Private keys (PEM; EC, or RSA of 2048 bits or more). The first signs, all are published; without any, one is made
    at the start, which other processes do not know."""
    lifetime: Annotated[Duration, Field(ge=5)] = 60.0
    """How long a token is good, and so the longest that a service believes what is true no more."""
    cache_size: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """How many tokens are kept, one for each caller and service, for three quarters of their life."""

    def problems(self) -> Iterable[Complaint]:
        for index, key in enumerate(self.keys):
            try:
                _algorithm(_loaded(key))
            except (ValueError, TypeError):
                yield (
                    ("keys", index),
                    "must be a private key in PEM without a password: EC, or RSA of 2048 bits or more",
                )


def _loaded(key: Secret) -> PrivateKey:
    loaded = load_pem_private_key(key.reveal().encode(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError
    return loaded


def _algorithm(key: PrivateKey) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = _CURVES.get(key.curve.name)
    else:
        algorithm = "RS256" if key.key_size >= _LEAST_RSA_BITS else None
    if algorithm is None:
        raise ValueError
    return algorithm


class Signer:
    """Exchanges callers for tokens.

    Args:
        settings: whose tokens they are.
        clock: seconds since 1970.
    """

    def __init__(self, settings: SigningSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        keys = [_loaded(each) for each in settings.keys] or [ec.generate_private_key(ec.SECP256R1())]
        self._key, self._alg = keys[0], _algorithm(keys[0])
        published = [_published(each) for each in keys]
        self._kid: str = published[0]["kid"]
        self.jwks: dict[str, Any] = {"keys": published}
        self._tokens: Recent[tuple[Caller, str], tuple[Headers, float]] = Recent(settings.cache_size)

    def headers(self, caller: Caller, audience: str) -> Headers:
        """`Authorization` for the service of that name; nothing for the anonymous."""
        if caller.is_anonymous:
            return []
        now, name = self._clock(), (caller, audience)
        headers, until = self._tokens.get(name, ([], 0.0))
        if now < until:
            self._tokens.move_to_end(name)
            return headers
        headers = [(b"authorization", b"Bearer " + self._token(caller, audience, now).encode())]
        self._tokens[name] = headers, now + self._settings.lifetime * _USED_FOR
        return headers

    def _token(self, caller: Caller, audience: str, now: float) -> str:
        claims = {
            "iss": self._settings.issuer,
            "aud": audience,
            # Without a subject there is none: a program's name in its place could be a person's.
            "sub": caller.subject,
            "sub_iss": caller.issuer,
            "client_id": caller.consumer,
            "scope": " ".join(sorted(caller.scopes)),
            "iat": int(now),
            "exp": int(now + self._settings.lifetime),
            "jti": secrets.token_urlsafe(12),
        }
        said = {name: claim for name, claim in claims.items() if claim is not None}
        return jwt.encode(said, self._key, self._alg, headers={"kid": self._kid})


def _published(key: PrivateKey) -> dict[str, Any]:
    public: dict[str, Any]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    named = {member: public[member] for member in _THUMBED[public["kty"]]}
    thumbprint = sha256(orjson.dumps(named, option=orjson.OPT_SORT_KEYS)).digest()
    return named | {"kid": urlsafe_b64encode(thumbprint).rstrip(b"=").decode(), "alg": _algorithm(key), "use": "sig"}
