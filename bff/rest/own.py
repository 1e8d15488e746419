"""What the gateway answers by itself, beside GraphQL: each of its own routes has an app."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class Own:
    """An ASGI app over those of the gateway's own routes.

    Args:
        apps: by the names of their routes.
    """

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        self._apps = apps

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._apps[scope["bff.route"].name](scope, receive, send)
