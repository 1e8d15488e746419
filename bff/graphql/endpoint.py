"""GraphQL over HTTP: a request in, an answer out, in the media type that the client asked for.

After https://graphql.github.io/graphql-over-http/draft/ ; `application/json` keeps status 200 for a document that
cannot be executed, as that specification has it for older clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from graphql import OperationType
from starlette.types import Receive, Scope, Send

from bff.core.errors import BadRequest, CsrfPrevented, Forbidden, MethodNotAllowed, NotAcceptable, Unauthenticated
from bff.core.head import Head
from bff.core.receive import Client
from bff.core.requests import Requests, explain_in
from bff.edge.errors import GRAPHQL_JSON
from bff.graphql import GraphQLSettings
from bff.graphql.charges import HEADER, Charges
from bff.graphql.defer import send_in_parts, spec_of
from bff.graphql.document import DocumentRefused
from bff.graphql.encoding import encoded
from bff.graphql.execution import Execution, Prepared, Result, refused
from bff.graphql.live.sse import OperationStreams
from bff.graphql.request import (
    EVENT_STREAM,
    JSON,
    PREFLIGHT,
    Request,
    accepts_events,
    check_body,
    from_json,
    from_query,
    negotiate,
    preflighted,
)
from bff.upstream.client import Origin

_CONTENT_TYPES = {each: (b"content-type", f"{each}; charset=utf-8".encode()) for each in (GRAPHQL_JSON, JSON)}


class Endpoint:
    """The ASGI app at `graphql.path`."""

    def __init__(
        self,
        execution: Execution,
        streams: OperationStreams,
        charges: Charges,
        settings: GraphQLSettings,
        requests: Requests,
    ) -> None:
        self._execution = execution
        self._charges = charges
        self._streams = streams
        self._requests = requests
        self._get = settings.get
        self._max_operations = settings.batching.max_operations
        self._methods = ("GET", "POST") if settings.get else ("POST",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self._methods:
            raise MethodNotAllowed(
                f"GraphQL is served by {' and '.join(self._methods)}", headers={"Allow": ", ".join(self._methods)}
            )
        said: Head = scope["bff.head"]
        headers = said.values
        accept = headers.get(b"accept", b"*/*")
        media_type = said.once(_media_type)
        with Client(scope, receive, scope["bff.route"].max_body) as client:
            if scope["method"] == "GET":
                client.watch()
                asked: Request | list[Request] = self._from_query(scope, headers)
            else:
                said.once(_has_good_body)
                body = await client.whole_body(scope["bff.origin"].deadline)
                asked = from_json(body, self._max_operations, _id(scope))
            if isinstance(asked, list):
                await _answer(send, 200, media_type, await self._respond_to_all(scope, asked, media_type))
                return
            prepared = self._prepare(scope, asked)
            if "bff.inspect" in scope:
                await _inspect(scope, prepared)
            if media_type == EVENT_STREAM or (_is_subscription(prepared) and accepts_events(accept)):
                whole = refused(prepared) if isinstance(prepared, DocumentRefused) else prepared
                if isinstance(prepared, Prepared):
                    await self._charges.admit(scope.get("bff.tab"), [prepared])
                scope["bff.waterfall"] = None  # what lasts is not slow
                await self._streams.answer(scope, send, whole)
                return
            answered = await self._respond(scope, prepared, media_type, send)
        if answered:
            status, result = answered
            await _answer(send, status, media_type, result)

    def _from_query(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Request:
        request = from_query(scope["query_string"], _id(scope))
        if request.query and not self._may_get(headers):
            raise _forged()
        return request

    def _may_get(self, headers: Mapping[bytes, bytes]) -> bool:
        return self._get is True or preflighted(headers)

    def _check_get(self, scope: Scope, prepared: Prepared) -> None:
        if prepared.operation.type is OperationType.MUTATION:
            raise MethodNotAllowed("Mutations are not run by GET: send this by POST", headers={"Allow": "POST"})
        # What the application itself has written, another site may as well make its users ask for; and nothing else,
        # since anybody can register a document by its hash.
        if not prepared.document.trusted and not self._may_get(scope["bff.head"].values):
            raise _forged()

    def _prepare(self, scope: Scope, request: Request) -> Prepared | DocumentRefused:
        """What may be executed, or why it may not."""
        origin: Origin = scope["bff.origin"]
        try:
            prepared = self._execution.prepare(request, origin.caller, recorded=origin.trace.sampled)
        except DocumentRefused as error:
            scope["bff.code"] = error.code
            return error
        if scope["method"] == "GET":
            self._check_get(scope, prepared)
        scope["bff.operation"] = prepared.operation.name
        scope["bff.cost"] = prepared.estimate.cost
        return prepared

    async def _respond(
        self, scope: Scope, prepared: Prepared | DocumentRefused, media_type: str, send: Send
    ) -> tuple[int, Result] | None:
        """The status and body that the request comes to; None if it was answered in parts already."""
        if isinstance(prepared, DocumentRefused):
            status = prepared.status if media_type == GRAPHQL_JSON else prepared.status_in_json
            return status, refused(prepared)
        if _is_subscription(prepared):
            raise NotAcceptable(f"Subscriptions are answered over a websocket, or as {EVENT_STREAM}: accept that")
        origin: Origin = scope["bff.origin"]
        tab = scope.get("bff.tab")
        await self._charges.admit(tab, [prepared])
        headers: Mapping[bytes, bytes] = scope["bff.head"].values
        spec = spec_of(headers.get(b"accept", b"")) if prepared.document.deferring else None
        if spec:
            result = await send_in_parts(
                self._execution, prepared, origin, spec, send, lambda: self._requests.told(scope)
            )
        else:
            result = await self._execution.answer(prepared, origin)
        if result is None:
            return None
        self._charges.settle(tab, [prepared], [result])
        if HEADER in headers:
            result["extensions"] = self._charges.told(tab, prepared, result)
        explain_in(result, self._requests.told(scope))
        return (400 if "data" not in result and media_type == GRAPHQL_JSON else 200), result

    async def _respond_to_all(self, scope: Scope, requests: list[Request], media_type: str) -> list[Result]:
        """The results of a batch, in its order; one that is refused keeps no other from being answered."""
        if media_type == EVENT_STREAM:
            raise NotAcceptable(f"A batch is not answered as {EVENT_STREAM}: accept {JSON}")
        origin: Origin = scope["bff.origin"]
        results: list[Result] = [{}] * len(requests)
        prepared: dict[int, Prepared] = {}
        for at, request in enumerate(requests):
            try:
                one = self._prepare(scope, request)
                if "bff.inspect" in scope:
                    await _inspect(scope, one)
            except (Unauthenticated, Forbidden) as error:
                scope["bff.code"] = error.code
                results[at] = self._execution.refusal(error, origin.request_id)
                continue
            if _is_subscription(one):
                raise BadRequest(f"A subscription cannot be a part of a batch: ask for it alone, as {EVENT_STREAM}")
            if isinstance(one, DocumentRefused):
                results[at] = refused(one)
            else:
                prepared[at] = one
        costs = [each.estimate.cost for each in prepared.values()]
        scope["bff.operation"], scope["bff.cost"] = "batch", None if None in costs else sum(cost or 0 for cost in costs)
        tab, operations, others = scope.get("bff.tab"), list(prepared.values()), len(requests) - len(prepared)
        await self._charges.admit(tab, operations, others=others)
        answers = await self._execution.answer_all(operations, origin)
        self._charges.settle(tab, operations, answers, others)
        for at, result in zip(prepared, answers, strict=True):
            results[at] = result
        explain_in(results[0], self._requests.told(scope))  # they share calls, so it is of all of them
        return results


async def _inspect(scope: Scope, prepared: Prepared | DocumentRefused) -> None:
    """Let the firewall look at what is about to be executed."""
    if isinstance(prepared, Prepared):
        await scope["bff.inspect"](prepared.document.literals, prepared.request.variables)


def _media_type(said: Head) -> str:
    return negotiate(said.values.get(b"accept", b"*/*"))


def _has_good_body(said: Head) -> bool:
    check_body(said.values)
    return True


def _is_subscription(prepared: Prepared | DocumentRefused) -> bool:
    return isinstance(prepared, Prepared) and prepared.operation.type is OperationType.SUBSCRIPTION


def _forged() -> CsrfPrevented:
    return CsrfPrevented(f"A GET needs one of the headers {', '.join(PREFLIGHT)}, with any value")


def _id(scope: Scope) -> str | None:
    """What follows `graphql.path`: the id of a document."""
    captured: bytes | None = scope["bff.captured"].get("id")
    return unquote_to_bytes(captured).decode() if captured else None


async def _answer(send: Send, status: int, media_type: str, result: Result | list[Result]) -> None:
    body = encoded(result)
    headers = [
        _CONTENT_TYPES[media_type],
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
