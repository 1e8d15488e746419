"""Compares the executor with graphql-core's own: whatever that answers is right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

from graphql import ExecutionResult, GraphQLError, GraphQLSchema, execute

from bff.engine import BreadthExecutor, StandardExecutor
from tests.breadth import menagerie, shop
from tests.breadth.documents import Case

SCHEMAS = (*menagerie.FLAVOURS, "shop")


@cache
def schema_of(name: str) -> GraphQLSchema:
    return shop.schema() if name == "shop" else menagerie.build(name)._schema


class Judge:
    """Of one schema.

    Attributes:
        count: how many operations were compared.
        fallbacks: why some of them were left to graphql-core, so that nothing was compared.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.fallbacks: list[str] = []
        self.executor = type("Judged", (BreadthExecutor,), {"on_fallback": self.fallbacks.append})

    def compare(self, cases: Iterable[Case]) -> None:
        """Each case with all of its variables.

        Raises:
            AssertionError: some answer is another one.
        """
        with asyncio.Runner() as runner:
            for case in cases:
                for variables in case.variables:
                    try:
                        self._compare(case, variables, runner)
                    except Exception as error:
                        error.add_note(f"{case.text}\n{variables}")
                        raise
                    self.count += 1

    def _compare(self, case: Case, variables: dict[str, Any], runner: asyncio.Runner) -> None:
        expected, given = (self.answer(case, variables, each, runner) for each in (StandardExecutor, self.executor))
        # As text: the order of keys counts, and a NaN must not differ from itself.
        assert repr(given.data) == repr(expected.data)
        if self.name == "sync":
            assert [told(each) for each in given.errors or ()] == [told(each) for each in expected.errors or ()]
            return
        # Which of several errors under one null is found first is a matter of time; the null itself is not.
        assert nulls(given) == nulls(expected)
        theirs = by_path(expected)
        assert all(messages <= theirs.get(path, messages) for path, messages in by_path(given).items())

    def answer(self, case: Case, variables: dict[str, Any], executor: Any, runner: asyncio.Runner) -> ExecutionResult:
        context = shop.Records(len(str(variables))) if self.name == "shop" else None

        async def executed() -> ExecutionResult:
            result = execute(
                schema_of(self.name),
                case.document,
                variable_values=variables,
                context_value=context,
                executor_class=executor,
            )
            return result if isinstance(result, ExecutionResult) else await result

        return runner.run(executed())


def told(error: GraphQLError) -> tuple[Any, ...]:
    places = [(each.line, each.column) for each in error.locations or ()]
    return error.message, error.path, places, type(error.original_error)


def nulls(result: ExecutionResult) -> set[tuple[Any, ...]]:
    """The place of the null that each error has made."""
    places = set()
    for error in result.errors or ():
        at, place = result.data, ()
        for key in error.path or ():
            if at is None:
                break
            at, place = at[key], (*place, key)
        places.add(place)
    return places


def by_path(result: ExecutionResult) -> dict[tuple[Any, ...], set[str]]:
    found: dict[tuple[Any, ...], set[str]] = {}
    for error in result.errors or ():
        found.setdefault(tuple(error.path or ()), set()).add(error.message)
    return found
