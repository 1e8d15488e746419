"""HTTP/1.1 as a client sees it, byte by byte: requests as they may come, and what must never come of them."""

import asyncio
import random
import socket
import time

import httptools
import pytest
import websockets

from bff.core.errors import GatewayError
from bff.server import connection
from tests.upstream.raw import eventually

GET = b"GET /a?b=1 HTTP/1.1\r\nhost: x\r\n\r\n"


def start(status=200, *headers):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data=b"", *, more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


async def read_all(receive):
    pieces, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message["body"])
        more = message["more_body"]
    return b"".join(pieces)


class Echo:
    """Answers with what it was asked, refusals as the edge would; keeps each scope."""

    def __init__(self):
        self.scopes = []
        self.bodies = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if refusal := scope.get("bff.refusal"):
            await send(start(refusal.status))
            await send(body(str(refusal).encode()))
            return
        try:
            self.bodies.append(await read_all(receive))
        except GatewayError as error:
            await send(start(error.status))
            await send(body())
            return
        await send(start())
        await send(body(b"%b %b" % (scope["method"].encode(), scope["raw_path"])))

    @property
    def requests(self):
        return [(scope["method"], scope["raw_path"]) for scope in self.scopes if "bff.refusal" not in scope]


@pytest.fixture
def echo():
    return Echo()


async def test_a_request_comes_as_it_was_sent(serve, echo):
    client = await (await serve(echo))(b"GET /a%20b%2F?c=%zz&d HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nX-Two: 2 \r\n\r\n")
    assert (await client.answer())[0] == 200
    (scope,) = echo.scopes
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b/", b"/a%20b%2F")
    assert scope["query_string"] == b"c=%zz&d"
    assert [(name, value.strip()) for name, value in scope["headers"]] == [
        (b"host", b"x"), (b"x-two", b"1"), (b"x-two", b"2"),
    ]  # fmt: skip
    assert scope["client"][0] == "127.0.0.1"
    assert (scope["scheme"], scope["http_version"]) == ("http", "1.1")


async def test_a_connection_serves_request_after_request(serve, echo):
    client = await (await serve(echo))()
    for _ in range(3):
        client.send(GET)
        assert (await client.answer())[2] == b"GET /a"


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_requests_may_come_in_any_pieces(serve, echo, size):
    message = (
        GET + b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
        b"PUT /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2;ext=1\r\nab\r\n3\r\ncde\r\n0\r\nx-t: 1\r\n\r\n"
    )
    client = await (await serve(echo))()
    for at in range(0, len(message), size):
        client.send(message[at : at + size])
        await asyncio.sleep(0)
    assert [(await client.answer())[2] for _ in range(3)] == [b"GET /a", b"POST /p", b"PUT /c"]
    assert echo.bodies == [b"", b"hello", b"abcde"]
    assert all(name != b"x-t" for scope in echo.scopes for name, _ in scope["headers"])


# How long an answer is.


@pytest.mark.parametrize(
    ("headers", "pieces", "framing"),
    [
        ([(b"content-length", b"6")], [b"abc", b"def"], {b"content-length": b"6"}),
        ([], [b"abcdef"], {b"content-length": b"6"}),
        ([], [b"abc", b"def"], {b"transfer-encoding": b"chunked"}),
        ([], [b"abc", b"", b"def", b""], {b"transfer-encoding": b"chunked"}),
        ([(b"transfer-encoding", b"chunked")], [b"abc", b"def"], {b"transfer-encoding": b"chunked"}),
        ([], [b""], {b"content-length": b"0"}),
        ([(b"content-length", b"100000")], [b"x" * 100_000], {b"content-length": b"100000"}),
    ],
)
async def test_an_answers_end_is_told(serve, headers, pieces, framing):
    async def app(scope, receive, send):
        await send(start(200, *headers))
        for number, piece in enumerate(pieces, 1):
            await send(body(piece, more=number < len(pieces)))

    client = await (await serve(app))(GET)
    for _ in range(2):
        status, sent, data = await client.answer()
        assert (status, data) == (200, b"".join(pieces))
        assert {name: sent[name] for name in (b"content-length", b"transfer-encoding") if name in sent} == framing
        client.send(GET)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_where_there_is_no_body_none_is_sent(serve, method, status):
    async def app(scope, receive, send):
        await send(start(status, (b"content-length", b"3")))
        await send(body(b"abc"))

    client = await (await serve(app))(method + GET[3:])
    for _ in range(2):
        answered, headers, _ = await client.answer(head=True)
        assert answered == status
        assert headers.get(b"content-length") == (None if status == 204 else b"3")
        assert b"transfer-encoding" not in headers
        client.send(method + GET[3:])


async def test_an_older_client_gets_no_chunks(serve):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"abc", more=True))
        await send(body(b"def"))

    client = await (await serve(app))(b"GET / HTTP/1.0\r\n\r\n")
    head, _, data = (await client.ended()).partition(b"\r\n\r\n")
    assert data == b"abcdef"
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head


async def two_answers(client):
    return [await client.answer() for _ in range(2)]


@pytest.mark.parametrize("pieces", [[b"ab"], [b"abcd"], [b"ab", b"cd"]])
async def test_an_answer_of_another_length_than_it_says_breaks_off(serve, pieces):
    async def app(scope, receive, send):
        await send(start(200, (b"content-length", b"3")))
        for number, piece in enumerate(pieces, 1):
            await send(body(piece, more=number < len(pieces)))

    client = await (await serve(app))(GET + GET)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await two_answers(client)


@pytest.mark.parametrize(
    "header",
    [(b"x", b"a\r\nset-cookie: b"), (b"x", b"a\nb"), (b"x", b"a\0b"), (b"x\r\ny", b"1"), (b"x y", b"1"), (b"", b"1")],
)
async def test_no_header_can_begin_another(serve, header):
    async def app(scope, receive, send):
        await send(start(200, header))
        await send(body(b"ok"))

    client = await (await serve(app))(GET)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.answer()


@pytest.mark.parametrize("name", [b"x-50%", b"%b", b"%s%%", b"x" * 5000])
async def test_any_name_of_a_header_goes_out_as_it_is(serve, name):
    values = iter((b"first", b"%b second"))

    async def app(scope, receive, send):
        await send(start(200, (name, next(values)), (b"x-last", b"1")))
        await send(body(b"ok"))

    client = await (await serve(app))(GET)
    assert (await client.answer())[1][name] == b"first"
    client.send(GET)
    assert (await client.answer())[1] == {name: b"%b second", b"x-last": b"1", b"content-length": b"2"}


async def test_an_app_that_fails_midway_never_ends_its_answer_cleanly(serve):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"abc", more=True))
        raise ValueError

    client = await (await serve(app))(GET)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ValueError)):
        await client.answer()


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"20000")]])
async def test_the_head_goes_out_although_the_body_takes_its_time(serve, headers):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await send(start(200, *headers))
        await go_on.wait()
        await send(body(b"a" * 20_000))

    client = await (await serve(app))(GET)
    await client.reader.readuntil(b"\r\n\r\n")
    go_on.set()
    await client.reader.readuntil(b"a" * 20_000)


# What is no request.

NONSENSE = {
    "no http": b"hello\r\n\r\n",
    "lower case": b"get / HTTP/1.1\r\nhost: x\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
    "space before colon": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "length and coding": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n"
    b"0\r\n\r\n",
    "length with sign": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\na",
    "folded header": b"GET / HTTP/1.1\r\nhost: x\r\nx: 1\r\n 2\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nhost: x\n\n",
    "zero byte": b"GET / HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n",
    "another host": b"GET http://y/ HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("message", NONSENSE.values(), ids=NONSENSE)
async def test_what_is_no_request_is_refused_and_nothing_after_it_is_one(serve, echo, message):
    client = await (await serve(echo))(message + GET)
    status, headers, _ = await client.answer()
    assert (status, headers[b"connection"]) == (400, b"close")
    assert await client.ended() == b""
    assert [path for _, path in echo.requests if path == b"/a"] == []


@pytest.mark.parametrize(
    "chunks", [b"0x4\r\nabcd\r\n", b"-4\r\nabcd\r\n", b"4_0\r\nabcd\r\n", b"4\r\nabcdef\r\n", b"\r\nab", b"g\r\n"]
)
async def test_a_chunk_that_is_none_ends_the_body_as_an_error(serve, echo, chunks):
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    client = await (await serve(echo))(head + chunks + b"0\r\n\r\n" + GET)
    status, headers, _ = await client.answer()
    assert (status, headers[b"connection"]) == (400, b"close")
    assert await client.ended() == b""
    assert echo.bodies == []


async def test_a_refusal_waits_for_its_turn(serve, echo):
    client = await (await serve(echo))(GET + b"nonsense\r\n\r\n")
    assert [(await client.answer())[0] for _ in range(2)] == [200, 400]
    assert await client.ended() == b""


@pytest.mark.parametrize(("path", "status"), [(b"/", 431), (b"/" + b"a" * 200_000, 414)])
async def test_a_head_that_never_ends_is_refused(serve, echo, path, status):
    client = await (await serve(echo))(b"GET %b HTTP/1.1\r\nhost: x\r\n" % path)
    with_more = asyncio.create_task(flood(client, b"x-%d: " + b"a" * 1000 + b"\r\n"))
    assert (await client.answer())[0] == status
    with_more.cancel()
    assert echo.requests == []


async def flood(client, line):
    for number in range(10_000):
        client.send(line % number)
        if number % 50 == 0:
            await asyncio.sleep(0)


async def test_a_trailer_that_never_ends_is_refused(serve, echo):
    client = await (await serve(echo))(
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    )
    with_more = asyncio.create_task(flood(client, b"x-%d: " + b"a" * 1000 + b"\r\n"))
    assert (await client.answer())[0] == 431
    with_more.cancel()


async def test_an_absolute_target_is_a_path(serve, echo):
    client = await (await serve(echo))(b"GET http://X/p?q=1 HTTP/1.1\r\nhost: x\r\n\r\n")
    await client.answer()
    assert (echo.scopes[0]["raw_path"], echo.scopes[0]["query_string"]) == (b"/p", b"q=1")


@pytest.mark.parametrize("target", [b"*", b"example.com:80", b"ftp://x/", b"/a#b"])
async def test_a_target_that_is_no_path_goes_on_for_the_edge_to_refuse(serve, echo, target):
    method = b"OPTIONS" if target == b"*" else b"CONNECT" if b":80" in target else b"GET"
    client = await (await serve(echo))(b"%b %b HTTP/1.1\r\nhost: x\r\n\r\n" % (method, target))
    status, _, _ = await client.answer()
    assert status == 400 or echo.scopes[0]["raw_path"] == target


# Bodies, and who reads them.


async def test_leave_to_send_the_body_is_given_when_it_is_asked_for(serve, echo):
    head = b"POST /p HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    client = await (await serve(echo))(head)
    assert (await client.answer())[0] == 100
    client.send(b"ok")
    assert (await client.answer())[0] == 200
    assert echo.bodies == [b"ok"]


async def test_who_waits_for_leave_and_gets_an_answer_instead_gets_the_end_too(serve):
    async def app(scope, receive, send):
        await send(start(413))
        await send(body())

    head = b"POST /p HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    client = await (await serve(app))(head)
    status, headers, _ = await client.answer()
    assert (status, headers[b"connection"]) == (413, b"close")
    assert await client.ended() == b""


async def test_an_answer_before_the_body_is_read_arrives_and_the_rest_is_read_over(serve):
    async def app(scope, receive, send):
        await send(start(413))
        await send(body(b"no"))

    client = await (await serve(app))(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
    assert (await client.answer())[0] == 413
    client.send(b"a" * 1_000_000 + b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert (await client.answer())[0] == 413


async def test_a_body_that_nobody_reads_makes_its_sender_wait(serve):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await send(start())
        await send(body(b"%d" % len(await read_all(receive))))

    connect = await serve(app)
    client = await connect(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n")
    client.writer.transport.set_write_buffer_limits(high=1)
    client.send(b"a" * 20_000_000)
    await asyncio.sleep(0.1)
    assert client.writer.transport.get_write_buffer_size() > 5_000_000
    go_on.set()
    assert (await client.answer())[2] == b"20000000"


async def test_a_client_that_does_not_read_makes_the_app_wait_and_is_cut_off(serve):
    sent = 0
    ended = asyncio.Event()

    async def app(scope, receive, send):
        nonlocal sent
        await send(start())
        for _ in range(1000):
            await send(body(b"a" * 100_000, more=True))
            sent += 100_000
        ended.set()

    connect = await serve(app, write_timeout=0.2)
    client = await connect()
    client.writer.transport.pause_reading()
    client.send(GET)
    await asyncio.sleep(0.1)
    assert sent < 50_000_000
    await ended.wait()
    assert not connect.server.server_state.connections


@pytest.mark.parametrize("request_head", [GET, GET[:-2] + b"connection: close\r\n\r\n"])
async def test_a_client_that_takes_its_time_but_takes_gets_all_of_it(serve, request_head):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"a" * 12_000_000))

    client = await (await serve(app, write_timeout=1.2, keep_alive=1.2))(request_head)
    await client.reader.readuntil(b"\r\n\r\n")
    left = 12_000_000
    while left:
        left -= len(await client.reader.readexactly(min(left, 400_000)))
        await asyncio.sleep(0.05)


# Who comes.


async def test_where_turns_of_the_loop_are_long_many_are_taken_in_each(serve, echo):
    connect = await serve(echo)
    clients = [socket.create_connection(("127.0.0.1", connect.port)) for _ in range(100)]
    turns = 0
    while len(connect.server.server_state.connections) < len(clients):
        time.sleep(0.02)  # noqa: ASYNC251 - work that the loop waits for
        await asyncio.sleep(0)
        turns += 1
        assert turns < len(clients) / 2
    for each in clients:
        each.close()


# Who leaves.


async def test_the_app_is_told_that_the_client_has_left(serve):
    told = asyncio.Event()

    async def app(scope, receive, send):
        await read_all(receive)
        assert (await receive())["type"] == "http.disconnect"
        await send(start())
        await send(body(b"nobody reads it"))
        told.set()

    client = await (await serve(app))(GET)
    await asyncio.sleep(0.05)
    client.writer.close()
    await told.wait()


async def test_who_asked_to_be_called_is_called(serve):
    left, asked = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        scope["bff.exchange"].on_leave(left.set)
        asked.set()
        await left.wait()

    client = await (await serve(app))(GET)
    await asked.wait()
    client.writer.transport.abort()
    await left.wait()


async def test_who_has_its_answer_calls_nobody(serve):
    left = []

    async def app(scope, receive, send):
        scope["bff.exchange"].on_leave(lambda: left.append(1))
        await send(start())
        await send(body())

    connect = await serve(app)
    client = await connect(GET)
    await client.answer()
    client.writer.close()
    await eventually(lambda: not connect.server.server_state.connections)
    assert left == []


# Time.


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nho"])
async def test_a_head_that_does_not_come_in_time_ends_the_connection(serve, echo, sent):
    client = await (await serve(echo, head_timeout=0.5))(sent)
    answered = await client.ended()
    assert answered.startswith(b"HTTP/1.1 400") == bool(sent)
    assert echo.requests == []


async def test_a_head_that_comes_byte_by_byte_gets_no_more_time(serve, echo):
    client = await (await serve(echo, head_timeout=0.5))(b"GET /")

    async def drip():
        while True:
            client.send(b"a")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    started = asyncio.get_running_loop().time()
    assert (await client.answer())[0] == 400
    assert asyncio.get_running_loop().time() - started < 5  # as it is, it would never end
    dripping.cancel()


async def test_a_connection_that_rests_too_long_is_closed(serve, echo):
    client = await (await serve(echo, keep_alive=0.1, head_timeout=5))(GET)
    assert (await client.answer())[0] == 200
    assert await client.ended() == b""


async def test_what_is_under_way_takes_the_time_it_needs(serve):
    async def app(scope, receive, send):
        await asyncio.sleep(0.5)
        await send(start())
        await send(body(b"done"))

    client = await (await serve(app, keep_alive=0.2, head_timeout=0.2))(GET)
    assert (await client.answer())[2] == b"done"


# The end.


async def test_at_the_end_what_is_under_way_is_answered_and_says_that_it_is_the_last(serve):
    go_on, began = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        began.set()
        await go_on.wait()
        await send(start())
        await send(body(b"done"))

    connect = await serve(app)
    client, idle = await connect(GET), await connect()
    await began.wait()
    connect.server.should_exit = True
    assert await idle.ended() == b""
    go_on.set()
    _, headers, data = await client.answer()
    assert (headers[b"connection"], data) == (b"close", b"done")
    assert await client.ended() == b""
    await connect.serving


async def test_a_request_that_is_half_here_at_the_end_is_answered(serve, echo):
    connect = await serve(echo)
    client = await connect(GET[:20])
    await eventually(lambda: bool(connect.server.server_state.connections))
    await asyncio.sleep(0.05)
    connect.server.should_exit = True
    await asyncio.sleep(0.15)
    client.send(GET[20:])
    _, headers, data = await client.answer()
    assert (headers[b"connection"], data) == (b"close", b"GET /a")


async def test_who_asks_after_the_end_began_is_answered_for_the_last_time(serve, echo, monkeypatch):
    monkeypatch.setattr(connection, "LAST_CALL", 30)  # however late the client is
    connect = await serve(echo)
    kept, new = await connect(GET), await connect()
    assert (await kept.answer())[0] == 200
    await eventually(lambda: len(connect.server.server_state.connections) == 2)
    connect.server.should_exit = True
    await eventually(lambda: all(each._draining for each in connect.server.server_state.connections))
    for client in (kept, new):
        client.send(GET)
        status, headers, data = await client.answer()
        assert (status, headers[b"connection"], data) == (200, b"close", b"GET /a")
        assert await client.ended() == b""
    await connect.serving


async def test_what_takes_too_long_at_the_end_is_cut_off_and_never_looks_whole(serve):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"half", more=True))
        await asyncio.Event().wait()

    connect = await serve(app, grace=1)
    client = await connect(GET)
    await client.reader.readuntil(b"half")
    connect.server.should_exit = True
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.reader.readexactly(100)
    await connect.serving


async def test_who_is_cut_short_has_the_time_to_be_told_so_even_when_nothing_else_is_waited_for(serve):
    async def slow_to_notice(scope, receive, send):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.4)
            await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    async def nothing_to_end(): ...

    connect = await serve(slow_to_notice, drain=nothing_to_end)
    clients = [await connect(GET) for _ in range(3)]
    await eventually(lambda: len(connect.server.server_state.tasks) == 3)
    connect.server.should_exit = connect.server.force_exit = True
    assert [(await each.answer())[0] for each in clients] == [503] * 3
    await connect.serving


# Upgrades.


async def test_a_websocket_is_uvicorns_from_its_handshake_on(serve):
    async def app(scope, receive, send):
        assert scope["type"] == "websocket"
        assert scope["path"] == "/ws"
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"].upper()})
        assert (await receive())["type"] == "websocket.disconnect"

    connect = await serve(app)
    port = connect.server.servers[0].sockets[0].getsockname()[1]
    async with websockets.connect(f"ws://127.0.0.1:{port}/ws") as socket:
        await socket.send("hello")
        assert await socket.recv() == "HELLO"


@pytest.mark.parametrize("rest", [b"", b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_an_upgrade_to_what_is_not_spoken_here_is_an_ordinary_request_and_the_last(serve, echo, rest):
    upgrade = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    client = await (await serve(echo))(upgrade + rest)
    status, headers, _ = await client.answer()
    assert (status, headers[b"connection"]) == (200, b"close")
    assert await client.ended() == b""
    assert echo.requests == [("GET", b"/a")]


# Anything at all.


def plainly(messages):
    """What a parser that is given all at once makes of it: the requests up to the first that is none."""
    found = []

    class Parsed:
        def on_message_begin(self):
            self.url, self.body = b"", b""

        def on_url(self, url):
            self.url += url

        def on_body(self, data):
            self.body += data

        def on_message_complete(self):
            found.append((parser.get_method().decode(), self.url, self.body))

    parser = httptools.HttpRequestParser(Parsed())
    try:
        parser.feed_data(messages)
    except httptools.HttpParserError:
        return found, False
    return found, True


PARTS = [
    GET,
    b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
    b"PUT /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"DELETE /d HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 300 + b"\r\n\r\n",
    b"\r\n",
]


@pytest.mark.parametrize("seed", range(60))
async def test_however_it_is_cut_and_broken_the_app_sees_what_a_plain_parser_sees(serve, echo, seed):
    rng = random.Random(seed)  # noqa: S311
    message = bytearray(b"".join(rng.choices(PARTS, k=rng.randint(1, 6))))
    for _ in range(rng.choice([0, 0, 1, 2])):
        message[rng.randrange(len(message))] = rng.randrange(256)
    whole, sound = plainly(bytes(message))
    client = await (await serve(echo, head_timeout=0.3, keep_alive=0.3, max_pipelined=rng.choice([1, 2, 64])))()
    try:
        at = 0
        while at < len(message):
            step = rng.choice([1, 2, 7, 50, 1000])
            client.send(bytes(message[at : at + step]))
            await asyncio.sleep(0)
            at += step
        answers = await client.ended()
    except ConnectionError:
        answers = b""
    seen = [
        (scope["method"], scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b""), data)
        for scope, data in zip([each for each in echo.scopes if "bff.refusal" not in each], echo.bodies, strict=False)
    ]
    assert seen == [each for each in whole if each[1].startswith(b"/")][: len(seen)]
    if sound and all(each[1].startswith(b"/") and not each[1].endswith(b"?") for each in whole):
        assert len(seen) == len(whole)
        assert answers.count(b"HTTP/1.1 200 OK") >= len(whole)


async def test_a_client_whose_request_was_refused_is_heard_again_a_little_later(serve):
    async def app(scope, receive, send):
        loop.call_later(0.2, scope["bff.exchange"].hold())
        await send(start())
        await send(body(b"no"))

    loop = asyncio.get_running_loop()
    connect = await serve(app)
    client = await connect()
    for _ in range(2):
        client.send(GET)
        assert (await client.answer())[2] == b"no"
    began = loop.time()
    client.send(GET)
    assert (await client.answer())[2] == b"no"
    assert loop.time() - began > 0.1


async def test_one_connection_too_many_takes_the_place_of_the_one_that_rests_longest(serve):
    echo = Echo()
    connect = await serve(echo, max_connections=10)
    clients = [await connect() for _ in range(10)]
    for client in clients[1:]:  # the first one has asked longest ago
        client.send(GET)
        assert (await client.answer())[0] == 200
    newcomer = await connect()
    newcomer.send(GET)
    assert (await newcomer.answer())[0] == 200
    assert await clients[0].ended() == b""
    clients[1].send(GET)
    assert (await clients[1].answer())[0] == 200


async def test_where_no_connection_rests_one_too_many_is_refused_and_counted_as_a_request(serve):
    opened = asyncio.Event()

    async def app(scope, receive, send):
        refusal = scope.get("bff.refusal")
        if refusal is None:
            await opened.wait()
        await send(start(200 if refusal is None else refusal.status))
        await send(body(b"done"))

    connect = await serve(app, max_connections=10)
    clients = [await connect() for _ in range(10)]
    for client in clients:
        client.send(GET)
    await asyncio.sleep(0.05)
    newcomer = await connect()
    assert (await newcomer.answer())[0] == 503
    opened.set()
    for client in clients:
        assert (await client.answer())[0] == 200
