"""Copies of reads for another arm: nobody waits for them, and what came of them is counted."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.harness import customer, gateway, operator
from tests.shop import refused, says
from tests.upstream.raw import eventually

TARGETS = {"stable": ["http://orders-a.internal"], "next": ["http://orders-next.internal"]}
ORDER = '{ order(id: "ord_1") { id } }'


def shop(percent=100.0, split=(), **more):
    mirror = {"to": "next", "percent": percent, "timeout": "100ms"} | more
    orders = {"url": None, "targets": TARGETS, "mirror": mirror, "split": list(split)}
    return gateway(services={"orders": orders}, limits={"mode": "off"})


def next_one(behaviour):
    async def behave(request, call):
        return await behaviour(request, call) if call.host == "orders-next" else None

    return behave


def copies(running):
    return [call for call in running.services.orders.calls if call.host == "orders-next"]


async def outcomes(running):
    counted = await running.metrics("http_client_mirrored_total")
    return {dict(labels)["outcome"]: int(value) for labels, value in counted.items() if value}


async def settled(running, copies):
    """What has become of so many."""
    async with asyncio.timeout(20):
        while sum((found := await outcomes(running)).values()) < copies:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)
    return found


async def test_reads_of_both_fronts_are_copied_as_they_are_and_as_the_same_caller():
    running = shop()
    assert (await running.client.get("/api/orders/ord_1?a=b", headers=operator())).status_code == 200
    assert (await running.query(ORDER, headers=operator())).errors == []
    await eventually(lambda: len(copies(running)) == 2)
    assert [call.target for call in copies(running)] == ["GET /orders/ord_1", "GET /orders?ids"]
    assert copies(running)[0].query == {"a": "b"}
    assert {call.header("x-auth-subject") for call in copies(running)} == {"usr_1"}
    assert await settled(running, 2) == {"same": 2}
    assert running.access[-1]["arms"] == {"orders": "stable"}, "a copy is no call of the request's"
    attempts = await running.metrics("http_client_request_duration_seconds_count")
    assert "next" not in {dict(labels)["arm"] for labels in attempts}


async def test_writes_are_not_copied():
    running = shop()
    body = {"user_id": "usr_1", "items": []}
    assert (await running.client.post("/api/orders", headers=customer(), json=body)).status_code == 201
    await asyncio.sleep(0.05)
    assert copies(running) == []


async def test_a_share_of_the_reads_is_copied():
    running = shop(percent=20, max_in_flight=1000)  # in memory, nothing runs between two calls
    for _ in range(200):
        await running.client.get("/api/orders/ord_1", headers=operator())
    await asyncio.sleep(0.05)
    assert 20 <= len(copies(running)) <= 65


async def test_whatever_becomes_of_copies_the_call_has_its_answer():
    for behaviour, outcome in ((says(500, {}), "different"), (refused, "failed"), (_hangs, "failed")):
        running = shop()
        running.services.orders.fail(next_one(behaviour))
        async with asyncio.timeout(20):
            assert (await running.client.get("/api/orders/ord_1", headers=operator())).status_code == 200
        assert await settled(running, 1) == {outcome: 1}
        assert all(each["up"] for each in running.app.state.services["orders"].deployments.state())


async def _hangs(_, __):
    await asyncio.sleep(60)


async def test_there_are_no_more_copies_at_a_time_than_configured():
    running = shop(max_in_flight=2)
    running.services.orders.fail(next_one(_hangs))
    for _ in range(5):
        await running.client.get("/api/orders/ord_1", headers=operator())
    assert await settled(running, 5) == {"dropped": 3, "failed": 2}


async def test_a_call_that_goes_to_that_arm_by_itself_is_not_copied():
    running = shop(split=[{"weights": {"stable": 0, "next": 1}}])
    await running.client.get("/api/orders/ord_1", headers=operator())
    await asyncio.sleep(0.05)
    assert Counter(call.host for call in running.services.orders.calls) == {"orders-next": 1}


async def test_copies_under_way_end_with_the_gateway():
    running = shop(timeout="10s")
    running.services.orders.fail(next_one(_hangs))
    await running.client.get("/api/orders/ord_1", headers=operator())
    await eventually(lambda: len(copies(running)) == 1)
    async with asyncio.timeout(8):  # a copy would have ten seconds
        await running.close()
