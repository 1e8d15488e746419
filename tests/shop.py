"""The four services in memory, after their contracts: small and even data, the identity rules, failures on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx
import orjson

NAMES = ("users", "products", "orders", "payments")
USERS, PRODUCTS = 250, 60
ORDERS_OF_EACH = 3
GONE = "prd_61"
"""Ordered once, no longer sold."""

Record = dict[str, Any]


def money(cents: int) -> Record:
    return {"amount": f"{cents // 100}.{cents % 100:02}", "currency": "EUR"}


def number(id: str) -> int:
    digits = id.partition("_")[2]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise Refusal(400, "that is no id")
    return int(digits)


def user(n: int) -> Record:
    return {
        "id": f"usr_{n}",
        "name": f"User {n}",
        "email": f"user{n}@example.com",
        "created_at": "2024-01-01T08:00:00Z",
    }


def product(n: int) -> Record:
    return {
        "id": f"prd_{n}",
        "sku": f"SKU-{n}",
        "name": f"Product {n}",
        "description": "For everyday use",
        "category": "home" if n % 2 else "office",
        "price": money(1990 + n),
        "stock": n,
    }


def order(n: int) -> Record:
    """User u has the orders u, u + 250 and u + 500, the highest being the newest."""
    bought = [1 + n % PRODUCTS, 1 + (n + 7) % PRODUCTS]
    items = [{"product_id": f"prd_{p}", "quantity": q, "unit_price": money(1990 + p)} for q, p in enumerate(bought, 1)]
    if n == 1:
        items[0]["product_id"] = GONE
    return {
        "id": f"ord_{n}",
        "user_id": f"usr_{(n - 1) % USERS + 1}",
        "status": ("pending", "paid", "shipped", "delivered")[n % 4],
        "placed_at": f"2024-{1 + n // 84:02}-{1 + n // 3 % 28:02}T08:00:00Z",
        "items": items,
        "total": money(sum(q * (1990 + p) for q, p in enumerate(bought, 1))),
    }


def payment(n: int) -> Record:
    of = order(n)
    paid = {"order_id": of["id"], "user_id": of["user_id"], "status": "captured", "method": "card"}
    return {"id": f"pay_{n}", **paid, "amount": of["total"], "created_at": of["placed_at"]}


@dataclass
class Call:
    """One request as it arrived at a service."""

    service: str
    method: str
    path: str
    raw_path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    body: bytes
    host: str
    """Which of the service's targets it came to: `orders-next` of `http://orders-next.internal`."""

    @property
    def ids(self) -> list[str]:
        """Of a batched read."""
        return next((v.split(",") for k, v in self.query.items() if k in {"ids", "user_ids", "order_ids"}), [])

    @property
    def target(self) -> str:
        """Method and path, with the kind of batch if it is one."""
        kind = "".join(f"?{k}" for k in self.query if k.endswith("ids"))
        return f"{self.method} {self.path}{kind}"

    def header(self, name: str) -> str | None:
        """Its value, provided that it came once."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def caller(self) -> tuple[str | None, set[str]]:
        return self.header("x-auth-subject"), set((self.header("x-auth-scopes") or "").split())


Behaviour = Callable[[httpx.Request, Call], Awaitable[httpx.Response | None]]


class Refusal(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass
class FakeService:
    """One service: what it was asked, and how it behaves. Set `behaviour` to have it misbehave."""

    name: str
    answers: Callable[[Call], tuple[int, Any]]
    calls: list[Call] = field(default_factory=list)
    behaviour: Behaviour | None = None

    def fail(self, behaviour: Behaviour | None) -> None:
        self.behaviour = behaviour

    async def handle(self, request: httpx.Request, call: Call) -> httpx.Response:
        self.calls.append(call)
        if self.behaviour:
            response = await self.behaviour(request, call)
            if response:
                return response
        try:
            status, value = self.answers(call)
        except Refusal as refusal:
            problem = {"type": "about:blank", "title": "Refused", "status": refusal.status, "detail": str(refusal)}
            return answer(refusal.status, problem, "application/problem+json")
        return answer(status, value)


def answer(status: int, value: Any, kind: str = "application/json", **headers: str) -> httpx.Response:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    named = {"content-type": kind, "content-length": str(len(body))} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    return httpx.Response(status, headers=named, stream=httpx.ByteStream(body))


# Ways to misbehave.


async def refused(request: httpx.Request, _: Call) -> None:
    raise httpx.ConnectError("[Errno 111] connect to 10.1.2.3:8443 refused", request=request)


async def cut(request: httpx.Request, _: Call) -> None:
    raise httpx.RemoteProtocolError("10.1.2.3:8443 closed the connection", request=request)


async def hangs(request: httpx.Request, _: Call) -> None:
    """As a transport does with a service that says nothing: until the attempt's deadline."""
    await asyncio.sleep(request.extensions["deadline"] - asyncio.get_running_loop().time())
    raise httpx.ReadTimeout("10.1.2.3:8443 said nothing", request=request)


def says(status: int, value: Any, kind: str = "application/json", **headers: str) -> Behaviour:
    async def behave(_: httpx.Request, __: Call) -> httpx.Response:
        return answer(status, value, kind, **headers)

    return behave


def problem(status: int, detail: str, **headers: str) -> Behaviour:
    return says(status, {"title": "Refused", "status": status, "detail": detail}, "application/problem+json", **headers)


# What the services answer when all is well.


def _page(records: list[Record], call: Call, default: int = 20) -> Record:
    limit = int(call.query.get("limit", default))
    return {"items": records[:limit], "next_cursor": records[limit - 1]["id"] if len(records) > limit else None}


def _known(ids: Iterable[str], prefix: str, most: int, make: Callable[[int], Record]) -> Iterator[Record]:
    for id in ids:
        start, _, digits = id.partition("_")
        if start == prefix and digits.isascii() and digits.isdigit() and len(digits) < 10 and 1 <= int(digits) <= most:
            yield make(int(digits))


def _identified(call: Call) -> tuple[str | None, set[str]]:
    if call.header("x-auth-subject") is None and call.header("x-auth-consumer") is None:
        raise Refusal(401, "the request names neither a subject nor a consumer")
    return call.caller


def _one(found: Iterable[Record]) -> Record:
    for record in found:
        return record
    raise Refusal(404, "no such record")


def users(call: Call) -> tuple[int, Any]:
    subject, scopes = _identified(call)

    def visible(ids: Iterable[str]) -> list[Record]:
        return [u for u in _known(ids, "usr", USERS, user) if "users:admin" in scopes or u["id"] == subject]

    if call.path == "/users" and "ids" in call.query:
        return 200, {"items": visible(call.ids)}
    if call.path == "/users":
        everybody = visible(f"usr_{n}" for n in range(1, USERS + 1))
        part, after = call.query.get("q", "").lower(), number(call.query.get("cursor", "usr_0"))
        return 200, _page([u for u in everybody if part in u["name"].lower() and number(u["id"]) > after], call)
    record = _one(visible([call.path.split("/")[2]]))
    return 200, record | (orjson.loads(call.body) if call.method == "PATCH" else {})


def products(call: Call) -> tuple[int, Any]:
    if call.path == "/products" and "ids" in call.query:
        return 200, {"items": list(_known(call.ids, "prd", PRODUCTS, product))}
    if call.path == "/products":
        category, after = call.query.get("category"), number(call.query.get("cursor", "prd_0"))
        found = [product(n) for n in range(after + 1, PRODUCTS + 1)]
        return 200, _page([p for p in found if category in {None, p["category"]}], call)
    return 200, _one(_known([call.path.split("/")[2]], "prd", PRODUCTS, product))


def orders(call: Call) -> tuple[int, Any]:
    subject, scopes = _identified(call)
    everything = "orders:admin" in scopes

    def visible(ids: Iterable[str]) -> list[Record]:
        found = _known(ids, "ord", USERS * ORDERS_OF_EACH, order)
        return [o for o in found if everything or o["user_id"] == subject]

    def newest(numbers: Iterable[int]) -> list[Record]:
        before = number(call.query.get("cursor", f"ord_{USERS * ORDERS_OF_EACH + 1}"))
        status = call.query.get("status")
        found = visible(f"ord_{n}" for n in sorted(numbers, reverse=True) if n < before)
        return [o for o in found if status in {None, o["status"]}]

    if call.method == "POST" and call.path == "/orders":
        wanted = orjson.loads(call.body)
        if wanted["user_id"] != subject and not everything:
            raise Refusal(403, "not your order")
        return 201, order(1) | {"user_id": wanted["user_id"], "status": "pending"}
    if call.path == "/orders" and "ids" in call.query:
        return 200, {"items": visible(call.ids)}
    if call.path == "/orders" and "user_ids" in call.query:
        pages = {id: _page(newest(number(id) + USERS * n for n in range(ORDERS_OF_EACH)), call) for id in call.ids}
        items = [item for page in pages.values() for item in page["items"]]
        return 200, {"items": items, "next_cursors": {id: page["next_cursor"] for id, page in pages.items()}}
    if call.path == "/orders":
        return 200, _page(newest(range(1, USERS * ORDERS_OF_EACH + 1)), call)
    record = _one(visible([call.path.split("/")[2]]))
    if call.path.endswith("/cancel"):
        if record["status"] not in {"pending", "paid"}:
            raise Refusal(409, f"the order is {record['status']} and cannot become cancelled")
        record["status"] = "cancelled"
    return 200, record


def payments(call: Call) -> tuple[int, Any]:
    subject, scopes = _identified(call)

    def visible(ids: Iterable[str], prefix: str) -> list[Record]:
        # Every tenth order has no payment; the others' has its number.
        found = [p for p in _known(ids, prefix, USERS * ORDERS_OF_EACH, payment) if number(p["id"]) % 10]
        return [p for p in found if "payments:admin" in scopes or p["user_id"] == subject]

    if call.method == "POST" and call.path == "/payments":
        return 201, _one(visible([orjson.loads(call.body)["order_id"]], "ord")) | {"status": "captured"}
    if call.path == "/payments":
        return 200, {"items": visible(call.ids, "ord" if "order_ids" in call.query else "pay")}
    record = _one(visible([call.path.split("/")[2]], "pay"))
    return 200, record | ({"status": "refunded"} if call.path.endswith("/refund") else {})


class Services(httpx.AsyncBaseTransport):
    """The network: hosts `users.internal` and so on, `users-NAME.internal` for further targets, and `login.internal`.

    Attributes:
        jwks: the public keys that `login.internal` publishes.
    """

    def __init__(self, jwks: list[Record]) -> None:
        self.users = FakeService("users", users)
        self.products = FakeService("products", products)
        self.orders = FakeService("orders", orders)
        self.payments = FakeService("payments", payments)
        self.login = FakeService("login", lambda _: (200, {"keys": jwks}))
        self.closed = False

    @property
    def four(self) -> list[FakeService]:
        return [self.users, self.products, self.orders, self.payments]

    @property
    def calls(self) -> list[Call]:
        """All calls to the four, service by service."""
        return [call for each in self.four for call in each.calls]

    @property
    def targets(self) -> list[str]:
        return [call.target for call in self.calls]

    def forget(self) -> None:
        for each in (*self.four, self.login):
            each.calls.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host.removesuffix(".internal")
        service: FakeService = getattr(self, host.partition("-")[0])
        # Path and query come as they were sent, beside a URL that only says where the service is.
        target: bytes = request.extensions.get("target", request.url.raw_path)
        path, _, query = target.decode("ascii").partition("?")
        call = Call(
            service.name,
            request.method,
            unquote(path),
            path,
            {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()},
            [(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw],
            await request.aread(),
            host,
        )
        return await service.handle(request, call)

    async def aclose(self) -> None:
        self.closed = True
