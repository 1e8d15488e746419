"""The Product service: what is sold, at which price. It is public, and asks nobody who they are."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from demo import answers, data, query
from demo.database import database, marks
from demo.ids import number_of, numbers_of
from demo.money import Money, euros
from demo.problems import Problem
from demo.server import Options, serve, service

CACHE = "public, max-age=60"
SCHEMA = """
CREATE TABLE products (
    number INTEGER PRIMARY KEY, sku TEXT, name TEXT, description TEXT, category TEXT, cents INTEGER, stock INTEGER
)
"""


class Product(msgspec.Struct):
    id: str
    sku: str
    name: str
    description: str
    category: str
    price: Money
    stock: int


class Products:
    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    async def several(self, request: Request) -> Response:
        """GET /products"""
        sent = query.parameters(request, "ids", "category", "q", "limit", "cursor")
        if "ids" in sent:
            numbers = numbers_of("prd_", query.batch("ids", sent))
            return answers.items(self.read(f"number IN ({marks(numbers)})", *numbers), CACHE)
        limit, after, part = query.page_size(sent), query.position("prd_", sent) or 0, sent.get("q", "").casefold()
        category = sent.get("category")
        found = self.read(
            "number > ? AND category = ifnull(?, category) AND (instr(fold(name), ?) OR instr(fold(description), ?))",
            *(after, category, part, part),
            limit=limit + 1,
        )
        page = found[:limit]
        return answers.items(page, CACHE, next_cursor=page[-1].id if len(found) > limit else None)

    async def one(self, request: Request) -> Response:
        """GET /products/{id}"""
        for product in self.read("number = ?", number_of("prd_", request.path_params["id"])):
            return answers.record(request, product, CACHE)
        raise Problem(404, "no such product")

    async def export(self, request: Request) -> Response:
        """GET /products/export"""
        copies = query.whole("copies", query.parameters(request, "copies"), default=1, most=10_000)
        return answers.streamed(request, self.catalogue(copies), "application/x-ndjson", CACHE)

    async def catalogue(self, copies: int) -> AsyncIterator[bytes]:
        """A hundred lines at a time; the server takes the next ones when the client has taken these."""
        for _ in range(copies):
            last = 0
            while lines := self.read("number > ?", last, limit=100):
                yield b"".join(msgspec.json.encode(product) + b"\n" for product in lines)
                last = number_of("prd_", lines[-1].id) or 0
                await asyncio.sleep(0)  # sending waits for slow readers only: let others have their turn

    def read(self, where: str, *values: object, limit: int = query.MAX_BATCH) -> list[Product]:
        sql = f"SELECT * FROM products WHERE {where} ORDER BY number LIMIT ?"  # noqa: S608 - our words, their values
        return [
            Product(f"prd_{number}", sku, name, description, category, euros(cents), stock)
            for number, sku, name, description, category, cents, stock in self.db.execute(sql, (*values, limit))
        ]


def seed(db: sqlite3.Connection) -> None:
    sold = (article for article in data.catalogue() if article.number not in data.NO_LONGER_SOLD)
    db.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?)", sold)


def build(options: Options) -> ASGIApp:
    products = Products(database(options.data / "products.db", SCHEMA, seed))
    return service(
        [
            Route("/products", products.several),
            Route("/products/export", products.export),
            Route("/products/{id}", products.one),
        ],
        options.latency,
    )


if __name__ == "__main__":
    serve(8102, build)
