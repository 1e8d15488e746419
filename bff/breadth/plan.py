"""The plan of an operation: what its selections are and how each field is resolved, made once for each document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from types import NoneType
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

from bff.breadth.authoring import Batched, batched_resolver
from bff.breadth.places import Step
from bff.breadth.rows import Rows, rows_of

GUARD = "engine.guard"
Guard = Callable[[GraphQLResolveInfo[Any]], None]
"""Judges a field before it is resolved, by raising: in `GraphQLField.extensions["engine.guard"]`."""

_UNCHANGEABLE = (str, int, float, bool, Enum, NoneType)

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
    nodes: list[FieldNode]
    step: Step
    strawberry: StrawberryField | None
    attribute: Callable[[Any], Any] | None
    """How the value is read, where it is an attribute of the source object."""
    batched: Batched | None
    """The author's function, where it takes all parents at once."""
    guard: Guard | None
    constant: dict[str, Any] | None
    """The arguments, where no variable has a part in them and nobody can change them."""
    selections: dict[GraphQLObjectType, Selection] = field(default_factory=dict)
    completer: Any = None
    """How its column is completed; put there by whoever completes it first."""

    def arguments(self, executor: Executor[Any]) -> dict[str, Any]:
        if self.constant is not None:
            return self.constant
        return get_argument_values(
            self.definition, self.nodes[0], executor.variable_values, hide_suggestions=executor.hide_suggestions
        )

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
    if isinstance(deciding, str):
        raise Unsupported(deciding)
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
    try:
        collected = collect_fields(
            executor.schema, executor.fragments, executor.variable_values, root, executor.operation
        )
    except (GraphQLError, RecursionError):  # graphql-core says it better
        raise Unsupported("selection") from None
    # The schema is held with its plan, so that its id stays its own.
    return executor.schema, _selection(executor, root, collected.grouped_field_set)


def _selection(executor: Executor[Any], object_type: GraphQLObjectType, grouped: GroupedFieldSet) -> Selection:
    fields = []
    for order, (key, details) in enumerate(grouped.items()):
        name = details[0].node.name.value
        definition = executor.schema.get_field(object_type, name)
        if definition is not None:
            step = Step(key, order, not is_non_null_type(definition.type), object_type.name)
            fields.append(_field(executor, object_type, definition, details, step))
    return Selection(object_type, fields, rows_of(tuple(str(each.step.key) for each in fields)))


def _field(
    executor: Executor[Any], parent: GraphQLObjectType, definition: GraphQLField, details: FieldDetailsList, step: Step
) -> FieldPlan:
    nodes = [each.node for each in details]
    author = _author(definition)
    attribute = batched = None
    if author is not None and not executor.schema._strawberry_schema.exception_handlers:  # type: ignore[attr-defined]  # noqa: SLF001 - strawberry's own link
        batched = batched_resolver(author)
        if author.base_resolver is None and author.default_resolver is getattr:
            attribute = attrgetter(author.python_name)
    return FieldPlan(
        parent=parent,
        name=nodes[0].name.value,
        definition=definition,
        details=details,
        nodes=nodes,
        step=step,
        strawberry=author,
        attribute=attribute,
        batched=batched,
        guard=(definition.extensions or {}).get(GUARD),
        constant=_constant(definition, nodes[0]),
    )


def _author(definition: GraphQLField) -> StrawberryField | None:
    """The field as its author wrote it, where nothing stands around its resolver."""
    author: StrawberryField | None = (definition.extensions or {}).get("strawberry-definition")
    if author is None or author.extensions or author.is_subscription:
        return None
    return author if type(author).get_result is StrawberryField.get_result else None


def _constant(definition: GraphQLField, node: FieldNode) -> dict[str, Any] | None:
    if any(_has_variable(argument.value) for argument in node.arguments or ()):
        return None
    with suppress(GraphQLError):  # raised again, with its path, when the field is resolved
        arguments = get_argument_values(definition, node)
        if all(isinstance(each, _UNCHANGEABLE) for each in arguments.values()):
            return arguments
    return None


def _has_variable(value: ValueNode) -> bool:
    if isinstance(value, VariableNode):
        return True
    parts = getattr(value, "values", None) or [each.value for each in getattr(value, "fields", None) or ()]
    return any(_has_variable(part) for part in parts)


def _deciding(operation: OperationDefinitionNode, executor: Executor[Any]) -> tuple[str, ...] | str:
    """The variables that decide what is asked for, or why this is not for us."""
    if operation.directives:
        return "operation directive"
    names: dict[str, None] = {}
    try:
        for fragment in executor.fragments.values():
            if fragment.variable_signatures:
                return "fragment variables"
            names.update(dict.fromkeys(_directive_variables(fragment.definition.selection_set)))
        names.update(dict.fromkeys(_directive_variables(operation.selection_set)))
    except Unsupported as unsupported:
        return str(unsupported)
    except RecursionError:
        return "selection"
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
