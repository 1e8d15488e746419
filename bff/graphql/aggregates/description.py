"""What OpenAPI says of an aggregate: parameters by the variables' types, its answer by what the operation selects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    SelectionSetNode,
    get_named_type,
    is_abstract_type,
)

from bff.graphql.aggregates.endpoint import INCOMPLETE, Endpoint
from bff.graphql.aggregates.parameters import Input

Object = dict[str, Any]

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_TEXT: Final = {"type": "string"}
_SCALARS: Final[Mapping[str, Object]] = {
    "Int": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "Float": {"type": "number"},
    "Boolean": {"type": "boolean"},
    "String": _TEXT,
    "ID": _TEXT,
    "DateTime": {"type": "string", "format": "date-time"},
    "Decimal": _TEXT,
}
_PREFIX = "graphql."


@dataclass(frozen=True)
class Described:
    """One aggregate.

    Attributes:
        path, method: where it is.
        body: its Operation Object.
        components: the schemas that it refers to, by name.
        scopes: that all its fields need together, where there is no choice.
        open: whether nobody has to say who it is.
    """

    path: str
    method: str
    body: Object
    components: Object
    scopes: frozenset[str]
    open: bool


def described(endpoint: Endpoint, schema: GraphQLSchema) -> Described:
    """What there is to say of one."""
    aggregate, needs = endpoint.aggregate, endpoint.needs.values()
    inputs, components = endpoint.parameters.inputs.values(), Object()
    body: Object = {
        "operationId": aggregate.name,
        "parameters": [_parameter(each) for each in inputs if each.place != "body"],
        "responses": _responses(endpoint, schema),
    }
    if given := [each for each in inputs if each.place == "body"]:
        whole = next((each for each in given if each.name == aggregate.body), None)
        body["requestBody"] = {
            "required": any(each.needed for each in given),
            "content": {
                "application/json": {"schema": _input(whole.type, components) if whole else _members(given, components)}
            },
        }
    scopes = frozenset(
        scope for each in needs for choice in each.scopes if len(choice) == 1 for part in choice for scope in part
    )
    return Described(
        aggregate.path.replace("*}", "}"), aggregate.method, body, {"schemas": components}, scopes, not endpoint.needs
    )


def _responses(endpoint: Endpoint, schema: GraphQLSchema) -> Object:
    aggregate = endpoint.aggregate
    fine: Object = {"description": f"What {aggregate.name} selects"}
    if aggregate.status != 204:
        answer = _Answer(schema, endpoint.document.node).of(aggregate.operation.operation, endpoint)
        fine["content"] = {"application/json": {"schema": answer}}
    if aggregate.partial:
        said = "What is missing, and the code of why: `order.payment;code=UPSTREAM_TIMEOUT`"
        fine["headers"] = {INCOMPLETE.decode(): {"description": said, "schema": _TEXT}}
    found: Object = {str(aggregate.status): fine, "404": {"description": "There is no such thing", "content": _PROBLEM}}
    if aggregate.method == "GET":
        found["304"] = {"description": "The answer is still the one of `If-None-Match`"}
    if any(each.place == "body" for each in endpoint.parameters.inputs.values()):
        found |= {status: {"description": ""} for status in ("415", "422")}
    return found


def _parameter(each: Input) -> Object:
    parameter: Object = {"name": each.name, "in": each.place, "required": each.place == "path" or each.needed}
    parameter["schema"] = _plain(each.type)
    return parameter


def _plain(given: Any) -> Object:
    """In path and query nothing can be null."""
    inner = given.of_type if isinstance(given, GraphQLNonNull) else given
    return {"type": "array", "items": _plain(inner.of_type)} if isinstance(inner, GraphQLList) else _leaf(inner)


def _leaf(given: Any) -> Object:
    if isinstance(given, GraphQLEnumType):
        return {"type": "string", "enum": sorted(given.values)}
    return dict(_SCALARS.get(given.name, {}))


def _nullable(schema: Object) -> Object:
    if not isinstance(schema.get("type"), str):
        return {"anyOf": [schema, {"type": "null"}]} if schema else schema
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **enum}


def _input(given: Any, components: Object) -> Object:
    """As a body has it, where an id may be a number, and one value stand for a list of it."""
    if not isinstance(given, GraphQLNonNull):
        return _nullable(_input(GraphQLNonNull(given), components))
    inner = given.of_type
    if isinstance(inner, GraphQLList):
        item = _input(inner.of_type, components)
        return {"anyOf": [{"type": "array", "items": item}, item]}
    if isinstance(inner, GraphQLInputObjectType):
        name = f"{_PREFIX}{inner.name}"
        if name not in components:
            components[name] = {}  # it may lead to itself
            components[name] = _closed(
                {key: _input(each.type, components) for key, each in inner.fields.items()},
                [key for key, each in inner.fields.items() if _is_needed(each)],
            )
        return {"$ref": f"#/components/schemas/{name}"}
    return {"type": ["string", "integer"]} if inner.name == "ID" else _leaf(inner)


def _is_needed(field: Any) -> bool:
    return isinstance(field.type, GraphQLNonNull) and field.default is None


def _members(given: list[Input], components: Object) -> Object:
    return _closed(
        {each.name: _input(each.type, components) for each in given}, [each.name for each in given if each.needed]
    )


def _closed(properties: Object, required: list[str]) -> Object:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


class _Answer:
    """The schema of what an operation selects."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }

    def of(self, kind: Any, endpoint: Endpoint) -> Object:
        root = self._schema.get_root_type(kind)
        assert root is not None  # noqa: S101 - the document is valid
        whole = self._object(root, [endpoint.aggregate.operation.selection_set])
        if not endpoint.aggregate.unwrap or endpoint.root is None:
            return whole
        ((_, field, _),) = self._fields(root, [endpoint.aggregate.operation.selection_set])
        found = self._schema.get_field(root, field[0].name.value)
        assert found is not None  # noqa: S101
        type_ = found.type  # null is 404
        return self._value(type_ if isinstance(type_, GraphQLNonNull) else GraphQLNonNull(type_), _parts(field))

    def _object(self, type_: GraphQLObjectType, parts: list[SelectionSetNode]) -> Object:
        properties, required = Object(), []
        for name, nodes, is_certain in self._fields(type_, parts):
            field = self._schema.get_field(type_, nodes[0].name.value)
            assert field is not None  # noqa: S101
            if nodes[0].name.value == "__typename":
                properties[name] = {"type": "string", "enum": [type_.name]}
            else:
                properties[name] = self._value(field.type, _parts(nodes))
            if is_certain:
                required.append(name)
        return _closed(properties, required)

    def _value(self, type_: Any, parts: list[SelectionSetNode]) -> Object:
        if not isinstance(type_, GraphQLNonNull):
            return _nullable(self._value(GraphQLNonNull(type_), parts))
        inner = type_.of_type
        if isinstance(inner, GraphQLList):
            return {"type": "array", "items": self._value(inner.of_type, parts)}
        if isinstance(inner, GraphQLObjectType):
            return self._object(inner, parts)
        if not is_abstract_type(inner):
            return _leaf(inner)
        found: list[Object] = []
        for each in self._schema.get_possible_types(inner):
            one = self._object(each, parts)
            if one not in found:
                found.append(one)
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _fields(
        self, type_: GraphQLObjectType, parts: list[SelectionSetNode]
    ) -> Iterator[tuple[str, list[FieldNode], bool]]:
        """What is selected of objects of this type, by the names in the answer, and whether it is in any case."""
        found: dict[str, list[FieldNode]] = {}
        certain: set[str] = set()
        pending = [(each, True) for each in reversed(parts)]
        while pending:
            part, is_certain = pending.pop()
            for node in part.selections:
                sure = is_certain and not _is_conditional(node)
                if isinstance(node, FieldNode):
                    name = (node.alias or node.name).value
                    found.setdefault(name, []).append(node)
                    if sure:
                        certain.add(name)
                elif selected := self._selected(node, type_):
                    pending.append((selected, sure))
        return ((name, nodes, name in certain) for name, nodes in found.items())

    def _selected(self, node: Any, type_: GraphQLObjectType) -> SelectionSetNode | None:
        fragment = self._fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
        assert isinstance(fragment, FragmentDefinitionNode | InlineFragmentNode)  # noqa: S101
        if fragment.type_condition is None:
            return fragment.selection_set
        named = get_named_type(self._schema.get_type(fragment.type_condition.name.value))
        is_part = named is type_ or (isinstance(named, GraphQLAbstractType) and self._schema.is_sub_type(named, type_))
        return fragment.selection_set if is_part else None


def _is_conditional(node: Any) -> bool:
    return any(each.name.value in {"skip", "include"} for each in node.directives or ())


def _parts(nodes: list[FieldNode]) -> list[SelectionSetNode]:
    return [each.selection_set for each in nodes if each.selection_set]
