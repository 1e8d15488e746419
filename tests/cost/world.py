"""A schema with every way to ask a service, over services that answer as badly as they may, or as it comes.

In the worst world each key leads to a record of its own with other keys than any other, each list is as long as it may
be, and no two answers come at once. In any other, records may be missing, lists short and keys the same.
"""

import asyncio
import sys
from random import Random
from typing import Any

import strawberry
from msgspec import Struct

from bff.sdk import (
    Column,
    Connection,
    Info,
    ListSize,
    Node,
    Page,
    Parents,
    Slice,
    batch,
    batched,
    call,
    entity,
    extend,
    reads,
)

TAGS, THINGS = 3, 2


class World:
    """What the services know, and how long they take: set before each operation."""

    def __init__(self, seed: int, *, worst: bool) -> None:
        self.random = Random(seed)
        self.worst = worst
        self.made = 0

    def key(self, of: str, name: str, prefix: str = "k") -> str:
        """The key that a record holds under that name."""
        return f"{prefix}_{of}.{name}" if self.worst else f"{prefix}_{self.random.randrange(6)}"

    def fresh(self) -> str:
        self.made += 1
        return f"n{self.made}" if self.worst else f"k_{self.random.randrange(6)}"

    def some(self, most: int) -> int:
        return most if self.worst else self.random.randint(0, most)

    def there(self) -> bool:
        return self.worst or self.random.random() < 0.9

    async def wait(self) -> None:
        for _ in range(self.random.randrange(20, 500) if self.worst else self.random.randrange(0, 12)):
            await asyncio.sleep(0)


now = World(0, worst=True)


class Tag(Struct):
    name: str
    item_id: str


class Region(Struct):
    id: str


class Address(Struct):
    id: str
    region: Region


class Shop(Struct):
    id: str
    tags: list[Tag]
    address: Address


class Item(Struct):
    id: str


class Person(Struct):
    id: str


def shop(key: str) -> Shop:
    tags = [Tag(f"{n}", now.key(key, f"tag{n}")) for n in range(now.some(TAGS))]
    return Shop(key, tags, Address(f"{key}.a", Region(f"{key}.r")))


async def found(keys: list[str], make: Any) -> dict[str, Any]:
    await now.wait()
    return {key: make(key) for key in keys if now.there()}


@batch("shops")
async def shop_by_id(_: Any, ids: list[str]) -> dict[str, Shop]:
    return await found(ids, shop)


@batch("people")
async def person_by_id(_: Any, ids: list[str]) -> dict[str, Person]:
    return await found(ids, Person)


@batch("items")
async def item_by_id(_: Any, ids: list[str]) -> dict[str, Item]:
    return await found(ids, Item)


@batch("items")
async def items_by_shop(_: Any, ids: list[str], *, limit: int, kind: str | None = None) -> dict[str, Page[Item]]:
    # A service may give more than it was asked for.
    more = 0 if now.worst else 2
    # At worst a page of another size, read at another moment, has none of the same.
    name = f"{kind}{limit}."
    return await found(ids, lambda key: Page([Item(now.key(key, f"{name}{n}")) for n in range(now.some(limit + more))]))


@call("shops")
async def list_shops(_: Any, limit: int) -> Page[Shop]:
    await now.wait()
    return Page([shop(now.fresh()) for _ in range(now.some(limit))])


@call("people")
async def list_people(_: Any, limit: int) -> list[Person]:
    await now.wait()
    return [Person(now.fresh()) for _ in range(now.some(limit))]


@call("items")
async def count_stock(_: Any, id: str) -> int:
    await now.wait()
    return len(id)


@call("shops")
async def rename_shop(_: Any, id: str) -> Shop:
    await now.wait()
    return shop(id)


async def loaded_in_a_helper(info: Info, ids: list[str]) -> Column[Item]:
    return await info.context.load_many(item_by_id, ids)


@entity("itm", read=item_by_id, record=Item)
class ItemType(Node):
    @batched(graphql_type=int | None)
    async def stocks(parents: Parents[Item], info: Info) -> list[int]:
        return [await info.context.call(count_stock, each.id) for each in parents]

    @strawberry.field(graphql_type=int | None)
    async def stock(self, info: Info) -> int:
        return await info.context.call(count_stock, self.id)

    @batched(graphql_type=list[Node | None], directives=[ListSize(at_most=THINGS)], metadata=reads(item_by_id, keys=2))
    async def things(parents: Parents[Item], info: Info) -> list[list[Any]]:
        read = globals()["item_by_id"]
        keys = [[now.key(each.id, f"thing{n}") for n in range(2)] for each in parents]
        items = await info.context.load_many(read, [key for each in keys for key in each])
        return [items[2 * n : 2 * n + now.some(THINGS)] for n in range(len(parents))]


@entity("per", read=person_by_id, record=Person)
class PersonType(Node):
    @batched(graphql_type=ItemType | None)
    async def favourite(parents: Parents[Person], info: Info) -> Column[Item]:
        return await loaded_in_a_helper(info, [now.key(each.id, "favourite") for each in parents])

    @strawberry.field(graphql_type=ItemType | None)
    async def own(self, info: Info) -> Item | None:
        return await info.context.load(item_by_id, now.key(self.id, "own"))


@strawberry.type
class RegionType:
    id: strawberry.ID

    @batched(graphql_type=PersonType | None)
    async def chief(parents: Parents[Region], info: Info) -> Column[Person]:
        return await info.context.load_many(person_by_id, [now.key(each.id, "chief") for each in parents])


@strawberry.type
class AddressType:
    id: strawberry.ID
    region: RegionType

    @batched(graphql_type=PersonType | None)
    async def warden(parents: Parents[Address], info: Info) -> Column[Person]:
        return await info.context.load_many(person_by_id, [now.key(each.id, "warden") for each in parents])


@strawberry.type
class TagType:
    name: str

    @batched(graphql_type=ItemType | None)
    async def item(parents: Parents[Tag], info: Info) -> Column[Item]:
        return await info.context.load_many(item_by_id, [each.item_id for each in parents])


@entity("shp", read=shop_by_id, record=Shop)
class ShopType(Node):
    tags: list[TagType] = strawberry.field(directives=[ListSize(at_most=TAGS, assumed_size=1)])
    address: AddressType

    @batched(graphql_type=PersonType | None)
    async def owner(parents: Parents[Shop], info: Info) -> Column[Person]:
        return await info.context.load_many(person_by_id, [now.key(each.id, "owner") for each in parents])

    @batched(graphql_type=PersonType | None)
    async def deputy(parents: Parents[Shop], info: Info) -> Column[Person]:
        return await info.context.load_many(person_by_id, [now.key(each.id, "deputy") for each in parents])

    @strawberry.field(graphql_type=PersonType | None)
    async def heir(self, info: Info) -> Person | None:
        owner = await info.context.load(person_by_id, now.key(self.id, "owner"))
        return await info.context.load(person_by_id, now.key(owner.id, "heir")) if owner else None

    @batched(graphql_type=Connection[ItemType])
    async def items(
        parents: Parents[Shop], info: Info, first: int = 2, kind: str | None = None
    ) -> list[Slice[Item] | BaseException]:
        pages = await info.context.load_many(items_by_shop.where(limit=first, kind=kind), [each.id for each in parents])
        return [Slice.of(page, None) for page in pages]


@extend(PersonType)
class PersonShop:
    @batched(graphql_type=ShopType | None)
    async def workplace(parents: Parents[Person], info: Info) -> Column[Shop]:
        return await info.context.load_many(shop_by_id, [now.key(each.id, "workplace") for each in parents])


@strawberry.type
class Query:
    @strawberry.field(graphql_type=ShopType | None)
    async def shop(self, info: Info, id: strawberry.ID) -> Shop | None:
        return await info.context.load(shop_by_id, id)

    @strawberry.field(graphql_type=Connection[ShopType])
    async def shops(self, info: Info, first: int = 2) -> Slice[Shop]:
        return Slice(await info.context.call(list_shops, first), None)

    @strawberry.field(
        graphql_type=list[PersonType],
        directives=[ListSize(slicing_arguments=["most"], require_one_slicing_argument=False)],
    )
    async def people(self, info: Info, most: int = 2) -> list[Person]:
        return await info.context.call(list_people, most)


@strawberry.type
class Mutation:
    @strawberry.mutation(graphql_type=ShopType)
    async def rename(self, info: Info, id: strawberry.ID) -> Shop:
        return await info.context.call(rename_shop, id)


here = sys.modules[__name__]
