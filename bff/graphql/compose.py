"""Schema modules in, one strawberry.Schema out.

A module may define Query, Mutation and Subscription classes, merged into the roots, and may add fields to another
module's type with `extend`: an edge lives with the service whose record holds the key, so a new service never edits an
older module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import strawberry
from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    Undefined,
    get_named_type,
)
from strawberry.tools import merge_types
from strawberry.types import get_object_definition
from strawberry.types.field import StrawberryField

from bff.engine import GUARD, RECORD
from bff.graphql.context import demand
from bff.graphql.node import Entity, node_query
from bff.graphql.weights import describe

T = TypeVar("T", bound=type)


class SchemaError(Exception):
    """The schema modules do not fit together; the message names the module or field."""


def extend(target: type) -> Callable[[T], T]:
    """Add the fields of the decorated class to the GraphQL type `target`.

    Importing the module changes nothing: the fields count only in a schema that is composed with that module.

        @extend(Product)
        class ProductAvailability:
            @batched(graphql_type=Availability | None)
            async def availability(parents: Parents[products.Product], info: Info) -> list[...]: ...
    """

    def mark(extension: T) -> T:
        marked = strawberry.type(extension)
        marked.__extends__ = target  # type: ignore[attr-defined]
        return marked

    return mark


def requires(*scopes: str) -> dict[Any, Any]:
    """`metadata=requires("orders:write")` on a field: the scopes that a caller needs for it.

    A field that gives objects of an `entity` needs the entity's own scopes without saying so.
    """
    return {"scopes": frozenset(scopes)}


def compose(modules: Iterable[ModuleType]) -> strawberry.Schema:
    """The schema of all modules.

    Raises:
        SchemaError: two modules define the same field or id prefix.
    """
    modules = list(modules)
    entities = _entities(modules)
    with _extended(modules):
        schema = strawberry.Schema(
            query=_root("Query", [*modules, node_query(entities)]),
            mutation=_root("Mutation", modules),
            subscription=_root("Subscription", modules),
            types=[entity for module in modules for entity in vars(module).values() if "__entity__" in _own(entity)],
        )
    _prepare(schema)
    return schema


def _own(value: Any) -> Mapping[str, Any]:
    """What a class itself says, not its bases; nothing for what is not a class."""
    return vars(value) if isinstance(value, type) else {}


def _entities(modules: Iterable[ModuleType]) -> dict[str, Entity]:
    entities: dict[str, Entity] = {}
    for module in modules:
        for cls in vars(module).values():
            entity: Entity | None = _own(cls).get("__entity__")
            if entity is None or cls.__module__ != module.__name__:
                continue
            if entity.prefix in entities:
                raise SchemaError(f"{module.__name__}.{cls.__name__}: the id prefix {entity.prefix} is taken already")
            entities[entity.prefix] = entity
    return entities


def _root(name: str, modules: Iterable[Any]) -> Any:
    parts = tuple(part if isinstance(part, type) else vars(part).get(name) for part in modules)
    parts = tuple(part for part in parts if part is not None)
    return merge_types(name, parts) if parts else None


@contextmanager
def _extended(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Hold the extra fields on their targets only while the schema is built: another schema may go without them."""
    before: dict[type, list[StrawberryField]] = {}
    try:
        for module in modules:
            for extension in vars(module).values():
                target = _own(extension).get("__extends__")
                if target is not None and extension.__module__ == module.__name__:
                    _add(module, target, extension, before)
        yield
    finally:
        for target, fields in before.items():
            get_object_definition(target, strict=True).fields = fields


def _add(module: ModuleType, target: type, extension: type, before: dict[type, list[StrawberryField]]) -> None:
    definition = get_object_definition(target, strict=True)
    before.setdefault(target, list(definition.fields))
    taken = {field.python_name for field in definition.fields}
    for field in get_object_definition(extension, strict=True).fields:
        if field.python_name in taken:
            raise SchemaError(f"{module.__name__}: {definition.name}.{field.python_name} is defined already")
        definition.fields.append(field)


def _prepare(schema: strawberry.Schema) -> None:
    """Give every field its shortest way to a value, and put what it asks of its caller before that."""
    types = schema._schema.type_map  # noqa: SLF001 - strawberry has no other way to the types that are executed
    scopes: dict[str, frozenset[str]] = {}
    for name, type_ in types.items():
        definition: Any = type_.extensions.get("strawberry-definition")
        entity: Entity | None = _own(getattr(definition, "origin", None)).get("__entity__")
        if entity is not None:
            scopes[name] = entity.scopes
            type_.extensions[RECORD] = entity.record
    for type_ in types.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            guard = _guard_stream if type_ is schema._schema.subscription_type else _guard  # noqa: SLF001
            for field in type_.fields.values():
                _drop_null_defaults(field)
                needed = _needed(field, scopes)
                guard(field, needed)
                describe(field, type_, needed, writes=type_ is schema._schema.mutation_type)  # noqa: SLF001


def _drop_null_defaults(field: GraphQLField) -> None:
    """`after: str | None = None` is an argument that may be left out, not one whose default is null."""
    for argument in field.args.values():
        if argument.default_value is None:
            argument.default_value = Undefined


def _needed(field: GraphQLField, scopes: Mapping[str, frozenset[str]]) -> frozenset[str]:
    definition: Any = field.extensions.get("strawberry-definition")
    own: frozenset[str] = definition.metadata.get("scopes", frozenset()) if definition else frozenset()
    return own | scopes.get(_gives(field.type), frozenset())


def _gives(output: GraphQLOutputType) -> str:
    """The type of the objects behind a field, seen through lists and connections."""
    named = get_named_type(output)
    if isinstance(named, GraphQLObjectType | GraphQLInterfaceType) and "nodes" in named.fields:
        named = get_named_type(named.fields["nodes"].type)
    return named.name


def _guard(field: GraphQLField, needed: frozenset[str]) -> None:
    """Judged once for a level, whatever the number of its objects."""

    def judge(info: GraphQLResolveInfo[Any]) -> None:
        demand(info.context.caller, needed)

    if needed:
        field.extensions[GUARD] = judge


def _guard_stream(field: GraphQLField, needed: frozenset[str]) -> None:
    """Judged once for a subscription, before its stream begins, whatever the number of its events."""
    subscribe = field.subscribe

    def judge_and_subscribe(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        demand(info.context.caller, needed)
        return subscribe(source, info, **arguments) if subscribe else None

    if needed:
        field.subscribe = judge_and_subscribe
