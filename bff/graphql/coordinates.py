"""What an operation is written over, as coordinates (https://spec.graphql.org/draft/#sec-Schema-Coordinates).

By what is written, not by what is executed: a field that is skipped keeps the whole document from being valid once it
is gone from the schema. Of a variable only its type is known.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInputType,
    GraphQLNamedType,
    GraphQLSchema,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionNode,
    TypeNode,
    ValueNode,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_specified_directive,
    is_specified_scalar_type,
)


class Asks:
    """What one operation of a valid document asks for; each is its own key in tables.

    Args:
        schema: that the document fits.
        document: with its fragments.
        operation: that is executed.

    Attributes:
        coordinates: `Type.field`, `Type.field(argument:)`, `Input.field`, `Enum.VALUE`, `Type` and `@directive`, each
            once. Known at once, so that who counts them holds on to no document that is forgotten otherwise.
    """

    __slots__ = ("coordinates",)

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self.coordinates = tuple(dict.fromkeys(_Written(schema, document, operation).coordinates()))


class _Written:
    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._schema, self._document, self._operation = schema, document, operation

    def coordinates(self) -> Iterator[str]:
        operation = self._operation
        yield from self._directives(operation.directives or ())
        for variable in operation.variable_definitions or ():
            type_ = self._schema.type_map[_name(variable.type)]
            if not is_specified_scalar_type(type_):
                yield type_.name
            if variable.default_value:
                yield from _values(type_, variable.default_value)
        root = self._schema.get_root_type(operation.operation)
        if root is not None:
            yield from self._selected(root, operation)

    def _selected(self, root: GraphQLNamedType, operation: OperationDefinitionNode) -> Iterator[str]:
        parts = [each for each in self._document.definitions if isinstance(each, FragmentDefinitionNode)]
        fragments = {each.name.value: each for each in parts}
        spread: set[str] = set()
        pending: list[tuple[GraphQLNamedType, SelectionNode]]
        pending = [(root, each) for each in operation.selection_set.selections]
        while pending:
            parent, selected = pending.pop()
            yield from self._directives(selected.directives or ())
            node: Any = selected
            if isinstance(selected, FragmentSpreadNode):
                if selected.name.value in spread:
                    continue
                spread.add(selected.name.value)
                node = fragments[selected.name.value]
            is_field = isinstance(node, FieldNode)
            below = yield from self._field(parent, node) if is_field else self._condition(parent, node)
            if below is not None and node.selection_set:
                pending += [(below, each) for each in node.selection_set.selections]

    def _condition(self, parent: GraphQLNamedType, node: Any) -> Generator[str, None, GraphQLNamedType]:
        if node.type_condition is None:
            return parent
        name: str = node.type_condition.name.value
        yield name
        return self._schema.type_map[name]

    def _field(self, parent: Any, node: FieldNode) -> Generator[str, None, GraphQLNamedType | None]:
        if node.name.value.startswith("__"):
            return None  # of the schema itself, which any schema has
        field = parent.fields[node.name.value]
        coordinate = f"{parent.name}.{node.name.value}"
        yield coordinate
        for each in node.arguments or ():
            yield f"{coordinate}({each.name.value}:)"
            yield from _values(field.args[each.name.value].type, each.value)
        below: GraphQLNamedType = get_named_type(field.type)
        return below

    def _directives(self, nodes: Iterable[DirectiveNode]) -> Iterator[str]:
        for each in nodes:
            directive = self._schema.get_directive(each.name.value)
            if directive is not None and not is_specified_directive(directive):
                yield f"@{directive.name}"
                for argument in each.arguments or ():
                    yield f"@{directive.name}({argument.name.value}:)"
                    yield from _values(directive.args[argument.name.value].type, argument.value)


def _values(type_: GraphQLInputType | GraphQLNamedType, value: ValueNode) -> Iterator[str]:
    """What is written out in a value."""
    pending: list[tuple[Any, ValueNode]] = [(get_named_type(type_), value)]
    while pending:
        named, node = pending.pop()
        if isinstance(node, ListValueNode):
            pending += [(named, each) for each in node.values]
        elif isinstance(node, EnumValueNode) and is_enum_type(named):
            yield f"{named.name}.{node.value}"
        elif isinstance(node, ObjectValueNode) and is_input_object_type(named):
            for each in node.fields:
                yield f"{named.name}.{each.name.value}"
                pending.append((get_named_type(named.fields[each.name.value].type), each.value))


def _name(type_: TypeNode) -> str:
    node: Any = type_
    while hasattr(node, "type"):
        node = node.type
    name: str = node.name.value
    return name
