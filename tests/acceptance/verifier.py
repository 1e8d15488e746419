"""How the gateway judges a token's form and header and chooses a key, for the runner of Wycheproof's vectors.

Claims are left out, since the vectors' payloads have none. The signature is PyJWT's, as it is in the gateway.
"""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import jwt

from bff.core.errors import Unauthenticated
from bff.edge.credentials.jwk import usable
from bff.edge.credentials.jwt import Asymmetric, SharedKey, Symmetric, judged, split

JWS = jwt.PyJWS(options={"enforce_minimum_key_length": True})


def verify(token: str, jwks: dict[str, Any]) -> bytes:
    """The payload.

    Raises:
        ValueError: the token is not good.
    """
    try:
        header, _ = split(token.encode())
        # As in a configuration, one issuer is either of the one kind or of the other.
        shared = [each for each in jwks["keys"] if each.get("kty") == "oct"]
        algorithm = judged(header, get_args(Symmetric if shared else Asymmetric))
        key = _secret(shared, header, algorithm) if shared else _public(jwks, header, algorithm)
        return JWS.decode(token, key, algorithms=[algorithm])
    except (Unauthenticated, jwt.PyJWTError, LookupError) as error:
        raise ValueError(str(error)) from error


def _public(jwks: dict[str, Any], header: dict[str, Any], algorithm: str) -> jwt.PyJWK:
    return usable(jwks, [algorithm], 100)[header.get("kid"), algorithm]


def _secret(entries: list[dict[str, Any]], header: dict[str, Any], algorithm: str) -> jwt.PyJWK:
    """A configuration has the secret itself, so that there is nothing to choose; the vectors have it as a JWK."""
    (entry,) = [
        each for each in entries if each.get("alg", algorithm) == algorithm and each.get("kid") == header.get("kid")
    ]
    secret = jwt.utils.base64url_decode(entry["k"])
    key = asyncio.run(SharedKey(secret, [algorithm]).find(None, algorithm))
    assert key is not None
    return key
