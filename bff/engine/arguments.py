"""Arguments of a node, made once for all its parents, and once for all requests where nothing in them varies."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from graphql import FieldNode, GraphQLField, ListValueNode, ObjectValueNode, ValueNode, VariableNode
from graphql.execution.values import get_argument_values

from bff.engine.places import Place
from bff.engine.run import Run

_IMMUTABLE = (str, int, float, bool, bytes, Enum, type(None))


class Arguments:
    """The arguments of a field as a resolver gets them.

    Args:
        definition: of the field.
        node: where it stands in the document.
        convert: makes graphql-core's values into those that the resolver expects.
    """

    __slots__ = ("_constant", "_convert", "_definition", "_node", "_none", "_varies")

    def __init__(
        self,
        definition: GraphQLField,
        node: FieldNode,
        convert: Callable[[dict[str, Any], Run, Place], dict[str, Any]] | None = None,
    ) -> None:
        self._definition = definition
        self._node = node
        self._convert = convert
        self._varies = any(_has_variables(each.value) for each in node.arguments or ())
        self._none = not definition.args and not node.arguments
        self._constant: dict[str, Any] | None = None

    def values(self, run: Run, place: Place) -> dict[str, Any]:
        """The arguments, not to be changed.

        Raises:
            GraphQLError: they do not fit the field.
        """
        if self._none:
            return {}
        if self._constant is not None:
            return self._constant
        executor = run.executor
        values = get_argument_values(
            self._definition, self._node, executor.variable_values, None, executor.hide_suggestions
        )
        if self._convert:
            values = self._convert(values, run, place)
        if not self._varies and shareable(values):
            self._constant = values
        return values


def shareable(arguments: dict[str, Any]) -> bool:
    """Whether nobody can change them for others who get the same."""
    return all(isinstance(each, _IMMUTABLE) for each in arguments.values())


def _has_variables(value: ValueNode) -> bool:
    if isinstance(value, VariableNode):
        return True
    if isinstance(value, ListValueNode):
        return any(map(_has_variables, value.values))
    if isinstance(value, ObjectValueNode):
        return any(_has_variables(field.value) for field in value.fields)
    return False
