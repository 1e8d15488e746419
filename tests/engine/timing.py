"""What execution costs: CPU of our executor and of graphql-core's with the same resolvers, side by side.

    python -m tests.engine.timing [ROUNDS]

Rounds are interleaved and ratios are those of one round, so that a noisy machine disturbs both alike.
"""

# ruff: noqa: N805, T201 - a batched field takes parents; it is run by hand

import asyncio
import enum
import gc
import sys
import time
from random import Random
from statistics import median
from typing import Any

import msgspec
import orjson
import strawberry
from graphql import DocumentNode, ExecutionResult, GraphQLSchema, execute, parse

from bff.engine import BreadthExecutor, Parents, StandardExecutor, batched

QUERIES = {
    "nested: 461 fields of 160 objects": (
        "{ users(first: 10) { orders(last: 3) { items { quantity product { name price } } payment { status } } } }"
    ),
    "flat: 1600 fields of 200 objects": ("{ products(first: 200) { id name price sku stock active category weight } }"),
    "tiny: 2 fields of one object": "{ users(first: 1) { id name } }",
}


class Status(enum.Enum):
    PAID = "paid"
    DUE = "due"


strawberry.enum(Status)


class ProductRecord(msgspec.Struct):
    id: str
    name: str
    price: float
    sku: str
    stock: int
    active: bool
    category: str | None
    weight: int


class PaymentRecord(msgspec.Struct):
    id: str
    status: Status


class ItemRecord(msgspec.Struct):
    quantity: int
    product_id: str


class OrderRecord(msgspec.Struct):
    id: str
    total: float
    items: list[ItemRecord]


class UserRecord(msgspec.Struct):
    id: str
    name: str


_RANDOM = Random(7)  # noqa: S311
PRODUCTS = {
    str(n): ProductRecord(str(n), f"Product {n}", n * 1.5, f"SKU-{n:05d}", n, n % 3 > 0, f"c{n}" if n % 5 else None, n)
    for n in range(200)
}
USERS = [UserRecord(str(n), f"User {n}") for n in range(50)]
ORDERS = {
    user.id: [
        OrderRecord(f"{user.id}-{n}", 1.5 * n, [ItemRecord(n, str(_RANDOM.randrange(200))) for _ in range(3)])
        for n in range(5)
    ]
    for user in USERS
}


@strawberry.type
class Product:
    id: strawberry.ID
    name: str
    price: float
    sku: str
    stock: int
    active: bool
    category: str | None
    weight: int


@strawberry.type
class Payment:
    id: strawberry.ID
    status: Status


@strawberry.type
class Item:
    quantity: int

    @batched(graphql_type=Product)
    async def product(parents: Parents[ItemRecord], info: strawberry.Info) -> list[ProductRecord]:
        return [PRODUCTS[each.product_id] for each in parents]


@strawberry.type
class Order:
    id: strawberry.ID
    total: float
    items: list[Item]

    @batched(graphql_type=Payment | None)
    async def payment(parents: Parents[OrderRecord], info: strawberry.Info) -> list[PaymentRecord]:
        return [PaymentRecord(each.id, Status.PAID) for each in parents]


@strawberry.type
class User:
    id: strawberry.ID
    name: str

    @batched(graphql_type=list[Order])
    async def orders(parents: Parents[UserRecord], info: strawberry.Info, last: int = 3) -> list[list[OrderRecord]]:
        return [ORDERS[each.id][:last] for each in parents]


@strawberry.type
class Query:
    @strawberry.field(graphql_type=list[User])
    async def users(self, first: int = 10) -> list[UserRecord]:
        return USERS[:first]

    @strawberry.field(graphql_type=list[Product])
    async def products(self, first: int = 200) -> list[ProductRecord]:
        return list(PRODUCTS.values())[:first]


async def answered(schema: GraphQLSchema, document: DocumentNode, executor: Any, times: int) -> bytes:
    body = b""
    for _ in range(times):
        result = execute(schema, document, executor_class=executor)
        result = result if isinstance(result, ExecutionResult) else await result
        assert not result.errors
        body = orjson.dumps(result.data)
    return body


def main(rounds: int) -> None:
    schema = strawberry.Schema(query=Query)._schema
    with asyncio.Runner() as loop:
        for name, text in QUERIES.items():
            document = parse(text)
            spent: dict[Any, list[float]] = {StandardExecutor: [], BreadthExecutor: []}
            bodies = {loop.run(answered(schema, document, each, 5)) for each in spent}
            assert len(bodies) == 1
            for _ in range(rounds):
                gc.collect()
                for executor, costs in spent.items():
                    times = 5 if executor is StandardExecutor else 100
                    start = time.process_time()
                    loop.run(answered(schema, document, executor, times))
                    costs.append((time.process_time() - start) / times * 1e6)
            theirs, ours = spent.values()
            ratio = median(a / b for a, b in zip(theirs, ours, strict=True))
            print(f"{name:36s}{median(theirs):8.0f} µs graphql-core{median(ours):8.0f} µs ours{ratio:7.1f} times")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
