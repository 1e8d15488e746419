"""The Payment service's view of the Order service: it reads an order as the caller, and reports it paid as itself."""

from collections.abc import Mapping

import httpx
import msgspec

from demo.ids import number_of
from demo.money import Money
from demo.problems import Problem

IDENTITY = ("x-auth-subject", "x-auth-scopes", "x-auth-consumer")
TRACE = ("traceparent", "tracestate", "x-request-id")
ITSELF = {"x-auth-consumer": "payments", "x-auth-scopes": "orders:admin"}


class Line(msgspec.Struct):
    product_id: str
    quantity: int
    unit_price: Money


class Order(msgspec.Struct):
    id: str
    user_id: str
    status: str
    items: list[Line]
    total: Money


class OrderClient:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def read(self, order_id: str, headers: Mapping[str, str]) -> Order:
        return await self.call("GET", order_id, some(headers, *IDENTITY, *TRACE))

    async def paid(self, order_id: str, headers: Mapping[str, str]) -> Order:
        return await self.call("PATCH", order_id, {**ITSELF, **some(headers, *TRACE)}, {"status": "paid"})

    async def call(
        self, method: str, order_id: str, headers: dict[str, str], body: dict[str, str] | None = None
    ) -> Order:
        if number_of("ord_", order_id) is None:  # it becomes part of a path
            raise Problem(404, "no such order")
        try:
            answer = await self.http.request(method, f"/orders/{order_id}", headers=headers, json=body)
        except httpx.TimeoutException:
            raise Problem(504, "the Order service did not answer in time") from None
        except httpx.TransportError:
            raise Problem(503, "the Order service cannot be reached", {"retry-after": "1"}) from None
        if answer.status_code == 404:
            raise Problem(404, "no such order")
        if answer.status_code == 409:
            raise Problem(409, "the order cannot be paid any more")
        if answer.status_code != 200:
            raise Problem(502, "the Order service answered with an error")
        try:
            return msgspec.json.decode(answer.content, type=Order)
        except ValueError:  # msgspec's errors and those of UTF-8 alike
            raise Problem(502, "the Order service answered with nonsense") from None


def some(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}
