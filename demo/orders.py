"""The Order service: what was bought, and how far it has come. A customer sees its own, `orders:admin` sees all."""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from demo import answers, data, idempotency, query
from demo.bodies import json_body
from demo.caller import Caller, caller_of
from demo.database import database, marks, transaction
from demo.ids import number_of, numbers_of
from demo.money import Money, euros
from demo.problems import Problem
from demo.server import Options, serve, service
from demo.watchers import Watchers, event

CACHE = "private, no-cache"  # may change at any moment: keep it, and ask with If-None-Match
SCHEMA = f"""
CREATE TABLE orders (number INTEGER PRIMARY KEY, user INTEGER, status TEXT, placed_at TEXT, items TEXT, cents INTEGER);
CREATE INDEX newest ON orders (placed_at, number);
CREATE INDEX newest_by_user ON orders (user, placed_at, number);
CREATE TABLE history (number INTEGER, step INTEGER, status TEXT, at TEXT, PRIMARY KEY (number, step));
CREATE TABLE prices (product INTEGER PRIMARY KEY, cents INTEGER);
{idempotency.SCHEMA}
"""

Status = Literal["pending", "paid", "shipped", "delivered", "cancelled"]
FORWARD = ("pending", "paid", "shipped", "delivered")
UserId = Annotated[str, msgspec.Meta(pattern=r"^usr_[1-9][0-9]{0,17}\Z")]
ProductId = Annotated[str, msgspec.Meta(pattern=r"^prd_[1-9][0-9]{0,17}\Z")]


class Item(msgspec.Struct):
    product_id: str
    quantity: int
    unit_price: Money


class Order(msgspec.Struct):
    id: str
    user_id: str
    status: str
    placed_at: str
    items: msgspec.Raw
    total: Money


class WantedItem(msgspec.Struct):
    product_id: ProductId
    quantity: Annotated[float, msgspec.Meta(ge=1, le=1000, multiple_of=1)]
    """To JSON Schema, 2.0 is an integer too."""


class Wanted(msgspec.Struct):
    user_id: UserId
    items: Annotated[list[WantedItem], msgspec.Meta(min_length=1, max_length=100)]


class Step(msgspec.Struct, forbid_unknown_fields=True):
    status: Status


class Orders:
    def __init__(self, db: sqlite3.Connection, watchers: Watchers) -> None:
        self.db, self.watchers = db, watchers

    async def several(self, request: Request) -> Response:
        """GET and POST /orders"""
        caller = caller_of(request)
        if request.method == "POST":
            return await self.place(request, caller)
        sent = query.parameters(request, "ids", "user_ids", "status", "limit", "cursor")
        if "ids" in sent:
            numbers = numbers_of("ord_", query.batch("ids", sent))
            return answers.items(self.visible(caller, f"number IN ({marks(numbers)})", *numbers), CACHE)
        limit, where, values = query.page_size(sent), *self.filters(sent)
        if "user_ids" not in sent:
            page, cursor = self.page(caller, limit, where, values)
            return answers.items(page, CACHE, next_cursor=cursor)
        orders, cursors = [], {}
        # One short walk along the index per user reads just the rows of the answer.
        for user in dict.fromkeys(query.batch("user_ids", sent, beside=("status", "limit", "cursor"))):
            page, cursors[user] = self.page(caller, limit, f"user = ? AND {where}", [number_of("usr_", user), *values])
            orders += page
        return answers.items(orders, CACHE, next_cursors=cursors)

    def filters(self, sent: dict[str, str]) -> tuple[str, list[object]]:
        where, values = "TRUE", list[object]()
        if "status" in sent:
            if sent["status"] not in get_args(Status):
                raise Problem(400, f"status is one of {', '.join(get_args(Status))}")
            where, values = "status = ?", [sent["status"]]
        after = query.position("ord_", sent)
        if after is not None:
            # A position like any other: whose order it is says nothing about who may stand there.
            row = self.db.execute("SELECT placed_at, number FROM orders WHERE number = ?", (after,)).fetchone()
            if row is None:
                raise Problem(400, "cursor names no order")
            where, values = f"{where} AND (placed_at, number) < (?, ?)", [*values, *row]
        return where, values

    def page(self, caller: Caller, limit: int, where: str, values: list[object]) -> tuple[list[Order], str | None]:
        found = self.visible(caller, where, *values, limit=limit + 1)
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    async def place(self, request: Request, caller: Caller) -> Response:
        key, wanted = idempotency.key_of(request), await json_body(request, Wanted)
        if wanted.user_id != caller.subject:
            caller.demand("orders:admin")
        with transaction(self.db):
            answer = idempotency.first_answer(self.db, caller, key, wanted)
            if answer is None:
                answer = msgspec.json.encode(self.insert(wanted))
                idempotency.keep_answer(self.db, caller, key, wanted, answer)
        return answers.created(answer)

    def insert(self, wanted: Wanted) -> Order:
        prices = self.prices_of(wanted)
        items = [Item(i.product_id, int(i.quantity), euros(prices[i.product_id])) for i in wanted.items]
        total = sum(item.quantity * prices[item.product_id] for item in items)
        row = (number_of("usr_", wanted.user_id), now(), msgspec.json.encode(items).decode(), total)
        number = self.db.execute(
            "INSERT INTO orders (user, status, placed_at, items, cents) VALUES (?, 'pending', ?, ?, ?)", row
        ).lastrowid
        self.db.execute("INSERT INTO history VALUES (?, 1, 'pending', ?)", (number, row[1]))
        return order_of((number, row[0], "pending", *row[1:]))

    def prices_of(self, wanted: Wanted) -> dict[str, int]:
        """By this service's own copy of the price list: an order can be placed while the catalogue is down."""
        prices = {}
        for item in wanted.items:
            number = number_of("prd_", item.product_id)
            row = self.db.execute("SELECT cents FROM prices WHERE product = ?", (number,)).fetchone()
            if row is None:
                raise Problem(422, f"{item.product_id} is not sold")
            prices[item.product_id] = row["cents"]
        return prices

    async def one(self, request: Request) -> Response:
        """GET and PATCH /orders/{id}"""
        order = self.asked_for(request)
        if request.method == "PATCH":
            caller_of(request).demand("orders:admin")
            step = await json_body(request, Step)
            order = self.asked_for(request)  # again: somebody may have cancelled it while the body came
            self.advance(order, step.status, allowed=order.status in FORWARD and step.status in after(order.status))
        return answers.record(request, order, CACHE)

    async def cancel(self, request: Request) -> Response:
        """POST /orders/{id}/cancel"""
        order = self.asked_for(request)
        self.advance(order, "cancelled", allowed=order.status in ("pending", "paid"))
        return answers.record(request, order, CACHE)

    def advance(self, order: Order, status: Status, *, allowed: bool) -> None:
        if not allowed:
            raise Problem(409, f"the order is {order.status} and cannot become {status}")
        number = number_of("ord_", order.id)
        with transaction(self.db):
            self.db.execute("UPDATE orders SET status = ? WHERE number = ?", (status, number))
            self.db.execute(
                "INSERT INTO history SELECT number, max(step) + 1, ?, ? FROM history WHERE number = ?",
                (status, now(), number),
            )
        order.status = status
        self.watchers.wake(order.id)

    async def events(self, request: Request) -> Response:
        """GET /orders/{id}/events"""
        order, seen = self.asked_for(request), request.headers.get("last-event-id", "")
        if seen and not (seen.isascii() and seen.isdigit() and len(seen) < 10):
            raise Problem(400, "Last-Event-ID is the number of an event")
        self.watchers.make_room()
        changes = self.changes(order, int(seen) if seen else None)
        return answers.streamed(request, changes, "text/event-stream", "no-store")

    async def changes(self, order: Order, seen: int | None) -> AsyncIterator[bytes]:
        number = number_of("ord_", order.id)
        if seen is None:  # the present status is news too, what led to it is not
            seen = self.db.execute("SELECT max(step) - 1 FROM history WHERE number = ?", (number,)).fetchone()[0]
        async for _ in self.watchers.watch(order.id):
            rows = self.db.execute("SELECT * FROM history WHERE number = ? AND step > ? ORDER BY step", (number, seen))
            news = [event(row["step"], {"id": order.id, "status": row["status"], "at": row["at"]}) for row in rows]
            seen += len(news)
            yield b"".join(news) or b":\n\n"

    def asked_for(self, request: Request) -> Order:
        number = number_of("ord_", request.path_params["id"])
        for order in self.visible(caller_of(request), "number = ?", number):
            return order
        raise Problem(404, "no such order")

    def visible(self, caller: Caller, where: str, *values: object, limit: int = query.MAX_BATCH) -> list[Order]:
        """The one place that reads orders, so the one place that decides who sees which."""
        everything, itself = caller.may("orders:admin"), number_of("usr_", caller.subject)
        if not everything:
            where, values = f"user = ? AND {where}", (itself, *values)
        newest_first = "ORDER BY placed_at DESC, number DESC LIMIT ?"
        sql = f"SELECT * FROM orders WHERE {where} {newest_first}"  # noqa: S608 - our words, their values
        return [order_of(row) for row in self.db.execute(sql, (*values, limit))]


def order_of(row: Iterable[Any]) -> Order:
    number, user, status, placed_at, items, cents = row
    return Order(f"ord_{number}", f"usr_{user}", status, placed_at, msgspec.Raw(items), euros(cents))


def after(status: str) -> tuple[str, ...]:
    return FORWARD[FORWARD.index(status) + 1 :]


def now() -> str:
    return data.iso(datetime.now(UTC))


def seed(db: sqlite3.Connection) -> None:
    sold = (article for article in data.catalogue() if article.number not in data.NO_LONGER_SOLD)
    db.executemany("INSERT INTO prices VALUES (?, ?)", ((article.number, article.cents) for article in sold))
    purchases = list(data.purchases())
    db.executemany(
        "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)",
        ((p.number, p.user, p.status, p.placed_at, items_of(p), p.cents) for p in purchases),
    )
    steps = ((p.number, step, *change) for p in purchases for step, change in enumerate(p.history, 1))
    db.executemany("INSERT INTO history VALUES (?, ?, ?, ?)", steps)


def items_of(purchase: data.Purchase) -> str:
    items = [Item(f"prd_{line.product}", line.quantity, euros(line.cents)) for line in purchase.lines]
    return msgspec.json.encode(items).decode()


def build(options: Options) -> ASGIApp:
    watchers = Watchers(options.heartbeat, options.watch)
    options.endings.append(watchers.close)
    orders = Orders(database(options.data / "orders.db", SCHEMA, seed), watchers)
    return service(
        [
            Route("/orders", orders.several, methods=["GET", "POST"]),
            Route("/orders/{id}", orders.one, methods=["GET", "PATCH"]),
            Route("/orders/{id}/cancel", orders.cancel, methods=["POST"]),
            Route("/orders/{id}/events", orders.events),
        ],
        options.latency,
    )


if __name__ == "__main__":
    serve(8103, build)
