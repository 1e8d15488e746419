"""GraphQL over HTTP: a request in, one operation executed, an answer in the media type that the client asked for.

After https://graphql.github.io/graphql-over-http/draft/ ; `application/json` keeps status 200 for a document that
cannot be executed, as that specification has it for older clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple, get_args
from urllib.parse import parse_qsl

import orjson
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, OperationType, execute
from opentelemetry.trace import StatusCode
from prometheus_client import Counter
from starlette.types import Receive, Scope, Send

from bff.core.errors import (
    BadRequest,
    Code,
    GatewayError,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
)
from bff.core.receive import Client, bounded_receive
from bff.core.telemetry import Telemetry
from bff.engine import BreadthExecutor, Reason
from bff.graphql.context import Context
from bff.graphql.documents import Document, DocumentRefused, Documents, Operation, formatted
from bff.upstream.client import Origin, Service, Upstream

GRAPHQL_JSON = "application/graphql-response+json"
JSON = "application/json"


class Request(NamedTuple):
    """The parameters of a request (§4.1.1)."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None


class Endpoint:
    """The ASGI app at `graphql.path`."""

    def __init__(
        self,
        schema: GraphQLSchema,
        documents: Documents,
        services: Mapping[str, Service],
        telemetry: Telemetry,
        *,
        get: bool,
    ) -> None:
        self._schema = schema
        self._documents = documents
        self._services = services
        self._telemetry = telemetry
        fallbacks = Counter(
            "graphql_fallbacks",
            "Operations that graphql-core executed, since the engine does not support something in them.",
            ["reason"],
            registry=telemetry.registry,
        )
        children = {reason: fallbacks.labels(reason) for reason in get_args(Reason)}
        counted = {"on_fallback": staticmethod(lambda reason: children[reason].inc())}
        self._executor = type("Executor", (BreadthExecutor,), counted)
        self._methods = ("GET", "POST") if get else ("POST",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self._methods:
            raise MethodNotAllowed(
                f"GraphQL is served by {' and '.join(self._methods)}", headers={"Allow": ", ".join(self._methods)}
            )
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        media_type = negotiate(headers.get("accept", "*/*"))
        with Client(bounded_receive(scope, receive, scope["bff.route"].max_body)) as client:
            request = await self._request(scope, client, headers)
            status, result = await self._respond(scope, request, media_type)
        await _answer(send, status, media_type, result)

    async def _respond(self, scope: Scope, request: Request, media_type: str) -> tuple[int, dict[str, Any]]:
        """The status and body that the request comes to."""
        try:
            document = self._documents.document(request.query)
            operation = document.operation(request.operation_name)
            self._documents.judge(document, request.variables)
        except DocumentRefused as refused:
            scope["bff.code"] = refused.code
            status = 400 if media_type == GRAPHQL_JSON else 200
            return status, {"errors": [formatted(each, refused.code) for each in refused.errors]}
        if scope["method"] == "GET" and operation.type is not OperationType.QUERY:
            raise MethodNotAllowed("Only queries are run by GET: send this by POST", headers={"Allow": "POST"})
        scope["bff.operation"] = operation.name
        result = await self._execute(scope, document, operation, request)
        return (400 if "data" not in result and media_type == GRAPHQL_JSON else 200), result

    async def _request(self, scope: Scope, client: Client, headers: Mapping[str, str]) -> Request:
        if scope["method"] == "GET":
            client.watch()
            return _from_query(scope["query_string"])
        kind, _, parameters = headers.get("content-type", "").partition(";")
        if kind.strip().lower() != JSON:
            raise UnsupportedMediaType("Send the request as application/json")
        if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
            raise UnsupportedMediaType("Send the request in UTF-8")
        if headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType("Send the request without a Content-Encoding")
        return _from_json(await client.whole_body(scope["bff.origin"].deadline))

    async def _execute(
        self, scope: Scope, document: Document, operation: Operation, request: Request
    ) -> dict[str, Any]:
        origin: Origin = scope["bff.origin"]
        context = Context(origin.caller, lambda name: Upstream(self._services[name], origin))
        try:
            if not origin.trace.sampled:
                return self._formatted(await self._run(document, request, context), scope)
            with self._telemetry.tracer.start_as_current_span(operation.type.value) as span:
                span.set_attribute("graphql.operation.type", operation.type.value)
                if operation.name:
                    span.set_attribute("graphql.operation.name", operation.name)
                result = self._formatted(await self._run(document, request, context), scope)
                if "errors" in result:
                    span.set_status(StatusCode.ERROR)
                return result
        finally:
            context.cancel()

    async def _run(self, document: Document, request: Request, context: Context) -> ExecutionResult:
        result = execute(
            self._schema,
            document.node,
            context_value=context,
            variable_values=request.variables,
            operation_name=request.operation_name,
            executor_class=self._executor,
            hide_suggestions=self._documents.hides_suggestions,
        )
        return await result if isinstance(result, Awaitable) else result

    def _formatted(self, result: ExecutionResult, scope: Scope) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        if result.errors:
            answer["errors"] = [self._error(error, scope) for error in result.errors]
        # Without a path and without data, nothing has been executed: the variables did not fit (§6.1.2 of GraphQL).
        if result.data is not None or not result.errors or any(error.path for error in result.errors):
            answer["data"] = result.data
        return answer

    def _error(self, error: GraphQLError, scope: Scope) -> dict[str, Any]:
        original = error.original_error
        while isinstance(original, GraphQLError) and original.original_error is not None:
            original = original.original_error
        if isinstance(original, GatewayError):
            return formatted(
                GraphQLError(original.detail, error.nodes, path=error.path), original.code, **original.members
            )
        if error.path is None:  # nothing was executed: the variables do not fit
            return formatted(error, Code.BAD_USER_INPUT)
        self._telemetry.log.error("unexpected", request_id=scope["bff.request_id"], exc_info=original or error)
        masked = GraphQLError("Something went wrong in the gateway", error.nodes, path=error.path)
        return formatted(masked, Code.INTERNAL_SERVER_ERROR, request_id=scope["bff.request_id"])


def negotiate(accept: str) -> str:
    """The media type to answer in: what the client likes best; `application/json` if it does not care (§6.1).

    Raises:
        NotAcceptable: it takes neither.
    """
    best, best_quality = "", 0.0
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        offered = {GRAPHQL_JSON: GRAPHQL_JSON, JSON: JSON, "application/*": JSON, "*/*": JSON}.get(kind)
        quality = _quality(parameters)
        if offered and quality > best_quality and "charset" not in "".join(parameters).replace("charset=utf-8", ""):
            best, best_quality = offered, quality
    if not best:
        raise NotAcceptable(f"Accept {GRAPHQL_JSON} or {JSON}")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0


def _from_query(query_string: bytes) -> Request:
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise BadRequest("The query string is not well-formed") from None
    given: dict[str, Any] = dict(pairs)
    for name in ("variables", "extensions"):
        if given.get(name):
            given[name] = _json(given[name].encode(), f"`{name}`")
    return _checked(given)


def _from_json(body: bytes) -> Request:
    given = _json(body, "The body")
    if not isinstance(given, dict):
        raise BadRequest("The body must be a JSON object with a `query`")
    return _checked(given)


def _json(text: bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadRequest(f"{what} is not well-formed JSON") from None


def _checked(given: dict[str, Any]) -> Request:
    query, variables, name = given.get("query"), given.get("variables"), given.get("operationName")
    if not isinstance(query, str) or not query:
        raise BadRequest("`query` must be a string with a GraphQL document")
    if variables is not None and not isinstance(variables, dict):
        raise BadRequest("`variables` must be an object")
    if name is not None and not isinstance(name, str):
        raise BadRequest("`operationName` must be a string")
    if not isinstance(given.get("extensions"), dict | None):
        raise BadRequest("`extensions` must be an object")
    return Request(query, variables or {}, name or None)


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
