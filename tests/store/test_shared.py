"""Gateways that share a store: one account whichever of them is asked, and what happens when it goes away."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from bff.core.store import MemoryStore, Slot, StoreUnavailable, Window
from bff.core.store.local import LocalValkey
from bff.core.store.wire import command
from tests.harness import gateway, partner
from tests.store.conftest import decided, ledger

QUERY = {"query": '{ product(id: "prd_1") { id } }'}
PATIENT = {"timeout": "1s"}
MINUTE = (Window("minute", 100, 60),)


@asynccontextmanager
async def gateways(*stores, **sections):
    """One for each of these settings of `store`, up and connected."""
    async with AsyncExitStack() as stack:
        shops = [gateway(store=each, **sections) for each in stores]
        for each in shops:
            await stack.enter_async_context(each.app.router.lifespan_context(each.app))
        yield shops


@asynccontextmanager
async def opened(*ledgers):
    for each in ledgers:
        await each.store.open()
    try:
        yield
    finally:
        for each in ledgers:
            await each.store.close()


@pytest.fixture
def own():
    """A Valkey that the test may stop."""
    with LocalValkey() as local:
        yield local


@pytest.fixture
def at(valkey, request):
    """Settings of a store that no other test uses."""
    return {"url": valkey.url, "prefix": f"test.{abs(hash(request.node.nodeid))}", **PATIENT}


async def rest(shop, **options):
    return await shop.client.get("/api/products/prd_1", headers=partner(), **options)


async def ask(shop):
    return await shop.client.post("/graphql", json=QUERY, headers=partner())


def left(answer):
    return int(re.search(r"r=(\d+)", answer.headers["ratelimit"])[1])


async def under_way(shop):
    return (await shop.admin.get("/-/limits/consumer:partner")).json()["tiers"]["partner"]["under_way"]


async def nothing_is_under_way(shop):
    """A place that is given back is told to the store, and nobody waits until it knows."""
    async with asyncio.timeout(10):
        while await under_way(shop):  # noqa: ASYNC110 - what the store knows is no event here
            await asyncio.sleep(0.001)


async def test_one_account_is_spent_by_graphql_here_and_by_rest_there(at):
    async with gateways(at, at, tiers={"partner": {"rate": ["4/minute"]}}) as (one, other):
        assert [left(await ask(one)), left(await rest(other)), left(await rest(one)), left(await ask(other))] == [
            3, 2, 1, 0,
        ]  # fmt: skip
        for shop in (one, other):
            refused = await rest(shop)
            assert refused.status_code == 429
            assert refused.json()["violated-policies"] == ["partner-60"]
            assert 1 <= int(refused.headers["retry-after"]) <= 61


async def test_what_is_given_back_at_one_gateway_can_be_spent_at_another(at):
    async with gateways(at, at, tiers={"partner": {"rate": ["1000/minute"]}}) as (one, other):
        query = "query($n: Int) { users(first: $n) { nodes { name orders(first: 10) { nodes { id } } } } }"
        asked = {"query": query, "variables": {"n": 50}}
        before = left(await rest(other))
        answer = await one.client.post("/graphql", json=asked, headers=partner() | {"x-cost": "1"})
        told = answer.json()["extensions"]["cost"]
        assert told["units"] < told["estimated"] / 100, "more was taken than it came to"
        await nothing_is_under_way(one)
        assert left(await rest(other)) == before - 1 - told["units"]


async def test_places_of_a_caller_are_counted_over_all_gateways_and_given_back(at):
    limits = {"queue": {"size": 0}}
    async with gateways(at, at, tiers={"partner": {"concurrency": 1}}, limits=limits) as (one, other):
        for shop in (one, other) * 3:
            assert (await rest(shop)).status_code == 200
            await nothing_is_under_way(one)
        hold = asyncio.Event()
        answer = one.services.handle_async_request

        async def held(request):
            await hold.wait()
            return await answer(request)

        one.services.handle_async_request = held
        running = asyncio.create_task(rest(one))
        await asyncio.sleep(0.1)
        assert (await rest(other)).json()["violated-policies"] == ["partner-concurrency"]
        assert await under_way(other) == {"partner-concurrency": 1}
        hold.set()
        assert (await running).status_code == 200
        await nothing_is_under_way(one)
        assert (await rest(other)).status_code == 200


async def test_who_waits_for_a_place_gets_the_one_that_another_gateway_gives_back(at):
    limits = {"queue": {"size": 5, "wait": "5s"}}
    async with gateways(at, at, tiers={"partner": {"concurrency": 1}}, limits=limits) as (one, other):
        answers = await asyncio.gather(*(rest(shop) for shop in (one, other) * 3))
        assert {each.status_code for each in answers} == {200}


async def test_operators_see_the_shared_account_and_the_store_without_its_password(at, valkey):
    async with gateways(at, tiers={"partner": {"rate": ["3/minute"]}}) as (shop,):
        assert (await shop.admin.get("/-/limits/consumer:partner")).json()["tiers"] == {}
        await rest(shop)
        account = (await shop.admin.get("/-/limits/consumer:partner")).json()["tiers"]["partner"]
        assert account["windows"]["partner-60"].items() >= {"limit": 3, "left": 2}.items()
        assert (await shop.admin.get("/-/limits")).json()["store"] == {"url": valkey.url, "up": True, "instances": 1}


async def test_every_key_expires(valkey, at):
    tiers = {"partner": {"rate": ["100/minute"], "quota": "1000/day", "concurrency": 5}}
    async with gateways(at, tiers=tiers) as (shop,):
        await asyncio.gather(*(rest(shop) for _ in range(5)))
        asking = ledger(valkey.url)
        async with opened(asking):
            keys = await asking.store.call(b"", command("KEYS", f"{at['prefix']}:*"))
            assert len(keys) >= 2
            for key in keys:
                assert 0 < await asking.store.call(b"", command("PTTL", key)) <= 1.02 * 86400_000


async def test_both_forget_a_slice_at_the_same_instant(valkey):
    now = 1_700_000_000_000
    memory, shared = MemoryStore(clock=lambda: now / 1000), ledger(valkey.url, clock=lambda: now / 1000)
    windows = (Window("second", 30, 1), Window("later", 45, 1))
    async with opened(shared):
        for _ in range(400):
            here, there = memory.reserve("edge", windows, 1), await shared.reserve("edge", windows, 1)
            assert decided(here) == decided(there)
            now += 10


async def test_what_a_dead_gateway_held_is_free_again(valkey):
    now, minute = 1_700_000_000.0, 60  # heartbeats are told by this clock, and none comes by itself meanwhile
    dead, living = (ledger(valkey.url, clock=lambda: now, heartbeat=minute) for _ in range(2))
    slots = (Slot("dead", 1),)
    async with opened(dead, living):
        assert (await dead.reserve("dead/one", (), 1, slots)).reservation
        assert (await living.reserve("dead/one", (), 1, slots)).refusing == ("dead",)
        now += 4 * minute
        await dead.stay()
        now += 4 * minute
        assert (await living.reserve("dead/one", (), 1, slots)).refusing == ("dead",), "it has said that it is there"
        now += 2 * minute + 1
        assert (await living.reserve("dead/one", (), 1, slots)).reservation


async def test_a_server_that_has_forgotten_the_scripts_is_told_again(own):
    shared = ledger(own.url)
    async with opened(shared):
        await shared.store.call(b"", command("SCRIPT", "FLUSH"))
        assert (await shared.reserve("flushed/one", MINUTE, 1)).states[0][0] == 99
        assert shared.store.up


async def test_a_caller_with_a_long_name_or_a_strange_one_has_an_account_of_its_own(valkey):
    shared = ledger(valkey.url)
    names = ["a" * 5000, "a" * 4999 + "b", "}", "{", "{}", "x}y", "x%7Dy\r\n$3", "é"]
    async with opened(shared):
        for name in names:
            assert (await shared.reserve(f"strange/{name}", MINUTE, 1)).states[0][0] == 99


async def test_a_request_that_is_cancelled_while_the_store_is_asked_takes_nothing(own):
    shared = ledger(own.url)
    slots = (Slot("one", 1),)
    async with opened(shared):
        asking = asyncio.create_task(shared.reserve("gone/one", MINUTE, 5, slots))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await shared.store.call(b"", command("PING"))
        await shared.store.call(b"", command("PING"))
        found = await shared.look("gone/one", MINUTE, slots)
        assert found is not None
        assert (found[0][0][0], found[1]) == (100, {})
        assert (await shared.reserve("gone/one", MINUTE, 1, slots)).reservation


# The store goes away.


def stop(valkey):
    os.kill(valkey.pid, signal.SIGSTOP)


def go_on(valkey):
    os.kill(valkey.pid, signal.SIGCONT)


async def until(holds, patience=10.0):
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("mode", "statuses"), [
    ("local", {200: 5, 429: 3}),
    ("allow", {200: 8}),
    ("deny", {503: 8}),
])  # fmt: skip
async def test_without_the_store_it_is_as_configured_and_with_it_again_without_a_restart(own, mode, statuses):
    at = {"url": own.url, "timeout": "300ms", "probe": "50ms"}
    limits = {"on_store_error": mode}
    async with gateways(at, at, tiers={"partner": {"rate": ["10/minute"]}}, limits=limits) as (one, other):
        one_store, other_store = (each.app.state.store for each in (one, other))
        await one_store._beat()
        assert (one_store.instances, other_store.instances) == (2, 2)
        assert left(await rest(one)) == 9
        stop(own)
        answers = [await rest(one) for _ in range(8)]
        assert Counter(each.status_code for each in answers) == statuses
        if mode == "local":
            assert left(answers[0]) == 4, "its half"
        if mode == "deny":
            assert answers[0].json()["code"] == "OVERLOADED"
            assert answers[0].headers["retry-after"] == "1"
        assert (await one.admin.get("/readyz")).status_code == 200
        assert (await one.admin.get("/-/limits/consumer:partner")).status_code == 503
        assert (await one.metrics("bff_store_up"))[()] == 0
        assert (await one.metrics("bff_store_fallbacks_total"))[(("mode", mode),)] == 8
        go_on(own)
        await until(lambda: one_store.up and other_store.up)
        assert left(await rest(one)) == 8, "what was let pass meanwhile is not in it, what was before is"
        said = [(line["state"], line.get("reason")) for line in one.log if line["event"] == "store"]
        assert said == [("away", "no answer in time"), ("back", None)]
        assert (await one.metrics("bff_store_up"))[()] == 1


async def test_nobody_waits_longer_than_the_timeout_while_the_store_is_stalled_or_dies_under_load(own):
    at = {"url": own.url, "timeout": "20ms", "probe": "20ms"}
    statuses, waits = Counter(), []
    async with gateways(at, tiers={"partner": {"rate": ["100000/minute"]}}) as (shop,):
        store, shared = shop.app.state.store, shop.app.state.accounts.shared
        reserve, lag = shared.reserve, 0.0

        async def timed(*asked):
            began = time.monotonic()
            try:
                return await reserve(*asked)
            finally:
                waits.append(time.monotonic() - began)

        shared.reserve = timed

        async def measured():
            """How late this busy machine's loop is by itself."""
            nonlocal lag
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.001)
                lag = max(lag, time.monotonic() - began - 0.001)

        async def load():
            while not done:
                statuses[(await rest(shop)).status_code] += 1
                await asyncio.sleep(0)  # nothing else of a gateway in memory ever waits

        done, measuring = False, asyncio.create_task(measured())
        loads = [asyncio.create_task(load()) for _ in range(8)]
        await asyncio.sleep(0.3)
        for _ in range(2):
            stop(own)
            await asyncio.sleep(0.4)
            assert not store.up
            go_on(own)
            await until(lambda: store.up)
        os.kill(own.pid, signal.SIGKILL)
        await until(lambda: not store.up)
        await until(lambda: store.up)
        await asyncio.sleep(0.1)
        done = True
        await asyncio.gather(*loads)
        measuring.cancel()
    assert set(statuses) == {200}
    # The loop is late at setting the time, at noticing its end and at going on.
    waited = max(waits)
    assert waited < 0.025 + 3 * lag, f"{waited * 1000:.1f} ms, the loop being up to {lag * 1000:.1f} ms late"


async def test_a_gateway_starts_without_the_store_and_finds_it_once_it_is_there(tmp_path):
    at = {"url": f"unix://{tmp_path}/nobody", "probe": "20ms"}
    limits = {"instances": 5}
    async with gateways(at, tiers={"partner": {"rate": ["10/minute"]}}, limits=limits) as (shop,):
        assert left(await rest(shop)) == 1, "a fifth of ten, since nothing else is known"
        assert [line["state"] for line in shop.log if line["event"] == "store"] == ["away"]
        with LocalValkey() as local:
            (tmp_path / "nobody").symlink_to(local.url.removeprefix("unix://"))
            await until(lambda: shop.app.state.store.up)
            assert left(await rest(shop)) == 9


async def test_what_the_store_did_late_is_given_back(own):
    shared = ledger(own.url, timeout=0.3, probe=0.02)
    slots = (Slot("one", 1),)
    async with opened(shared):
        stop(own)
        with pytest.raises(StoreUnavailable):
            await shared.reserve("late/one", MINUTE, 5, slots)
        with pytest.raises(StoreUnavailable):
            await shared.reserve("late/one", MINUTE, 5, slots)
        go_on(own)
        await until(lambda: shared.store.up)
        await shared.store.call(b"", command("PING"))
        found = await shared.look("late/one", MINUTE, slots)
        assert found is not None
        assert (found[0][0][0], found[1]) == (100, {})


async def test_what_is_given_back_while_the_store_is_away_is_given_back_when_it_is_there(own):
    shared = ledger(own.url, timeout=0.3, probe=0.02)
    async with opened(shared):
        decision = await shared.reserve("back/one", MINUTE, 50)
        stop(own)
        with pytest.raises(StoreUnavailable):
            await shared.reserve("back/one", MINUTE, 1)
        decision.reservation.settle(1)
        go_on(own)
        await until(lambda: shared.store.up)
        await shared.store.call(b"", command("PING"))
        assert (await shared.look("back/one", MINUTE))[0][0][0] == 99


async def test_a_store_that_is_full_is_away_and_not_an_error(own):
    at = {"url": own.url, "probe": "60s", **PATIENT}
    async with gateways(at, tiers={"partner": {"rate": ["10/minute"]}}) as (shop,):
        store = shop.app.state.store
        await store.call(b"", command("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"))
        assert [(await rest(shop)).status_code for _ in range(3)] == [200] * 3
        (line,) = [line for line in shop.log if line["event"] == "store"]
        assert (line["state"], line["reason"]) == ("away", "refused by the server: OOM")


async def test_a_password_is_asked_for_and_shown_nowhere(own, capsys):
    asking = ledger(own.url)
    async with opened(asking):
        await asking.store.call(b"", command("CONFIG", "SET", "requirepass", "hunter2"))
    url = own.url.replace("unix://", "unix://:hunter2@")
    wrong = own.url.replace("unix://", "unix://:hunter3@")
    async with gateways(url, wrong, tiers={"partner": {"rate": ["10/minute"]}}) as (let_in, refused):
        assert let_in.app.state.store.up
        assert (await rest(refused)).status_code == 200
        (line,) = [line for line in refused.log if line["event"] == "store"]
        assert line["reason"] == "refused by the server: WRONGPASS"
        shown = [str(let_in.config), repr(let_in.config), let_in.config.model_dump_json(), str(refused.log)]
        shown += [(await each.admin.get("/-/limits")).text for each in (let_in, refused)]
        assert not [each for each in shown if "hunter" in each]
