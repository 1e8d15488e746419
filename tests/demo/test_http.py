"""What all services answer alike: problems for everything that is refused, health, and the calls that arrived."""

import time

import httpx
import pytest

import demo
from tests.demo.conftest import CUSTOMER, OPERATOR, assert_problem

SERVICES = ["users", "products", "orders", "payments", "identity"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_healthy_service_says_so_to_anybody(request, service):
    assert request.getfixturevalue(service).get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/{service}/", "/{service}/x/y/z", "//{service}", "/..%2f", "/%00", "/{service}%2Fx%2Fy", "/%ff"],
)
def test_an_unknown_path_is_a_problem_and_no_redirect(request, service, path):
    answer = request.getfixturevalue(service).get(path.format(service=service), headers=OPERATOR)
    assert_problem(answer, 404)


@pytest.mark.parametrize(
    ("service", "path", "allowed"),
    [
        ("users", "/users", {"GET", "HEAD"}),
        ("users", "/users/usr_1", {"GET", "HEAD", "PATCH"}),
        ("products", "/products", {"GET", "HEAD"}),
        ("products", "/products/export", {"GET", "HEAD"}),
        ("orders", "/orders", {"GET", "HEAD", "POST"}),
        ("orders", "/orders/ord_1/cancel", {"POST"}),
        ("payments", "/payments", {"GET", "HEAD", "POST"}),
        ("payments", "/payments/pay_1/refund", {"POST"}),
        ("identity", "/token", {"POST"}),
    ],
)
def test_another_method_is_refused_with_those_that_work(request, service, path, allowed):
    client = request.getfixturevalue(service)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - allowed:
        answer = client.request(method, path, headers=OPERATOR)
        assert_problem(answer, 405)
        assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed


@pytest.mark.parametrize(
    "record", ["usr_0", "usr_01", "usr_", "usr_1 ", "usr_1%0A", "ord_1", "1", "usr_" + "9" * 30, "%E2%80%AE"]
)
def test_what_is_no_id_names_nothing(users, orders, products, payments, record):
    assert_problem(users.get(f"/users/{record}", headers=OPERATOR), 404)
    for client, path, prefix in (
        (orders, "orders", "ord"),
        (products, "products", "prd"),
        (payments, "payments", "pay"),
    ):
        named = record.replace("ord_1", "xxx_1").replace("usr", prefix)
        assert_problem(client.get(f"/{path}/{named}", headers=OPERATOR), 404)


def test_a_service_says_how_many_calls_arrived_and_as_what(users):
    users.delete("/-/calls")
    traced = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id": "r-1"}
    users.get("/users/usr_1", headers={**CUSTOMER, **traced})
    users.get("/users/usr_2", headers=CUSTOMER)
    users.get("/users?ids=usr_1", headers=CUSTOMER)
    users.get("/nowhere")
    users.get("/healthz")
    seen = users.get("/-/calls").json()
    assert seen["calls"] == 4
    assert seen["by"] == {"GET /users/{id}": 2, "GET /users": 1, "other": 1}
    assert seen["recent"][0] == {"call": "GET /users/{id}", "path": "/users/usr_1", **traced}
    assert seen["recent"][1]["traceparent"] is None
    assert users.delete("/-/calls").json() == {"calls": 0, "by": {}, "recent": []}


def test_only_so_many_recent_calls_are_remembered(users):
    users.delete("/-/calls")
    for _ in range(105):
        users.get("/users", headers=CUSTOMER)
    seen = users.get("/-/calls").json()
    assert (seen["calls"], len(seen["recent"])) == (105, 100)


def test_a_payment_passes_the_trace_on_to_the_order_service(orders, payments, place):
    order = place()
    orders.delete("/-/calls")
    traced = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id": "r-2"}
    headers = {**CUSTOMER, **traced, "idempotency-key": f"trace {order}"}
    payments.post("/payments", json={"order_id": order, "method": "card"}, headers=headers)
    seen = orders.get("/-/calls").json()
    assert seen["by"] == {"GET /orders/{id}": 1, "PATCH /orders/{id}": 1}
    assert {call["traceparent"] for call in seen["recent"]} == {traced["traceparent"]}
    assert {call["x-request-id"] for call in seen["recent"]} == {"r-2"}


def test_latency_holds_every_answer_back():
    with demo.processes(demo.FREE, latency=150) as shop:
        start = time.monotonic()
        httpx.get(f"{shop.urls['products']}/products/prd_1")
        assert time.monotonic() - start > 0.14
