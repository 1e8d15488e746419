"""Who may pass: the caller is named once here, and let through only where its route allows."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.certificates import certificate_of
from bff.core.entitlements import EVERYTHING, Tables
from bff.core.errors import Forbidden
from bff.core.head import head
from bff.core.identity import Caller
from bff.core.policies import NO_POLICIES, Policies
from bff.core.route import Front, Route
from bff.edge.credentials import Credentials
from bff.edge.credentials.refusals import missing, missing_scopes

_BY_PATH = frozenset({Front.REST, Front.AGGREGATE})


class Auth:
    """Below routing, whose `scope["bff.route"]` it reads; everything below reads `scope["bff.caller"]`."""

    def __init__(
        self,
        app: ASGIApp,
        credentials: Credentials,
        policies: Policies = NO_POLICIES,
        tables: Tables = EVERYTHING,
    ) -> None:
        self.app = app
        self.tables = tables
        self.credentials = credentials
        self.policies = policies

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        found = self.credentials.identified(scope["bff.head"], scope.get("method", "WEBSOCKET"), certificate_of(scope))
        if isinstance(found, Caller):
            return self._let_in(found, scope, receive, send)
        return self._let_in_later(found, scope, receive, send)

    async def _let_in_later(self, asked: Awaitable[Caller], scope: Scope, receive: Receive, send: Send) -> None:
        await self._let_in(await asked, scope, receive, send)

    def _let_in(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope["bff.caller"] = caller
        if "bff.settle" in scope:  # which route it is depends on who calls: what follows is that one's
            scope["bff.settle"](scope)
        # A websocket begins as a GET (RFC 6455 §4.1), though its scope does not say so.
        self._admit(caller, scope["bff.route"], scope.get("method", "GET"))
        if caller.entitlements or self.tables.by_tier:
            self._check_entitlements(caller, scope)
        if self.credentials.cookie:
            scope["bff.sent"] = scope["headers"]
            scope["headers"] = self.credentials.cookie.without(scope["headers"])
            del scope["bff.head"]
            head(scope)
        app = self.app
        return app(scope, receive, send)

    def _check_entitlements(self, caller: Caller, scope: Scope) -> None:
        """Those of paths: what a table leaves of GraphQL is the schema that the caller has."""
        table = self.tables.table(caller)
        if table is None or scope["bff.route"].front not in _BY_PATH:
            return
        method = scope.get("method", "GET")
        if not table.allows_request(method, scope["path"]):
            raise Forbidden(f"{method} of this path is not among what this credential is entitled to")

    def _admit(self, caller: Caller, route: Route, method: str) -> None:
        needed = route.scopes_for(method)
        allowed = needed <= caller.scopes
        if caller.is_anonymous and not (route.public and allowed):
            raise missing(needed)
        if not allowed:
            raise missing_scopes(needed)
        if route.policies:
            self._admit_by_policies(caller, route, needed)

    def _admit_by_policies(self, caller: Caller, route: Route, needed: frozenset[str]) -> None:
        unmet = [name for name in route.policies if not self.policies.holds(name, caller)]
        if unmet and caller.is_anonymous:
            raise missing(needed)
        if unmet:
            raise Forbidden(f"This needs a caller for whom the policy {' '.join(unmet)} holds")
