"""Who may pass: the caller is named once here, and let through only where its route allows."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.errors import Forbidden, Unauthenticated
from bff.core.identity import Caller
from bff.core.route import Route
from bff.edge.credentials import AuthSettings, Credentials


class Auth:
    """Below routing, whose `scope["bff.route"]` it reads; everything below reads `scope["bff.caller"]`."""

    def __init__(self, app: ASGIApp, settings: AuthSettings, credentials: Credentials) -> None:
        self.app = app
        self.credentials = credentials
        self.challenge = {"WWW-Authenticate": f'Bearer realm="{settings.realm}"'}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            caller = scope["bff.caller"] = await self.credentials.identify(scope["headers"])
            # A websocket begins as a GET (RFC 6455 §4.1), though its scope does not say so.
            self._admit(caller, scope["bff.route"], scope.get("method", "GET"))
        await self.app(scope, receive, send)

    def _admit(self, caller: Caller, route: Route, method: str) -> None:
        needed = route.scopes_for(method)
        allowed = needed <= caller.scopes
        if caller.is_anonymous and not (route.public and allowed):
            raise Unauthenticated("Send a token in `Authorization` or a key in `X-API-Key`", headers=self.challenge)
        if not allowed:
            scopes = " ".join(sorted(needed))
            raise Forbidden(
                f"This needs a credential with the scopes: {scopes}",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scopes}"'},
            )
