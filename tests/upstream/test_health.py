"""Targets are checked from the start: those that are not healthy have no calls, and operators see why."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.harness import gateway, operator
from tests.shop import hangs, refused, says

CHECKS = {"interval": "100ms", "timeout": "50ms", "unhealthy_after": 2, "healthy_after": 2}
TARGETS = {"stable": ["http://orders-a.internal", "http://orders-b.internal"]}


def shop(**more):
    return gateway(
        services={"orders": {"url": None, "targets": TARGETS, "health": CHECKS, "retry": {"attempts": 1}} | more}
    )


def sick(behaviour, host="orders-b"):
    """One target that is up for calls and not for checks: what calls find there has to be what checks have said."""

    async def behave(request, call):
        if call.path != "/healthz":
            return None
        return await behaviour(request, call) if call.host == host else await says(200, {})(request, call)

    return behave


async def asked(running, times=4):
    for _ in range(times):
        assert (await running.client.get("/api/orders/ord_1", headers=operator())).status_code == 200
    return Counter(call.host for call in running.services.orders.calls if call.path != "/healthz")


def states(running):
    return {each["url"]: each for each in running.app.state.services["orders"].deployments.state()}


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (says(500, {}), "/healthz answers 500"),
        (refused, "/healthz cannot be asked: ConnectError"),
        (hangs, "/healthz does not answer in time"),
    ],
)
async def test_a_target_that_is_not_healthy_has_no_calls_until_it_is_again(behaviour, why):
    running = shop()
    running.services.orders.fail(sick(says(200, {})))
    async with running.app.router.lifespan_context(running.app):
        await asyncio.sleep(0.05)
        running.services.orders.fail(sick(behaviour))
        await asyncio.sleep(0.5)
        (line,) = [line for line in running.log if line["event"] == "target_health"]
        assert (line["target"], line["healthy"], line["why"]) == ("http://orders-b.internal", False, why)
        running.forget()
        assert set(await asked(running)) == {"orders-a"}
        state = states(running)["http://orders-b.internal"]
        assert (state["up"], state["healthy"], state["reason"], state["why"]) == (False, False, why, why)
        assert 0 <= state["checked"] <= 0.5
        assert 0 <= state["next_check"] <= 0.11
        running.services.orders.fail(sick(says(204, {})))
        await asyncio.sleep(0.5)
        running.forget()
        assert set(await asked(running)) == {"orders-a", "orders-b"}


async def test_the_first_check_decides_at_once_and_needs_no_traffic():
    running = shop()
    running.services.orders.fail(sick(says(503, {})))
    async with running.app.router.lifespan_context(running.app):
        await asyncio.sleep(0.05)
        assert [each["healthy"] for each in states(running).values()] == [True, False]
        running.forget()
        assert set(await asked(running)) == {"orders-a"}


async def test_one_bad_check_of_several_changes_nothing():
    running = shop()
    async with running.app.router.lifespan_context(running.app):
        running.services.orders.fail(sick(says(200, {})))
        await asyncio.sleep(0.05)
        bad = [True]

        async def once(request, call):
            return await says(500, {})(request, call) if bad and bad.pop() else await says(200, {})(request, call)

        running.services.orders.fail(sick(once))
        await asyncio.sleep(0.4)
        assert not bad
        assert states(running)["http://orders-b.internal"]["healthy"]


async def test_where_no_target_is_healthy_all_have_calls():
    running = shop()
    running.services.orders.fail(sick(says(500, {}), host="orders-a"))
    async with running.app.router.lifespan_context(running.app):
        await asyncio.sleep(0.05)

        async def behave(request, call):
            return await says(500, {})(request, call) if call.path == "/healthz" else None

        running.services.orders.fail(behave)
        await asyncio.sleep(0.4)
        assert [each["healthy"] for each in states(running).values()] == [False, False]
        running.forget()
        assert set(await asked(running)) == {"orders-a", "orders-b"}


async def test_checks_go_on_whatever_happens_to_one():
    running = shop()
    running.services.orders.fail(sick(_breaks))
    async with running.app.router.lifespan_context(running.app):
        await asyncio.sleep(0.05)
        assert not states(running)["http://orders-b.internal"]["healthy"]
        running.services.orders.fail(sick(says(200, {})))
        await asyncio.sleep(0.5)
        assert states(running)["http://orders-b.internal"]["healthy"]


async def _breaks(_, __):
    raise ZeroDivisionError


async def test_checks_end_with_the_gateway():
    running = shop()
    async with running.app.router.lifespan_context(running.app):
        await asyncio.sleep(0.15)
    running.forget()
    await asyncio.sleep(0.25)
    assert running.services.orders.calls == []
