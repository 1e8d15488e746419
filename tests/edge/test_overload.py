"""As many requests at a time as are answered in time; beyond, refused at once, the important ones last."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest

from bff.config import load
from bff.core.errors import Overloaded
from bff.core.telemetry import Telemetry
from bff.edge.overload import Full, Gradient, Load, OverloadSettings, Place
from tests.harness import BFF_YAML, customer, gateway, partner
from tests.shop import Call
from tests.upstream.raw import eventually

RANDOM = Random(1)  # noqa: S311
USER = '{ user(id: "usr_1") { name } }'


def load_of(most=10, tiers=None, **settings) -> Load:
    return Load(OverloadSettings(**settings), most, tiers or {}, Telemetry(), RANDOM)


def taken(load: Load, tier: str = "default") -> Place:
    place = load.enter(tier)
    place.take()
    return place


class Door:
    """What a service does until it is opened: nothing."""

    def __init__(self):
        self.opened = asyncio.Event()

    async def __call__(self, request, call: Call):
        await self.opened.wait()


async def test_one_request_more_than_max_in_flight_is_refused_at_once_on_both_fronts():
    shop = gateway(server={"max_in_flight": 2})
    shop.services.users.fail(door := Door())
    waiting = [asyncio.create_task(shop.query(USER, headers=customer())) for _ in range(2)]
    await eventually(lambda: len(shop.services.users.calls) == 2)
    rest = await shop.client.get("/api/products/prd_1")
    graphql = await shop.query(USER, headers=customer())
    assert (rest.status_code, rest.json()["code"], graphql.status, graphql.codes) == (
        503,
        "OVERLOADED",
        503,
        ["OVERLOADED"],
    )
    assert {int(each.headers["retry-after"]) for each in (rest, graphql)} <= {1, 2, 3}
    assert not shop.services.products.calls
    door.opened.set()
    assert [(await each).data for each in waiting] == [{"user": {"name": "User 1"}}] * 2
    assert (await shop.client.get("/api/products/prd_1")).status_code == 200
    counted = await shop.metrics("bff_overload_decisions_total")
    assert counted[("decision", "refused"), ("priority", "normal")] == 2
    assert await shop.metrics("bff_in_flight") == {(): 0}


async def test_what_is_refused_costs_its_caller_nothing():
    shop = gateway(server={"max_in_flight": 1}, tiers={"default": {"rate": ["2/minute"]}})
    shop.services.users.fail(door := Door())
    first = asyncio.create_task(shop.query(USER, headers=customer()))
    await eventually(lambda: shop.services.users.calls)
    assert [(await shop.query(USER, headers=customer())).status for _ in range(3)] == [503] * 3
    door.opened.set()
    await first
    assert (await shop.query(USER, headers=customer())).status == 200


async def test_important_tiers_are_refused_last():
    shop = gateway(
        server={"max_in_flight": 10}, tiers={"partner": {"priority": "high"}, "anonymous": {"priority": "low"}}
    )
    shop.services.users.fail(door := Door())
    waiting = []
    for number in range(9):
        waiting.append(asyncio.create_task(shop.query(USER, headers=customer())))
        await eventually(lambda number=number: len(shop.services.users.calls) == number + 1)
        if number == 5:
            assert (await shop.client.get("/api/products/prd_1")).status_code == 503  # 6 of 10: all that `low` gets
            assert (await shop.client.get("/api/products/prd_1", headers=customer())).status_code == 200
    assert (await shop.client.get("/api/products/prd_1", headers=customer())).status_code == 503
    assert (await shop.client.get("/api/products/prd_1", headers=partner())).status_code == 200
    door.opened.set()
    await asyncio.gather(*waiting)


async def test_where_nobody_is_more_important_nothing_is_kept_for_them():
    load = load_of(10, {"default": "normal", "anonymous": "low"})
    places = [taken(load) for _ in range(10)]
    with pytest.raises(Overloaded):
        load.enter("default")
    for each in places:
        each.leave()
    [taken(load, "anonymous") for _ in range(8)]
    with pytest.raises(Overloaded):
        load.enter("anonymous")


async def test_an_answer_that_goes_on_is_no_request_in_flight():
    shop = gateway(server={"max_in_flight": 1})
    begun, end = asyncio.Event(), asyncio.Event()

    async def body():
        yield b"data: 1\n\n"
        begun.set()
        await end.wait()

    async def streams(request, call):
        class Stream(httpx.AsyncByteStream):
            def __aiter__(self):
                return body()

        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())

    shop.services.products.fail(streams)
    listening = asyncio.create_task(shop.client.get("/api/products/events"))
    await begun.wait()
    assert (await shop.query(USER, headers=customer())).status == 200
    end.set()
    assert (await listening).text == "data: 1\n\n"


async def test_a_request_that_fails_or_is_given_up_leaves_its_place():
    shop = gateway(server={"max_in_flight": 1})
    shop.services.users.fail(Door())
    for _ in range(3):
        asked = asyncio.create_task(shop.query(USER, headers=customer()))
        await eventually(lambda: shop.services.users.calls)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        shop.services.forget()
    assert (await shop.client.get("/api/users/usr_1")).status_code == 401
    assert (await shop.client.get("/api/products/none")).status_code == 404
    assert (await shop.client.get("/api/products/prd_1")).status_code == 200


def test_the_bound_falls_while_the_loop_is_late_and_comes_back_when_it_is_not():
    gradient = Gradient(16, 512, 0.02)
    for _ in range(20):
        gradient.observe(0.1, 400)
    assert 16 <= gradient.limit < 30
    for _ in range(100):
        gradient.observe(0.001, 20)
    assert gradient.limit == 512


def test_the_bound_settles_where_the_loop_is_about_as_late_as_it_may_be():
    gradient, late = Gradient(16, 512, 0.02), 0.0
    for _ in range(200):
        gradient.observe(late, int(gradient.limit))
        late = gradient.limit / 5000  # 0.2 ms of work for each request in flight, at each turn
    assert 90 < gradient.limit < 140


@pytest.mark.parametrize("lags", [[0.5, 0.0, 0.0], [0.5, 0.5, 0.0], [0.019, 0.02, 0.02]])
def test_a_late_turn_now_and_then_is_no_overload(lags):
    gradient = Gradient(16, 512, 0.02)
    for lag in lags * 10:
        gradient.observe(lag, 500)
    assert gradient.limit == 512


async def busy(load: Load, seconds: float) -> None:
    """Work that keeps the loop from everything else, in pieces of 60 ms."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        piece = loop.time() + 0.06
        while loop.time() < piece:
            pass
        await asyncio.sleep(0)


async def test_a_loop_that_is_late_admits_fewer():
    load = load_of(100, min_in_flight=5, lag=0.02)
    places = [taken(load) for _ in range(60)]
    await busy(load, 1.2)
    assert load.gradient.limit < 60
    assert load.lag > 0.02
    with pytest.raises(Overloaded):
        load.enter("default")
    for each in places:
        each.leave()
    await eventually(lambda: load.gradient.relaxed)
    taken(load)


@pytest.mark.parametrize("mode", ["off", "measure"])
async def test_a_bound_that_is_not_enforced_refuses_nothing(mode):
    load = load_of(100, mode=mode)
    for _ in range(20):
        load.gradient.observe(1.0, 100)
    for _ in range(60):
        taken(load)
    counted = load._refused["normal", "measured"]._value.get()
    assert (counted > 0) is (mode == "measure")


async def test_a_slow_service_is_no_overload():
    shop = gateway(server={"max_in_flight": 300})
    shop.services.users.fail(door := Door())
    waiting = [asyncio.create_task(shop.query(USER, headers=customer())) for _ in range(200)]
    await eventually(lambda: len(shop.services.users.calls) == 200)
    await asyncio.sleep(0.3)
    async with asyncio.timeout(20):  # to take them all at once may be too much for a busy machine; it is forgotten
        while (await shop.metrics("bff_in_flight_limit"))[()] != 300:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.05)
    assert (await shop.client.get("/api/products/prd_1")).status_code == 200
    door.opened.set()
    assert {(await each).status for each in waiting} == {200}


@pytest.mark.parametrize(("share", "falls"), [(1.0, True), (0.5, True), (0.3, False), (0.01, False)])
async def test_what_the_loop_waits_for_a_processor_is_no_lag_of_its_own(share, falls):
    assert (bound_after(share, 0.05) < 100) is falls


async def test_a_loop_that_is_four_times_too_late_is_late_whoever_is_to_blame():
    assert bound_after(0.01, 0.1) < 100


def bound_after(share: float, lag: float) -> float:
    """How many may be in flight once the loop was so late again and again, having had that share of a processor."""
    now, waited = 0.0, 0.0
    load = Load(OverloadSettings(), 100, {}, Telemetry(), RANDOM, clock=lambda: now, waited=lambda: waited)
    [taken(load) for _ in range(50)]
    for _ in range(5):
        now += 0.02 + lag
        waited += (0.02 + lag) * (1 - share)
        load._look()
    return load.gradient.limit


class Client:
    """A connection, as our server offers it to the layer."""

    def __init__(self, version: str = "1.1", *, body_is_here: bool = True) -> None:
        self.body_is_here = body_is_here
        self.scope = {"type": "http", "http_version": version, "bff.exchange": self}
        self.listened_to = True

    def on_body(self, call):
        call()

    def hold(self):
        self.listened_to = False
        return self.listen

    def listen(self):
        self.listened_to = True


async def refused(load: Load, *clients: Client) -> list[float]:
    """For how long each is sent away."""
    times = []
    for each in clients:
        with pytest.raises(Overloaded) as refusal:
            await load.refuse(each.scope, load.refusal())
        times.append(refusal.value.retry_after)
    return times


async def test_a_few_who_were_refused_are_not_listened_to_for_a_moment():
    load = load_of(1)
    place = taken(load)
    times = await refused(load, *(clients := [Client() for _ in range(100)]))
    assert min(times) >= 0.5
    assert not any(each.listened_to for each in clients)
    now = asyncio.get_running_loop().time()
    assert all(each.when() < now + 0.11 for each in load._held.values())
    await eventually(lambda: all(each.listened_to for each in clients))
    place.leave()


async def test_many_are_not_listened_to_until_they_are_to_come_again(monkeypatch):
    monkeypatch.setattr("bff.edge.overload._FEW", 0)
    monkeypatch.setattr("bff.edge.overload._AWAY", (0.2, 0.2))
    load = load_of(1)
    place = taken(load)
    await refused(load, client := Client())
    assert not client.listened_to
    began = asyncio.get_running_loop().time()
    await eventually(lambda: client.listened_to)
    assert asyncio.get_running_loop().time() - began > 0.19
    place.leave()


async def test_the_more_are_away_the_longer_but_never_for_more_than_ten_seconds():
    load = load_of(1, refusals="100/second")
    place = taken(load)
    times = await refused(load, *(Client() for _ in range(1200)))
    assert all(0.5 <= each <= 3 for each in times[:50])
    assert [round(each, 6) for each in (times[400], times[1199])] == [4.0, 10.0]
    place.leave()


async def test_who_was_refused_is_listened_to_as_soon_as_there_is_room_the_last_one_first():
    load = load_of(20)
    places = [taken(load) for _ in range(20)]
    await refused(load, *(clients := [Client() for _ in range(30)]))
    load._look()
    assert not any(each.listened_to for each in clients)
    for each in places[:10]:
        each.leave()
    load._look()  # it was full since the last look
    assert not any(each.listened_to for each in clients)
    load._look()
    assert [each.listened_to for each in clients] == [False] * 25 + [True] * 5
    for each in places:
        each.leave()
    await eventually(lambda: all(each.listened_to for each in clients))


@pytest.mark.parametrize("client", [Client("2"), Client(body_is_here=False)])
async def test_where_more_waits_behind_a_connection_it_is_for_half_a_second_at_most(client, monkeypatch):
    monkeypatch.setattr("bff.edge.overload._FEW", 0)
    monkeypatch.setattr("bff.edge.overload._SHORT", 0.05)
    load = load_of(1)
    place = taken(load)
    await refused(load, client)
    (alarm,) = load._held.values()
    assert alarm.when() < asyncio.get_running_loop().time() + 0.06
    await eventually(lambda: client.listened_to)
    place.leave()


async def test_where_there_is_no_place_for_anybody_nobody_is_asked_who_they_are():
    shop = gateway(server={"max_in_flight": 1})
    shop.services.users.fail(door := Door())
    first = asyncio.create_task(shop.query(USER, headers=customer()))
    await eventually(lambda: shop.services.users.calls)
    wrong = {"authorization": "Bearer nonsense"}
    assert (await shop.client.get("/api/users/usr_1", headers=wrong)).status_code == 503
    assert (await shop.client.get("/nowhere", headers=wrong)).status_code == 404
    door.opened.set()
    assert (await first).status == 200
    assert (await shop.client.get("/api/users/usr_1", headers=wrong)).status_code == 401


async def test_where_tiers_differ_it_is_counted_that_it_was_not_looked_who_it_is():
    shop = gateway(server={"max_in_flight": 1}, tiers={"partner": {"priority": "high"}})
    shop.services.users.fail(door := Door())
    first = asyncio.create_task(shop.query(USER, headers=partner()))
    await eventually(lambda: shop.services.users.calls)
    assert (await shop.client.get("/api/products/prd_1", headers=partner())).status_code == 503
    assert (await shop.metrics("bff_overload_decisions_total"))[("decision", "refused"), ("priority", "any")] == 1
    door.opened.set()
    await first


async def test_the_answer_to_a_handshake_that_is_refused_is_not_in_a_hurry(monkeypatch):
    monkeypatch.setattr("bff.edge.overload._SHORT", 0.1)
    loop = asyncio.get_running_loop()
    load = load_of(1)
    place = taken(load)
    began = loop.time()
    with pytest.raises(Overloaded):
        await Full(None, load)({"type": "websocket"}, None, None)
    assert loop.time() - began > 0.09
    place.leave()


def test_a_tier_may_be_important():
    config = load(BFF_YAML, overrides={"tiers": {"partner": {"priority": "high"}}})
    assert config.tiers["partner"].priority == "high"
