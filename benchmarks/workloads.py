"""What is asked, in rotating variants so that no answer can be reused, and the answers that are right.

Each reference is put together from the backends' plainest reads (one user, one product), never from the batches that a
contender uses. Cursors are opaque: each contender is asked for its own.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from benchmarks import load
from benchmarks.contenders import CONTRACT, Dialect
from benchmarks.identity import TOKEN

VARIANTS = 50
MEGABYTE_COPIES = 8  # of the catalogue


class Backends:
    """The services as a plain reader sees them, each read made once."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = dict(urls)
        self.read = cache(self._read)

    def _read(self, service: str, path: str) -> bytes:
        with urllib.request.urlopen(self.urls[service] + path, timeout=10) as response:  # noqa: S310  loopback
            body: bytes = response.read()
            return body

    def json(self, service: str, path: str) -> Any:
        return json.loads(self.read(service, path))

    def calls(self) -> dict[str, int]:
        """How often each service was called so far."""
        counts: dict[str, int] = json.loads(self._read("users", "/-/calls"))
        return counts


class Target:
    """A running contender, as its clients see it."""

    def __init__(self, port: int, dialect: Dialect = CONTRACT) -> None:
        self.port = port
        self.dialect = dialect

    def get(self, path: str, token: str | None = TOKEN) -> bytes:
        return self._request("GET", path, token)

    def query(self, text: str, **variables: Any) -> bytes:
        body = json.dumps({"query": text, "variables": variables}).encode()
        return self._request("POST", "/graphql", TOKEN, body)

    def _request(self, method: str, path: str, token: str | None, body: bytes = b"") -> bytes:
        headers = {"host": f"127.0.0.1:{self.port}", "accept": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        if body:
            headers |= {"content-type": "application/json", "content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    @cached_property
    def user_cursors(self) -> list[str | None]:
        return self._cursors(self.dialect.user_cursors)

    @cached_property
    def product_cursors(self) -> list[str | None]:
        return self._cursors(self.dialect.product_cursors)

    def _cursors(self, text: str) -> list[str | None]:
        """Where the page of each variant starts: the first at the beginning, each further one row later."""
        (answer,) = load.replay(self.port, [self.query(text)])
        edges = json.loads(answer.body)["data"]["page"]["edges"]
        return [None, *[edge["cursor"] for edge in edges[: VARIANTS - 1]]]


@dataclass(frozen=True)
class Workload:
    """One thing that clients do.

    Attributes:
        name, about: for the reader.
        front: which contenders it is for, `graphql` or `rest`.
        calls: upstream calls that each request costs; more or fewer is another workload.
        variants: how many different requests there are.
        request: the n-th of them, as the target's clients send it.
        reference: what its body must be: JSON for `graphql`, where `data` is meant, and bytes for `rest`.
    """

    name: str
    about: str
    front: str
    calls: int
    variants: int
    request: Callable[[Target, int], bytes]
    reference: Callable[[Backends, int], Any]


def one_user(backends: Backends, n: int) -> Any:
    user = backends.json("users", f"/users/usr_{n + 1}")
    return {"user": _pick(user, "id", "name", "email")}


def users_with_orders(backends: Backends, n: int) -> Any:
    page = backends.json("users", f"/users?limit=10{_cursor('usr', n)}")
    return {"users": {"nodes": [_user_with_orders(backends, user) for user in page["items"]]}}


def _user_with_orders(backends: Backends, user: Any) -> Any:
    page = backends.json("orders", f"/orders?user_ids={user['id']}&limit=3")
    return {"name": user["name"], "orders": {"nodes": [_order(backends, order) for order in page["items"]]}}


def _order(backends: Backends, order: Any) -> Any:
    payments = backends.json("payments", f"/payments?order_ids={order['id']}")["items"]
    return {
        "id": order["id"],
        "total": _pick(order["total"], "amount"),
        "items": [
            {"quantity": item["quantity"], "product": _name_and_price(backends, item["product_id"])}
            for item in order["items"]
        ],
        "payment": {"status": payments[0]["status"].upper()} if payments else None,
    }


def _name_and_price(backends: Backends, product_id: str) -> Any:
    product = backends.json("products", f"/products/{product_id}")
    return {"name": product["name"], "price": _pick(product["price"], "amount")}


def many_products(backends: Backends, n: int) -> Any:
    page = backends.json("products", f"/products?limit=200{_cursor('prd', n)}")
    fields = ("id", "sku", "name", "description", "category", "stock", "price")
    return {"products": {"nodes": [_pick(product, *fields) for product in page["items"]]}}


def _cursor(prefix: str, n: int) -> str:
    return f"&cursor={prefix}_{n}" if n else ""


def _pick(row: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: row[field] for field in fields}


EXPORT = f"/products/export?copies={MEGABYTE_COPIES}"

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "G1", "GraphQL: one user, 3 fields", "graphql", 1, VARIANTS,
            lambda target, n: target.query(target.dialect.g1, id=f"usr_{n + 1}"), one_user,
        ),
        Workload(
            "G2", "GraphQL: 10 users, their orders, products and payments", "graphql", 4, VARIANTS,
            lambda target, n: target.query(target.dialect.g2, after=target.user_cursors[n]), users_with_orders,
        ),
        Workload(
            "G3", "GraphQL: 200 products, 8 fields", "graphql", 1, VARIANTS,
            lambda target, n: target.query(target.dialect.g3, after=target.product_cursors[n]), many_products,
        ),
        Workload(
            "R1", "REST: one user passed on, token checked", "rest", 1, VARIANTS,
            lambda target, n: target.get(f"/api/users/usr_{n + 1}"),
            lambda backends, n: backends.read("users", f"/users/usr_{n + 1}"),
        ),
        Workload(
            "R2", "REST: 1 MB passed on, token checked", "rest", 1, 1,
            lambda target, _: target.get(f"/api{EXPORT}"),
            lambda backends, _: backends.read("products", EXPORT),
        ),
    )
}  # fmt: skip
