"""The Payment service: it charges orders. A customer sees its own payments, `payments:admin` sees and refunds all."""

import asyncio
import sqlite3
from datetime import UTC, datetime
from typing import Literal
from weakref import WeakValueDictionary
from xml.sax.saxutils import escape, quoteattr

import httpx
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
from demo.money import Money, cents, euros
from demo.order_client import Line, Order, OrderClient
from demo.problems import Problem
from demo.server import Options, serve, service

CACHE = "private, no-cache"  # may change at any moment: keep it, and ask with If-None-Match
SCHEMA = f"""
CREATE TABLE payments (
    number INTEGER PRIMARY KEY, "order" INTEGER UNIQUE, user INTEGER, status TEXT, method TEXT, cents INTEGER,
    created_at TEXT, lines TEXT
);
{idempotency.SCHEMA}
"""


class Payment(msgspec.Struct):
    id: str
    order_id: str
    user_id: str
    status: str
    method: str
    amount: Money
    created_at: str


class Wish(msgspec.Struct):
    order_id: str
    method: Literal["card", "sepa", "paypal", "invoice"]


class Payments:
    def __init__(self, db: sqlite3.Connection, orders: OrderClient) -> None:
        self.db, self.orders = db, orders
        self.turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def several(self, request: Request) -> Response:
        """GET and POST /payments"""
        caller = caller_of(request)
        if request.method == "POST":
            return await self.pay(request, caller)
        sent = query.parameters(request, "ids", "order_ids")
        if "ids" in sent:
            numbers = numbers_of("pay_", query.batch("ids", sent))
            return answers.items(self.visible(caller, f"number IN ({marks(numbers)})", *numbers), CACHE)
        if "order_ids" in sent:
            numbers = numbers_of("ord_", query.batch("order_ids", sent))
            return answers.items(self.visible(caller, f'"order" IN ({marks(numbers)})', *numbers), CACHE)
        raise Problem(400, "ids or order_ids is needed")

    async def pay(self, request: Request, caller: Caller) -> Response:
        key, wish = idempotency.key_of(request), await json_body(request, Wish)
        # While the Order service is asked, a second request with the key, or for the order, waits for its turn.
        async with self.turn(f"key {caller.key} {key}"), self.turn(f"order {wish.order_id}"):
            answer = idempotency.first_answer(self.db, caller, key, wish)
            if answer is None:
                order = await self.orders.read(wish.order_id, request.headers)
                number = self.reserve(order, wish)
                await self.report(order, number, request)
                answer = self.capture(number, caller, key, wish)
        return answers.created(answer)

    def turn(self, name: str) -> asyncio.Lock:
        return self.turns.setdefault(name, asyncio.Lock())

    def reserve(self, order: Order, wish: Wish) -> int:
        """The order's payment, pending. One that failed is tried again; a pending one was cut off half-way."""
        number = number_of("ord_", order.id)
        row = self.db.execute('SELECT number, status FROM payments WHERE "order" = ?', (number,)).fetchone()
        resumed = row is not None and row["status"] == "pending" and order.status == "paid"
        if (order.status != "pending" and not resumed) or (
            row is not None and row["status"] in ("captured", "refunded")
        ):
            raise Problem(409, f"the order is {order.status} and cannot be paid")
        user, lines = number_of("usr_", order.user_id), msgspec.json.encode(order.items).decode()
        self.db.execute(
            """INSERT INTO payments VALUES (?, ?, ?, 'pending', ?, ?, ?, ?)
            ON CONFLICT ("order") DO UPDATE SET status = 'pending', method = excluded.method""",
            (row and row["number"], number, user, wish.method, cents(order.total), now(), lines),
        )
        return int(self.db.execute('SELECT number FROM payments WHERE "order" = ?', (number,)).fetchone()[0])

    async def report(self, order: Order, number: int, request: Request) -> None:
        """Tell the Order service. If it refuses, the charge failed; if nobody knows, the payment stays pending."""
        if order.status == "paid":
            return
        try:
            await self.orders.paid(order.id, request.headers)
        except Problem as refusal:
            if refusal.status_code == 409:
                self.db.execute("UPDATE payments SET status = 'failed' WHERE number = ?", (number,))
            raise

    def capture(self, number: int, caller: Caller, key: str, wish: Wish) -> bytes:
        with transaction(self.db):
            row = self.db.execute(
                "UPDATE payments SET status = 'captured' WHERE number = ? RETURNING *", (number,)
            ).fetchone()
            answer = msgspec.json.encode(payment_of(row))
            idempotency.keep_answer(self.db, caller, key, wish, answer)
        return answer

    async def one(self, request: Request) -> Response:
        """GET /payments/{id}"""
        return answers.record(request, self.asked_for(request), CACHE)

    async def refund(self, request: Request) -> Response:
        """POST /payments/{id}/refund"""
        payment = self.asked_for(request)
        caller_of(request).demand("payments:admin")
        if payment.status != "captured":
            raise Problem(409, f"the payment is {payment.status} and cannot be refunded")
        payment.status = "refunded"
        self.db.execute("UPDATE payments SET status = 'refunded' WHERE number = ?", (number_of("pay_", payment.id),))
        return answers.record(request, payment, CACHE)

    async def receipt(self, request: Request) -> Response:
        """GET /payments/{id}/receipt, in the XML of times gone by"""
        payment = self.asked_for(request)
        row = self.db.execute(
            "SELECT lines FROM payments WHERE number = ?", (number_of("pay_", payment.id),)
        ).fetchone()
        lines = msgspec.json.decode(row["lines"], type=list[Line])
        return answers.validated(request, xml(payment, lines).encode(), CACHE, "application/xml")

    def asked_for(self, request: Request) -> Payment:
        number = number_of("pay_", request.path_params["id"])
        for payment in self.visible(caller_of(request), "number = ?", number):
            return payment
        raise Problem(404, "no such payment")

    def visible(self, caller: Caller, where: str, *values: object) -> list[Payment]:
        """The one place that reads payments, so the one place that decides who sees which."""
        everything, itself = caller.may("payments:admin"), number_of("usr_", caller.subject)
        sql = f"SELECT * FROM payments WHERE (? OR user = ?) AND {where}"  # noqa: S608 - our words, their values
        rows = self.db.execute(sql, (everything, itself, *values))
        return [payment_of(row) for row in rows]


def payment_of(row: sqlite3.Row) -> Payment:
    number, order, user, status, method, amount, created_at, _ = row
    return Payment(f"pay_{number}", f"ord_{order}", f"usr_{user}", status, method, euros(amount), created_at)


def xml(payment: Payment, lines: list[Line]) -> str:
    written = "".join(
        f'<line sku={quoteattr(data.sku(number_of("prd_", line.product_id) or 0))} quantity="{line.quantity}">'
        f"{euros(line.quantity * cents(line.unit_price)).amount}</line>"
        for line in lines
    )
    return (
        f"<receipt id={quoteattr(payment.id)}><order>{escape(payment.order_id)}</order>"
        f"<amount currency={quoteattr(payment.amount.currency)}>{payment.amount.amount}</amount>"
        f"<lines>{written}</lines></receipt>"
    )


def now() -> str:
    return data.iso(datetime.now(UTC))


def seed(db: sqlite3.Connection) -> None:
    db.executemany(
        "INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (c.number, c.order.number, c.order.user, c.status, c.method, c.order.cents, c.created_at, lines_of(c.order))
            for c in data.charges()
        ),
    )


def lines_of(order: data.Purchase) -> str:
    lines = [Line(f"prd_{line.product}", line.quantity, euros(line.cents)) for line in order.lines]
    return msgspec.json.encode(lines).decode()


def routes(payments: Payments) -> list[Route]:
    return [
        Route("/payments", payments.several, methods=["GET", "POST"]),
        Route("/payments/{id}", payments.one),
        Route("/payments/{id}/refund", payments.refund, methods=["POST"]),
        Route("/payments/{id}/receipt", payments.receipt),
    ]


def build(options: Options) -> ASGIApp:
    orders = OrderClient(httpx.AsyncClient(base_url=options.orders, timeout=2, trust_env=False))
    payments = Payments(database(options.data / "payments.db", SCHEMA, seed), orders)
    return service(routes(payments), options.latency)


if __name__ == "__main__":
    serve(8104, build)
