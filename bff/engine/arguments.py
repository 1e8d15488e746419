"""Arguments of a node, made once for all its parents, and for all requests where nothing in them varies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLField,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_nullable_type,
    is_enum_type,
    is_leaf_type,
    is_non_null_type,
    is_specified_scalar_type,
)
from graphql.execution.values import get_argument_values

from bff.engine.places import Place
from bff.engine.run import Run

_IMMUTABLE = (str, int, float, bool, bytes, Enum, type(None))


class _Passed(NamedTuple):
    """An argument that is the value of a variable, as it is."""

    name: str
    variable: str
    required: bool
    optional: bool
    """Whether it is simply left out where the variable is."""


class Arguments:
    """The arguments of a field as a resolver gets them.

    Args:
        definition: of the field.
        node: where it stands in the document.
        convert: makes graphql-core's values into those that the resolver expects.
        names: what the resolver calls the arguments that `convert` may leave as they are, by their name in the schema.
    """

    __slots__ = ("_constant", "_convert", "_definition", "_node", "_none", "_passed", "_varies")

    def __init__(
        self,
        definition: GraphQLField,
        node: FieldNode,
        names: Mapping[str, str],
        convert: Callable[[dict[str, Any], Run, Place], dict[str, Any]] | None = None,
    ) -> None:
        self._definition = definition
        self._node = node
        self._convert = convert
        self._none = not definition.args and not node.arguments
        passed = {
            each.name.value: _passed(names[each.name.value], each.value, definition.args[each.name.value])
            for each in node.arguments or ()
            if isinstance(each.value, VariableNode) and each.name.value in names
        }
        self._passed = [each for each in passed.values() if each]
        self._varies = any(
            _has_variables(each.value) for each in node.arguments or () if not passed.get(each.name.value)
        )
        self._constant: dict[str, Any] | None = None

    def values(self, run: Run, place: Place) -> dict[str, Any]:
        """The arguments, not to be changed.

        Raises:
            GraphQLError: they do not fit the field.
        """
        if self._none:
            return {}
        if self._constant is not None:
            values = self._with_passed(self._constant, run.variables)
            if values is not None:
                return values
        executor = run.executor
        values = get_argument_values(
            self._definition, self._node, executor.variable_values, None, executor.hide_suggestions
        )
        if self._convert:
            values = self._convert(values, run, place)
        if not self._varies:
            names = {each.name for each in self._passed}
            constant = {name: value for name, value in values.items() if name not in names}
            self._constant = constant if shareable(constant) else None
        return values

    def _with_passed(self, constant: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arguments; None if graphql-core has to say what they are, or what is wrong with them."""
        if not self._passed:
            return constant
        values = constant.copy()
        for name, variable, required, optional in self._passed:
            value = variables.get(variable, Undefined)
            if value is Undefined:
                if not optional:
                    return None
            elif value is None and required:
                return None
            else:
                values[name] = value
        return values


def _passed(name: str, value: VariableNode, definition: GraphQLArgument) -> _Passed | None:
    type_ = get_nullable_type(definition.type)
    if not is_leaf_type(type_) or not (is_specified_scalar_type(type_) or is_enum_type(type_)):
        return None
    required = is_non_null_type(definition.type)
    has_default = definition.default is not None or definition.default_value is not Undefined
    return _Passed(name, value.name.value, required, not required and not has_default)


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
