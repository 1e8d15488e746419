"""Calls past the limit wait in line, in order, no longer than their request lasts; none of them is ever lost."""

from __future__ import annotations

import asyncio
import time
from random import Random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.core.telemetry import Telemetry
from bff.upstream.bulkhead import Bulkhead, Holds
from bff.upstream.phases import Phase, RefusedError, phase_of
from tests import shop as fake
from tests.harness import gateway, operator
from tests.resilience.chain import Target, answer, outcome, request


def bulkhead(target: Target, limit: int | None, waiting: int = 1000) -> Bulkhead:
    return Bulkhead(target, "shop", limit, waiting, Holds(Telemetry()))


def soon(seconds: float) -> httpx.Request:
    return request(until=asyncio.get_running_loop().time() + seconds)


async def test_one_that_waits_for_longer_than_its_request_lasts_ends_with_it():
    target = Target(lambda _: asyncio.Event().wait())
    chain = bulkhead(target, 1)
    hangs = asyncio.create_task(chain.handle_async_request(soon(9)))
    await asyncio.sleep(0)
    started = time.monotonic()
    error = await outcome(chain, soon(0.05))
    assert 0.04 < time.monotonic() - started < 5
    assert isinstance(error, httpx.PoolTimeout)
    assert phase_of(error) is Phase.BULKHEAD
    assert (chain.in_flight, chain.waiting, len(target.requests)) == (1, 0, 1)
    hangs.cancel()
    await asyncio.gather(hangs, return_exceptions=True)
    assert chain.in_flight == 0


async def test_one_past_the_line_is_refused_at_once():
    chain = bulkhead(Target(lambda _: asyncio.Event().wait()), 1, waiting=2)
    tasks = [asyncio.create_task(chain.handle_async_request(soon(9))) for _ in range(3)]
    await asyncio.sleep(0)
    error = await outcome(chain, soon(9))
    assert isinstance(error, RefusedError)
    assert chain.waiting == 2
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (chain.in_flight, chain.waiting) == (0, 0)


async def test_a_call_is_under_way_until_its_body_has_come():
    async def body():
        yield b"a"

    chain = bulkhead(Target(lambda _: httpx.Response(200, content=body())), 1)
    response = await chain.handle_async_request(soon(9))
    other = asyncio.create_task(chain.handle_async_request(soon(9)))
    await asyncio.sleep(0)
    assert (chain.in_flight, chain.waiting) == (1, 1)
    await response.aread()
    second = await other
    assert (chain.in_flight, chain.waiting) == (1, 0)
    await second.aclose()
    assert chain.in_flight == 0
    forgotten = await chain.handle_async_request(soon(9))
    assert chain.in_flight == 1
    del forgotten
    assert chain.in_flight == 0


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 5), count=st.integers(1, 60))
def test_however_calls_come_fail_and_leave_the_limit_holds_and_nothing_is_left(seed, limit, count):
    random = Random(seed)  # noqa: S311
    under_way = most = 0

    async def behave(each: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            if random.random() < 0.3:
                raise httpx.ReadError("as told", request=each)
            return answer()
        finally:
            under_way -= 1

    async def run() -> None:
        chain = bulkhead(Target(behave), limit, waiting=random.randrange(40))
        tasks = []
        for _ in range(count):
            tasks.append(asyncio.create_task(outcome(chain, soon(60))))
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)
            if random.random() < 0.3:
                random.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= limit
        assert (chain.in_flight, chain.waiting) == (0, 0)

    asyncio.run(run())


# Of the whole gateway.


async def test_a_service_that_hangs_with_two_hundred_waiting_slows_no_other():
    shop = gateway(services={"products": {"max_concurrency": 20, "timeout": "5s"}})
    shop.services.products.fail(fake.hangs)
    asked = {"request-timeout": "2"}
    hung = [asyncio.create_task(shop.client.get("/api/products/prd_1", headers=asked)) for _ in range(200)]
    await asyncio.sleep(0.05)
    for _ in range(20):
        answer = await shop.query('{ user(id: "usr_1") { id } }', headers=operator())
        assert answer.data == {"user": {"id": "usr_1"}}
    assert not any(each.done() for each in hung)
    ended = await asyncio.gather(*hung)
    assert {each.status_code for each in ended} == {504}
    assert {each.json().get("phase") for each in ended} <= {"bulkhead", "deadline", None}
    assert (await shop.metrics("http_client_active_requests"))[(("service", "products"),)] == 0


@pytest.mark.parametrize("limit", [1, 3])
async def test_the_gateway_never_calls_more_at_a_time_than_it_may(limit):
    shop = gateway(services={"products": {"max_concurrency": limit}})
    under_way = most = 0

    async def behave(_: httpx.Request, __: fake.Call) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1

    shop.services.products.fail(behave)
    answers = await asyncio.gather(*(shop.client.get("/api/products/prd_1") for _ in range(20)))
    assert {each.status_code for each in answers} == {200}
    assert most == limit
