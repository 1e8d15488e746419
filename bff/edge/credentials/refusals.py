"""How a credential is refused: the words of RFC 6750 §3.1, the same whatever kind of credential it was."""

from __future__ import annotations

import re

from bff.core.errors import BadRequest, Forbidden, GatewayError, Unauthenticated, UpstreamUnavailable

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


def challenge(error: str | None, scopes: frozenset[str] = frozenset()) -> dict[str, str]:
    """The header for a refusal, before `Challenge.complete`.

    Args:
        error: of RFC 6750 §3.1; None where no credential came.
        scopes: that one needs.
    """
    said = [*([f'error="{error}"'] if error else []), *([f'scope="{" ".join(sorted(scopes))}"'] if scopes else [])]
    return {"WWW-Authenticate": f"Bearer {', '.join(said)}".rstrip()}


def invalid(detail: str = "The token is not valid here: get a new one from its issuer") -> Unauthenticated:
    return Unauthenticated(detail, headers=challenge("invalid_token"))


def uncheckable() -> UpstreamUnavailable:
    """Nobody's fault who sent the credential: its issuer cannot be asked for what is needed to judge it."""
    return UpstreamUnavailable("identity", "Tokens cannot be checked now: try again", retry_after=1)


def ambiguous() -> BadRequest:
    return BadRequest(
        "Send one credential: either `Authorization` or `X-API-Key`, once",
        headers=challenge("invalid_request"),
    )


def missing(needed: frozenset[str]) -> Unauthenticated:
    return Unauthenticated("Send a token in `Authorization` or a key in `X-API-Key`", headers=challenge(None, needed))


def missing_scopes(needed: frozenset[str]) -> Forbidden:
    scopes = " ".join(sorted(needed))
    return Forbidden(
        f"This needs a credential with the scopes: {scopes}",
        headers=challenge("insufficient_scope", needed),
    )
