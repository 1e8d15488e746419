"""The worst cost and the worst number of upstream calls of an operation, known before any call is made.

Cost is that of the IBM specification: each object weighs 1 for each time that it may come, or what `@cost` says. Calls
are counted as the engine makes them: a batched read is one call for all that ask for it in the same tick, and another
for each `max_batch` of their keys. Nothing is assumed of data but what is checked, and nothing of services' timing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
    value_from_ast_untyped,
)

from bff import engine
from bff.core.errors import Code
from bff.graphql.demands import Demands
from bff.graphql.needs import depends_on_ids, needs_of
from bff.graphql.rules import Broken
from bff.graphql.shape import UNKNOWN, Selection, Shaper, conditional, variables_in
from bff.graphql.weights import facts_of
from bff.graphql.worst import At, Known, Row, Walk, kinds_of

MAX_COST = 10**12
_MAX_VARIANTS = 16
_MAX_ESTIMATES = 64
_MOST_NAMED = 5


@dataclass(frozen=True)
class Estimate:
    """What an operation comes to at worst.

    Attributes:
        cost: in the units of `@cost`; None if it has no bound.
        calls: to services, retries apart; None if there is no bound.
        by_source: the same for each read and call, by its name.
        unbounded: the lists that have no bound, as `Type.field`.
        waves: how many calls follow one another.
        rows: the tree, if it was asked for.
    """

    cost: int | None
    calls: int | None
    by_source: Mapping[str, int]
    unbounded: tuple[str, ...] = ()
    waves: int = 0
    rows: tuple[Row, ...] = ()

    def exceeded(self, observed: Mapping[str, int]) -> dict[str, int]:
        """By their names, the reads and calls that were made more often than they can be, and how often."""
        if self.unbounded:
            return {name: count for name, count in observed.items() if name not in self.by_source}
        over, calls = {}, 0
        for name, count in observed.items():
            calls += count
            if count > self.by_source.get(name, 0):
                over[name] = count
        return over or (dict(observed) if self.calls is not None and calls > self.calls else over)


class Costs:
    """Estimates operations of one schema.

    Args:
        schema: as `compose` makes it.
        max_batch: keys in one call, by service.
        largest: the size of a list that only a variable without a value tells.
    """

    def __init__(self, schema: GraphQLSchema, max_batch: Mapping[str, int], largest: int) -> None:
        self.schema = schema
        self.known = Known(max_batch, largest)

    def of(self, document: DocumentNode, operation: OperationDefinitionNode) -> OperationCost:
        return OperationCost(self, document, operation)


class OperationCost:
    """What one operation costs with any variables; remembers what it has found out.

    Args:
        costs: of its schema.
        document: a valid one.
        operation: that is executed.
    """

    def __init__(self, costs: Costs, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._costs = costs
        self._operation = operation
        self._shaper = Shaper(costs.schema, document)
        self._defaults = _defaults(operation)
        self._conditional = sorted(conditional(document) & self._defaults.keys())
        self._shapes: dict[tuple[Any, ...], tuple[Selection, list[str]]] = {}
        self._estimates: dict[Hashable, Estimate] = {}
        self._fixed: Estimate | None = None
        self._needs: dict[int, dict[str, Demands] | None] = {}

    def estimate(self, variables: Mapping[str, Any]) -> Estimate:
        """With these values of the variables, as they were sent."""
        if self._fixed is not None:
            return self._fixed
        given = self._given(variables)
        shape, sizing = self._shape(given)
        if not sizing and not self._conditional:
            self._fixed = self._estimated(shape, {}, [])
            return self._fixed
        key = (id(shape), *[_key(given[name]) for name in sizing])
        known = self._estimates.get(key)
        if known is None:
            if len(self._estimates) >= _MAX_ESTIMATES:
                self._estimates.clear()
            known = self._estimates[key] = self._estimated(shape, given, [])
        return known

    def actual(self, variables: Mapping[str, Any], data: Mapping[str, Any] | None, weight: float = nan) -> int:
        """What an answer has come to, weighed like the estimate: what is there, instead of what may be.

        Args:
            variables: as they were sent.
            data: of the answer.
            weight: of all that is in it, where the engine knows; otherwise it is gone through.
        """
        if not isnan(weight):
            return ceil(weight)
        given = {name: variables.get(name, default) for name, default in self._defaults.items()}
        return ceil(_weighed(self._shape(given)[0], [engine.unpacked(data)])) if data else 0

    def explain(self, variables: Mapping[str, Any]) -> Estimate:
        """The same with the tree. A variable that has neither a value nor a default may have any."""
        given = self._any(variables)
        rows: list[Row] = []
        return dataclasses.replace(self._estimated(self._shape(given)[0], given, rows), rows=tuple(rows))

    def needs(self, variables: Mapping[str, Any]) -> Mapping[str, Demands]:
        """What its fields demand of the caller with these values of the variables, by coordinate."""
        given = self._given(variables)
        shape, _ = self._shape(given)
        if id(shape) not in self._needs:
            fixed = None if depends_on_ids(shape) else needs_of(self._costs.schema, shape, given)
            self._needs[id(shape)] = fixed
        known = self._needs[id(shape)]
        return needs_of(self._costs.schema, shape, given) if known is None else known

    def all_needs(self, variables: Mapping[str, Any]) -> Mapping[str, Demands]:
        """The same; a variable that has neither a value nor a default may have any."""
        given = self._any(variables)
        return needs_of(self._costs.schema, self._shape(given)[0], given)

    def _given(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {name: variables.get(name, default) for name, default in self._defaults.items()}

    def _any(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        missing = {name: UNKNOWN if default is None else default for name, default in self._defaults.items()}
        return {**missing, **variables}

    def _shape(self, given: Mapping[str, Any]) -> tuple[Selection, list[str]]:
        conditions = {name: value for name in self._conditional if isinstance(value := given[name], bool)}
        key = tuple(conditions.items())
        known = self._shapes.get(key)
        if known is None:
            if len(self._shapes) >= _MAX_VARIANTS:
                self._shapes.clear()
                self._needs.clear()
                self._estimates.clear()
            shape = self._shaper.shape(self._operation, conditions)
            known = self._shapes[key] = shape, sorted(set(_sizing(shape)) & self._defaults.keys())
        return known

    def _estimated(self, shape: Selection, given: Mapping[str, Any], rows: list[Row]) -> Estimate:
        unbounded: dict[str, None] = {}
        walk = Walk(self._costs.known, given, unbounded, rows)
        is_serial = self._operation.operation is OperationType.MUTATION
        cost = walk.serially(shape) if is_serial else walk.selection(shape, At())
        by_source, calls = walk.counted()
        if unbounded:
            return Estimate(None, None, by_source, tuple(unbounded), walk.waves)
        return Estimate(ceil(min(cost, MAX_COST)), calls, by_source, waves=walk.waves)


def too_expensive(estimate: Estimate, limit: int) -> Broken | None:
    """The rule that an operation breaks which costs more than it may, or may cost anything."""
    if estimate.cost is None:
        lists = ", ".join(estimate.unbounded[:_MOST_NAMED])
        detail = (
            f"What the operation costs has no bound: nothing says how long {lists} can get. "
            "Leave it out; the schema has to declare its size with @listSize"
        )
        return Broken("cost", Code.COST_LIMIT_EXCEEDED, detail)
    if estimate.cost > limit:
        detail = f"The operation may cost {estimate.cost}; {limit} are allowed. Ask for smaller pages, or fewer levels"
        return Broken("cost", Code.COST_LIMIT_EXCEEDED, detail)
    return None


def weigh(selection: engine.Selection) -> float:
    """What each object of a selection costs, without what is below; nan where only the answer can tell.

    It is `_weighed` for what the engine counts: objects, and neither leaves nor what an interface stands for.
    """
    weight = facts_of(selection.field.definition).weight if selection.field else 0.0
    for each in selection.fields:
        facts, type_ = facts_of(each.definition), get_named_type(each.definition.type)
        if is_abstract_type(type_) or (is_leaf_type(type_) and facts.weight):
            return nan
        given = {argument.name.value for argument in each.nodes[0].arguments or ()}
        weight += sum(cost for name, cost in facts.arguments.items() if name in given)
    return weight


def _weighed(selection: Selection, objects: Sequence[Mapping[str, Any]]) -> float:
    """The cost of fields that objects of an answer have, all at once for each field."""
    total = 0.0
    for each in selection.fields:
        facts = each.facts
        if not facts.weight and not each.selections and not facts.arguments:
            continue
        total += sum(weight for name, weight in facts.arguments.items() if name in each.arguments) * len(objects)
        values = [value for one in objects if (value := one.get(each.key)) is not None]
        for _ in range(each.lists):
            values = [value for some in values for value in some if value is not None]
        total += facts.weight * len(values)
        if values and each.selections:
            # Of an interface or union, which it is of several is not said: what would cost most.
            total += max(_weighed(part, values) for part in each.selections.values())
    return total


def _sizing(selection: Selection) -> Iterator[str]:
    """The variables that tell how large a list is, or what an object is."""
    pending = [selection]
    while pending:
        for each in pending.pop().fields:
            pending += each.selections.values()
            names = each.arguments if each.facts.entities else each.facts.slicing
            for name in names:
                if name in each.arguments:
                    yield from variables_in(each.arguments[name])


def _key(value: Any) -> Hashable:
    """What of a variable's value makes a difference: a number, or of ids how many there are of each kind."""
    if isinstance(value, int):
        return value
    return frozenset(kinds_of(map(str, value if isinstance(value, list) else [value])).items())


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    """The operation's variables, with what they are if they are not given; None is nothing."""
    return {
        each.variable.name.value: value_from_ast_untyped(each.default_value) if each.default_value else None
        for each in operation.variable_definitions or ()
    }
