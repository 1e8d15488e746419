"""Targets are checked from the start: those that are not healthy have no calls, and operators see why."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.harness import gateway, operator
from tests.reloading import until
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


async def are_healthy(running, *healthy):
    """Wait until that is known of the two targets."""
    await until(lambda: [each["healthy"] for each in states(running).values()] == list(healthy))


def checks(running, host="orders-b"):
    return sum(call.host == host and call.path == "/healthz" for call in running.services.orders.calls)


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
        await are_healthy(running, True, True)
        running.services.orders.fail(sick(behaviour))
        since = asyncio.get_running_loop().time()
        await are_healthy(running, True, False)
        (line,) = [line for line in running.log if line["event"] == "target_health"]
        assert (line["target"], line["healthy"], line["why"]) == ("http://orders-b.internal", False, why)
        running.forget()
        assert set(await asked(running)) == {"orders-a"}
        state = states(running)["http://orders-b.internal"]
        assert (state["up"], state["healthy"], state["reason"], state["why"]) == (False, False, why, why)
        assert 0 <= state["checked"] <= asyncio.get_running_loop().time() - since
        assert 0 <= state["next_check"] <= 0.11
        running.services.orders.fail(sick(says(204, {})))
        await are_healthy(running, True, True)
        running.forget()
        assert set(await asked(running)) == {"orders-a", "orders-b"}


async def test_the_first_check_decides_at_once_and_needs_no_traffic():
    running = shop()
    running.services.orders.fail(sick(says(503, {})))
    async with running.app.router.lifespan_context(running.app):
        await are_healthy(running, True, False)
        assert checks(running) == 1
        running.forget()
        assert set(await asked(running)) == {"orders-a"}


async def test_one_bad_check_of_several_changes_nothing():
    running = shop()
    running.services.orders.fail(sick(says(200, {})))
    async with running.app.router.lifespan_context(running.app):
        await are_healthy(running, True, True)
        bad = [True]

        async def once(request, call):
            return await says(500, {})(request, call) if bad and bad.pop() else await says(200, {})(request, call)

        running.services.orders.fail(sick(once))
        seen = checks(running)
        await until(lambda: not bad and checks(running) >= seen + 4)
        assert states(running)["http://orders-b.internal"]["healthy"]
        assert not [line for line in running.log if line["event"] == "target_health"]


async def test_where_no_target_is_healthy_all_have_calls():
    running = shop()
    running.services.orders.fail(sick(says(500, {}), host="orders-a"))
    async with running.app.router.lifespan_context(running.app):
        await are_healthy(running, False, True)

        async def behave(request, call):
            return await says(500, {})(request, call) if call.path == "/healthz" else None

        running.services.orders.fail(behave)
        await are_healthy(running, False, False)
        running.forget()
        assert set(await asked(running)) == {"orders-a", "orders-b"}


async def test_checks_go_on_whatever_happens_to_one():
    running = shop()
    running.services.orders.fail(sick(_breaks))
    async with running.app.router.lifespan_context(running.app):
        await are_healthy(running, True, False)
        running.services.orders.fail(sick(says(200, {})))
        await are_healthy(running, True, True)


async def _breaks(_, __):
    raise ZeroDivisionError


async def test_checks_end_with_the_gateway():
    running = shop()
    async with running.app.router.lifespan_context(running.app):
        await until(lambda: checks(running) > 1)
    running.forget()
    await asyncio.sleep(0.25)
    assert running.services.orders.calls == []
