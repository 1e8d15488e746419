"""Headers that keep browsers and caches from making more of an answer than it is, unless a service says otherwise."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.answer import answer_of
from bff.core.head import head

_ALWAYS = (b"x-content-type-options", b"nosniff")
_CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"cookie"})
# A shared cache keeps nothing that was asked with `Authorization` (RFC 9111 §3.5), but knows no other credentials.
_FOR_ONE = (b"cache-control", b"no-store")


class Hardening:
    """Below `observe`, whose answer it writes to; above all that answers, refusals too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            defaults = answer_of(scope).defaults
            defaults.append(_ALWAYS)
            if not _CREDENTIALS.isdisjoint(head(scope).values):
                defaults.append(_FOR_ONE)
        return self.app(scope, receive, send)
