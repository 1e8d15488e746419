"""Global identification: an id begins with a prefix that names its type, and so leads from `node` to its service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, dataclass_transform

import strawberry
from strawberry.types import get_object_definition

from bff.core.errors import BadUserInput, GatewayError
from bff.core.policies import Policies
from bff.graphql.context import Context, Info
from bff.graphql.demands import NOTHING, Demands
from bff.graphql.directives import RequiresScopes
from bff.upstream.batch import Batch

T = TypeVar("T", bound=type)

MAX_IDS = 200

ENTITIES: Final = "entities"
"""The key in the metadata of a field that takes ids of any type: the entities by prefix."""


@strawberry.interface(
    description="Any object with an id that means the same thing everywhere: "
    "in GraphQL, in the REST routes and in the services."
)
class Node:
    id: strawberry.ID


@dataclass(frozen=True)
class Entity:
    """A type whose objects have ids, and how they are read."""

    name: str
    prefix: str
    read: Batch[Any, Any]
    record: type
    demands: Demands = NOTHING
    """Of the type, all of them; known when the schema is composed."""


@dataclass_transform(field_specifiers=(strawberry.field,))
def entity(
    prefix: str,
    *,
    read: Batch[Any, Any],
    record: type,
    scopes: Iterable[str] = (),
    description: str | None = None,
    directives: Sequence[object] = (),
) -> Callable[[T], T]:
    """A `strawberry.type` whose objects have ids that begin with `prefix_`, and are found by `node`.

    Args:
        prefix: `usr` for ids such as `usr_1`; no two types may share one.
        read: the batched read of its records by id.
        record: the class of these records, whose attributes are the type's plain fields.
        scopes: what a caller needs, all of it, for every field, anywhere, that gives such objects: `RequiresScopes`.
        description: for the schema.
        directives: such as `Cost` and `Policy`.

        @entity("usr", read=user_by_id, record=users.User, scopes=["users:read"])
        class User(Node):
            name: str
    """

    def mark(cls: T) -> T:
        cls.is_type_of = classmethod(lambda _cls, value, _info: isinstance(value, record))  # type: ignore[attr-defined]
        needed = list(scopes)
        all = [*directives, *([RequiresScopes(scopes=[needed])] if needed else [])]
        marked = strawberry.type(cls, description=description, directives=all)
        name = get_object_definition(marked, strict=True).name
        marked.__entity__ = Entity(name, prefix, read, record)  # type: ignore[attr-defined]
        return marked

    return mark


def node_query(entities: Mapping[str, Entity], policies: Policies) -> type:
    """The root fields `node` and `nodes` over the entities of one schema, by prefix."""

    @strawberry.type(name="Query")
    class NodeQuery:
        @strawberry.field(graphql_type=Node | None, metadata={ENTITIES: entities})
        async def node(self, info: Info, id: strawberry.ID) -> Any:
            (found,) = await _read(info.context, _visible(info, entities), policies, [id])
            if isinstance(found, BaseException):
                raise found
            return found

        @strawberry.field(graphql_type=list[Node | None], metadata={ENTITIES: entities})
        async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Any]:
            if len(ids) > MAX_IDS:
                raise BadUserInput(f"`ids` may have at most {MAX_IDS} entries")
            return await _read(info.context, _visible(info, entities), policies, ids)

    return NodeQuery


def _visible(info: Info, entities: Mapping[str, Entity]) -> Mapping[str, Entity]:
    """Those of the schema that the caller has: ids of others stand for nothing."""
    types = info._raw_info.schema.type_map  # noqa: SLF001 - strawberry's own would be the whole schema
    return {prefix: entity for prefix, entity in entities.items() if entity.name in types}


async def _read(context: Context, entities: Mapping[str, Entity], policies: Policies, ids: Sequence[str]) -> list[Any]:
    """What each id stands for: a record, None where there is none, an error where it may not or cannot be read."""
    by_prefix: dict[str, list[str]] = {}
    for id in ids:
        by_prefix.setdefault(id.partition("_")[0], []).append(id)
    known = [(entities[prefix], wanted) for prefix, wanted in by_prefix.items() if prefix in entities]
    columns = await asyncio.gather(*(_of_one_type(context, entity, policies, wanted) for entity, wanted in known))
    found: dict[str, Any] = {}
    for (_, wanted), values in zip(known, columns, strict=True):
        found.update(zip(wanted, values, strict=True))
    return [found.get(id) for id in ids]


async def _of_one_type(context: Context, entity: Entity, policies: Policies, ids: list[str]) -> list[Any]:
    try:
        entity.demands.check(context.caller, policies)
    except GatewayError as error:
        return [error] * len(ids)
    return await context.load_many(entity.read, ids)
