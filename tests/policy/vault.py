"""A service with every way to demand something of callers, and every way to what demands it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from typing import Annotated, Any

import strawberry

from bff.sdk import (
    Authenticated,
    Connection,
    Info,
    ListSize,
    Node,
    Page,
    Parents,
    Policy,
    Record,
    RequiresScopes,
    Slice,
    batch,
    batched,
    entity,
)

asked: list[str] = []
"""What the service was asked, since somebody emptied it."""


class GemRecord(Record):
    id: str
    carats: int = 3
    price: int = 100
    maker: str = "Ada"


class BoxRecord(Record):
    id: str
    label: str = "blue"


class Note(Record):
    label: str = "a note"


def kept(id: str) -> Any:
    return {"gem": GemRecord, "box": BoxRecord}[id[:3]](id)


@batch("vault")
async def gem_by_id(_: Any, ids: list[str]) -> dict[str, GemRecord]:
    asked.extend(ids)
    return {id: GemRecord(id) for id in ids}


@batch("vault")
async def box_by_id(_: Any, ids: list[str]) -> dict[str, BoxRecord]:
    asked.extend(ids)
    return {id: BoxRecord(id) for id in ids}


@strawberry.enum(directives=[Authenticated()])
class Cut(Enum):
    ROUND = "round"


@strawberry.interface(directives=[Authenticated()])
class Labelled:
    label: str = strawberry.field(directives=[Policy(policies=[["known"]])])


@strawberry.type
class Paper(Labelled):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Note)


@entity("gem", read=gem_by_id, record=GemRecord, directives=[Policy(policies=[["gold"], ["known", "staff"]])])
class Gem(Node):
    carats: int
    price: int | None = strawberry.field(directives=[RequiresScopes(scopes=[["gems:read", "prices:read"], ["admin"]])])


@entity("box", read=box_by_id, record=BoxRecord, scopes=["boxes:read"])
class Box(Node, Labelled):
    maker: str | None = strawberry.field(directives=[Authenticated()], resolver=lambda: "Ada")

    @batched(graphql_type=Gem | None)
    async def gem(parents: Parents[BoxRecord], info: Info) -> Any:
        return await info.context.load_many(gem_by_id, [f"gem_{each.id[4:]}" for each in parents])


Thing = Annotated[Gem | Box, strawberry.union("Thing")]


@strawberry.type
class Query:
    cut: Cut | None = strawberry.field(resolver=lambda: Cut.ROUND)
    open: str = strawberry.field(resolver=lambda: "open")
    closed: str | None = strawberry.field(directives=[Authenticated()], resolver=lambda: "closed")

    vip: str | None = strawberry.field(directives=[Policy(policies=[["known", "staff"]])], resolver=lambda: "vip")

    @strawberry.field(graphql_type=Paper | None)
    def paper(self) -> Any:
        return Note()

    @strawberry.field(graphql_type=Gem | None)
    async def gem(self, info: Info, id: strawberry.ID) -> Any:
        return await info.context.load(gem_by_id, id)

    @strawberry.field(graphql_type=Box | None)
    async def box(self, info: Info, id: strawberry.ID) -> Any:
        return await info.context.load(box_by_id, id)

    @strawberry.field(graphql_type=Connection[Gem] | None)
    async def gems(self, info: Info, first: int = 2) -> Any:
        found = await info.context.load_many(gem_by_id, ["gem_1", "gem_2"][:first])
        return Slice(Page(found, None), None)

    @strawberry.field(graphql_type=list[Thing | None], directives=[ListSize(at_most=10)])
    async def things(self, ids: list[strawberry.ID]) -> Any:
        asked.extend(ids)
        return [kept(each) for each in ids]

    @strawberry.field(graphql_type=list[Labelled | None] | None, directives=[ListSize(at_most=10)])
    async def labelled(self) -> Any:
        asked.append("labelled")
        return [BoxRecord("box_1"), Note()]


@strawberry.type
class Mutation:
    @strawberry.mutation(graphql_type=Box | None, directives=[RequiresScopes(scopes=[["boxes:write"]])])
    async def put(self, info: Info, id: strawberry.ID) -> Any:
        asked.append(f"put {id}")
        return BoxRecord(id)


@strawberry.type
class Subscription:
    @strawberry.subscription(graphql_type=Gem)
    async def cut_gems(self) -> AsyncIterator[Any]:
        asked.append("stream")
        yield GemRecord("gem_1")
