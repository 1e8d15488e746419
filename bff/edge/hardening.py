"""Headers that keep browsers and caches from making more of an answer than it is, unless a service says otherwise."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.answer import Answer, Header
from bff.core.head import Head

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
            said: Head = scope["bff.head"]
            answer: Answer = scope["bff.answer"]
            answer.defaults.extend(said.once(_defaults))
        app = self.app
        return app(scope, receive, send)


def _defaults(said: Head) -> tuple[Header, ...]:
    return (_ALWAYS,) if _CREDENTIALS.isdisjoint(said.values) else (_ALWAYS, _FOR_ONE)
