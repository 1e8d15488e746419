"""The GraphQL front: requests over HTTP and websockets at the same path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from random import Random

from starlette.types import Receive, Scope, Send

from bff.core.lasting import Judge
from bff.core.requests import Requests
from bff.core.telemetry import Telemetry
from bff.graphql import GraphQLSettings
from bff.graphql.charges import Charges
from bff.graphql.endpoint import Endpoint
from bff.graphql.execution import Execution
from bff.graphql.live.operations import Operations
from bff.graphql.live.sse import OperationStreams
from bff.graphql.live.websocket import Websockets


class GraphQL:
    """The ASGI app at `graphql.path`.

    Args:
        execution: what executes operations.
        settings: of all of GraphQL.
        pages: origins whose pages may use the gateway, and so may open websockets.
        judge: of credentials that come in `connection_init`, and of those of clients that stay.
        telemetry: where websockets and subscriptions are logged and counted.
        random: for when clients come again.
        requests: those that are kept, and who is told of their own.
    """

    def __init__(
        self,
        execution: Execution,
        settings: GraphQLSettings,
        pages: Iterable[str],
        judge: Judge,
        telemetry: Telemetry,
        random: Random,
        requests: Requests,
    ) -> None:
        self.execution = execution
        charges = Charges(settings.limits.cost)
        self._operations = Operations(execution, settings.subscriptions, charges, telemetry, requests)
        self._streams = OperationStreams(self._operations, judge, settings.timeout, random)
        origins = frozenset((*pages, *settings.subscriptions.origins))
        self._websockets = Websockets(self._operations, origins, judge, settings.timeout, telemetry)
        self._endpoint = Endpoint(execution, self._streams, charges, settings, requests)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        app = self._websockets if scope["type"] == "websocket" else self._endpoint
        return app(scope, receive, send)

    async def drain(self) -> None:
        """Begin nothing that lasts any more, and end what does: clients go to another gateway."""
        self._operations.draining = True
        await asyncio.gather(self._websockets.close(), self._streams.close())
