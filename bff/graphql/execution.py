"""One operation, from what is asked to what is answered, however it came in and however its answer goes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from math import nan
from random import Random
from typing import Any, get_args

import msgspec
from graphql import (
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    OperationType,
    create_source_event_stream,
    experimental_execute_incrementally,
    located_error,
)
from graphql.execution import Executor
from msgspec.structs import replace
from opentelemetry.trace import StatusCode, get_current_span
from prometheus_client import Counter

from bff.core.entitlements import EVERYTHING, Tables
from bff.core.errors import Code, Forbidden, GatewayError, Unauthenticated
from bff.core.identity import Caller
from bff.core.telemetry import Telemetry
from bff.core.usage import Usage
from bff.edge.errors import entry, masked
from bff.engine import BreadthExecutor, Reason, StandardExecutor, Weighed
from bff.engine import Operation as Executable
from bff.graphql import GraphQLSettings
from bff.graphql.context import Context
from bff.graphql.cost import Estimate, weigh
from bff.graphql.document import Document, DocumentRefused, Operation, formatted
from bff.graphql.documents import Documents
from bff.graphql.request import Request
from bff.graphql.shadow import Shadow
from bff.graphql.spans import recording
from bff.graphql.weights import sources_in
from bff.upstream.client import Origin, Service, Upstream
from bff.upstream.retry import Retries

_AUDITED = 20  # names of fields in one line of the audit log

Result = dict[str, Any]
"""`data`, `errors` and `extensions` as they are sent."""


Executed = ExecutionResult | Awaitable[ExecutionResult]
"""What an execution comes to, now or later."""


class Answered(Result):
    """The result of an operation that was executed.

    Attributes:
        weight: of what is in it, as the engine counted it; nan where it could not.
    """

    __slots__ = ("weight",)

    def __init__(self, weight: float = nan) -> None:
        self.weight = weight


class Prepared(msgspec.Struct, frozen=True):
    """An operation that may be executed, and what it comes to at worst."""

    document: Document
    operation: Operation
    request: Request
    estimate: Estimate
    schema: GraphQLSchema


class Execution:
    """Executes operations of one schema over these services: callers of a table, of the view that it leaves them.

    The steps of a single request are `prepare` and `answer`. What streams or shares reads between operations takes the
    parts: `prepare`, `context`, a way of its own to execute, and `formatted`, which every result passes before it
    is sent, and `context.cancel()` when nobody waits any more.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        documents: Documents,
        services: Mapping[str, Service],
        settings: GraphQLSettings,
        telemetry: Telemetry,
        random: Random,
        usage: Usage,
        tables: Tables = EVERYTHING,
        views: Mapping[str, Documents | None] = {},
    ) -> None:
        self.schema = schema
        self._documents = documents
        self._tables, self._views = tables, views
        self._services = services
        self._max_retries = settings.max_retries
        self._telemetry = telemetry
        self._usage = usage
        fallbacks = Counter(
            "graphql_fallbacks",
            "Operations that graphql-core executed, since the engine does not support something in them.",
            ["reason"],
            registry=telemetry.registry,
        )
        self._errors = Counter(
            "graphql_errors",
            "Errors in answers of operations that were executed, by code.",
            ["code"],
            registry=telemetry.registry,
        )
        self._calls_over = Counter(
            "graphql_undeclared_calls",
            "Operations in which resolvers called something more often than their modules tell, by what they called.",
            ["call"],
            registry=telemetry.registry,
        )
        for name in sources_in(schema):
            self._calls_over.labels(name)
        children = {reason: fallbacks.labels(reason) for reason in get_args(Reason)}
        hooks = {
            "on_fallback": staticmethod(lambda reason: children[reason].inc()),
            "weigh": staticmethod(weigh),
            "packed": True,
        }
        self._breadth: type[BreadthExecutor] = type("Executor", (BreadthExecutor,), hooks)
        self._recording = recording(self._breadth, telemetry.tracer)
        self.executor: type[Executor[Any]] = StandardExecutor if settings.executor == "standard" else self._breadth
        self._shadow = Shadow(settings.shadow, telemetry, random) if settings.executor == "shadow" else None

    def prepare(self, request: Request, caller: Caller, *, recorded: bool = True) -> Prepared:
        """Find out what is asked, and whether it may be.

        Args:
            request: that asks.
            caller: who asks.
            recorded: False where it is known that no span is, which takes some time to find out.

        Raises:
            DocumentRefused: it cannot be executed.
            Unauthenticated, Forbidden: the caller may not have all of it, where that refuses the operation.
        """
        if not (recorded and get_current_span().is_recording()):
            return self._prepare(request, caller)
        with self._telemetry.tracer.start_as_current_span("graphql.prepare", record_exception=False):
            return self._prepare(request, caller)

    def _prepare(self, request: Request, caller: Caller) -> Prepared:
        documents = self._documents_of(caller)
        document = documents.find(request)
        operation = document.operation(request.operation_name)
        estimate = documents.judge(document, operation, request.variables, caller)
        self._usage.count(operation.asks, caller)
        return Prepared(document, operation, request, estimate, documents.schema)

    def trusted(self, id: str) -> Document:
        """The trusted document with this id, as the whole schema has it; raises DocumentRefused where there is none."""
        return self._documents.find(Request("", {}, None, id))

    def _documents_of(self, caller: Caller) -> Documents:
        table = self._tables.name(caller)
        documents = self._documents if table is None else self._views.get(table)
        if documents is None:
            raise Forbidden("Nothing of GraphQL is among what this credential is entitled to")
        return documents

    async def answer(self, prepared: Prepared, origin: Origin) -> Result:
        """Execute an operation alone."""
        context = self.context(origin)
        try:
            executed = self._executed(prepared, origin, context)
            result = executed if isinstance(executed, ExecutionResult) else await executed
            return self.formatted(result, origin.request_id)
        finally:
            context.cancel()
            if over := prepared.estimate.exceeded(context.made):
                self._undeclared(prepared.operation, over, origin.request_id)

    def _undeclared(self, operation: Operation, over: Mapping[str, int], request_id: str) -> None:
        """A resolver has made calls that nothing in its module tells of, so that they are missing from the bound."""
        for name, count in over.items():
            self._calls_over.labels(name).inc()
            self._telemetry.log.error(
                "undeclared_calls", request_id=request_id, operation=operation.name, call=name, count=count
            )

    async def answer_all(self, operations: Sequence[Prepared], origin: Origin) -> list[Result]:
        """Execute operations side by side; the queries among them share what they read."""
        shared = self.context(origin)
        try:
            async with asyncio.TaskGroup() as group:
                running = [
                    group.create_task(
                        self._answer(each, origin, shared)
                        if each.operation.type is OperationType.QUERY
                        else self.answer(each, origin)
                    )
                    for each in operations
                ]
            return [each.result() for each in running]
        finally:
            shared.cancel()

    async def _answer(self, prepared: Prepared, origin: Origin, context: Context) -> Result:
        return self.formatted(await _result(self._executed(prepared, origin, context)), origin.request_id)

    def _executed(self, prepared: Prepared, origin: Origin, context: Context) -> Executed:
        if origin.trace.sampled:
            return self._recorded(prepared, origin, context)
        return self._begun(prepared, origin, context)

    async def _recorded(self, prepared: Prepared, origin: Origin, context: Context) -> ExecutionResult:
        operation = prepared.operation
        with self._telemetry.tracer.start_as_current_span(operation.type.value) as span:
            span.set_attribute("graphql.operation.type", operation.type.value)
            if operation.name:
                span.set_attribute("graphql.operation.name", operation.name)
            result = await _result(self._begun(prepared, origin, context))
            if result.errors:
                span.set_status(StatusCode.ERROR)
            return result

    def _begun(self, prepared: Prepared, origin: Origin, context: Context) -> Executed:
        if self._shadow and prepared.operation.type is OperationType.QUERY:
            return self._followed(self._shadow, prepared, origin, context)
        if self.executor is StandardExecutor:
            return self._by_graphql_core(prepared, context)
        return self._by_the_engine(prepared, context, recorded=origin.trace.sampled)

    async def _followed(self, shadow: Shadow, prepared: Prepared, origin: Origin, context: Context) -> ExecutionResult:
        result = await _result(self._by_the_engine(prepared, context, recorded=False))
        location = prepared.document.node.loc
        shadow.follow(
            result,
            lambda: self._again(prepared, origin),
            text=location.source.body if location else "",
            operation=prepared.operation.name,
            request_id=origin.request_id,
        )
        return result

    async def _again(self, prepared: Prepared, origin: Origin) -> ExecutionResult:
        context = self.context(origin)
        try:
            return await self._by_graphql_core(prepared, context)
        finally:
            context.cancel()

    def context(self, origin: Origin) -> Context:
        shared = replace(origin, retries=Retries(self._max_retries))
        return Context(origin.caller, lambda name: Upstream(self._services[name], shared))

    async def _by_graphql_core(self, prepared: Prepared, context: Context) -> ExecutionResult:
        # Not graphql-core's `execute`, which wants no schema that knows @defer, whatever the document says.
        result: Any = experimental_execute_incrementally(
            prepared.schema,
            prepared.document.node,
            context_value=context,
            variable_values=prepared.request.variables,
            operation_name=prepared.operation.name or None,
            executor_class=StandardExecutor,
            hide_suggestions=self._documents.hides_suggestions,
        )
        whole: ExecutionResult = await result if isinstance(result, Awaitable) else result
        return whole

    def _by_the_engine(self, prepared: Prepared, context: Context, *, recorded: bool) -> Executed:
        document, operation, request = prepared.document, prepared.operation, prepared.request
        executable = document.executables.get((operation.name, recorded))
        if executable is None:
            executable = document.executables[operation.name, recorded] = Executable(
                prepared.schema,
                document.node,
                operation.name or None,
                self._recording if recorded else self._breadth,
                hide_suggestions=self._documents.hides_suggestions,
            )
        return executable.execute(request.variables, context)

    async def subscribe(self, prepared: Prepared, origin: Callable[[], Origin]) -> AsyncGenerator[Result, None]:
        """The results of a subscription, one for each event, each with a deadline and reads of its own.

        A result without `data` is the last one: the stream did not begin, or failed.

        Args:
            prepared: the subscription.
            origin: makes what services are told, with a deadline from now on.
        """
        context = self.context(origin())
        executor = self.executor.build(
            prepared.schema,
            prepared.document.node,
            context_value=context,
            raw_variable_values=prepared.request.variables,
            operation_name=prepared.request.operation_name,
            hide_suggestions=self._documents.hides_suggestions,
        )
        try:
            if isinstance(executor, list):
                yield self._request_error(executor, origin())
                return
            source = create_source_event_stream(executor)
            source = await source if isinstance(source, Awaitable) else source
            if isinstance(source, ExecutionResult):
                yield self._request_error(source.errors, origin())
                return
            try:
                async for value in source:
                    yield await self._event(executor.build_per_event_executor(value), origin())
            except Exception as error:  # noqa: BLE001 - of a stream that a team's code makes: it is reported as any other
                yield self._request_error([_located(error, executor)], origin())
        finally:
            context.cancel()

    async def _event(self, executor: Executor[Any], origin: Origin) -> Result:
        context = executor.context_value = self.context(origin)
        try:
            result: Any = executor.execute_operation()
            return self.formatted(await result if isinstance(result, Awaitable) else result, origin.request_id)
        finally:
            context.cancel()

    def _request_error(self, errors: list[GraphQLError] | None, origin: Origin) -> Result:
        result = self.formatted(ExecutionResult(None, errors), origin.request_id)
        result.pop("data", None)
        return result

    def formatted(self, result: ExecutionResult, request_id: str) -> Answered:
        """What may be sent of a result: expected errors with their codes, unexpected ones masked and logged."""
        answer = Answered(result.weight) if type(result) is Weighed and not result.errors else Answered()
        if result.errors:
            answer["errors"] = self.errors(result.errors, request_id)
        # Without a path and without data, nothing has been executed: the variables did not fit (§6.1.2 of GraphQL).
        if result.data is not None or not result.errors or any(error.path for error in result.errors):
            answer["data"] = result.data
        return answer

    def errors(self, errors: Sequence[GraphQLError], request_id: str) -> list[dict[str, Any]]:
        self._audit(errors, request_id)
        entries = [self._error(error, request_id) for error in errors]
        for each in entries:
            self._errors.labels(each["extensions"]["code"]).inc()
        return entries

    def _error(self, error: GraphQLError, request_id: str) -> dict[str, Any]:
        original = _original(error)
        if isinstance(original, GatewayError):
            failure = original
        elif error.path is None:  # nothing was executed: the variables do not fit
            return formatted(error, Code.BAD_USER_INPUT)
        else:
            failure = masked(original or error, request_id, self._telemetry.log)
        placed = GraphQLError(failure.detail, error.nodes, path=error.path)
        return formatted(placed, **entry(failure, request_id)["extensions"])

    def refusal(self, error: GatewayError, request_id: str) -> Result:
        """The result of an operation that is refused for who its caller is; the audit log has a line of it."""
        self._telemetry.audit("refused", request_id=request_id, code=error.code, reason=error.detail)
        return {"errors": [formatted(GraphQLError(error.detail), error.code, **error.members)]}

    def _audit(self, errors: Sequence[GraphQLError], request_id: str) -> None:
        """A line for each code with which we, and no service, refused fields."""
        refused: dict[str, set[str]] = {}
        for error in errors:
            original = _original(error)
            if isinstance(original, Unauthenticated | Forbidden) and "service" not in original.members:
                refused.setdefault(original.code, set()).update(
                    node.name.value for node in error.nodes or () if isinstance(node, FieldNode)
                )
        for code, fields in refused.items():
            self._telemetry.audit("refused", request_id=request_id, code=code, fields=sorted(fields)[:_AUDITED])


def refused(error: DocumentRefused) -> Result:
    """The result that a document comes to which is not executed."""
    return {"errors": [formatted(each, error.code) for each in error.errors]}


async def _result(executed: Executed) -> ExecutionResult:
    return executed if isinstance(executed, ExecutionResult) else await executed


def _original(error: GraphQLError) -> Exception | None:
    original = error.original_error
    while isinstance(original, GraphQLError) and original.original_error is not None:
        original = original.original_error
    return original


def _located(error: Exception, executor: Executor[Any]) -> GraphQLError:
    """The error of a subscription's stream, at its one field."""
    field = next((each for each in executor.operation.selection_set.selections if isinstance(each, FieldNode)), None)
    name = (field.alias or field.name).value if field else executor.operation.operation.value
    return located_error(error, [field] if field else None, [name])
