"""Batched reads: who asks at about the same time shares a call, nothing is read twice, who leaves ends no others."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import httpx
import pytest

from bff.core.identity import ANONYMOUS
from bff.core.trace import Trace
from bff.upstream.batch import Loads, batch
from bff.upstream.client import Origin, Service, Upstream

MAX_BATCH = 3


class World:
    """What was read, and for whom it is still on its way."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails: Exception | None = None

    async def fetch(self, _: Any, ids: list[str]) -> dict[str, str]:
        self.calls.append(ids)
        await self.open.wait()
        if self.fails:
            raise self.fails
        return {id: id.upper() for id in ids if id != "nobody"}


@pytest.fixture
def world():
    return World()


def reads(world: World) -> tuple[Loads, Any]:
    service = Service("things", (), httpx.MockTransport(lambda _: httpx.Response(500)), max_batch=MAX_BATCH)
    origin = Origin(ANONYMOUS, Trace("0" * 31 + "1", "0" * 15 + "1", sampled=False), "r", inf)
    return Loads(lambda _: Upstream(service, origin)), batch("things")(world.fetch)


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def late(loads: Loads, read: Any, after: int, *ids: str) -> Any:
    await ticks(after)
    return await loads.load_many(read, ids)


async def test_who_asks_up_to_a_tick_later_shares_the_call(world):
    loads, read = reads(world)
    found = await asyncio.gather(late(loads, read, 0, "a"), late(loads, read, 0, "b", "a"), late(loads, read, 1, "c"))
    assert found == [["A"], ["B", "A"], ["C"]]
    assert world.calls == [["a", "b", "c"]]


async def test_more_keys_than_a_call_takes_are_read_side_by_side(world):
    loads, read = reads(world)
    world.open.clear()
    asking = asyncio.create_task(late(loads, read, 0, *"abcdefg"))
    await ticks(9)
    world.open.set()
    assert await asking == list("ABCDEFG")
    assert world.calls == [list("abc"), list("def"), ["g"]]
    assert loads.made == {read.name: 3}


async def test_what_is_on_its_way_is_waited_for_and_not_read_again(world):
    loads, read = reads(world)
    world.open.clear()
    first = asyncio.create_task(late(loads, read, 0, "a", "nobody"))
    second = asyncio.create_task(late(loads, read, 9, "a", "b"))
    await ticks(30)
    world.open.set()
    assert await asyncio.gather(first, second) == [["A", None], ["A", "B"]]
    assert world.calls == [["a", "nobody"], ["b"]]
    assert await loads.load_many(read, ["b", "a"]) == ["B", "A"]
    assert len(world.calls) == 2


async def test_an_error_is_the_value_of_each_key_of_its_call(world):
    loads, read = reads(world)
    assert await loads.load_many(read, ["a"]) == ["A"]
    world.fails = ValueError("no")
    assert await loads.load_many(read, ["a", "b", "c"]) == ["A", world.fails, world.fails]
    with pytest.raises(ValueError, match="no"):
        await loads.load(read, "b")


async def test_who_leaves_ends_nothing_that_others_wait_for(world):
    loads, read = reads(world)
    world.open.clear()
    leaving = asyncio.create_task(late(loads, read, 0, "a"))
    staying = asyncio.create_task(late(loads, read, 0, "a"))
    await ticks(9)
    leaving.cancel()
    await asyncio.sleep(0)
    world.open.set()
    assert await staying == ["A"]
    assert world.calls == [["a"]]


async def test_who_asked_first_and_leaves_before_the_call_is_missed_by_nobody(world):
    loads, read = reads(world)
    leaving = asyncio.create_task(late(loads, read, 0, "a"))
    staying = asyncio.create_task(late(loads, read, 0, "b"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == ["B"]
    assert len(world.calls) == 1


async def test_a_read_that_somebody_still_waits_for_ends_with_the_request(world):
    loads, read = reads(world)
    world.open.clear()
    forgotten = asyncio.create_task(late(loads, read, 0, "a"))
    await ticks(9)
    loads.cancel()
    (found,) = await asyncio.wait_for(forgotten, 20)
    assert isinstance(found, asyncio.CancelledError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_at_the_end_calls_under_way_are_ended_and_none_begins(world):
    loads, read = reads(world)
    world.open.clear()
    under_way = asyncio.create_task(late(loads, read, 0, *"abcd"))
    await ticks(9)
    waiting = asyncio.create_task(late(loads, read, 0, "z"))
    await asyncio.sleep(0)
    loads.cancel()
    found = await asyncio.wait_for(under_way, 20)
    assert all(isinstance(each, asyncio.CancelledError) for each in found)
    waiting.cancel()
    await asyncio.sleep(0.01)
    assert len(world.calls) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
