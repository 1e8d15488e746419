"""Subscriptions over websockets: shared upstream streams, bounds, and what is left behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.harness import OPERATOR, bearer, customer, operator, token
from tests.live.conftest import Live, live
from tests.live.socket import Refused, Socket
from tests.upstream.raw import eventually

WATCH = "subscription Watch($id: ID!) { orderStatusChanged(id: $id) { id status } }"


async def watch(socket: Socket, id: str = "1", order: str = "ord_1") -> None:
    await socket.subscribe(id, WATCH, variables={"id": order})


async def status(socket: Socket) -> str:
    """What the next message says of the order."""
    message = await socket.hear()
    assert message["type"] == "next", message
    assert "errors" not in message["payload"], message
    text: str = message["payload"]["data"]["orderStatusChanged"]["status"]
    return text


async def open_watch(stack: AsyncExitStack, one: Live, headers: dict[str, str], order: str = "ord_1") -> Socket:
    socket = await stack.enter_async_context(Socket(one.gateway.app, headers=headers))
    await socket.init()
    await watch(socket, order=order)
    assert await status(socket) == "PENDING"
    return socket


async def test_the_order_now_and_at_each_change():
    one = live()
    async with Socket(one.gateway.app, headers=customer()) as socket:
        await socket.init()
        await watch(socket)
        assert await status(socket) == "PENDING"
        for expected in ("PAID", "SHIPPED", "DELIVERED"):
            one.events.advance("ord_1")
            assert await status(socket) == expected


async def test_each_event_is_executed_with_all_that_is_asked():
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        query = """subscription { orderStatusChanged(id: "ord_1") {
          status customer { name } items { product { name } } payment { status } } }"""
        await socket.subscribe("1", query)
        first = (await socket.hear())["payload"]["data"]["orderStatusChanged"]
        assert first["customer"] == {"name": "User 1"}
        one.gateway.services.forget()
        one.events.advance("ord_1")
        second = (await socket.hear())["payload"]["data"]["orderStatusChanged"]
        assert second == first | {"status": "PAID"}
    # Read anew for each event, each service once.
    assert sorted(one.gateway.services.targets) == [
        "GET /payments?order_ids",
        "GET /products?ids",
        "GET /users?ids",
    ]


async def test_all_who_are_the_same_to_the_service_share_one_stream():
    one = live()
    async with AsyncExitStack() as stack:
        sockets = [await open_watch(stack, one, operator()) for _ in range(5)]
        assert len(one.events.opened) == 1
        one.events.advance("ord_1")
        assert [await status(each) for each in sockets] == ["PAID"] * 5
        # Whoever comes later begins with what holds.
        late = await stack.enter_async_context(Socket(one.gateway.app, headers=operator()))
        await late.init()
        await watch(late)
        assert await status(late) == "PAID"
        assert len(one.events.opened) == 1
        for each in sockets:
            await each.leave()
        assert len(one.events.open) == 1
        one.events.advance("ord_1")
        assert await status(late) == "SHIPPED"
    await eventually(lambda: not one.events.open)


@pytest.mark.parametrize(
    "other",
    [
        customer("usr_1"),
        bearer(token("usr_2", OPERATOR)),
        bearer(token("usr_1", f"{OPERATOR} more")),
        bearer(token("usr_1", OPERATOR, client_id="app")),
    ],
    ids=["fewer scopes", "another subject", "more scopes", "another client"],
)
async def test_no_stream_is_shared_with_somebody_else(other):
    one = live()
    async with AsyncExitStack() as stack:
        await open_watch(stack, one, operator())
        await open_watch(stack, one, other)
        assert len(one.events.open) == 2
        told = [stream.call.headers for stream in one.events.opened]
        assert len({tuple(sorted(each for each in call if each[0].startswith("x-auth-"))) for call in told}) == 2


async def test_what_others_may_not_see_is_not_found():
    one = live()

    async def hidden(request: httpx.Request, call: Any) -> httpx.Response | None:
        one.events.refuse = [404] if call.header("x-auth-subject") != "usr_1" else []
        return await one.events.behave(request, call)

    one.gateway.services.orders.behaviour = hidden
    async with AsyncExitStack() as stack:
        await open_watch(stack, one, customer("usr_1"))
        stranger = await stack.enter_async_context(Socket(one.gateway.app, headers=customer("usr_2")))
        await stranger.init()
        await watch(stranger)
        message = await stranger.hear()
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "NOT_FOUND")


async def test_a_subscription_needs_its_scopes_before_any_service_is_asked():
    one = live()
    async with Socket(one.gateway.app, headers=bearer(token("usr_1", "users:read"))) as socket:
        await socket.init()
        await watch(socket)
        message = await socket.hear()
    assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "FORBIDDEN")
    assert one.gateway.services.calls == []


async def test_the_service_is_told_of_trace_and_request():
    one = live()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = operator() | {"x-request-id": "look", "traceparent": f"00-{trace}-00f067aa0ba902b7-00"}
    async with AsyncExitStack() as stack:
        await open_watch(stack, one, headers)
        call = one.events.opened[0].call
        assert call.header("x-request-id") == "look.1"
        assert call.header("traceparent").split("-")[1] == trace
        assert call.header("accept") == "text/event-stream"


async def test_completing_ends_the_stream_and_frees_the_id():
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        for _ in range(3):
            await watch(socket)
            assert await status(socket) == "PENDING"
            await socket.say(type="complete", id="1")
        await eventually(lambda: not one.events.open)
        one.events.advance("ord_1")
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}


async def test_the_id_is_free_in_the_message_after_complete():
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)
        await socket.say(type="complete", id="1")
        await watch(socket)
        assert await status(socket) == "PENDING"
        one.events.advance("ord_1")
        assert await status(socket) == "PAID"


async def test_subscriptions_of_a_caller_are_bounded_over_all_its_connections():
    one = live(graphql={"subscriptions": {"max_per_caller": 2}})
    async with AsyncExitStack() as stack:
        first = await open_watch(stack, one, operator(), "ord_1")
        second = await open_watch(stack, one, operator(), "ord_2")
        await watch(second, "another", "ord_3")
        message = await second.hear()
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "RATE_LIMITED")
        await open_watch(stack, one, customer("usr_2"), "ord_2")
        await first.leave()
        await watch(second, "another", "ord_3")
        assert await status(second) == "PENDING"


async def test_the_anonymous_are_bounded_by_their_address():
    one = live(graphql={"subscriptions": {"max_per_caller": 1}})
    async with Socket(one.gateway.app, address="192.0.2.7") as first:
        await first.init()
        async with Socket(one.gateway.app, address="192.0.2.7") as second:
            await second.say(type="connection_init")
            assert await second.closed() == (4429, [])
        async with Socket(one.gateway.app, address="192.0.2.8") as third:
            await third.init()


async def test_a_stream_that_ends_or_breaks_goes_on_where_it_was():
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)
        assert await status(socket) == "PENDING"
        for how in (None, httpx.ReadError("cut"), httpx.ReadTimeout("silent")):
            one.events.end(how)
            await eventually(lambda: not one.events.open)
            one.events.advance("ord_1")  # while nobody listens
            assert await status(socket) in {"PAID", "SHIPPED", "DELIVERED"}
    assert [stream.call.header("last-event-id") for stream in one.events.opened] == [None, "1", "2", "3"]


async def test_a_service_that_fails_for_a_while_is_come_back_to():
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)
        assert await status(socket) == "PENDING"
        one.events.refuse = [503]
        one.events.end(httpx.ReadError("cut"))
        one.events.advance("ord_1")
        assert await status(socket) == "PAID"


async def test_a_service_that_fails_for_too_long_is_an_error():
    one = live(services={"orders": {"streams": {"give_up_after": "100ms"}}})
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)
        assert await status(socket) == "PENDING"
        one.events.refuse = [503] * 100
        one.events.end()
        message = await socket.hear()
    assert message["type"] == "error"
    assert message["payload"][0]["extensions"] | {"phase": None} == {
        "code": "UPSTREAM_ERROR",
        "service": "orders",
        "retryable": True,
        "phase": None,
    }


async def test_a_service_that_refuses_meanwhile_is_an_error_at_once():
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)
        assert await status(socket) == "PENDING"
        one.events.refuse = [404]
        one.events.end()
        message = await socket.hear()
    assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "NOT_FOUND")


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        (b"data: {\n\n", "UPSTREAM_BAD_RESPONSE"),
        (b'data: {"status": "lost"}\n\n', "UPSTREAM_BAD_RESPONSE"),
        (b"data: " + b"x" * 70_000, "UPSTREAM_BAD_RESPONSE"),
    ],
    ids=["no JSON", "no such status", "too large"],
)
async def test_events_that_make_no_sense_are_an_error(chunk, code):
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)
        assert await status(socket) == "PENDING"
        for stream in one.events.open:
            stream.chunks.put_nowait(chunk)
        message = await socket.hear()
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", code)
        # And others can begin anew.
        await watch(socket)
        assert await status(socket) == "PENDING"


async def test_whoever_does_not_keep_up_is_told_and_holds_up_nobody():
    one = live(services={"orders": {"streams": {"max_pending": 2}}})
    async with AsyncExitStack() as stack:
        quick = await open_watch(stack, one, operator())
        slow = await open_watch(stack, one, operator())
        slow.takes.clear()
        for expected in ("PAID", "SHIPPED", "DELIVERED", "PENDING", "PAID"):
            one.events.advance("ord_1")
            assert await status(quick) == expected
        slow.takes.set()
        assert [await status(slow) for _ in range(3)] == ["PAID", "SHIPPED", "DELIVERED"]
        message = await slow.hear()
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "OVERLOADED")
        await watch(slow)
        assert await status(slow) == "PAID"


def graphql(one: Live) -> Any:
    """The front, to look inside."""
    (fronts,) = (layer.fronts for layer in one.gateway.layers if hasattr(layer, "fronts"))
    front = fronts["graphql"]
    return getattr(front, "app", front)


@pytest.mark.parametrize("moment", range(12))
async def test_a_client_that_leaves_at_any_moment_leaves_nothing(moment):
    one = live()
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.say(type="connection_init")
        await watch(socket, "1", "ord_1")
        await watch(socket, "2", "ord_2")
        await socket.subscribe("3", "{ users { nodes { orders { nodes { payment { status } } } } } }")
        for _ in range(moment):
            await asyncio.sleep(0)
        await socket.leave()
    await eventually(lambda: not one.events.open)
    operations = graphql(one)._operations
    assert len(operations.execution._services["orders"].feeds) == 0
    assert len(operations.seats) == 0
    assert await one.gateway.metrics("graphql_websockets") == {(): 0}
    assert set((await one.gateway.metrics("graphql_subscriptions")).values()) == {0}
    assert set((await one.gateway.metrics("http_client_event_streams")).values()) == {0}


async def test_when_the_gateway_ends_sockets_are_sent_away_and_nothing_begins():
    one = live()
    async with AsyncExitStack() as stack:
        watching = await open_watch(stack, one, operator())
        idle = await stack.enter_async_context(Socket(one.gateway.app))
        go = asyncio.Event()

        async def slow(*_: Any) -> None:
            await go.wait()

        one.gateway.services.users.fail(slow)
        busy = await stack.enter_async_context(Socket(one.gateway.app, headers=operator()))
        await busy.init()
        await busy.subscribe("1", "{ me { id } }")
        await asyncio.sleep(0.01)
        draining = asyncio.create_task(one.gateway.app.state.drain())
        assert (await watching.closed())[0] == 1001
        assert (await idle.closed())[0] == 1001
        with pytest.raises(Refused) as refused:
            await Socket(one.gateway.app).__aenter__()
        assert refused.value.status == 503
        await busy.subscribe("2", "{ __typename }")
        message = await busy.hear()
        assert (message["id"], message["payload"][0]["extensions"]["code"]) == ("2", "SHUTTING_DOWN")
        go.set()
        code, heard = await busy.closed()
        assert (code, [each["type"] for each in heard]) == (1001, ["next", "complete"])
        await draining
    await eventually(lambda: not one.events.open)


async def test_sockets_and_operations_are_in_the_log_and_the_metrics():
    one = live()
    async with AsyncExitStack() as stack:
        socket = await open_watch(stack, one, operator() | {"x-request-id": "look"})
        assert await one.gateway.metrics("graphql_websockets") == {(): 1}
        assert (await one.gateway.metrics("graphql_subscriptions"))[("transport", "websocket"),] == 1
        assert (await one.gateway.metrics("http_client_event_streams"))[("service", "orders"),] == 1
        await socket.subscribe("q", "query Me { me { id } }")
        await socket.hear()
        await socket.hear()
    (line,) = one.gateway.access
    assert (line["request_id"], line["status"], line["close"], line["credential"]) == ("look", 101, 1000, "jwt")
    lines = {each["operation"]: each for each in one.gateway.log if each["event"] == "operation"}
    assert (lines["Watch"]["kind"], lines["Watch"]["results"], lines["Watch"]["request_id"]) == (
        "subscription",
        1,
        "look.1",
    )
    assert (lines["Me"]["kind"], lines["Me"]["results"]) == ("query", 1)
    assert (await one.gateway.metrics("graphql_websockets_closed_total"))[("code", "1000"),] == 1


async def test_a_token_that_ends_ends_what_was_watched():
    one = live()
    async with Socket(one.gateway.app) as socket:
        await socket.init(authorization=f"Bearer {token('usr_1', OPERATOR, exp=int(time.time()) + 3)}")
        await watch(socket)
        assert await status(socket) == "PENDING"
        assert await socket.closed() == (4403, [])
    await eventually(lambda: not one.events.open)
