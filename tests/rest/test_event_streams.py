"""Event streams of a service through a route: they outlive its timeout, and end well."""

import asyncio
import contextlib
import re

import httpx
import pytest

from bff.core.head import head_of
from bff.core.receive import Client
from bff.core.route import Route
from bff.rest.relay import Relay
from tests.harness import gateway
from tests.server.conftest import served
from tests.upstream.raw import OK, Server, eventually

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
ASKED = b"GET /events HTTP/1.1\r\nhost: gateway.example\r\naccept-encoding: gzip\r\n\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def streaming(script, lasts="2s", **service):
    """A gateway in front of a service that does this on each connection."""
    there = await Server(script).start()
    users = {
        "url": there.url,
        "timeout": "2s",
        **service,
    }
    route = {"name": "events", "path": "/{rest*}", "service": "users", "public": True, "timeout": lasts}
    one = gateway(real_network=True, services={"users": users}, routes=[route], server={"compression": ["gzip"]})
    async with served(one.app) as connect:
        yield there, one, connect
    await one.close()
    await there.stop()


async def test_one_outlives_the_timeouts_and_each_event_passes_as_it_comes():
    received = asyncio.Event()

    async def script(peer):
        await peer.head()
        await peer.send(HEAD)
        for number in range(5):
            await peer.send(chunk(b"data: %d\n\n" % number))
            async with asyncio.timeout(20):
                await received.wait()
            received.clear()
            await asyncio.sleep(0.5)
        await peer.send(b"0\r\n\r\n")

    slow = {"slow_after": "2s", "slow": "1%", "minimum": 1}
    async with streaming(script, breaker=slow) as (_, one, connect):
        client = await connect(ASKED)
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-encoding" not in head
        assert b"retry-after" not in head
        for number in range(5):
            assert await client.reader.readuntil(b"\n\n\r\n") == chunk(b"data: %d\n\n" % number)
            received.set()
        assert await client.reader.readuntil(b"\r\n\r\n") == b"0\r\n\r\n"
        # What lasts is not slow.
        assert one.app.state.services["users"].shown()["targets"][0]["breaker"]["state"] == "closed"


async def test_a_silence_of_the_routes_timeout_ends_one():
    async def script(peer):
        await peer.head()
        await peer.send(HEAD + chunk(b"data: 1\n\n"))
        await peer.hang()

    async with streaming(script) as (_, _, connect):
        client = await connect(ASKED)
        assert (await client.ended()).endswith(chunk(b"data: 1\n\n"))


async def test_one_whose_head_does_not_come_in_time_is_a_problem():
    async def script(peer):
        await peer.head()
        await peer.hang()

    async with streaming(script, retry={"attempts": 1}) as (_, _, connect):
        assert (await (await connect(ASKED)).answer())[0] == 504


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (b"data: 1\n\n", rb"retry: \d{4}\n"),
        (b"data: 1\n\ndata: 2\r", rb"retry: \d{4}\n"),
        (b"data: 1\n\ndata: a part of", b""),
    ],
)
async def test_when_the_gateway_ends_so_do_they_with_when_to_come_again(event, end):
    """A part of an event is not made one, and what has begun is not taken for broken off."""

    async def script(peer):
        await peer.head()
        await peer.send(HEAD + chunk(event))
        await peer.hang()

    async with streaming(script, lasts="30s") as (there, one, connect):
        client = await connect(ASKED)
        await client.reader.readuntil(event + b"\r\n")
        await one.app.state.drain()
        rest = await client.chunks()
        assert re.fullmatch(end, rest), rest
        await eventually(lambda: there.open == 0)
        refused = await connect(ASKED)
        assert (await refused.answer())[0] == 503


async def test_what_ends_while_a_part_of_a_line_may_have_gone_says_nothing_more():
    """A frame of HTTP/2 is as large as the client has room for: an event goes in several."""
    sent, stuck = [], asyncio.Event()

    async def send(message):
        sent.append(message.get("body"))
        if message.get("body") == b"data: long\n\n":
            stuck.set()
            await asyncio.Event().wait()

    async def events():
        yield b"data: 1\n\n"
        yield b"data: long\n\n"

    route = Route("events", "/events", timeout=30)
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=events())
    relay, client = Relay(), Client({"type": "http", "bff.head": head_of([])}, stuck.wait, 0)
    task = asyncio.create_task(relay.pass_on(response, "users", route, send, client, None))
    await stuck.wait()
    await relay.close()
    await task
    assert sent == [None, b"data: 1\n\n", b"data: long\n\n", b""]


async def test_a_client_that_leaves_ends_the_services_too():
    async def script(peer):
        await peer.head()
        await peer.send(HEAD + chunk(b":\n\n"))
        await peer.hang()

    async with streaming(script, lasts="30s") as (there, _, connect):
        client = await connect(ASKED)
        await client.reader.readuntil(b":\n\n\r\n")
        client.writer.transport.abort()
        await eventually(lambda: there.open == 0)


async def test_they_take_no_connections_from_calls():
    async def script(peer):
        if b"/events" in await peer.head():
            await peer.send(HEAD + chunk(b":\n\n"))
            await peer.hang()
        else:
            await peer.send(OK)

    async with streaming(script, lasts="30s", max_connections=1, max_concurrency=1) as (_, _, connect):
        for _ in range(3):
            client = await connect(ASKED)
            await client.reader.readuntil(b":\n\n\r\n")
        call = await connect(ASKED.replace(b"/events", b"/call"))
        assert (await call.answer())[::2] == (200, b"ok")


async def test_one_whose_length_is_known_is_an_answer_like_any_other():
    async def script(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 5000\r\n\r\n:\n")
        await peer.hang()

    async with streaming(script) as (_, _, connect):
        client = await connect(ASKED)
        assert (await client.ended()).endswith(b":\n")
