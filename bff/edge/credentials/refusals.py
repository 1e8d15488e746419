"""How a credential is refused: the words of RFC 6750 §3.1, the same whatever kind of credential it was."""

from __future__ import annotations

import re

from bff.core.errors import BadRequest, Forbidden, GatewayError, Unauthenticated

_QUOTABLE = re.compile(r"[ !#-\[\]-~]*")  # RFC 6750 §3


class Challenge:
    """What `WWW-Authenticate` says in the gateway's name.

    Args:
        realm: what the gateway is called.
        metadata: where clients find who issues tokens for it (RFC 9728 §5.1).
    """

    def __init__(self, realm: str, metadata: str | None) -> None:
        self._ours = [f'realm="{realm}"']
        if metadata:
            self._ours.append(f'resource_metadata="{metadata}"')

    def complete(self, refusal: GatewayError) -> None:
        """Add it to a refusal of a credential, which says no more than what is wrong with that."""
        given = refusal.headers.get("WWW-Authenticate")
        if given is None:
            return
        parameters = [*self._ours, *filter(None, [given.partition(" ")[2]])]
        if "error=" in given and _QUOTABLE.fullmatch(refusal.detail):
            parameters.append(f'error_description="{refusal.detail}"')
        refusal.headers = {**refusal.headers, "WWW-Authenticate": f"Bearer {', '.join(parameters)}"}


def invalid(detail: str = "The token is not valid here: get a new one from its issuer") -> Unauthenticated:
    return Unauthenticated(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def ambiguous() -> BadRequest:
    return BadRequest(
        "Send one credential: either `Authorization` or `X-API-Key`, once",
        headers={"WWW-Authenticate": 'Bearer error="invalid_request"'},
    )


def missing(needed: frozenset[str]) -> Unauthenticated:
    scopes = f' scope="{" ".join(sorted(needed))}"' if needed else ""
    return Unauthenticated(
        "Send a token in `Authorization` or a key in `X-API-Key`", headers={"WWW-Authenticate": f"Bearer{scopes}"}
    )


def missing_scopes(needed: frozenset[str]) -> Forbidden:
    scopes = " ".join(sorted(needed))
    return Forbidden(
        f"This needs a credential with the scopes: {scopes}",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scopes}"'},
    )
