"""Whatever a client makes a cache remember of its request is a part of `cache.max_size`."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import fields, replace

import pytest

from bff.core.identity import Caller
from tests.rest import test_cache as http
from tests.upstream import test_entities as entities

BOUND = 512 * 1024
MUCH = 3 * 1024 * 1024
"""Less than what these requests say, and more than what a test itself keeps of them."""
LONG = 50_000
DEEP = "/".join("x" * 400 for _ in range(12))


async def growth(world, requests):
    """Bytes that stay once the first of these have been answered."""
    requests = list(requests)
    tracemalloc.start()
    before = 0
    for number, (path, headers) in enumerate(requests):
        if number == len(requests) // 4:
            before = kept(world)
        assert (await world.client.get(path, headers=headers)).status_code in {200, 404}
    after = kept(world)
    tracemalloc.stop()
    return after - before


def kept(world):
    world.gateway.forget()
    world.gateway.access.clear()
    getattr(world, "calls", []).clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def headers(name, count=120):
    """Each another, and long."""
    return ((http.PRODUCT, {name: str(number).ljust(LONG, "x")}) for number in range(count))


async def test_a_kind_of_entities_is_small_however_long_the_headers_are_that_make_it():
    world = entities.World(cache={"max_size": BOUND})
    assert await growth(world, headers("x-version")) < MUCH
    assert await world.asked(headers={"x-version": "119".ljust(LONG, "x")}) == []


async def test_nor_do_paths_of_collections_take_more_than_is_counted():
    world = entities.World(cache={"max_size": BOUND})
    world.says(body={"id": "a"})
    paths = ((f"/api/products/{number}/{DEEP}/a", {}) for number in range(120))
    assert await growth(world, paths) < MUCH


async def test_a_service_that_says_much_of_its_records_fills_the_cache_with_it():
    world = entities.World(cache={"max_size": BOUND})
    world.says(etag='"' + "x" * LONG + '"')
    for number in range(1, 80):
        await world.get(f"/api/products/prd_{number}")
    assert await world.count("bff_cache_evictions_total", cache="entity") > 10


@pytest.mark.parametrize(("name", "said"), [("cookie", "max-age=60"), ("cookie", "no-store"), ("x-own", "max-age=60")])
async def test_what_an_answer_of_the_http_cache_depends_on_is_counted(name, said):
    world = http.World(cache={"max_size": BOUND})
    world.says(cache_control=said, vary="x-own")
    assert await growth(world, headers(name)) < MUCH


@pytest.mark.parametrize("one", [each.name for each in fields(Caller) if each.name != "expires"])
def test_equal_callers_have_the_same_digest_and_no_others(one):
    caller = Caller(subject="usr_1", scopes=frozenset({"a", "b"}))
    assert caller.digest == Caller(subject="usr_1", scopes=frozenset({"b", "a"}), expires=1.0).digest
    assert caller.digest != replace(caller, **{one: frozenset({"a"}) if one == "scopes" else "other"}).digest
