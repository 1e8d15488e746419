"""Each way to fail has its own error and phase, in time; and what a service may have seen is never sent to it twice."""

import asyncio
import socket
import time

import httpx
import pytest

from bff.upstream.phases import Phase, phase_of
from tests.upstream.raw import OK, eventually, get, idle

HEAD = b"HTTP/1.1 200 OK\r\n"


IN_TIME = 5.0  # what is not cut takes eight seconds and more
"""Seconds; longer than a busy machine makes of what these tests set, and less than any bound that they do not set."""


async def read(transport, request):
    response = await transport.handle_async_request(request)
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.aclose()


async def fails(transport, request, error, phase):
    """The call fails with exactly this error; returns it, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(httpx.TransportError) as caught:
        await read(transport, request)
    assert type(caught.value) is error
    assert phase_of(caught.value) is phase
    assert caught.value.request is request
    return caught.value, time.monotonic() - began


def post(url, content=b"pay", **extensions):
    return httpx.Request("POST", url, content=content, extensions=extensions)


@pytest.fixture
def nobody():
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def full():
    """A port whose line of those who wait to be accepted is full: connecting takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for each in waiting:
            each.close()


# Nothing was sent


async def test_refused(transport, nobody):
    error, _ = await fails(transport, post(f"http://127.0.0.1:{nobody}"), httpx.ConnectError, Phase.CONNECT)
    assert "ECONNREFUSED" in str(error)


async def test_a_failed_connect_hands_its_place_on(connect, nobody):
    transport = connect(max_connections=1)
    requests = [get(f"http://127.0.0.1:{nobody}") for _ in range(5)]
    await asyncio.gather(*(fails(transport, each, httpx.ConnectError, Phase.CONNECT) for each in requests))


async def test_errors_do_not_name_internal_addresses(transport, nobody):
    for host in ("127.0.0.1", "localhost"):
        error, _ = await fails(transport, get(f"http://{host}:{nobody}"), httpx.ConnectError, Phase.CONNECT)
        assert "127.0.0.1" not in str(error)
        assert str(nobody) not in str(error)


async def test_unknown_name(transport, names):
    names["users.internal"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    error, _ = await fails(transport, post("http://users.internal/"), httpx.ConnectError, Phase.DNS)
    assert "Name or service not known" in str(error)


async def test_an_impossible_name(transport):
    await fails(transport, post(f"http://{'a' * 70}.internal/"), httpx.ConnectError, Phase.DNS)


async def test_a_resolver_that_hangs(connect, names):
    names["users.internal"] = asyncio.Event()
    transport = connect(connect_timeout=0.05)
    _, took = await fails(transport, get("http://users.internal/"), httpx.ConnectTimeout, Phase.DNS)
    assert took < IN_TIME


async def test_connecting_takes_too_long(transport, full):
    request = get(f"http://127.0.0.1:{full}", timeout={"connect": 0.05})
    _, took = await fails(transport, request, httpx.ConnectTimeout, Phase.CONNECT)
    assert took < IN_TIME
    assert not any(occupancy.open for occupancy in transport.occupancy().values())


async def test_the_deadline_ends_connecting(transport, full):
    request = get(f"http://127.0.0.1:{full}", deadline=asyncio.get_running_loop().time() + 0.5)
    _, took = await fails(transport, request, httpx.ConnectTimeout, Phase.CONNECT)
    assert took < IN_TIME


async def test_after_its_deadline_nothing_is_sent(serve, transport):
    server = await serve()
    await read(transport, get(server.url))
    request = get(server.url, deadline=asyncio.get_running_loop().time() - 0.001)
    await fails(transport, request, httpx.PoolTimeout, Phase.POOL)
    assert len(server.requests) == 1


async def test_another_scheme(transport):
    await fails(transport, get("ftp://127.0.0.1/"), httpx.UnsupportedProtocol, Phase.POOL)


# Something may have been sent


async def closing(peer):
    await peer.request()


async def resetting(peer):
    await peer.request()
    peer.reset()


async def silent(peer):
    await peer.request()
    await peer.hang()


@pytest.mark.parametrize("script", [closing, resetting])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_dies_after_sending_is_a_read_error(serve, transport, script, method):
    server = await serve(script)
    await fails(transport, httpx.Request(method, server.url), httpx.ReadError, Phase.FIRST_BYTE)
    assert len(server.requests) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_that_dies_while_sending_is_a_write_error(serve, transport, how):
    async def dying(peer):
        await peer.head()
        await asyncio.sleep(0.02)
        getattr(peer, how)()

    async def pieces():
        for _ in range(1000):
            await asyncio.sleep(0.005)
            yield b"x" * 1000

    server = await serve(dying)
    await fails(transport, post(server.url, pieces()), httpx.WriteError, Phase.SEND)


async def test_a_body_at_hand_that_is_not_taken_is_a_write_error(serve, transport):
    async def dying(peer):
        await peer.head()
        await asyncio.sleep(0.02)
        peer.reset()

    server = await serve(dying)
    await fails(transport, post(server.url, b"x" * 30_000_000), httpx.WriteError, Phase.SEND)


async def test_a_reset_inside_the_body_is_a_read_error(serve, transport):
    async def dying(peer):
        await peer.answer(HEAD + b"content-length: 6\r\n\r\nabc")
        await asyncio.sleep(0.02)
        peer.reset()

    server = await serve(dying)
    await fails(transport, get(server.url), httpx.ReadError, Phase.BODY)


async def test_a_reset_instead_of_the_end_is_not_the_end(serve, transport):
    async def dying(peer):
        await peer.answer(HEAD + b"\r\nabc")
        await asyncio.sleep(0.02)
        peer.reset()

    server = await serve(dying)
    await fails(transport, get(server.url), httpx.ReadError, Phase.BODY)


# Time


async def test_no_answer(serve, transport):
    server = await serve(silent)
    request = post(server.url, timeout={"read": 0.05})
    _, took = await fails(transport, request, httpx.ReadTimeout, Phase.FIRST_BYTE)
    assert 0.04 < took < IN_TIME
    await eventually(lambda: server.ended == 1)
    assert len(server.requests) == 1


async def test_timeouts_that_are_not_given_come_from_the_settings(serve, connect):
    server = await serve(silent)
    transport = connect(read_timeout=0.05)
    await fails(transport, get(server.url), httpx.ReadTimeout, Phase.FIRST_BYTE)
    await fails(transport, get(server.url, timeout={"connect": 1}), httpx.ReadTimeout, Phase.FIRST_BYTE)


async def test_none_is_no_timeout(serve, connect):
    async def slow(peer):
        await peer.request()
        await asyncio.sleep(0.1)
        await peer.send(OK)

    server = await serve(slow)
    transport = connect(read_timeout=0.02)
    assert await read(transport, get(server.url, timeout={"read": None})) == b"ok"


async def test_a_head_that_drips_is_cut_by_the_read_timeout(serve, transport):
    async def dripping(peer):
        await peer.request()
        await peer.drip(HEAD * 100, 0.005)

    server = await serve(dripping)
    _, took = await fails(transport, get(server.url, timeout={"read": 0.1}), httpx.ReadTimeout, Phase.FIRST_BYTE)
    assert took < IN_TIME


async def test_a_body_that_stops_is_cut_by_the_read_timeout(serve, transport):
    async def stopping(peer):
        await peer.answer(HEAD + b"content-length: 6\r\n\r\nabc")
        await peer.hang()

    server = await serve(stopping)
    _, took = await fails(transport, get(server.url, timeout={"read": 0.05}), httpx.ReadTimeout, Phase.BODY)
    assert took < IN_TIME
    await eventually(lambda: server.ended == 1)


@pytest.mark.parametrize("framing", ["content-length: 1000", "transfer-encoding: chunked", "connection: close"])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_body_that_drips_is_cut_by_the_deadline(serve, transport, framing, whole):
    async def dripping(peer):
        await peer.answer(HEAD + framing.encode() + b"\r\n\r\n")
        await peer.drip(b"1\r\nx\r\n" * 1000, 0.002)

    server = await serve(dripping)
    deadline = asyncio.get_running_loop().time() + 0.5
    _, took = await fails(transport, get(server.url, deadline=deadline, whole=whole), httpx.ReadTimeout, Phase.BODY)
    assert 0.4 < took < IN_TIME
    await eventually(lambda: server.ended == 1)


async def test_a_chunk_header_that_never_ends_is_cut_by_the_read_timeout(serve, transport):
    async def endless(peer):
        await peer.answer(HEAD + b"transfer-encoding: chunked\r\n\r\n1")
        await peer.drip(b";x=y" * 1000, 0.002)

    server = await serve(endless)
    _, took = await fails(transport, get(server.url, timeout={"read": 0.1}), httpx.ReadTimeout, Phase.BODY)
    assert took < IN_TIME


async def test_the_deadline_holds_for_an_answer_that_nobody_reads(serve, transport):
    async def endless(peer):
        await peer.answer(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"3\r\nabc\r\n" * 1000)

    server = await serve(endless)
    deadline = asyncio.get_running_loop().time() + 0.5
    response = await transport.handle_async_request(get(server.url, deadline=deadline))
    await eventually(lambda: server.ended == 1)
    with pytest.raises(httpx.ReadTimeout):
        await response.aread()


async def test_the_deadline_holds_for_a_reader_that_stops(serve, transport):
    async def endless(peer):
        await peer.answer(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.drip([b"3\r\nabc\r\n"], 0.01)

    server = await serve(endless)
    deadline = asyncio.get_running_loop().time() + 0.5
    response = await transport.handle_async_request(get(server.url, deadline=deadline))
    pieces = aiter(response.stream)
    for _ in range(3):
        await anext(pieces)
    await eventually(lambda: server.ended == 1)
    with pytest.raises(httpx.ReadTimeout):
        assert [piece async for piece in pieces] == []


async def test_a_slow_reader_is_not_a_slow_service(serve, transport):
    async def steady(peer):
        await peer.answer(HEAD + b"content-length: 30\r\n\r\n")
        await peer.drip(b"x" * 30, 0.005)
        await peer.hang()

    server = await serve(steady)
    response = await transport.handle_async_request(get(server.url, timeout={"read": 0.5}))
    received = 0
    async for piece in response.stream:
        await asyncio.sleep(0 if received else 0.6)
        received += len(piece)
    assert received == 30


async def test_a_service_that_does_not_take_the_body(serve, transport):
    async def not_reading(peer):
        await peer.head()
        await asyncio.sleep(5)

    async def pieces():
        while True:
            yield b"x" * 64_000

    server = await serve(not_reading)
    for content in (pieces(), b"x" * 30_000_000):
        request = post(server.url, content, timeout={"write": 0.05})
        _, took = await fails(transport, request, httpx.WriteTimeout, Phase.SEND)
        assert took < 5


async def test_the_read_timeout_begins_when_the_request_is_sent(serve, transport):
    async def pieces():
        for _ in range(10):
            await asyncio.sleep(0.06)
            yield b"x"

    server = await serve()
    assert await read(transport, post(server.url, pieces(), timeout={"read": 0.5})) == b"ok"


async def test_the_deadline_ends_an_upload_that_stalls(serve, transport):
    async def stalling():
        yield b"x"
        await asyncio.sleep(60)

    server = await serve()
    request = post(server.url, stalling(), deadline=asyncio.get_running_loop().time() + 0.5)
    _, took = await fails(transport, request, httpx.WriteTimeout, Phase.SEND)
    assert took < IN_TIME


async def test_a_shorter_deadline_after_a_longer_one_is_kept(serve, transport):
    """The timer of a connection outlives the exchange that set it."""

    async def twice(peer):
        await peer.answer()
        await silent(peer)

    server = await serve(twice)
    loop = asyncio.get_running_loop()
    assert await read(transport, get(server.url, deadline=loop.time() + 30)) == b"ok"
    request = post(server.url, deadline=loop.time() + 0.5)
    _, took = await fails(transport, request, httpx.ReadTimeout, Phase.FIRST_BYTE)
    assert took < IN_TIME
    assert server.connections == 1


async def test_a_deadline_of_the_past_exchange_does_not_end_the_next_one(serve, transport):
    async def slower(peer):
        await peer.answer()
        await peer.request()
        await asyncio.sleep(0.7)
        await peer.send(OK)

    server = await serve(slower)
    loop = asyncio.get_running_loop()
    assert await read(transport, get(server.url, deadline=loop.time() + 0.5)) == b"ok"
    assert await read(transport, post(server.url, deadline=loop.time() + 30)) == b"ok"
    assert server.connections == 1


async def test_a_longer_deadline_after_a_shorter_one_is_kept(serve, transport):
    async def twice(peer):
        await peer.answer()
        await silent(peer)

    server = await serve(twice)
    loop = asyncio.get_running_loop()
    assert await read(transport, get(server.url, deadline=loop.time() + 0.5)) == b"ok"
    request = post(server.url, deadline=loop.time() + 1)
    _, took = await fails(transport, request, httpx.ReadTimeout, Phase.FIRST_BYTE)
    assert 0.9 < took < IN_TIME
    assert server.connections == 1


# The stale connection


def stale(*, rudely=False, begun=b""):
    """Answers once, and dies at the second request: so it looks if a service closes while a request comes."""

    async def script(peer):
        await peer.answer()
        await peer.request()
        if begun:
            await peer.send(begun)
        if rudely:
            peer.reset()

    return script


@pytest.mark.parametrize("rudely", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_call_that_met_a_stale_connection_is_sent_again_on_a_fresh_one(
    serve, transport, method, rudely
):
    server = await serve(stale(rudely=rudely))
    await read(transport, get(server.url))
    content = b"x" * 100_000 if method == "PUT" else None
    await read(transport, httpx.Request(method, server.url, content=content))
    assert server.connections == 2
    assert [request.split()[0].decode() for request in server.requests] == ["GET", method, method]
    assert server.requests[1] == server.requests[2]


@pytest.mark.parametrize("rudely", [True, False])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_payment_is_never_sent_twice(serve, transport, method, rudely):
    server = await serve(stale(rudely=rudely))
    await read(transport, get(server.url))
    await fails(transport, httpx.Request(method, server.url, content=b"pay"), httpx.ReadError, Phase.FIRST_BYTE)
    assert (server.connections, len(server.requests)) == (1, 2)


async def test_a_streamed_body_is_not_sent_twice(serve, transport):
    async def pieces():
        yield b"once"

    server = await serve(stale())
    await read(transport, get(server.url))
    request = httpx.Request("PUT", server.url, content=pieces())
    await fails(transport, request, httpx.ReadError, Phase.FIRST_BYTE)
    assert (server.connections, len(server.requests)) == (1, 2)


@pytest.mark.parametrize("rudely", [True, False])
async def test_a_call_that_saw_the_beginning_of_an_answer_is_not_sent_again(serve, transport, rudely):
    server = await serve(stale(rudely=rudely, begun=b"HTTP/1.1 2"))
    await read(transport, get(server.url))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await read(transport, get(server.url))
    assert (server.connections, len(server.requests)) == (1, 2)


async def test_a_call_on_a_fresh_connection_is_not_sent_again(serve, transport):
    server = await serve(closing)
    await fails(transport, get(server.url), httpx.ReadError, Phase.FIRST_BYTE)
    assert server.connections == 1


async def test_a_call_is_sent_again_once_at_most(serve, transport):
    async def getting_worse(peer):
        if peer.number == 1:
            await peer.answer()
        await peer.request()

    server = await serve(getting_worse)
    await read(transport, get(server.url))
    await fails(transport, get(server.url), httpx.ReadError, Phase.FIRST_BYTE)
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_no_answer_in_time_is_no_reason_to_send_again(serve, transport):
    async def twice(peer):
        await peer.answer()
        await silent(peer)

    server = await serve(twice)
    await read(transport, get(server.url))
    await fails(transport, get(server.url, timeout={"read": 0.05}), httpx.ReadTimeout, Phase.FIRST_BYTE)
    assert len(server.requests) == 2


async def test_all_other_idle_connections_may_be_stale_as_well(serve, connect):
    """A service was restarted: every connection of the pool is dead, and a full pool must not be in the way."""
    arrived = asyncio.Barrier(2)

    async def restarted(peer):
        if peer.number > 2:
            await peer.answer()
            return
        await peer.request()
        await arrived.wait()
        await peer.send(OK)
        await peer.request()

    server = await serve(restarted)
    transport = connect(max_connections=2)
    await asyncio.gather(read(transport, get(server.url)), read(transport, get(server.url)))
    assert idle(transport) == 2
    assert await read(transport, get(server.url)) == b"ok"
    assert server.connections == 3


# Giving up


async def test_a_cancelled_call_closes_its_connection(serve, transport):
    server = await serve(silent)
    call = asyncio.create_task(read(transport, get(server.url)))
    await eventually(lambda: len(server.requests) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: server.ended == 1)
    assert idle(transport) == 0


async def test_a_call_cancelled_in_its_body_closes_its_connection(serve, transport):
    async def stopping(peer):
        await peer.answer(HEAD + b"content-length: 6\r\n\r\nabc")
        await peer.hang()

    server = await serve(stopping)
    response = await transport.handle_async_request(get(server.url))
    reading = asyncio.create_task(response.aread())
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await eventually(lambda: server.ended == 1)


async def test_a_cancelled_upload_ends_the_callers_stream_and_the_connection(serve, transport):
    ended = asyncio.Event()

    async def endless():
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    server = await serve()
    call = asyncio.create_task(read(transport, post(server.url, endless())))
    await eventually(lambda: len(server.requests) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(ended.wait(), 20)
    await eventually(lambda: server.ended == 1)


async def test_a_call_cancelled_while_it_connects_leaves_nothing_behind(connect, full):
    transport = connect(max_connections=1)
    for _ in range(3):
        call = asyncio.create_task(transport.handle_async_request(get(f"http://127.0.0.1:{full}")))
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert [tuple(occupancy) for occupancy in transport.occupancy().values()] == [(0, 0, 0)]
