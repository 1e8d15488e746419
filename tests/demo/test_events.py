"""The stream of an order's changes, as server-sent events."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from starlette.requests import Request

import demo
from demo import answers, watchers
from demo.problems import Problem
from tests.demo.conftest import CUSTOMER, HEARTBEAT, OPERATOR, assert_problem


@contextmanager
def stream(shop: demo.Demo, order: str, caller=CUSTOMER, **headers: str) -> Iterator[Iterator[str]]:
    """The blocks of a stream: events and comments, as text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{shop.urls['orders']}/orders/{order}/events"
    with httpx.stream("GET", url, headers={**caller, **named}, timeout=30, trust_env=False) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        yield blocks(answer)


def blocks(answer: httpx.Response) -> Iterator[str]:
    text = ""
    for chunk in answer.iter_text():
        text += chunk
        while "\n\n" in text:
            block, _, text = text.partition("\n\n")
            yield block


def parsed(block: str) -> tuple[int, str, dict[str, str]]:
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    assert set(fields) == {"id", "event", "data"}
    return int(fields["id"]), fields["event"], json.loads(fields["data"])


def events(found: Iterator[str]) -> Iterator[tuple[int, str, dict[str, str]]]:
    return (parsed(block) for block in found if not block.startswith(":"))


def test_the_present_status_comes_first(shop):
    with stream(shop, "ord_2001") as found:
        number, name, data = next(events(found))
    assert (number, name) == (4, "status")
    assert (data["id"], data["status"]) == ("ord_2001", "delivered")
    assert data["at"].endswith("Z")


def test_every_change_arrives_at_every_reader(shop, orders, place):
    order = place()
    with stream(shop, order) as first, stream(shop, order, OPERATOR) as second:
        readers = [events(first), events(second)]
        assert [next(reader)[2]["status"] for reader in readers] == ["pending", "pending"]
        for number, status in enumerate(("paid", "shipped", "delivered"), start=2):
            orders.patch(f"/orders/{order}", json={"status": status}, headers=OPERATOR)
            for reader in readers:
                seen, _, data = next(reader)
                assert (seen, data["status"]) == (number, status)


def test_a_payment_is_seen_in_the_stream(shop, payments, place):
    order = place()
    with stream(shop, order) as found:
        reader = events(found)
        next(reader)
        wish = {"order_id": order, "method": "card"}
        payments.post("/payments", json=wish, headers={**CUSTOMER, "idempotency-key": f"stream {order}"})
        assert next(reader)[2]["status"] == "paid"


def test_a_reader_that_comes_again_gets_what_it_missed(shop, orders, place):
    order = place()
    for status in ("paid", "shipped"):
        orders.patch(f"/orders/{order}", json={"status": status}, headers=OPERATOR)
    with stream(shop, order, last_event_id="1") as found:
        reader = events(found)
        assert [next(reader)[0], next(reader)[2]["status"]] == [2, "shipped"]
    with stream(shop, order, last_event_id="3") as found:
        assert next(found) == ":"
        orders.patch(f"/orders/{order}", json={"status": "delivered"}, headers=OPERATOR)
        assert next(events(found))[0] == 4


def test_a_comment_keeps_a_quiet_stream_open(shop):
    start = time.monotonic()
    with stream(shop, "ord_1") as found:
        next(events(found))
        assert next(found) == ":"
        assert HEARTBEAT * 0.5 < time.monotonic() - start < 10  # 15 are what it would be otherwise


def test_a_stream_ends_after_its_longest_life_and_the_reader_comes_again():
    with demo.processes(demo.FREE, heartbeat=HEARTBEAT, watch=1) as shop:
        start = time.monotonic()
        with stream(shop, "ord_1") as found:
            for _ in found:
                pass
        assert 0.9 < time.monotonic() - start < 20


@pytest.mark.parametrize("seen", ["x", "-1", "1.5", "99999999999"])
def test_a_last_event_id_that_is_no_number_is_refused(orders, seen):
    assert_problem(orders.get("/orders/ord_1/events", headers={**CUSTOMER, "last-event-id": seen}), 400)


def test_head_of_a_stream_does_not_wait_for_its_end(orders):
    answer = orders.head("/orders/ord_1/events", headers=CUSTOMER)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")


async def test_a_stream_is_forgotten_when_its_reader_goes(monkeypatch):
    monkeypatch.setattr(watchers, "MAX_STREAMS", 1)
    room, gone = watchers.Watchers(heartbeat=0.01, longest=60), asyncio.Event()

    async def chunks():
        async for _ in room.watch("ord_1"):
            yield b":"

    async def send(message) -> None:
        if message.get("body"):
            assert room.waiting
            with pytest.raises(Problem):
                room.make_room()
            gone.set()

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "headers": []}
    await answers.streamed(Request(scope), chunks(), "text/event-stream", "no-store")(scope, receive, send)
    await asyncio.sleep(0.05)
    assert (room.streams, room.waiting) == (0, {})
    room.make_room()


def test_streams_end_when_their_service_does():
    with demo.processes(demo.FREE) as shop, stream(shop, "ord_1") as found:
        next(events(found))
        start = time.monotonic()
        shop.stop("orders")
        assert list(found) == []
        assert time.monotonic() - start < 10
