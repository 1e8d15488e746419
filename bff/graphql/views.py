"""Views: the part of the schema that a table of entitlements leaves.

A caller with a table has the view for its schema: documents are validated against it, introspection and the SDL show
it, so that what is visible and what is allowed are one thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_introspection_type,
    is_specified_scalar_type,
)

from bff.core.entitlements import Entitlements
from bff.core.loading import did_you_mean
from bff.engine import RECORD

Composite = GraphQLObjectType | GraphQLInterfaceType
T = TypeVar("T")


class UnknownCoordinate(ValueError):
    """The table names something that is not in the schema; the message says what, and what may have been meant."""


def view(schema: GraphQLSchema, table: Entitlements) -> GraphQLSchema | None:
    """The schema with what the table allows; None if that is nothing of GraphQL.

    - A field that the table names is what its last entry for it says.
    - Of other fields those of entities, mutations and subscriptions are denied; those of plain objects, such as `Money`
      or a page of a connection, are there as soon as something leads to them.
    - A field of `Query` that is not named is there if it gives entities of which something is.
    - Nothing leads to a type of which nothing is left.

    Raises:
        UnknownCoordinate: the table names a type or a field that there is not.
    """
    _check(schema, table)
    visible = _Visible(schema, table)
    return _Copy(schema, visible).schema() if visible.fields("Query") else None


def entity_behind(output: GraphQLOutputType) -> GraphQLNamedType:
    """The type of the objects that a field gives, seen through lists and connections."""
    named = get_named_type(output)
    if isinstance(named, GraphQLObjectType | GraphQLInterfaceType) and "nodes" in named.fields:
        named = get_named_type(named.fields["nodes"].type)
    return named


def _check(schema: GraphQLSchema, table: Entitlements) -> None:
    for entry in table.coordinates:
        type_ = schema.get_type(entry.type)
        if not isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            raise UnknownCoordinate(f"there is no type `{entry.type}`{did_you_mean(entry.type, schema.type_map)}")
        if entry.field != "*" and entry.field not in type_.fields:
            raise UnknownCoordinate(
                f"{entry.type} has no field `{entry.field}`{did_you_mean(entry.field, type_.fields)}"
            )


class _Visible:
    """Which fields of which types are left, found by taking away until nothing more has to go."""

    def __init__(self, schema: GraphQLSchema, table: Entitlements) -> None:
        self._schema = schema
        self._table = table
        self._fields = {type_.name: self._allowed(type_) for type_ in _composites(schema)}
        while self._leads_nowhere():
            pass

    def fields(self, type_: str) -> dict[str, GraphQLField]:
        return self._fields.get(type_, {})

    def is_there(self, type_: GraphQLNamedType) -> bool:
        """Whether anything is left of it; leaves always are."""
        if isinstance(type_, GraphQLUnionType):
            return any(map(self.is_there, type_.types))
        if isinstance(type_, GraphQLInterfaceType):
            return bool(self.fields(type_.name)) and any(
                self.implements(each, type_) for each in self._schema.get_possible_types(type_)
            )
        return not isinstance(type_, GraphQLObjectType) or bool(self.fields(type_.name))

    def implements(self, type_: Composite, interface: GraphQLInterfaceType) -> bool:
        """An object without one of an interface's fields is none of its objects any more."""
        left, asked = self.fields(type_.name), self.fields(interface.name)
        return bool(left) and bool(asked) and all(name in left for name in asked)

    def _allowed(self, type_: Composite) -> dict[str, GraphQLField]:
        return {name: field for name, field in type_.fields.items() if self._is_allowed(type_, name, field)}

    def _is_allowed(self, type_: Composite, name: str, field: GraphQLField) -> bool:
        said = self._table.of_field(type_.name, name)
        if said is not None:
            return said
        if type_ is self._schema.query_type:
            given = entity_behind(field.type)
            return isinstance(given, GraphQLInterfaceType | GraphQLUnionType) or RECORD in given.extensions
        return RECORD not in type_.extensions and type_ not in {
            self._schema.mutation_type,
            self._schema.subscription_type,
        }

    def _leads_nowhere(self) -> bool:
        """Take away the fields whose objects are gone; whether there were any."""
        gone = [
            (fields, name)
            for fields in self._fields.values()
            for name, field in fields.items()
            if not self.is_there(get_named_type(field.type)) or not self.is_there(entity_behind(field.type))
        ]
        for fields, name in gone:
            del fields[name]
        return bool(gone)


def _composites(schema: GraphQLSchema) -> Iterator[Composite]:
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType) and not is_introspection_type(type_):
            yield type_


class _Copy:
    """The schema made anew of what is visible; leaves and inputs are the same objects in both."""

    def __init__(self, schema: GraphQLSchema, visible: _Visible) -> None:
        self._original = schema
        self._visible = visible
        self._types: dict[str, GraphQLNamedType] = {}

    def schema(self) -> GraphQLSchema:
        original = self._original
        roots = [original.query_type, original.mutation_type, original.subscription_type]
        query, mutation, subscription = (self._root(each) for each in roots)
        entities = [
            self._named(type_)
            for type_ in _composites(original)
            if RECORD in type_.extensions and self._visible.fields(type_.name)
        ]
        copy = GraphQLSchema(
            query=query,
            mutation=mutation,
            subscription=subscription,
            types=entities,
            directives=original.directives,
            description=original.description,
        )
        # Strawberry finds its own schema behind the `info` of a field this way.
        copy._strawberry_schema = original._strawberry_schema  # type: ignore[attr-defined]  # noqa: SLF001
        return copy

    def _root(self, type_: GraphQLObjectType | None) -> GraphQLObjectType | None:
        return self._named(type_) if type_ is not None and self._visible.fields(type_.name) else None

    def _named(self, type_: T) -> T:
        assert isinstance(type_, GraphQLNamedType)  # noqa: S101 - for the type checker
        if is_specified_scalar_type(type_) or type_.name not in self._types:
            self._types[type_.name] = self._copied(type_)
        return self._types[type_.name]  # type: ignore[return-value]

    def _copied(self, type_: GraphQLNamedType) -> GraphQLNamedType:
        if not isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLUnionType):
            return type_
        arguments: dict[str, Any] = {**type_.to_kwargs()}
        if isinstance(type_, GraphQLUnionType):
            members = [each for each in type_.types if self._visible.is_there(each)]
            return GraphQLUnionType(**(arguments | {"types": lambda: [self._named(each) for each in members]}))
        interfaces = [each for each in type_.interfaces if self._visible.implements(type_, each)]
        fields = self._visible.fields(type_.name)
        arguments |= {
            "fields": lambda: {name: self._field(field) for name, field in fields.items()},
            "interfaces": lambda: [self._named(each) for each in interfaces],
        }
        return type(type_)(**arguments)

    def _field(self, field: GraphQLField) -> GraphQLField:
        arguments: dict[str, Any] = {**field.to_kwargs(), "type_": self._wrapped(field.type)}
        return GraphQLField(**arguments)

    def _wrapped(self, output: Any) -> Any:
        if isinstance(output, GraphQLNonNull):
            return GraphQLNonNull(self._wrapped(output.of_type))
        if isinstance(output, GraphQLList):
            return GraphQLList(self._wrapped(output.of_type))
        return self._named(output)
