"""@defer: what is there goes out at once, and each deferred fragment when it is there, as parts of one answer.

After https://specs.apollo.dev/incremental/v0.2/ , or after the draft of 2022-08-24 for clients that ask for it. An
operation that defers is executed by graphql-core as a whole, where the client takes parts; for all others it is
executed as if it deferred nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Final, Literal

from graphql import (
    ExecutionResult,
    GraphQLDeferDirective,
    GraphQLError,
    GraphQLSchema,
    SubsequentIncrementalExecutionResult,
    experimental_execute_incrementally,
)
from starlette.types import Send

from bff.core.requests import explain_in
from bff.graphql.encoding import encoded
from bff.graphql.execution import Execution, Prepared, Result
from bff.graphql.request import accepted
from bff.upstream.client import Origin

Spec = Literal["incrementalSpec=v0.2", "deferSpec=20220824"]

_BEGIN: Final = b"\r\n---"  # the boundary is "-", as other servers have it
_HEAD: Final = b"\r\ncontent-type: application/json; charset=utf-8\r\n\r\n"
_END: Final = b"--\r\n"


def allow(schema: GraphQLSchema) -> None:
    """Let documents defer fragments."""
    schema.directives = (*schema.directives, GraphQLDeferDirective)


@lru_cache(256)
def spec_of(accept: bytes) -> Spec | None:
    """In which of its forms the client takes an answer in parts, if it does."""
    for kind, parameters, quality in accepted(accept):
        if kind != "multipart/mixed" or not quality:
            continue
        if "deferspec=20220824" in parameters:
            return "deferSpec=20220824"
        # The same media type with another specification is for something else, such as subscriptions.
        if "incrementalspec=v0.2" in parameters or not any("spec=" in each for each in parameters):
            return "incrementalSpec=v0.2"
    return None


async def send_in_parts(
    execution: Execution,
    prepared: Prepared,
    origin: Origin,
    spec: Spec,
    send: Send,
    explained: Callable[[], Result | None],
) -> Result | None:
    """Execute an operation that defers, and send its parts; if it comes to a single result, return that instead.

    The last part has what `explained` says of all of it.
    """
    async with aclosing(_parts(execution, prepared, origin)) as parts:
        first = await anext(parts)
        if "hasNext" not in first:
            return first
        headers = [
            (b"content-type", b'multipart/mixed; boundary="-"; ' + spec.encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_part(send, first if spec == "incrementalSpec=v0.2" else _without(first, "pending"), begin=_BEGIN)
        async for part in parts if spec == "incrementalSpec=v0.2" else _as_of_2022(first, parts):
            if not part["hasNext"]:
                explain_in(part, explained())
            await _send_part(send, part)
        await send({"type": "http.response.body", "body": _END})
    return None


async def _send_part(send: Send, part: Result, *, begin: bytes = b"") -> None:
    # The boundary that ends a part goes out with it: clients wait for that before they read it.
    body = begin + _HEAD + encoded(part) + _BEGIN
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _parts(execution: Execution, prepared: Prepared, origin: Origin) -> AsyncGenerator[Result, None]:
    """The parts of the answer as they come; or a single result without `hasNext`."""
    context = execution.context(origin)
    try:
        executed = experimental_execute_incrementally(
            prepared.schema,
            prepared.document.deferring or prepared.document.node,
            context_value=context,
            variable_values=prepared.request.variables,
            operation_name=prepared.request.operation_name,
            executor_class=execution.executor,
            # What is slow begins at once: it shares calls with what is not deferred, and is there the sooner.
            enable_early_execution=True,
        )
        result = await executed if isinstance(executed, Awaitable) else executed
        if isinstance(result, ExecutionResult):
            yield execution.formatted(result, origin.request_id)
            return
        initial = result.initial_result
        first = execution.formatted(ExecutionResult(initial.data, initial.errors), origin.request_id)
        pending = [each.formatted for each in initial.pending]
        paths = {each["id"]: each["path"] for each in pending}
        async with aclosing(result.subsequent_results) as subsequent:
            yield {**first, "pending": pending, "hasNext": True}
            async for part in subsequent:
                yield _formatted(execution, origin, part, paths)
    finally:
        context.cancel()


def _formatted(
    execution: Execution, origin: Origin, part: SubsequentIncrementalExecutionResult, paths: dict[str, Any]
) -> Result:
    """What may be sent of a later part; `paths` has where each id is, and is kept up to date."""

    def errors(found: Sequence[GraphQLError], id: str) -> list[Result]:
        # An error without a place would be taken for one of the request.
        placed = [each if each.path is not None else _at(paths[id], each) for each in found]
        return execution.errors(placed, origin.request_id)

    shown: Result = {"hasNext": part.has_next}
    if part.pending:
        shown["pending"] = [each.formatted for each in part.pending]
        paths |= {each.id: each.path for each in part.pending}
    if part.incremental:
        shown["incremental"] = [
            {**each.formatted, **({"errors": errors(each.errors, each.id)} if each.errors else {})}
            for each in part.incremental
        ]
    if part.completed:
        shown["completed"] = [
            {"id": each.id, **({"errors": errors(each.errors, each.id)} if each.errors else {})}
            for each in part.completed
        ]
        for each in part.completed:
            paths.pop(each.id, None)
    return shown


def _at(path: list[str | int], error: GraphQLError) -> GraphQLError:
    return GraphQLError(error.message, error.nodes, path=path, original_error=error.original_error or error)


async def _as_of_2022(first: Result, parts: AsyncIterator[Result]) -> AsyncIterator[Result]:
    """The later parts with a path instead of an id, and no word of what is pending or completed."""
    pending = {each["id"]: each for each in first["pending"]}
    async for part in parts:
        pending |= {each["id"]: each for each in part.get("pending", ())}
        shown = [_placed(pending[each["id"]], each) for each in part.get("incremental", ())]
        for each in part.get("completed", ()):
            fragment = pending.pop(each["id"])
            if "errors" in each:
                shown.append(_placed(fragment, {"data": None, "errors": each["errors"]}))
        yield {"hasNext": part["hasNext"], **({"incremental": shown} if shown else {})}


def _placed(fragment: Mapping[str, Any], value: Mapping[str, Any]) -> Result:
    path = [*fragment["path"], *value.get("subPath", ())]
    label = {"label": fragment["label"]} if "label" in fragment else {}
    return {"path": path, **label, **_without(value, "id", "subPath")}


def _without(result: Mapping[str, Any], *names: str) -> Result:
    return {name: value for name, value in result.items() if name not in names}
