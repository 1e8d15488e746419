"""Schema modules in, one strawberry.Schema out.

A module may define Query, Mutation and Subscription classes, merged into the roots, and may add fields to another
module's type with `extend`: an edge lives with the service whose record holds the key, so a new service never edits an
older module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeVar

import strawberry
from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema, Undefined
from strawberry.tools import merge_types
from strawberry.types import get_object_definition
from strawberry.types.field import StrawberryField

from bff.core.policies import NO_POLICIES, Policies
from bff.engine import RECORD
from bff.graphql.demands import BadDemand, demanded_by
from bff.graphql.guards import Guards, directives_of
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


def compose(modules: Iterable[ModuleType], policies: Policies = NO_POLICIES) -> strawberry.Schema:
    """The schema of all modules.

    Args:
        modules: in any order.
        policies: that `@policy` may name.

    Raises:
        SchemaError: two modules define the same field or id prefix, or a directive demands what there is not.
    """
    modules = list(modules)
    entities = _entities(modules, policies)
    with _extended(modules):
        schema = strawberry.Schema(
            query=_root("Query", [*modules, node_query(entities, policies)]),
            mutation=_root("Mutation", modules),
            subscription=_root("Subscription", modules),
            types=[entity for module in modules for entity in vars(module).values() if "__entity__" in _own(entity)],
        )
    _prepare(executable(schema), policies)
    return schema


def executable(schema: strawberry.Schema) -> GraphQLSchema:
    """The types that are executed."""
    return schema._schema  # noqa: SLF001 - strawberry has no other way to them


def _own(value: Any) -> Mapping[str, Any]:
    """What a class itself says, not its bases; nothing for what is not a class."""
    return vars(value) if isinstance(value, type) else {}


def _entities(modules: Iterable[ModuleType], policies: Policies) -> dict[str, Entity]:
    entities: dict[str, Entity] = {}
    for module in modules:
        for cls in vars(module).values():
            entity: Entity | None = _own(cls).get("__entity__")
            if entity is None or cls.__module__ != module.__name__:
                continue
            if entity.prefix in entities:
                raise SchemaError(f"{module.__name__}.{cls.__name__}: the id prefix {entity.prefix} is taken already")
            directives = directives_of(get_object_definition(cls, strict=True))
            try:
                entities[entity.prefix] = replace(entity, demands=demanded_by(directives, policies.expressions))
            except BadDemand as error:
                raise SchemaError(f"{module.__name__}.{cls.__name__}: {error}") from None
    return entities


def _root(name: str, modules: Iterable[Any]) -> Any:
    parts = tuple(part if isinstance(part, type) else vars(part).get(name) for part in modules)
    parts = tuple(part for part in parts if part is not None)
    if any(get_object_definition(part, strict=True).directives for part in parts):
        raise SchemaError(f"{name} is made of several classes: put directives on its fields, not on one of these")
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


def _prepare(schema: GraphQLSchema, policies: Policies) -> None:
    """Give every field its shortest way to a value, and put what it asks of its caller before that."""
    for type_ in schema.type_map.values():
        definition: Any = type_.extensions.get("strawberry-definition")
        entity: Entity | None = _own(getattr(definition, "origin", None)).get("__entity__")
        if entity is not None:
            type_.extensions[RECORD] = entity.record
    try:
        guards = Guards(schema, policies)
        for type_ in schema.type_map.values():
            if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
                for name, field in type_.fields.items():
                    _drop_null_defaults(field)
                    demands = guards.guard(type_, name, field)
                    describe(field, type_, demands, writes=type_ is schema.mutation_type)
    except BadDemand as error:
        raise SchemaError(str(error)) from None


def _drop_null_defaults(field: GraphQLField) -> None:
    """`after: str | None = None` is an argument that may be left out, not one whose default is null."""
    for argument in field.args.values():
        if argument.default_value is None:
            argument.default_value = Undefined
