"""The gateway's own schema over records that are made up as they are asked for, some of them not as they should be."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import import_module
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
from graphql import GraphQLSchema

from bff.core.errors import UpstreamError
from bff.core.identity import Caller
from bff.graphql.compose import compose
from bff.graphql.connections import Page
from services import orders, payments, products, users
from tests import shop
from tests.breadth.menagerie import digest

MODULES = ("users", "products", "orders", "payments")
SCOPES = ("users:read", "orders:read", "payments:read")
_KINDS: dict[str, tuple[Any, Any]] = {
    "users": (users.User, shop.user),
    "products": (products.Product, shop.product),
    "orders": (orders.Order, shop.order),
    "payments": (payments.Payment, shop.payment),
}


@cache
def schema() -> GraphQLSchema:
    return compose([import_module(f"schema.{name}") for name in MODULES])._schema


class Records:
    """A request's context: each read answers at once or a little later, as its key has it."""

    def __init__(self, seed: int) -> None:
        scopes = Random(seed).choices(SCOPES, k=4)  # noqa: S311
        self.caller = Caller("usr_1", None, frozenset(scopes), credential="jwt")
        self.columns = 0

    async def load(self, batch: Any, key: str) -> Any:
        (value,) = await self.load_many(batch, [key])
        if isinstance(value, BaseException):
            raise value
        return value

    async def load_many(self, batch: Any, keys: list[str]) -> list[Any]:
        self.columns += 1
        for _ in range(digest(batch.fetch.__name__) % 3):
            await asyncio.sleep(0)
        return [self._value(batch, key) for key in keys]

    async def call(self, call: Any, *arguments: Any) -> Any:
        await asyncio.sleep(0)
        size = next((each for each in arguments if isinstance(each, int)), 3)
        return Page([_record(call.service, n) for n in range(1, 1 + size % 7)], "next" if size % 2 else None)

    def _value(self, batch: Any, key: str) -> Any:
        luck = digest(batch.fetch.__name__, key) % 40
        if luck == 0:
            return UpstreamError("It failed")
        if luck == 1:
            return None
        if luck == 2 and batch.fetch.__name__ != "orders_by_user":
            return SimpleNamespace(id=key)
        number = int("0" + key.partition("_")[2]) or 1
        if batch.fetch.__name__ == "orders_by_user":
            return Page([_record("orders", number + 250 * each) for each in range(luck % 4)])
        return _record(batch.service, number)


@cache
def _record(service: str, number: int) -> Any:
    cls, make = _KINDS[service]
    return msgspec.convert(make(number), cls)
