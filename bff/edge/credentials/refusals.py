"""How a credential is refused: the words of RFC 6750 §3.1, the same whatever kind of credential it was."""

from __future__ import annotations

from bff.core.errors import BadRequest, Unauthenticated


def invalid(detail: str = "The token is not valid here: get a new one from its issuer") -> Unauthenticated:
    return Unauthenticated(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def ambiguous() -> BadRequest:
    return BadRequest(
        "Send one credential: either `Authorization` or `X-API-Key`, once",
        headers={"WWW-Authenticate": 'Bearer error="invalid_request"'},
    )
