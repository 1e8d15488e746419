"""Gateways that share a store: what one of them changes, the others drop; who does not hear of it keeps nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from bff.app import build
from bff.config import load
from bff.core.store.local import LocalValkey
from tests.harness import BFF_YAML, customer, gateway
from tests.rest.test_cache import OPERATOR, ROUTES, TOKEN
from tests.shop import answer

USER = "/api/users/usr_1"
ME = customer("usr_1")
PLAIN = [{key: value for key, value in each.items() if key != "cache"} for each in ROUTES]


@asynccontextmanager
async def gateways(url, routes):
    """Two of them, in front of services of their own that say how long their answers are good."""
    kept = {"users": {"cache": {"entities": True}}}
    shared = {"url": url, "timeout": "1s", "probe": "50ms"}
    async with AsyncExitStack() as lifetimes:
        made = [gateway(routes=routes, services=kept, store=shared, admin={"token": TOKEN}) for _ in range(2)]
        for each in made:
            await lifetimes.enter_async_context(each.app.router.lifespan_context(each.app))
            each.services.users.fail(answers(each))
        yield made


def answers(shop):
    async def behave(_, call):
        status, value = shop.services.users.answers(call)
        return answer(status, value, cache_control="public, max-age=600")

    return behave


async def is_kept(shop, path=USER):
    """Whether this is answered without a call."""
    before = len(shop.services.calls)
    assert (await shop.client.get(path, headers=ME)).status_code == 200
    return len(shop.services.calls) == before


async def until(holds):
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - a state of something that knows nothing of tests
            await asyncio.sleep(0.01)


async def trusted(shop):
    (value,) = (await shop.metrics("bff_cache_trusted")).values()
    return bool(value)


async def name(shop):
    return (await shop.query("{ me { name } }", headers=ME)).data


@pytest.mark.parametrize("routes", [ROUTES, PLAIN], ids=["http", "entity"])
@pytest.mark.parametrize("what", ["rest", "graphql", "purge"])
async def test_what_one_changes_the_other_drops(valkey, routes, what):
    async with gateways(valkey.url, routes) as (one, two):
        assert [await is_kept(two) for _ in range(2)] == [False, True]
        if what == "rest":
            await one.client.patch(USER, json={"name": "x"}, headers=ME)
        elif what == "graphql":
            await one.query('mutation { updateUser(input: {id: "usr_1", name: "x"}) { name } }', headers=ME)
        else:
            await one.admin.post("/-/cache/purge", json={"entities": ["users:usr_1"]}, headers=OPERATOR)

        async def is_asked_anew():
            return not await is_kept(two)

        await until(is_asked_anew)


@pytest.mark.parametrize("routes", [ROUTES, PLAIN], ids=["http", "entity"])
async def test_without_a_store_that_answers_nothing_is_kept_and_nobody_waits(routes):
    with LocalValkey() as local:
        async with gateways(local.url, routes) as (one, two):
            assert [await is_kept(one) for _ in range(2)] == [False, True]
            local._process.send_signal(19)  # it is there, and says nothing

            async def is_cut_off():
                return not await trusted(one) and not await trusted(two)

            await until(is_cut_off)
            assert [await is_kept(one) for _ in range(3)] == [False] * 3
            assert (await name(one)) == {"me": {"name": "User 1"}}
            local._process.send_signal(18)

            async def is_back():
                return await trusted(one) and await trusted(two)

            await until(is_back)
            # What it knew before may have changed.
            assert [await is_kept(one) for _ in range(2)] == [False, True]


async def test_a_store_that_never_was_there_costs_the_caches_and_no_request():
    async with gateways("unix:///nowhere", ROUTES) as (one, _):
        assert [await is_kept(one) for _ in range(2)] == [False, False]
        assert not await trusted(one)


def test_another_store_begins_anew_and_the_same_one_goes_on():
    """What one store's gateways said is nothing to another's; and the end of its connection is not the other's."""
    one = gateway(routes=ROUTES, store="unix:///one")
    same, other = (
        build(load(BFF_YAML, profile="development", overrides={"routes": ROUTES, "store": each}), before=one.app)
        for each in ("unix:///one", "unix:///other")
    )
    assert same.state.shelf is one.app.state.shelf
    assert other.state.shelf is not one.app.state.shelf
