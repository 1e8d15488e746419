"""What an operation selects, as a tree of fields with what is known of each: made once for its document.

Fields that can be merged are one, fragments are written out where they apply, and for an interface or union there is
one selection for each type that it may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_list_type,
    is_object_type,
    print_ast,
    value_from_ast_untyped,
)

from bff.graphql.weights import Facts, facts_of


class Unknown:
    """The value of a variable that nobody has given yet: any."""


UNKNOWN = Unknown()


class Field:
    """One field of a selection.

    Attributes:
        key: its name in the response.
        name: its name in the schema.
        coordinate: `Type.name`.
        facts: what the schema says of it.
        arguments: as they are written.
        lists: how many lists are inside one another in its type.
        type: of what is in them.
        selections: what is selected of it, by the name of the type that it is.
        is_late: what is below begins when it has been answered, and not before.
        is_pending: it is late itself, or something below is that begins at once.
    """

    __slots__ = (
        "arguments", "coordinate", "facts", "is_late", "is_pending", "key", "lists", "name", "said", "selections",
        "type",
    )  # fmt: skip

    def __init__(
        self, key: str, node: FieldNode, parent: GraphQLObjectType, output: GraphQLOutputType, facts: Facts
    ) -> None:
        self.key = key
        self.name = node.name.value
        self.coordinate = f"{parent.name}.{self.name}"
        self.facts = facts
        self.arguments: dict[str, ValueNode] = {each.name.value: each.value for each in node.arguments or ()}
        self.said = ", ".join(sorted(map(print_ast, node.arguments or ())))
        self.lists = _lists(output)
        self.type = get_named_type(output).name
        self.selections: dict[str, Selection] = {}
        self.is_late = facts.sources.is_late
        self.is_pending = self.is_late

    def value(self, name: str, variables: Mapping[str, Any]) -> Any:
        """An argument as it is given; None if it is not. Variables that are missing from `variables` are unknown."""
        node = self.arguments.get(name)
        if node is None:
            return None
        if isinstance(node, VariableNode):
            return variables.get(node.name.value, UNKNOWN)
        return value_from_ast_untyped(node, {name: variables.get(name, UNKNOWN) for name in variables_in(node)})


class Selection:
    """The fields that are selected of an object.

    Attributes:
        fields: of the object, in their order.
        is_crowded: several of them have to be waited for, so that each is a task of its own.
    """

    __slots__ = ("fields", "is_crowded")

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.is_crowded = sum(each.is_pending for each in fields) > 1


class Shaper:
    """Makes the shapes of the operations of one document."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }

    def shape(self, operation: OperationDefinitionNode, conditions: Mapping[str, Any]) -> Selection:
        """What the operation selects.

        Args:
            operation: of the document, which is valid.
            conditions: the values of the variables in `@skip` and `@include`; where one is missing, nothing is skipped.
        """
        root = self._schema.get_root_type(operation.operation)
        if root is None:
            raise ValueError(f"The schema has no {operation.operation.value}")
        return self._selection(root, [operation.selection_set], conditions)

    def _selection(
        self, type_: GraphQLObjectType, parts: Iterable[SelectionSetNode], conditions: Mapping[str, Any]
    ) -> Selection:
        nodes: dict[str, list[FieldNode]] = {}
        for node in self._fields(type_, parts, conditions):
            nodes.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
        fields = [self._field(type_, key, each, conditions) for key, each in nodes.items()]
        # `__typename` and introspection are answered from memory.
        return Selection([each for each in fields if not each.name.startswith("__")])

    def _fields(
        self, type_: GraphQLObjectType, parts: Iterable[SelectionSetNode], conditions: Mapping[str, Any]
    ) -> Iterator[FieldNode]:
        spread: set[str] = set()
        pending: list[SelectionNode] = [each for part in parts for each in part.selections][::-1]
        while pending:
            each = pending.pop()
            if not _is_wanted(each.directives or (), conditions):
                continue
            if isinstance(each, FieldNode):
                yield each
                continue
            fragment: Any = each
            if isinstance(each, FragmentSpreadNode):
                if each.name.value in spread:
                    continue
                spread.add(each.name.value)
                fragment = self._fragments[each.name.value]
            if self._applies(fragment, type_):
                pending += fragment.selection_set.selections[::-1]

    def _applies(self, fragment: InlineFragmentNode | FragmentDefinitionNode, type_: GraphQLObjectType) -> bool:
        if fragment.type_condition is None:
            return True
        condition = self._schema.type_map[fragment.type_condition.name.value]
        return condition is type_ or (is_abstract_type(condition) and self._schema.is_sub_type(condition, type_))

    def _field(
        self, parent: GraphQLObjectType, key: str, nodes: list[FieldNode], conditions: Mapping[str, Any]
    ) -> Field:
        output = self._schema.get_field(parent, nodes[0].name.value)
        if output is None:
            raise ValueError(f"There is no {parent.name}.{nodes[0].name.value}")
        field = Field(key, nodes[0], parent, output.type, facts_of(output))
        if field.name.startswith("__"):
            return field
        parts = [each.selection_set for each in nodes if each.selection_set]
        named = get_named_type(output.type)
        types = [named] if is_object_type(named) else self._schema.get_possible_types(named) if parts else []  # type: ignore[arg-type]
        for type_ in types:
            field.selections[type_.name] = self._selection(type_, parts, conditions)
        if not field.is_late:
            field.is_pending = any(each.is_pending for part in field.selections.values() for each in part.fields)
        return field


def conditional(document: DocumentNode) -> set[str]:
    """The names of the variables in `@skip` and `@include`."""
    pending = [each.selection_set for each in document.definitions if hasattr(each, "selection_set")]
    names: set[str] = set()
    while pending:
        for each in pending.pop().selections:
            for directive in each.directives or ():
                if directive.name.value in ("skip", "include"):
                    names |= {name for argument in directive.arguments or () for name in variables_in(argument.value)}
            below: SelectionSetNode | None = getattr(each, "selection_set", None)
            if below:
                pending.append(below)
    return names


def _is_wanted(directives: Iterable[DirectiveNode], conditions: Mapping[str, Any]) -> bool:
    for each in directives:
        name = each.name.value
        if name not in ("skip", "include") or not each.arguments:
            continue
        value = value_from_ast_untyped(each.arguments[0].value, dict(conditions))
        if value is (name == "skip"):
            return False
    return True


def _lists(output: GraphQLOutputType) -> int:
    depth = 0
    while (inner := getattr(output, "of_type", None)) is not None:
        depth += is_list_type(output)
        output = inner
    return depth


def variables_in(value: ValueNode) -> Iterator[str]:
    """The names of the variables in a value."""
    pending: list[Any] = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, VariableNode):
            yield each.name.value
        pending += getattr(each, "values", None) or ()
        pending += [field.value for field in getattr(each, "fields", None) or ()]
