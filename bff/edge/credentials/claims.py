"""What the claims of a token come to: a caller, and until when. The same for those of a JWT and of an introspection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from bff.core.identity import Caller
from bff.core.settings import Settings
from bff.edge.credentials.refusals import invalid

Name = Annotated[str, Field(pattern=r"^[!-~]{1,256}$")]
"""Printable ASCII without spaces: names go into headers, and scopes are separated by spaces there."""

_NAME = re.compile(r"[!-~]{1,256}")
_LATEST = 2**53  # JSON's largest exact integer; no time is later, and NaN and Infinity are not below it


class ClaimSettings(Settings):
    """Which claims say what."""

    subject: str = "sub"
    scopes: str = "scope"
    """Text separated by spaces (RFC 8693 §4.2), or a list."""
    tier: str = "plan"


def caller_of(
    claims: Mapping[str, Any],
    named: ClaimSettings,
    *,
    issuer: str,
    prefix: str,
    tiers: frozenset[str],
    credential: str,
    expires: float | None,
) -> Caller:
    """The caller that the claims name.

    Raises:
        Unauthenticated: they name nobody, or by what is no name.
    """
    subject = name_in(claims.get(named.subject))
    consumer = name_in(claims.get("client_id", claims.get("azp")))
    if subject is None and consumer is None:
        raise invalid()
    return Caller(
        subject=None if subject is None else prefix + subject,
        consumer=consumer,
        scopes=scopes_in(claims.get(named.scopes)),
        tier=tier_in(claims.get(named.tier), tiers),
        credential=credential,
        issuer=issuer,
        bound_to=_bound_to(claims),
        expires=expires,
    )


def _bound_to(claims: Mapping[str, Any]) -> str | None:
    """The certificate that whoever presents the token has to prove as well (RFC 7800, RFC 8705 §3.1)."""
    if "cnf" not in claims:
        return None
    match claims["cnf"]:
        case {"x5t#S256": str(thumbprint), **others} if not others:
            return thumbprint
    # Any other key: nobody proves one who sends a bearer token.
    raise invalid("The token is bound to a key, and only those bound to a client certificate are taken here")


def expiry_in(claims: Mapping[str, Any], now: float, leeway: float) -> float | None:
    """When the token ends, in seconds since 1970; None if it does not say.

    Raises:
        Unauthenticated: it is not valid at this time, or its times are none.
    """
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
            raise invalid()
    if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + leeway:
        raise invalid("The token is not valid yet: send it later")
    if "exp" not in claims:
        return None
    if now - leeway >= claims["exp"]:
        raise invalid("The token has expired: get a new one")
    return float(claims["exp"])


def meant_for(claims: Mapping[str, Any], audience: str) -> bool:
    """Whether `aud` is the audience, or a list of texts with it (RFC 7519 §4.1.3)."""
    value = claims.get("aud")
    return value == audience or (
        isinstance(value, list) and audience in value and all(isinstance(each, str) for each in value)
    )


def name_in(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise invalid()
    return value


def scopes_in(value: object) -> frozenset[str]:
    if isinstance(value, str):
        value = [scope for scope in value.split(" ") if scope]
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(scope, str) and _NAME.fullmatch(scope) for scope in value):
        raise invalid()
    return frozenset(value)


def tier_in(value: object, tiers: frozenset[str]) -> str:
    return value if isinstance(value, str) and value in tiers else "default"
