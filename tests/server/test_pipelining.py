"""Many requests sent before the first is answered (RFC 9112 §9.3.2): all are answered in their order, within bounds."""

import asyncio
import random
import weakref

import pytest
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from bff.server import connection
from bff.server.exchange import Exchange
from tests.server.test_connection import Echo, body, read_all, start
from tests.upstream.raw import eventually


def get(number, head=b""):
    return b"GET /%d HTTP/1.1\r\nhost: x\r\n%b\r\n" % (number, head)


@pytest.fixture
def exchanges(monkeypatch):
    """Those that there are: made for a request, and not let go of."""
    alive = weakref.WeakSet()

    class Counted(Exchange):
        __slots__ = ("__weakref__",)

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            alive.add(self)

    monkeypatch.setattr(connection, "Exchange", Counted)
    return alive


@pytest.fixture
def echo():
    return Echo()


async def paths(client, count):
    return [(await client.answer())[2] for _ in range(count)]


async def test_one_is_answered_after_the_other(serve):
    running = 0

    async def app(scope, receive, send):
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.01 * random.random())  # noqa: S311
        await send(start())
        running -= 1
        await send(body(scope["raw_path"]))

    client = await (await serve(app))(b"".join(get(n) for n in range(20)))
    assert await paths(client, 20) == [b"/%d" % n for n in range(20)]


@pytest.mark.parametrize("bound", [1, 5, 64])
async def test_a_thousand_in_one_write_are_all_answered_and_few_of_them_wait_here(serve, exchanges, bound):
    most = 0

    async def app(scope, receive, send):
        nonlocal most
        most = max(most, len(exchanges))
        await send(start())
        await send(body(scope["raw_path"]))

    client = await (await serve(app, max_pipelined=bound))(b"".join(get(n) for n in range(1000)))
    assert await paths(client, 1000) == [b"/%d" % n for n in range(1000)]
    assert most <= bound + 2  # one that is answered, and one whose task has not ended


async def test_the_shortest_requests_are_no_more_at_a_time(serve, exchanges):
    most = 0

    async def app(scope, receive, send):
        nonlocal most
        most = max(most, len(exchanges))
        await send(start())
        await send(body(b"short"))

    client = await (await serve(app, max_pipelined=20))(b"GET / HTTP/1.1\r\n\r\n" * 300)
    assert await paths(client, 300) == [b"short"] * 300
    assert 10 < most <= 22


@pytest.mark.parametrize("seed", range(10))
async def test_bodies_between_them_come_to_whom_they_are_for(serve, seed):
    rng = random.Random(seed)  # noqa: S311
    bodies = [rng.randbytes(rng.choice([0, 1, 17, 1000, 70_000])).replace(b"\r", b"\r\n\r\n") for _ in range(60)]
    messages = []
    for number, data in enumerate(bodies):
        if rng.random() < 0.5:
            messages.append(b"POST /%d HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (number, len(data), data))
        else:
            chunks = [data[at : at + 999] for at in range(0, len(data), 999)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)
            messages.append(b"POST /%d HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n%b0\r\n\r\n" % (number, framed))
        messages += [get(number)] * rng.choice([0, 0, 1, 30])
    taken = []

    async def app(scope, receive, send):
        if scope["method"] == "POST" and scope["raw_path"].endswith(b"3"):
            await send(start(413))  # before its body was read, which is read over
        else:
            data = await read_all(receive)
            if scope["method"] == "POST":
                taken.append((scope["raw_path"], data))
            await send(start())
        await send(body(scope["raw_path"]))

    client = await (await serve(app, max_pipelined=rng.choice([1, 3, 64])))(b"".join(messages))
    assert await paths(client, len(messages)) == [each.split(b" ", 2)[1] for each in messages]
    assert taken == [(b"/%d" % n, data) for n, data in enumerate(bodies) if n % 10 != 3]


async def test_a_client_that_only_sends_is_not_heard_until_it_reads(serve, exchanges):
    answered = 0

    async def app(scope, receive, send):
        nonlocal answered
        await send(start())
        await send(body(scope["raw_path"].ljust(4000)))
        answered += 1

    async def nothing_moves():
        before = answered, client.writer.transport.get_write_buffer_size()
        await asyncio.sleep(0.2)
        return answered > 0 and before == (answered, client.writer.transport.get_write_buffer_size())

    client = await (await serve(app))()
    client.reader._transport.pause_reading()
    client.writer.transport.set_write_buffer_limits(high=1)
    client.send(b"".join(get(n, b"x: %b\r\n" % (b"y" * 4000)) for n in range(5000)))
    while not await nothing_moves():
        pass
    assert answered < 4000
    assert client.writer.transport.get_write_buffer_size() > 5_000_000
    assert len(exchanges) <= 66
    client.reader._transport.resume_reading()
    assert [each.strip() for each in await paths(client, 5000)] == [b"/%d" % n for n in range(5000)]


async def test_a_long_body_with_half_a_head_after_it_is_no_long_head(serve, echo):
    size = 200_000
    client = await (await serve(echo))(b"POST /0 HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size)
    client.send(b"a" * size + get(1)[:15])
    assert await paths(client, 1) == [b"POST /0"]
    client.send(get(1)[15:])
    assert await paths(client, 1) == [b"GET /1"]


async def test_a_head_that_is_not_read_yet_is_not_late(serve):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        if scope["raw_path"] == b"/0":
            await go_on.wait()
        await send(start())
        await send(body(scope["raw_path"]))

    client = await (await serve(app, head_timeout=0.5))(get(0) + get(1) + get(2)[:15])
    client.send(get(2)[15:])
    await asyncio.sleep(1)
    go_on.set()
    assert await paths(client, 3) == [b"/0", b"/1", b"/2"]


async def test_but_one_that_does_not_come_once_it_is_read_is(serve, echo):
    client = await (await serve(echo, head_timeout=0.5))(get(0) + get(1) + get(2)[:15])
    assert await paths(client, 2) == [b"GET /0", b"GET /1"]
    assert (await client.answer())[0] == 400
    assert await client.ended() == b""


async def test_after_what_is_no_request_nothing_is_answered(serve, echo):
    client = await (await serve(echo, max_pipelined=2))(get(0) * 20 + b"no\r\n\r\n" + get(1) * 200)
    assert await paths(client, 20) == [b"GET /0"] * 20
    assert (await client.answer())[0] == 400
    assert await client.ended() == b""
    assert len(echo.requests) == 20


async def test_after_an_answer_that_is_the_last_nothing_is(serve, echo):
    client = await (await serve(echo))(get(0) + get(1, b"connection: close\r\n") + get(2) * 5000)
    assert await paths(client, 2) == [b"GET /0", b"GET /1"]
    assert await client.ended() == b""
    assert len(echo.requests) == 2


async def test_what_was_read_before_the_end_is_answered_and_the_last_says_so(serve, echo):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await echo(scope, receive, send)

    connect = await serve(app, max_pipelined=3)
    client = await connect(b"".join(get(n) for n in range(20)))
    await eventually(lambda: any(each._answering for each in connect.server.server_state.connections))
    for each in list(connect.server.server_state.connections):
        each.shutdown()
    go_on.set()
    answers = [await client.answer() for _ in range(20)]
    assert [b"connection" in headers for _, headers, _ in answers] == [False] * 19 + [True]
    assert await client.ended() == b""


async def test_line_breaks_after_them_leave_the_connection_at_rest(serve, echo):
    client = await (await serve(echo, max_pipelined=1, keep_alive=0.2))(get(0) * 3 + b"\r\n" * 40)
    assert await paths(client, 3) == [b"GET /0"] * 3
    assert await client.ended() == b""


async def test_a_websocket_may_come_after_them(serve):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(start())
            await send(body(scope["raw_path"]))
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await receive()

    connect = await serve(app, max_pipelined=1)
    protocol = ClientProtocol(parse_uri("ws://x/2"))
    protocol.send_request(protocol.connect())
    handshake = b"".join(protocol.data_to_send())
    client = await connect(get(0) + get(1) + handshake)
    assert await paths(client, 2) == [b"/0", b"/1"]
    protocol.receive_data(await client.reader.readuntil(b"\r\n\r\n"))
    protocol.send_text(b"hello")
    client.send(b"".join(protocol.data_to_send()))
    while not (events := [each for each in protocol.events_received() if hasattr(each, "data")]):
        protocol.receive_data(await client.reader.read(1000))
    assert events[0].data == b"hello"
