"""A payment while the Order service fails in every way it can: nothing charged twice, nothing left half done."""

from collections.abc import Callable

import httpx
import pytest

from demo import payments
from demo.database import database
from demo.order_client import OrderClient
from demo.server import service
from tests.demo.conftest import CUSTOMER, assert_problem

ORDER = {
    "id": "ord_3960",
    "user_id": "usr_1",
    "status": "pending",
    "items": [{"product_id": "prd_1", "quantity": 2, "unit_price": {"amount": "9.95", "currency": "EUR"}}],
    "total": {"amount": "19.90", "currency": "EUR"},
}
Answer = Callable[[httpx.Request], httpx.Response]


def refuse(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def hang(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too slow")


class Orders:
    """The network to the Order service; `read` and `report` say what comes back."""

    def __init__(self) -> None:
        self.read: Answer = lambda _: httpx.Response(200, json=ORDER)
        self.report: Answer = lambda _: httpx.Response(200, json={**ORDER, "status": "paid"})
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        return (self.read if request.method == "GET" else self.report)(request)


@pytest.fixture
def orders():
    return Orders()


@pytest.fixture
def shop(orders, tmp_path):
    client = httpx.AsyncClient(base_url="http://orders", transport=httpx.MockTransport(orders))
    db = database(tmp_path / "payments.db", payments.SCHEMA, lambda _: None)
    app = service(payments.routes(payments.Payments(db, OrderClient(client))))
    return httpx.AsyncClient(base_url="http://payments", transport=httpx.ASGITransport(app))


async def pay(shop, key="k", method="card") -> httpx.Response:
    wish = {"order_id": "ord_3960", "method": method}
    return await shop.post("/payments", json=wish, headers={**CUSTOMER, "idempotency-key": key})


async def statuses(shop) -> list[str]:
    answer = await shop.get("/payments?order_ids=ord_3960", headers=CUSTOMER)
    return [payment["status"] for payment in answer.json()["items"]]


async def test_the_order_is_read_as_the_caller_and_reported_as_the_service(shop, orders):
    assert (await pay(shop)).status_code == 201
    read, report = orders.calls
    assert read.headers["x-auth-subject"] == "usr_1"
    assert read.headers["x-auth-scopes"] == CUSTOMER["x-auth-scopes"]
    assert "x-auth-subject" not in report.headers
    assert (report.headers["x-auth-consumer"], report.headers["x-auth-scopes"]) == ("payments", "orders:admin")
    assert report.read() == b'{"status":"paid"}'


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (refuse, 503),
        (hang, 504),
        (lambda _: httpx.Response(500, text="oops"), 502),
        (lambda _: httpx.Response(200, text="<html>"), 502),
        (lambda _: httpx.Response(200, content=b'"\xff"'), 502),
        (lambda _: httpx.Response(200, json={}), 502),
        (lambda _: httpx.Response(404), 404),
    ],
)
async def test_an_order_that_cannot_be_read_is_not_charged(shop, orders, answer, status):
    orders.read = answer
    assert_problem(await pay(shop), status)
    assert await statuses(shop) == []


async def test_a_report_that_got_lost_is_finished_by_the_next_try(shop, orders):
    """The Order service took the report, and its answer never came."""
    orders.report = hang
    assert_problem(await pay(shop), 504)
    assert await statuses(shop) == ["pending"]
    orders.read = lambda _: httpx.Response(200, json={**ORDER, "status": "paid"})
    paid = await pay(shop)
    assert (paid.status_code, paid.json()["status"]) == (201, "captured")
    assert (await pay(shop)).content == paid.content
    assert_problem(await pay(shop, key="another"), 409)


async def test_a_report_that_never_arrived_is_sent_again(shop, orders):
    orders.report = refuse
    assert_problem(await pay(shop), 503)
    orders.report = Orders().report
    assert (await pay(shop)).status_code == 201
    assert [request.method for request in orders.calls] == ["GET", "PATCH"] * 2


async def test_an_order_that_was_cancelled_meanwhile_makes_the_payment_fail(shop, orders):
    orders.report = lambda _: httpx.Response(409)
    assert_problem(await pay(shop), 409)
    assert await statuses(shop) == ["failed"]


async def test_an_order_paid_elsewhere_is_not_charged(shop, orders):
    orders.read = lambda _: httpx.Response(200, json={**ORDER, "status": "paid"})
    assert_problem(await pay(shop), 409)
    assert await statuses(shop) == []
