"""Subscriptions as server-sent events (graphql-sse, distinct connections)."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.harness import OPERATOR, bearer, customer, gateway, operator, token
from tests.live.conftest import live
from tests.live.socket import Socket
from tests.live.sse import Event, EventStream
from tests.live.test_subscriptions import WATCH, graphql, watch
from tests.upstream.raw import eventually

QUERY = 'subscription { orderStatusChanged(id: "ord_1") { status } }'


def told(status: str) -> Event:
    return Event("next", {"data": {"orderStatusChanged": {"status": status}}})


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_the_order_now_and_at_each_change(method):
    one = live()
    async with EventStream(one.gateway.app, QUERY, method=method, headers=customer()) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert "ratelimit" in stream.headers
        assert await stream.event() == told("PENDING")
        for expected in ("PAID", "SHIPPED"):
            one.events.advance("ord_1")
            assert await stream.event() == told(expected)
    await eventually(lambda: not one.events.open)


async def test_the_head_does_not_wait_for_the_first_event():
    one = live()
    one.gateway.services.orders.behaviour = lambda *_: asyncio.sleep(60)
    async with EventStream(one.gateway.app, QUERY, headers=customer()) as stream:
        assert await stream.block() == Event("", None)


async def test_signs_of_life_come_between_events():
    one = live(graphql={"subscriptions": {"heartbeat": "100ms"}})
    started = time.monotonic()
    async with EventStream(one.gateway.app, QUERY, headers=customer()) as stream:
        await stream.event()
        assert [await stream.block() for _ in range(3)] == [Event("", None)] * 3
        assert 0.25 < time.monotonic() - started < 5  # the default is 15 seconds


@pytest.mark.parametrize("query", ["{ __typename }", "mutation { __typename }"])
async def test_queries_and_mutations_are_one_event_and_the_end(query):
    async with EventStream(gateway().app, query) as stream:
        assert (await stream.event()).data["data"]["__typename"] in {"Query", "Mutation"}
        assert await stream.event() == Event("complete", None)
        assert await stream.event() is None


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nope }", "GRAPHQL_VALIDATION_FAILED"),
        (QUERY, "UNAUTHENTICATED"),
        ("subscription($id: ID!) { orderStatusChanged(id: $id) { id } }", "BAD_USER_INPUT"),
    ],
)
async def test_what_cannot_be_executed_is_told_in_the_stream(query, code):
    one = gateway()
    async with EventStream(one.app, query) as stream:
        assert stream.status == 200
        event = await stream.event()
        assert event.name == "next"
        assert set(event.data) == {"errors"}
        assert event.data["errors"][0]["extensions"]["code"] == code
        assert await stream.event() == Event("complete", None)
        assert await stream.event() is None


async def test_a_bad_credential_is_an_answer_of_its_own():
    async with EventStream(gateway().app, QUERY, headers=bearer("nonsense")) as stream:
        assert (stream.status, (await stream.body())["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")


async def test_a_mutation_is_not_run_by_get():
    async with EventStream(gateway().app, "mutation { __typename }", method="GET") as stream:
        assert (stream.status, stream.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("application/graphql-response+json, text/event-stream;q=0.1", "text/event-stream"),
        (
            "application/graphql-response+json, application/json, text/event-stream, multipart/mixed",
            "text/event-stream",
        ),
    ],
)
async def test_a_subscription_is_a_stream_wherever_the_client_takes_one(accept, kind):
    one = live()
    async with EventStream(one.gateway.app, QUERY, headers=customer() | {"accept": accept}) as stream:
        assert stream.headers["content-type"].startswith(kind)
        assert await stream.event() == told("PENDING")


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/event-stream;q=0, application/json"])
async def test_a_subscription_without_a_stream_is_not_acceptable(accept):
    async with EventStream(live().gateway.app, QUERY, headers=customer() | {"accept": accept}) as stream:
        assert (stream.status, (await stream.body())["errors"][0]["extensions"]["code"]) == (406, "NOT_ACCEPTABLE")


async def test_a_query_is_json_where_the_client_likes_that_best():
    accept = {"accept": "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"}
    async with EventStream(gateway().app, "{ __typename }", headers=accept) as stream:
        assert stream.headers["content-type"].startswith("application/graphql-response+json")


async def test_subscriptions_of_both_kinds_count_together():
    one = live(graphql={"subscriptions": {"max_per_caller": 1}})
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)
        await socket.hear()
        async with EventStream(one.gateway.app, QUERY, headers=operator()) as stream:
            event = await stream.event()
            assert event.data["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
            assert await stream.event() == Event("complete", None)
    async with EventStream(one.gateway.app, QUERY, headers=operator()) as stream:
        assert await stream.event() == told("PENDING")


async def test_both_kinds_share_one_stream_of_the_service():
    one = live()
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(Socket(one.gateway.app, headers=operator()))
        await socket.init()
        await socket.subscribe("1", WATCH, variables={"id": "ord_1"})
        await socket.hear()
        stream = await stack.enter_async_context(EventStream(one.gateway.app, QUERY, headers=operator()))
        assert await stream.event() == told("PENDING")
        assert len(one.events.opened) == 1


async def test_an_error_in_the_middle_is_the_last_event():
    one = live(services={"orders": {"streams": {"give_up_after": "0s"}}})
    async with EventStream(one.gateway.app, QUERY, headers=customer()) as stream:
        await stream.event()
        one.events.end()
        event = await stream.event()
        assert event.data["errors"][0]["extensions"]["code"] == "UPSTREAM_UNAVAILABLE"
        assert await stream.event() == Event("complete", None)


async def test_a_stream_ends_with_its_token_and_is_to_be_come_back_to():
    one = live()
    text = token("usr_1", OPERATOR, exp=int(time.time()) + 3)
    async with EventStream(one.gateway.app, QUERY, headers=bearer(text)) as stream:
        assert await stream.event() == told("PENDING")
        event = await stream.event()
        assert event.name == "retry"
        assert 1000 <= event.data <= 5000
        assert await stream.event() is None


async def test_when_the_gateway_ends_streams_are_to_be_come_back_to():
    one = live()
    async with EventStream(one.gateway.app, QUERY, headers=operator()) as stream:
        assert await stream.event() == told("PENDING")
        await one.gateway.app.state.drain()
        assert (await stream.event()).name == "retry"
        assert await stream.event() is None
    async with EventStream(one.gateway.app, QUERY, headers=operator()) as stream:
        assert stream.status == 503


async def test_a_client_that_takes_nothing_is_let_go():
    one = live(graphql={"subscriptions": {"send_timeout": "100ms"}})
    async with EventStream(one.gateway.app, QUERY, headers=operator()) as stream:
        assert await stream.event() == told("PENDING")
        stream.takes.clear()
        one.events.advance("ord_1")
        await asyncio.wait_for(stream.task, 5)
    await eventually(lambda: not one.events.open)


@pytest.mark.parametrize("moment", range(0, 30, 3))
async def test_a_client_that_leaves_at_any_moment_leaves_nothing(moment):
    one = live()
    stream = EventStream(one.gateway.app, QUERY, headers=operator())
    stream.task = asyncio.create_task(one.gateway.app(stream.scope, stream._up.get, stream._send))
    for _ in range(moment):
        await asyncio.sleep(0)
    await stream.leave()
    await eventually(lambda: not one.events.open)
    assert len(graphql(one)._operations.seats) == 0
    assert set((await one.gateway.metrics("graphql_subscriptions")).values()) == {0}


async def test_events_are_counted():
    one = live()
    async with EventStream(one.gateway.app, QUERY, headers=operator()) as stream:
        await stream.event()
        one.events.advance("ord_1")
        await stream.event()
        assert (await one.gateway.metrics("graphql_subscriptions"))[("transport", "sse"),] == 1
    assert (await one.gateway.metrics("graphql_subscription_events_total"))[("transport", "sse"),] == 2
