"""The main job over real services on real connections: counted by the services themselves, and with one gone."""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import pytest

from tests.harness import FOUR_SERVICES, bearer, customer, gateway, operator
from tests.running import ROOT, running, token
from tests.shop import NAMES

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def calls_of(services, name: str) -> dict:
    return httpx.get(f"{services.urls[name]}/-/calls").json()


def start_counting(services) -> None:
    for name in NAMES:
        httpx.delete(f"{services.urls[name]}/-/calls")


@pytest.mark.parametrize(("first", "payments"), [(10, 1), (200, 2)])
async def test_the_services_count_as_many_calls_as_were_promised(real, real_services, first, payments):
    start_counting(real_services)
    answer = await real.query(FOUR_SERVICES, {"first": first}, headers=operator())
    assert answer.errors == []
    assert len(answer.data["users"]["nodes"]) == first
    counted = {name: calls_of(real_services, name)["calls"] for name in NAMES}
    assert counted == {"users": 1, "products": 1, "orders": 1, "payments": payments}
    assert await real.attempts() == counted
    paid = [order["payment"] for user in answer.data["users"]["nodes"] for order in user["orders"]["nodes"]]
    assert len(paid) == 3 * first
    assert sum(payment is not None for payment in paid) > 2 * first


@pytest.mark.parametrize("flags", ["01", "00"])
async def test_the_services_see_the_clients_trace(real, real_services, flags):
    start_counting(real_services)
    traceparent = f"00-{TRACE}-00f067aa0ba902b7-{flags}"
    await real.query(FOUR_SERVICES, headers=operator() | {"traceparent": traceparent, "x-request-id": "seen-there"})
    for name in NAMES:
        (call,) = calls_of(real_services, name)["recent"]
        assert call["traceparent"].split("-")[1] == TRACE
        assert call["x-request-id"] == "seen-there"


def without_payments(data: dict) -> dict:
    for user in data["users"]["nodes"]:
        for order in user["orders"]["nodes"]:
            order["payment"] = None
    return data


async def test_with_payments_stopped_all_else_is_answered_and_with_payments_back_so_are_they(real, real_services):
    before = await real.query(FOUR_SERVICES, headers=operator())
    paid = before.response.json()["data"]
    real_services.stop("payments")
    try:
        started = time.monotonic()
        answer = await real.query(FOUR_SERVICES, headers=operator())
        rest = await real.client.get("/api/payments/pay_1", headers=operator())
        assert time.monotonic() - started < 10
    finally:
        real_services.start("payments")
    assert answer.status == 200
    assert set(answer.codes) == {"UPSTREAM_UNAVAILABLE"}
    assert len(answer.errors) == 30, "at each payment"
    assert without_payments(answer.data) == without_payments(before.data)
    assert (rest.status_code, rest.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    after = await real.query(FOUR_SERVICES, headers=operator())
    assert after.data == paid


async def test_a_write_goes_all_the_way_and_once(real):
    mine = customer("usr_11")
    place = """mutation ($key: String!) { placeOrder(input: {items: [{productId: "prd_3", quantity: 2}],
        idempotencyKey: $key}) { id status total { amount } customer { id } } }"""
    pay = """mutation ($id: ID!, $key: String!) { payOrder(input: {orderId: $id, method: CARD, idempotencyKey: $key}) {
        id status amount { amount } order { status } } }"""
    key = f"real-{time.time_ns()}"
    first, again = [await real.query(place, {"key": key}, headers=mine) for _ in range(2)]
    assert first.errors == []
    assert first.data == again.data
    placed = first.data["placeOrder"]
    assert (placed["status"], placed["customer"]) == ("PENDING", {"id": "usr_11"})
    paid = await real.query(pay, {"id": placed["id"], "key": key}, headers=mine)
    assert paid.errors == []
    assert paid.data["payOrder"]["status"] == "CAPTURED"
    assert paid.data["payOrder"]["amount"] == placed["total"]
    assert paid.data["payOrder"]["order"] == {"status": "PAID"}
    twice = await real.query(pay, {"id": placed["id"], "key": key + "-2"}, headers=mine)
    assert (twice.data, twice.codes) == (None, ["CONFLICT"])
    unknown = await real.query(place.replace("prd_3", "prd_99999"), {"key": key + "-3"}, headers=mine)
    assert (unknown.data, unknown.codes) == (None, ["UNPROCESSABLE"])
    strangers = await real.query(pay, {"id": placed["id"], "key": key + "-4"}, headers=customer("usr_12"))
    assert (strangers.data, strangers.codes) == (None, ["NOT_FOUND"])
    cancelled = await real.query(f'mutation {{ cancelOrder(id: "{placed["id"]}") {{ status }} }}', headers=mine)
    assert cancelled.data == {"cancelOrder": {"status": "CANCELLED"}}
    changed = await real.query(
        'mutation { updateUser(input: {id: "usr_11", name: "Someone Else"}) { id name email } }', headers=mine
    )
    assert changed.data["updateUser"]["name"] == "Someone Else"
    assert "@" in changed.data["updateUser"]["email"]
    refused = await real.query('mutation { updateUser(input: {id: "usr_12", name: "X"}) { id } }', headers=mine)
    assert refused.codes == ["NOT_FOUND"]


async def test_all_orders_can_be_paged_through(real):
    after, ids = None, []
    while True:
        document = """query ($after: String) { orders(first: 200, after: $after) { nodes { id }
            pageInfo { hasNextPage endCursor } } }"""
        page = (await real.query(document, {"after": after}, headers=operator())).data["orders"]
        ids += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert len(ids) == len(set(ids))
    assert {f"ord_{n}" for n in range(1, 5001)} <= set(ids)


async def test_a_cursor_of_nothing_is_bad_input(real):
    answer = await real.query('{ orders(after: "ord_999999999") { nodes { id } } }', headers=operator())
    assert answer.codes == ["BAD_USER_INPUT"]
    answer = await real.query('{ users(after: "nonsense") { nodes { id } } }', headers=operator())
    assert answer.codes == ["BAD_USER_INPUT"]


async def test_services_that_are_slow_are_given_up_on_in_time(real_services):
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    urls = {name: {"url": real_services.urls[name]} for name in NAMES}
    urls["products"] = {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "timeout": "200ms"}
    over = gateway(real_network=True, services=urls)
    started = time.monotonic()
    answer = await over.query(FOUR_SERVICES, headers=operator())
    assert 0.15 < time.monotonic() - started < 10
    assert set(answer.codes) == {"UPSTREAM_TIMEOUT"}
    assert any(each["payment"] for user in answer.data["users"]["nodes"] for each in user["orders"]["nodes"])
    await over.close()
    server.close()


def test_as_a_process_over_services_that_are_all_down_it_starts_is_alive_and_answers(real_services):
    nowhere = {f"BFF__SERVICES__{name.upper()}__URL": "http://127.0.0.1:1" for name in NAMES}
    with running(ROOT / "bff.yaml", real_services, **nowhere) as gone:
        assert httpx.get(f"{gone.admin}/healthz").status_code == 200
        answer = httpx.post(f"{gone.url}/graphql", json={"query": '{ product(id: "prd_1") { id } }'})
        assert answer.json()["data"] == {"product": None}
        assert answer.json()["errors"][0]["extensions"]["code"] == "UPSTREAM_UNAVAILABLE"
        assert httpx.get(f"{gone.url}/api/products/prd_1").status_code == 503


def test_as_a_process_it_answers_the_four_service_query_and_shows_four_calls_in_its_metrics(real_services):
    everything = "users:read users:admin orders:read orders:admin payments:read payments:admin products:read"
    with running(ROOT / "bff.yaml", real_services) as up:
        headers = bearer(token(real_services, "usr_1", everything))
        answer = httpx.post(f"{up.url}/graphql", json={"query": FOUR_SERVICES}, headers=headers).json()
        assert "errors" not in answer
        metrics = httpx.get(f"{up.admin}/metrics").text
    counted = re.findall(r'http_client_request_duration_seconds_count\{.*service="(\w+)".*\} (\S+)', metrics)
    calls = {name: float(count) for name, count in counted}
    assert calls.pop("identity") == 1  # its keys
    assert calls == dict.fromkeys(NAMES, 1.0)
