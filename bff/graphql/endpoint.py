"""GraphQL over HTTP: a request in, an answer out, in the media type that the client asked for.

After https://graphql.github.io/graphql-over-http/draft/ ; `application/json` keeps status 200 for a document that
cannot be executed, as that specification has it for older clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from graphql import OperationType
from starlette.types import Receive, Scope, Send

from bff.core.errors import MethodNotAllowed
from bff.core.head import head
from bff.core.receive import Client, bounded_receive
from bff.graphql.documents import DocumentRefused
from bff.graphql.execution import Execution, refused
from bff.graphql.request import GRAPHQL_JSON, Request, check_body, from_json, from_query, negotiate


class Endpoint:
    """The ASGI app at `graphql.path`."""

    def __init__(self, execution: Execution, *, get: bool) -> None:
        self._execution = execution
        self._methods = ("GET", "POST") if get else ("POST",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self._methods:
            raise MethodNotAllowed(
                f"GraphQL is served by {' and '.join(self._methods)}", headers={"Allow": ", ".join(self._methods)}
            )
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        media_type = negotiate(headers.get("accept", "*/*"))
        with Client(bounded_receive(head(scope), receive, scope["bff.route"].max_body)) as client:
            request = await self._request(scope, client, headers)
            status, result = await self._respond(scope, request, media_type)
        await _answer(send, status, media_type, result)

    async def _request(self, scope: Scope, client: Client, headers: Mapping[str, str]) -> Request:
        if scope["method"] == "GET":
            client.watch()
            return from_query(scope["query_string"])
        check_body(headers)
        return from_json(await client.whole_body(scope["bff.origin"].deadline))

    async def _respond(self, scope: Scope, request: Request, media_type: str) -> tuple[int, dict[str, Any]]:
        """The status and body that the request comes to."""
        try:
            prepared = self._execution.prepare(request, scope["bff.origin"].caller)
        except DocumentRefused as error:
            scope["bff.code"] = error.code
            return (400 if media_type == GRAPHQL_JSON else 200), refused(error)
        if scope["method"] == "GET" and prepared.operation.type is not OperationType.QUERY:
            raise MethodNotAllowed("Only queries are run by GET: send this by POST", headers={"Allow": "POST"})
        scope["bff.operation"] = prepared.operation.name
        result = await self._execution.answer(prepared, scope["bff.origin"])
        return (400 if "data" not in result and media_type == GRAPHQL_JSON else 200), result


async def _answer(send: Send, status: int, media_type: str, result: dict[str, Any]) -> None:
    body = orjson.dumps(result)
    headers = [
        (b"content-type", b"%s; charset=utf-8" % media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
