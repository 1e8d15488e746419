"""Header lines that were read before: a request that repeats them is the one that a parser would find, or is parsed."""

import asyncio
import random
import tracemalloc

import httptools
import pytest

from bff.core.head import head_of
from bff.server.repeats import Repeats
from tests.server.test_connection import Echo
from tests.upstream.raw import eventually

PLAIN = b"host: x\r\naccept: a\r\n\r\n"


def learned(lines, head=None, first=b"GET /a HTTP/1.1\r\n", *, keep_alive=True):
    """What a connection knows after such a request, which a parser has read as `head`."""
    repeats = Repeats()
    assert repeats.request_in(first + lines) is None
    repeats.learn(head or head_of([(b"host", b"x"), (b"accept", b"a")]), keep_alive=keep_alive)
    return repeats


def test_the_same_lines_need_no_parser_whatever_is_asked_for():
    repeats = learned(PLAIN)
    method, url, head, body = repeats.request_in(b"DELETE /b?c=%20d HTTP/1.1\r\n" + PLAIN)
    assert (method, url, body) == (b"DELETE", b"/b?c=%20d", b"")
    assert head.headers == [(b"host", b"x"), (b"accept", b"a")]


def test_a_body_comes_with_the_lines_that_say_how_long_it_is():
    lines = b"host: x\r\ncontent-length: 3\r\n\r\n"
    repeats = learned(lines + b"abc", head_of([(b"host", b"x"), (b"content-length", b"3")]), b"POST /a HTTP/1.1\r\n")
    assert repeats.request_in(b"POST /b HTTP/1.1\r\n" + lines + b"def")[3] == b"def"
    for other in (b"", b"de", b"defg", b"defGET /c HTTP/1.1\r\n"):
        assert repeats.request_in(b"POST /b HTTP/1.1\r\n" + lines + other) is None


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://x/ HTTP/1.1\r\n",
        b"GET /a HTTP/1.0\r\n",
        b"GET /a HTTP/1.1\n",
        b"GET  /a HTTP/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET /\x80 HTTP/1.1\r\n",
        b"GET /#a HTTP/1.1\r\n",
        b"CONNECT x:80 HTTP/1.1\r\n",
        b"get /a HTTP/1.1\r\n",
        b"\r\nGET /a HTTP/1.1\r\n",
    ],
)
def test_a_line_that_is_not_plain_is_for_the_parser(line):
    assert learned(PLAIN).request_in(line + PLAIN) is None


@pytest.mark.parametrize(
    ("lines", "headers"),
    [
        (b"host: x\naccept: a\r\n\r\n", [(b"host", b"x"), (b"accept", b"a")]),
        (b"host: x\n\nGET /b HTTP/1.1\r\nhost: y\r\n\r\n", [(b"host", b"x")]),
        (b"host: x\raccept: a\r\n\r\n", [(b"host", b"x\raccept: a")]),
        (b"host: x\r\n accept: a\r\n\r\n", [(b"host", b"x accept: a")]),
        (b"host : x\r\n\r\n", [(b"host", b"x")]),
        (b"host: y\r\n\r\n", [(b"host", b"x")]),
        (b"host: x\r\nhost: x\r\n\r\n", [(b"host", b"x"), (b"host", b"x")]),
        (b"host: x\r\ntransfer-encoding: chunked\r\n\r\n", [(b"host", b"x"), (b"transfer-encoding", b"chunked")]),
        (b"host: x\r\nexpect: 100-continue\r\n\r\n", [(b"host", b"x"), (b"expect", b"100-continue")]),
        (b"host: x\r\ncontent-length: -1\r\n\r\n", [(b"host", b"x"), (b"content-length", b"-1")]),
        (b"host: x\r\na: " + b"b" * 4096 + b"\r\n\r\n", [(b"host", b"x"), (b"a", b"b" * 4096)]),
    ],
)
def test_lines_that_two_could_read_in_two_ways_are_not_remembered(lines, headers):
    assert learned(lines, head_of(headers)).request_in(b"GET /b HTTP/1.1\r\n" + lines) is None


def test_who_closes_after_a_request_is_asked_by_the_parser():
    assert learned(PLAIN, keep_alive=False).request_in(b"GET /b HTTP/1.1\r\n" + PLAIN) is None


def test_what_is_remembered_has_a_bound():
    repeats = Repeats()

    def ask(number):
        value = b"%d" % number * 200
        data = b"GET / HTTP/1.1\r\nhost: x\r\na: " + value + b"\r\n\r\n"
        if repeats.request_in(data) is None:
            repeats.learn(head_of([(b"host", b"x"), (b"a", value)]), keep_alive=True)

    ask(0)
    tracemalloc.start()
    try:
        for number in range(100, 1000):
            ask(number)
        assert tracemalloc.get_traced_memory()[0] < 20_000
    finally:
        tracemalloc.stop()


async def test_what_a_client_said_is_forgotten_while_it_rests_and_its_connection_is_not(serve, monkeypatch):
    monkeypatch.setattr("bff.server.connection.WARM", 0.05)
    echo, request = Echo(), b"GET /a HTTP/1.1\r\n" + PLAIN
    connect = await serve(echo, keep_alive=60)
    client = await connect()
    for _ in range(3):
        client.send(request)
        assert (await client.answer())[2] == b"GET /a"
        (connection,) = connect.server.server_state.connections
        await eventually(lambda of=connection: not of._repeats._kept)
    assert len(echo.scopes) == 3


async def test_who_rests_for_too_long_is_closed_after_being_forgotten(serve, monkeypatch):
    monkeypatch.setattr("bff.server.connection.WARM", 0.05)
    client = await (await serve(Echo(), keep_alive=0.2))(b"GET /a HTTP/1.1\r\n" + PLAIN)
    assert (await client.answer())[2] == b"GET /a"
    assert await client.ended() == b""


PARTS = [
    b"GET /a?b=1 HTTP/1.1\r\nhost: x\r\naccept: a\r\n\r\n",
    b"GET /other HTTP/1.1\r\nhost: x\r\naccept: a\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: x\r\nAccept:a \r\n\r\n",
    b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
    b"POST /q HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nGET",
    b"POST /q HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    b"PUT /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /lf HTTP/1.1\r\nhost: x\n\r\n",
    b"GET /close HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    b"GET /old HTTP/1.0\r\nhost: x\r\naccept: a\r\n\r\n",
    b"\r\n",
]


class Plainly:
    """What the app would see of a connection whose every request a parser has read."""

    def __init__(self, messages):
        self.found, self.sound = [], True
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(messages)
        except httptools.HttpParserError:
            self.sound = False

    def on_message_begin(self):
        self._url, self._body, self._headers, self._whole = b"", b"", [], False

    def on_url(self, url):
        self._url += url

    def on_header(self, name, value):
        self._headers.append((name.lower(), value))

    def on_body(self, data):
        self._body += data

    def on_message_complete(self):
        self.found.append((self._parser.get_method().decode(), self._url, self._headers, self._body))


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_is_repeated_the_app_sees_what_a_plain_parser_sees(serve, seed):
    rng, echo, sent = random.Random(seed), Echo(), b""  # noqa: S311

    def all_seen():
        return len(echo.bodies) == len(plainly.found)

    client = await (await serve(echo))()
    for part in rng.choices(PARTS, weights=[4, 4, 2, 4, 4, 2, 1, 0.2, 0.2, 0.2, 1], k=30):
        message = part + (rng.choice(PARTS) if rng.random() < 0.1 else b"")
        sent += message
        client.send(message)
        plainly = Plainly(sent)
        if not plainly.sound:
            break
        if rng.random() < 0.9:
            await eventually(all_seen)
            await asyncio.sleep(0.001)  # most are answered by then, and the next one can be known
    await eventually(all_seen)
    seen = []
    for scope, body in zip([each for each in echo.scopes if "bff.refusal" not in each], echo.bodies, strict=True):
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        seen.append((scope["method"], scope["raw_path"] + query, scope["headers"], body))
    assert seen == plainly.found
