"""A target that fails is left alone, found again soon after it has mended, and not judged by what is not its fault."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bff.core.telemetry import Telemetry
from bff.upstream.breaker import Breaker, BreakerSettings, Breaks, State
from bff.upstream.phases import Phase, RefusedError
from tests import shop as fake
from tests.harness import gateway, operator
from tests.resilience.chain import ORIGIN, Clock, Target, answer, outcome, raises, request

FULL = 100


def breaker(target: Target, clock: Clock, timeout: float = 2.0, **values) -> Breaker:
    return Breaker(target, "shop", "here", BreakerSettings(**values), Breaks(Telemetry()), timeout, FULL, clock)


def within(clock: Clock, seconds: float = 2.0, **extensions) -> httpx.Request:
    return request(until=clock.now + seconds, **extensions)


async def calls(chain: Breaker, clock: Clock, count: int, gap: float = 0.01) -> list[object]:
    """What becomes of them, one after another: a status, or the error's class."""
    found: list[object] = []
    for _ in range(count):
        clock.now += gap
        ended = await outcome(chain, within(clock))
        found.append(ended.status_code if isinstance(ended, httpx.Response) else type(ended))
    return found


async def test_after_straight_failures_calls_no_longer_reach_the_target():
    clock, target = Clock(), Target(lambda _: answer(503))
    chain = breaker(target, clock)
    assert await calls(chain, clock, 40) == [503] * 20 + [RefusedError] * 20
    assert len(target.requests) == 20
    assert chain.shown()["why"] == "20 of 20 calls failed, the last one: status 503"


async def test_too_few_calls_say_nothing_and_old_ones_nothing_any_more():
    clock, target = Clock(), Target(lambda _: answer(503))
    chain = breaker(target, clock)
    assert await calls(chain, clock, 19) == [503] * 19
    clock.now += 11
    assert await calls(chain, clock, 19) == [503] * 19


async def test_less_than_the_share_of_failures_is_borne():
    clock, target = Clock(), Target()
    target.behaviour = lambda _: answer(500 if len(target.requests) % 5 < 2 else 200)
    assert RefusedError not in await calls(breaker(target, clock), clock, 200)


async def test_a_mended_target_is_found_by_a_few_calls_then_by_more_and_more():
    clock, ill = Clock(), True
    waits: list[asyncio.Future[None]] = []

    async def behave(_: httpx.Request) -> httpx.Response:
        if not ill:
            waits.append(asyncio.get_running_loop().create_future())
            await waits[-1]
        return answer(503 if ill else 200)

    target = Target(behave)
    chain = breaker(target, clock)
    await calls(chain, clock, 25)
    clock.now += 4.7
    assert await calls(chain, clock, 1) == [RefusedError]
    ill, clock.now = False, clock.now + 0.3

    async def at_once(count: int) -> int:
        """How many of so many calls at the same time pass."""
        waits.clear()
        tasks = [asyncio.create_task(outcome(chain, within(clock))) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        passed = len(waits)
        for each in waits:
            each.set_result(None)
        await asyncio.gather(*tasks)
        return passed

    assert chain.state is State.OPEN
    assert await at_once(50) == 3
    assert chain.state is State.RAMP
    passing = []
    for _ in range(5):
        clock.now += 0.9
        passing.append(await at_once(200))
    assert passing == sorted(passing)
    assert passing[0] == 21
    assert passing[-1] == 91
    clock.now += 1
    assert await at_once(200) == 200
    assert chain.state is State.CLOSED


async def test_light_traffic_notices_nothing_of_the_ramp():
    clock, target = Clock(), Target(lambda _: answer(503))
    chain = breaker(target, clock)
    await calls(chain, clock, 20)
    target.behaviour, clock.now = lambda _: answer(), clock.now + 5
    assert await calls(chain, clock, 40) == [200] * 40


async def test_a_probe_that_fails_opens_it_again():
    clock, target = Clock(), Target(lambda _: answer(503))
    chain = breaker(target, clock)
    await calls(chain, clock, 20)
    clock.now += 5
    assert await calls(chain, clock, 3) == [503, RefusedError, RefusedError]


async def test_slow_calls_count_where_it_is_said_what_is_slow():
    clock = Clock()
    target = Target(clock=clock, takes=0.3)
    chain = breaker(target, clock, slow_after=0.2, slow=0.5)
    assert (await calls(chain, clock, 40)).count(200) == 20
    assert chain.shown()["slow"] == 0  # they were forgotten when it opened
    assert "slower than 0.2 s" in chain.why
    indifferent = breaker(Target(clock=clock, takes=0.3), clock)
    assert (await calls(indifferent, clock, 40)).count(200) == 40


def refuses(each: httpx.Request) -> httpx.Response:
    raise RefusedError("full", each, Phase.BULKHEAD)


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda _: answer(404),
        lambda _: answer(429),
        refuses,
        raises(httpx.PoolTimeout, Phase.POOL),
        raises(httpx.LocalProtocolError, Phase.SEND),
        raises(httpx.ReadTimeout, Phase.SEND),
    ],
)
async def test_what_is_not_the_targets_fault_does_not_count(behaviour):
    clock = Clock()
    chain = breaker(Target(behaviour), clock)
    await calls(chain, clock, 100)
    assert chain.state is State.CLOSED


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda _: answer(500),
        raises(httpx.ConnectError, Phase.CONNECT),
        raises(httpx.ReadError, Phase.FIRST_BYTE),
        raises(httpx.RemoteProtocolError, Phase.FIRST_BYTE),
        raises(httpx.ReadTimeout, Phase.FIRST_BYTE),
    ],
)
async def test_what_is_the_targets_fault_does(behaviour):
    clock = Clock()
    chain = breaker(Target(behaviour), clock)
    await calls(chain, clock, 20)
    assert chain.state is State.OPEN


async def test_clients_in_a_hurry_cannot_have_a_target_shut_off():
    clock = Clock()
    chain = breaker(Target(raises(httpx.ReadTimeout, Phase.FIRST_BYTE)), clock)
    hurried = replace(ORIGIN, hurried=True)
    for _ in range(100):
        await outcome(chain, within(clock, 1.9, origin=hurried))
        await outcome(chain, within(clock, 0.5))  # what other services have left of a request
    assert chain.state is State.CLOSED


async def test_clients_that_leave_cannot_either_and_leave_nothing_behind():
    clock = Clock()
    chain = breaker(Target(lambda _: asyncio.Event().wait()), clock)
    tasks = [asyncio.create_task(chain.handle_async_request(within(clock))) for _ in range(50)]
    await asyncio.sleep(0)
    assert chain.in_flight == 50
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (chain.state, chain.in_flight) == (State.CLOSED, 0)


async def test_a_body_that_breaks_off_counts_when_it_does():
    clock = Clock()

    async def breaks():
        yield b"a"
        raise httpx.ReadError("gone")

    def streams(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.Response(200, content=breaks()).stream)

    chain = breaker(Target(streams), clock)
    for _ in range(20):
        response = await chain.handle_async_request(within(clock))
        assert chain.in_flight == 1
        with pytest.raises(httpx.ReadError):
            await response.aread()
        assert chain.in_flight == 0
    assert chain.state is State.OPEN


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    gaps=st.lists(st.floats(0.001, 2), min_size=50, max_size=200),
    failing=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    values=st.fixed_dictionaries(
        {"minimum": st.integers(1, 30), "open": st.floats(0.1, 5), "ramp": st.floats(0, 5), "probes": st.integers(1, 5)}
    ),
)
def test_whatever_comes_an_open_breaker_lets_nothing_pass_and_a_good_target_is_never_left_alone(
    seed, gaps, failing, values
):
    clock, random = Clock(), Random(seed)  # noqa: S311
    target = Target(lambda _: answer(503 if random.random() < failing else 200))
    chain = breaker(target, clock, **values)

    async def run():
        for gap in gaps:
            clock.now += gap
            before, shut = len(target.requests), chain.state is State.OPEN and chain.opens_in > 0
            ended = await outcome(chain, within(clock))
            assert not (shut and len(target.requests) > before)
            assert isinstance(ended, RefusedError) == (len(target.requests) == before)
            assert chain.in_flight == 0

    asyncio.run(run())
    if not failing:
        assert chain.state is State.CLOSED
        assert len(target.requests) == len(gaps)


# Of the whole gateway.


async def test_an_open_breaker_is_said_at_once_with_when_to_come_again():
    shop = gateway()
    shop.services.products.fail(fake.says(503, {}))
    for _ in range(30):
        await shop.client.get("/api/products/prd_1")
    reached = len(shop.services.products.calls)
    rest = await shop.client.get("/api/products/prd_1")
    answer = await shop.query('{ product(id: "prd_1") { id } user(id: "usr_1") { id } }', headers=operator())
    assert len(shop.services.products.calls) == reached <= 24
    assert rest.status_code == 503
    assert 1 <= int(rest.headers["retry-after"]) <= 5
    problem = rest.json()
    assert (problem["code"], problem["phase"], problem["attempts"]) == ("UPSTREAM_UNAVAILABLE", "breaker", 0)
    assert answer.data == {"product": None, "user": {"id": "usr_1"}}
    assert answer.errors[0]["extensions"]["phase"] == "breaker"
    opened = await shop.metrics("http_client_breaker_opened_total")
    assert opened[("service", "products"), ("target", "http://products.internal")] == 1
    lines = [line for line in shop.log if line["event"] == "breaker"]
    assert [(line["service"], line["state"]) for line in lines] == [("products", "open")]


async def test_a_service_may_do_without():
    shop = gateway(services={"products": {"breaker": "off"}})
    shop.services.products.fail(fake.says(503, {}))
    codes = {(await shop.client.get("/api/products/prd_1")).json()["code"] for _ in range(60)}
    assert codes == {"UPSTREAM_ERROR"}
