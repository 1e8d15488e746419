"""The plan of an operation: what its selections are and how each field is resolved, made once for each document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLResolveInfo,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    Undefined,
    ValueNode,
    VariableNode,
    is_non_null_type,
)
from graphql.execution import Executor
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet, collect_fields, collect_subfields
from graphql.execution.values import get_argument_values
from strawberry.types.field import StrawberryField

from bff.breadth.places import Step
from bff.breadth.rows import Rows, rows_of

GUARD = "engine.guard"
Guard = Callable[[GraphQLResolveInfo[Any]], None]
"""Judges a field before it is resolved, by raising: in `GraphQLField.extensions["engine.guard"]`."""

MAX_VARIANTS = 64
"""Of one operation: each set of values of the variables in its @skip and @include is planned by itself."""


class Unsupported(Exception):
    """This operation is for graphql-core; the message is the reason, from a small set."""


@dataclass(slots=True)
class FieldPlan:
    """One field of one selection, for all objects at once."""

    parent: GraphQLObjectType
    name: str
    definition: GraphQLField
    details: FieldDetailsList
    step: Step
    strawberry: StrawberryField | None
    attribute: Callable[[Any], Any] | None
    """How the value is read, where it is an attribute of the source object."""
    batched: Callable[..., Any] | None
    """The author's function, where it takes all parents at once."""
    guard: Guard | None
    constant: dict[str, Any] | None
    """The arguments, where no variable has a part in them."""
    selections: dict[GraphQLObjectType, Selection] = field(default_factory=dict)
    completer: Any = None
    """How its column is completed; put there by whoever completes it first."""

    @property
    def nodes(self) -> list[FieldNode]:
        return [each.node for each in self.details]

    def arguments(self, executor: Executor[Any]) -> dict[str, Any]:
        if self.constant is not None:
            return self.constant
        return get_argument_values(self.definition, self.details[0].node, executor.variable_values)

    def selection(self, executor: Executor[Any], object_type: GraphQLObjectType) -> Selection:
        """What is asked of objects of this type, below this field."""
        found = self.selections.get(object_type)
        if found is None:
            collected = collect_subfields(
                executor.schema,
                executor.fragments,
                executor.variable_values,
                executor.operation,
                object_type,
                self.details,
            )
            found = self.selections[object_type] = _selection(executor, object_type, collected.grouped_field_set)
        return found


@dataclass(slots=True)
class Selection:
    """The fields asked of objects of one type."""

    type: GraphQLObjectType
    fields: list[FieldPlan]
    rows: Rows


def plan_of(executor: Executor[Any]) -> Selection:
    """The root selection of the executor's operation; kept with the document, and freed with it.

    Raises:
        Unsupported: the operation needs what only graphql-core does.
    """
    if executor.abort_signal is not None or executor.middleware_manager is not None:
        raise Unsupported("middleware")
    operation = executor.operation
    known: dict[Any, Any] = vars(operation).setdefault("bff_plans", {})
    deciding = known.get("deciding")
    if deciding is None:
        deciding = known["deciding"] = _deciding(operation, executor)
    if isinstance(deciding, Unsupported):
        raise deciding
    values = executor.variable_values.coerced
    variant = (id(executor.schema), *(values.get(name, Undefined) for name in deciding))
    plan = known.get(variant)
    if plan is None:
        if len(known) > MAX_VARIANTS:
            raise Unsupported("variants")
        plan = known[variant] = _plan(executor)
    return plan[1]


def _plan(executor: Executor[Any]) -> tuple[Any, Selection]:
    root = executor.schema.get_root_type(executor.operation.operation)
    if root is None:
        raise Unsupported("no root type")
    collected = collect_fields(executor.schema, executor.fragments, executor.variable_values, root, executor.operation)
    # The schema is held with its plan, so that its id stays its own.
    return executor.schema, _selection(executor, root, collected.grouped_field_set)


def _selection(executor: Executor[Any], object_type: GraphQLObjectType, grouped: GroupedFieldSet) -> Selection:
    fields = []
    for order, (key, details) in enumerate(grouped.items()):
        name = details[0].node.name.value
        definition = executor.schema.get_field(object_type, name)
        if definition is not None:
            fields.append(_field(object_type, name, definition, details, key, order))
    return Selection(object_type, fields, rows_of(tuple(str(each.step.key) for each in fields)))


def _field(
    parent: GraphQLObjectType, name: str, definition: GraphQLField, details: FieldDetailsList, key: str, order: int
) -> FieldPlan:
    node = details[0].node
    constant = None
    if not any(_has_variable(argument.value) for argument in node.arguments or ()):
        with suppress(GraphQLError):  # raised again, with its path, when the field is resolved
            constant = get_argument_values(definition, node)
    extensions = definition.extensions or {}
    author: StrawberryField | None = extensions.get("strawberry-definition")
    attribute = batched = None
    if author is not None and not author.extensions and not author.is_subscription:
        if author.base_resolver is None:
            attribute = attrgetter(author.python_name)
        else:
            batched = getattr(author.base_resolver.wrapped_func, "__batched__", None)
    step = Step(key, order, not is_non_null_type(definition.type), parent.name)
    guard = extensions.get(GUARD)
    return FieldPlan(parent, name, definition, details, step, author, attribute, batched, guard, constant)


def _has_variable(value: ValueNode) -> bool:
    if isinstance(value, VariableNode):
        return True
    parts = getattr(value, "values", None) or [each.value for each in getattr(value, "fields", None) or ()]
    return any(_has_variable(part) for part in parts)


def _deciding(operation: OperationDefinitionNode, executor: Executor[Any]) -> tuple[str, ...] | Unsupported:
    """The variables that decide what is asked for, or why this is not for us."""
    if operation.directives:
        return Unsupported("operation directive")
    names: dict[str, None] = {}
    try:
        for fragment in executor.fragments.values():
            if fragment.variable_signatures:
                return Unsupported("fragment variables")
            names.update(dict.fromkeys(_directive_variables(fragment.definition.selection_set)))
        names.update(dict.fromkeys(_directive_variables(operation.selection_set)))
    except Unsupported as unsupported:
        return unsupported
    return tuple(names)


def _directive_variables(selections: SelectionSetNode) -> Iterator[str]:
    for each in selections.selections:
        for directive in each.directives or ():
            if directive.name.value not in {"skip", "include"}:
                raise Unsupported("directive")
            for argument in directive.arguments or ():
                if isinstance(argument.value, VariableNode):
                    yield argument.value.name.value
        if isinstance(each, FieldNode | InlineFragmentNode) and each.selection_set:
            yield from _directive_variables(each.selection_set)
