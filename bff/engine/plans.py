"""Plans are kept as long as their documents, and what cannot be planned is known as long."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from graphql import (
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)
from graphql.execution import Executor

from bff.engine.plan import Selection, root_selection
from bff.engine.run import Run

MAX_VARIANTS = 16
"""Of one operation: each variable in a `@skip` or `@include` doubles them."""

Reason: TypeAlias = Literal[
    "abort signal",
    "custom directive",
    "defer or stream",
    "execution hooks",
    "fragment arguments",
    "middleware",
    "nested too deeply",
    "no such root type",
    "operation directive",
    "own predicates",
    "unfit directive arguments",
]
"""Why an operation is executed by graphql-core; the whole list, so that it can be the label of a metric."""


class Plans:
    """The plans of all operations of one schema that are alive, for each class of executors, since they wrap fields."""

    def __init__(self) -> None:
        self._operations: dict[tuple[type, int], tuple[weakref.ref[OperationDefinitionNode], Variants]] = {}

    def variants(self, executor: Executor[Any]) -> Variants:
        """The plans of the operation that is executed."""
        operation = executor.operation
        # By identity: graphql-core's nodes hash and compare by their whole content.
        key = type(executor), id(operation)
        known = self._operations.get(key)
        if known is None:
            operations = self._operations
            known = weakref.ref(operation, lambda _: operations.pop(key, None)), Variants(executor)
            operations[key] = known
        return known[1]

    def __len__(self) -> int:
        return len(self._operations)

    def __reduce__(self) -> tuple[type[Plans], tuple[()]]:
        """A copy of the schema begins without any."""
        return Plans, ()


class Variants:
    """The plans of one operation by the values of the variables that decide what it selects."""

    def __init__(self, executor: Executor[Any]) -> None:
        self._variants: dict[tuple[Any, ...], Selection] = {}
        self._deciding: list[str] = []
        self._reason: Reason | None = None
        try:
            self._deciding = sorted(_deciding(executor))
        except _Unplannable as unplannable:
            self._reason = unplannable.reason
        except RecursionError:
            self._reason = "nested too deeply"

    def known(self, variables: Mapping[str, Any]) -> Selection | None:
        """The plan for these variables, if there is one already."""
        if not self._deciding:
            return self._variants.get(())
        return self._variants.get(tuple([variables.get(name) for name in self._deciding]))

    def plan(self, run: Run) -> Selection | Reason:
        """The plan for the variables of this execution, or why there is none."""
        if self._reason:
            return self._reason
        values = run.variables
        if not all(name in values for name in self._deciding):
            return "unfit directive arguments"
        variant = tuple([values[name] for name in self._deciding])
        plan = self._variants.get(variant)
        if plan is not None:
            return plan
        planned = _planned(run)
        if isinstance(planned, Selection):
            if len(self._variants) >= MAX_VARIANTS:
                del self._variants[next(iter(self._variants))]
            self._variants[variant] = planned
        return planned


def _planned(run: Run) -> Selection | Reason:
    root_type = run.schema.get_root_type(run.executor.operation.operation)
    if root_type is None:
        return "no such root type"
    try:
        return root_selection(run, root_type)
    except GraphQLError:
        return "unfit directive arguments"
    except RecursionError:
        return "nested too deeply"


class _Unplannable(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _deciding(executor: Executor[Any]) -> set[str]:
    """The names of the variables in `@skip` and `@include`.

    Raises:
        _Unplannable: the document has something in it that is executed by graphql-core.
    """
    operation = executor.operation
    if operation.directives:
        raise _Unplannable("operation directive")
    if any(fragment.variable_signatures for fragment in executor.fragments.values()):
        raise _Unplannable("fragment arguments")
    selections = [operation.selection_set, *(each.definition.selection_set for each in executor.fragments.values())]
    names: set[str] = set()
    for directive in (each for selection in selections for each in _directives(selection)):
        name = directive.name.value
        if name in ("defer", "stream"):
            raise _Unplannable("defer or stream")
        if name not in ("skip", "include"):
            raise _Unplannable("custom directive")
        names |= {each.value.name.value for each in directive.arguments if isinstance(each.value, VariableNode)}
    return names


def _directives(selection_set: SelectionSetNode) -> Iterator[Any]:
    for selection in selection_set.selections:
        yield from selection.directives or ()
        below = None if isinstance(selection, FragmentSpreadNode) else getattr(selection, "selection_set", None)
        if below:
            yield from _directives(below)
