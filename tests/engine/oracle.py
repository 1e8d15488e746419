"""The judge: what graphql-core's executor says to the same document is right.

Where all resolvers are synchronous, data, order of keys, and the list of errors must be the same to the letter. Where
some are not, the specification leaves open which of several errors under one null is reported, so there the data must
be the same, the nulls must be accounted for in the same places, and every error must be a true one.
"""

import asyncio
import json
import warnings
from collections.abc import Callable
from math import isnan, nan
from typing import Any, ClassVar, TypeAlias

from graphql import (
    DirectiveNode,
    DocumentNode,
    ExecutionResult,
    GraphQLSchema,
    NameNode,
    OperationDefinitionNode,
    execute,
    get_named_type,
)

from bff.engine import BreadthExecutor, Operation, Selection, StandardExecutor, Weighed, unpacked

Context: TypeAlias = Callable[[], Any]
"""Makes what resolvers are given by an execution: None, or something that is cancelled after it."""


def no_context() -> None:
    pass


_THEIR_COROUTINES = ("coroutine 'Executor.", "coroutine 'GraphQLCoreConverter.")
"""What graphql-core creates and does not await, and strawberry's wrappers that it calls."""


def weigh(selection: Selection) -> float:
    """One for each object, where what looks like one in the answer is one and no scalar."""
    return nan if any(get_named_type(each.definition.type).name == "JSON" for each in selection.fields) else 1.0


class Fuzzed(BreadthExecutor):
    """Counts what it leaves to graphql-core, and objects."""

    weigh = staticmethod(weigh)
    fallbacks: ClassVar[list[str]] = []
    on_fallback = fallbacks.append


class Packed(Fuzzed):
    """The same with Structs for dicts, as the gateway has it."""

    packed = True


_last: list[tuple[GraphQLSchema, DocumentNode, Operation]] = []


def operation(schema: GraphQLSchema, document: DocumentNode, executor: type[Fuzzed]) -> Operation:
    """The operation of the document, the same as before if the document is."""
    if not _last or _last[0][0] is not schema or _last[0][1] is not document:
        _last[:] = [(schema, document, Operation(schema, document, None, executor))]
    return _last[0][2]


def executed(
    schema: GraphQLSchema,
    document: DocumentNode,
    variables: dict[str, Any],
    executor: Any,
    context: Context = no_context,
) -> ExecutionResult:
    async def run() -> ExecutionResult:
        given = context()
        if issubclass(executor, Fuzzed):
            result = operation(schema, document, executor).execute(variables, given)
        else:
            result = execute(schema, document, context_value=given, variable_values=variables, executor_class=executor)
        result = result if isinstance(result, ExecutionResult) else await result
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if given is not None:
            given.cancel()
        elif issubclass(executor, Fuzzed):
            assert not left
        # Graphql-core leaves what it does not wait for any more running.
        await asyncio.gather(*left, return_exceptions=True)
        return result

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = asyncio.run(run())
    result.data = unpacked(result.data)
    assert not [each for each in map(str, (each.message for each in caught)) if not each.startswith(_THEIR_COROUTINES)]
    return result


def compare_strictly(schema: GraphQLSchema, document: DocumentNode, variables: dict[str, Any]) -> ExecutionResult:
    theirs = execute(schema, document, variable_values=variables, executor_class=StandardExecutor)
    assert isinstance(theirs, ExecutionResult)
    for _ in range(2):  # the second time it is known
        ours = operation(schema, document, Fuzzed).execute(variables, None)
        assert isinstance(ours, ExecutionResult)
        assert as_text(ours.data) == as_text(theirs.data)
        assert errors(ours) == errors(theirs)
        compare_weight(ours)
    return theirs


def compare(
    schema: GraphQLSchema,
    document: DocumentNode,
    variables: dict[str, Any],
    context: Context = no_context,
) -> ExecutionResult:
    ours = executed(schema, document, variables, Packed, context)
    theirs = executed(schema, document, variables, StandardExecutor, context)
    assert as_text(ours.data) == as_text(theirs.data)
    assert {null(ours.data, error[1]) for error in errors(ours)} == {
        null(ours.data, each[1]) for each in errors(theirs)
    }
    at_their_null = {error for error in errors(theirs) if null(theirs.data, error[1]) == error[1]}
    assert at_their_null <= set(errors(ours)) | _moved(theirs, ours)
    if not set(errors(ours)) <= set(errors(theirs)):
        assert set(errors(ours)) <= set(
            errors(executed(schema, without_propagation(document), variables, StandardExecutor, context))
        )
    assert len(errors(ours)) == len(set(errors(ours)))
    compare_weight(ours)
    return theirs


def compare_weight(ours: ExecutionResult) -> None:
    if isinstance(ours, Weighed) and not ours.errors and not isnan(ours.weight):
        assert ours.weight == _objects(ours.data)


def _objects(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_objects, value))
    return 1 + sum(map(_objects, value.values())) if isinstance(value, dict) else 0


def _moved(theirs: ExecutionResult, ours: ExecutionResult) -> set[Any]:
    """Errors of theirs at a null that ours explains by an error further down: one of several is as good."""
    explained = {null(ours.data, path) for _, path, _ in errors(ours) if null(ours.data, path) != path}
    return {error for error in errors(theirs) if error[1] in explained}


def as_text(data: Any) -> str:
    return json.dumps(data, default=repr)


def errors(result: ExecutionResult) -> list[Any]:
    return [
        (each.message, tuple(each.path or ()), tuple((at.line, at.column) for at in each.locations or ()))
        for each in result.errors or ()
    ]


def null(data: Any, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where on the path the null stands that the error has made."""
    for length, step in enumerate(path):
        if data is None:
            return path[:length]
        data = data[step]
    assert data is None
    return path


def without_propagation(document: DocumentNode) -> DocumentNode:
    """The same, so that every error stays where it is and all of them are reported."""
    directive = DirectiveNode(name=NameNode(value="experimental_disableErrorPropagation"), arguments=())
    definitions = [
        OperationDefinitionNode(**{key: getattr(each, key) for key in each.keys} | {"directives": (directive,)})
        if isinstance(each, OperationDefinitionNode)
        else each
        for each in document.definitions
    ]
    return DocumentNode(definitions=tuple(definitions))
