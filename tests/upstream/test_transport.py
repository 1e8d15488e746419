"""What is sent is what the request has, what comes back is what the service sent, and nothing can be read two ways."""

import asyncio
import gzip
import re

import httpx
import pytest

from bff.core.head import lines
from bff.upstream.phases import Phase, phase_of
from bff.upstream.transport import WholeBody
from bff.upstream.wire import NOTHING, Fields, request_of
from tests.upstream.raw import OK, eventually, get, idle

HEAD = b"HTTP/1.1 200 OK\r\n"


async def chunks(*pieces, pause=0):
    for piece in pieces:
        await asyncio.sleep(pause)
        yield piece


async def body_of(response):
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.stream.aclose()


# Requests


async def test_the_request_goes_out_byte_for_byte(serve, transport):
    server = await serve()
    headers = [
        (b"X-Id", b"1"),
        (b"host", b"users.example"),
        (b"x-ID", b"2"),
        (b"X-Name", "Zoë".encode("latin-1")),
        (b"Accept-Encoding", b"br;q=1.0, gzip"),
    ]
    request = httpx.Request("GET", server.url + "/a%2Fb/c;d?x=[1]&y=%5B2%5D&z", headers=headers)
    await transport.handle_async_request(request)
    lines = [b"GET /a%2Fb/c;d?x=[1]&y=%5B2%5D&z HTTP/1.1", *(name + b": " + value for name, value in headers)]
    assert server.requests == [b"\r\n".join([*lines, b"", b""])]


@pytest.mark.parametrize("name", [b"x-50%", b"%b", b"%s%%", b"x" * 5000])
async def test_any_name_of_a_header_goes_out_as_it_is(serve, transport, name):
    server = await serve()
    for value in (b"first", b"%b second"):
        headers = [(b"host", b"h"), (name, value), (b"x-last", b"1")]
        await transport.handle_async_request(httpx.Request("GET", server.url, headers=headers))
        assert b"\r\n%b: %b\r\nx-last: 1\r\n\r\n" % (name, value) in server.requests[-1]


async def test_a_target_is_sent_in_place_of_the_url(serve, transport):
    server = await serve()
    await transport.handle_async_request(get(server.url + "/other", target=b"/a/../b?q={raw}"))
    assert server.requests[0].startswith(b"GET /a/../b?q={raw} HTTP/1.1\r\n")


@pytest.mark.parametrize("size", [5, 60_000, 1_000_000])
async def test_a_body_at_hand_is_sent_in_full(serve, transport, size):
    server = await serve()
    content = bytes(range(250)) * (size // 250) or b"hello"
    response = await transport.handle_async_request(httpx.Request("POST", server.url, content=content))
    assert response.status_code == 200
    assert server.requests[0].endswith(b"\r\n\r\n" + content)


async def test_a_streamed_body_is_chunked_and_has_no_empty_chunk_inside(serve, transport):
    server = await serve()
    body = chunks(b"hello ", b"", b"w" * 300)
    await transport.handle_async_request(httpx.Request("POST", server.url, content=body))
    assert server.requests[0].endswith(b"\r\n\r\n6\r\nhello \r\n12c\r\n" + b"w" * 300 + b"\r\n0\r\n\r\n")


async def test_a_body_at_hand_may_be_sent_as_chunks(serve, transport):
    server = await serve()
    for content, expected in ((b"hello", b"5\r\nhello\r\n0\r\n\r\n"), (b"", b"0\r\n\r\n")):
        headers, stream = {"host": "h", "transfer-encoding": "chunked"}, httpx.ByteStream(content)
        await transport.handle_async_request(httpx.Request("PUT", server.url, headers=headers, stream=stream))
        assert server.requests[-1].endswith(b"\r\n\r\n" + expected)


async def test_a_streamed_body_with_a_length_is_sent_plain(serve, transport):
    server = await serve()
    headers = {"content-length": "5"}
    await transport.handle_async_request(
        httpx.Request("PUT", server.url, headers=headers, content=chunks(b"he", b"llo"))
    )
    assert server.requests[0].endswith(b"content-length: 5\r\n\r\nhello")
    assert b"chunked" not in server.requests[0]


async def test_expect_is_not_sent_as_the_body_does_not_wait(serve, transport):
    server = await serve()
    headers = {"Expect": "100-continue"}
    await transport.handle_async_request(httpx.Request("POST", server.url, headers=headers, content=b"hello"))
    assert b"expect" not in server.requests[0].lower()


async def test_expect_is_not_sent_either_where_it_is_all_that_was_given(serve, transport):
    server = await serve()
    given = Fields([(b"expect", b"100-continue")], lines([(b"host", b"h")]))
    await transport.handle_async_request(request_of("GET", httpx.URL(server.url), given, {"target": b"/a"}, NOTHING))
    assert server.requests == [b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"]


@pytest.mark.parametrize(
    "request_",
    [
        httpx.Request("GET", "http://h/", headers=[(b"a", b"b\r\nx: y")]),
        httpx.Request("GET", "http://h/", headers=[(b"a", b"b\nx: y")]),
        httpx.Request("GET", "http://h/", headers=[(b"a", b"b\0")]),
        httpx.Request("GET", "http://h/", headers=[(b"content-length ", b"1")]),
        httpx.Request("GET", "http://h/", headers=[(b"a: b", b"c")]),
        httpx.Request("GET", "http://h/", headers=[(b"", b"c")]),
        httpx.Request("GET /admin HTTP/1.1\r\nx:", "http://h/"),
        httpx.Request("", "http://h/"),
        httpx.Request("GÉT", "http://h/"),
        httpx.Request("CONNECT", "http://h/"),
        httpx.Request("GET", "http://h/", extensions={"target": b"/ HTTP/1.1\r\nx: y\r\n"}),
        httpx.Request("GET", "http://h/", extensions={"target": b"/a b"}),
        httpx.Request("GET", "http://h/", headers=[(b"host", b"a"), (b"host", b"b")]),
        httpx.Request("GET", "http://h/", stream=httpx.ByteStream(b"")),
        httpx.Request("POST", "http://h/", content=b"ab", headers={"content-length": "1"}),
        httpx.Request("POST", "http://h/", headers={"content-length": "1"}),
        httpx.Request("POST", "http://h/", content=b"a", headers={"content-length": "+1"}),
        httpx.Request("POST", "http://h/", content=b"a", headers=[("content-length", "1"), ("content-length", "1")]),
        httpx.Request(
            "POST", "http://h/", content=b"a", headers={"content-length": "1", "transfer-encoding": "chunked"}
        ),
        httpx.Request("POST", "http://h/", content=b"a", headers={"transfer-encoding": "gzip, chunked"}),
        httpx.Request("POST", "http://h/", headers={"host": "h"}, stream=httpx.ByteStream(b"a")),
        httpx.Request("POST", "http://h/", headers={"host": "h"}, stream=httpx.AsyncByteStream()),
        httpx.Request("POST", "http://h/", content=iter([b"a"])),
    ],
)
async def test_a_request_that_could_be_read_two_ways_is_not_sent(serve, transport, request_):
    server = await serve()
    request_.url = httpx.URL(server.url)
    with pytest.raises(httpx.LocalProtocolError) as caught:
        await transport.handle_async_request(request_)
    assert phase_of(caught.value) is Phase.SEND
    assert caught.value.request is request_
    assert server.connections == 0


@pytest.mark.parametrize("looked_at", [False, True])
async def test_lines_that_are_written_out_are_sent_first_and_are_headers_to_whoever_looks(serve, transport, looked_at):
    server = await serve()
    own = [(b"host", b"h"), (b"x-auth-subject", b"a: b"), (b"x-none", b"")]
    given = [(b"accept", b"*/*"), (b"Via", b"1.1 a")]
    request = request_of("GET", httpx.URL(server.url), Fields(given, lines(own)), {"target": b"/a"}, NOTHING)
    assert request.headers.raw == own + given
    if looked_at:
        assert request.headers.multi_items() == [(name.decode().lower(), value.decode()) for name, value in own + given]
    await transport.handle_async_request(request)
    head = [b"GET /a HTTP/1.1", *(name + b": " + value for name, value in own + given)]
    assert server.requests == [b"\r\n".join([*head, b"", b""])]


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize(
    "header",
    [
        (b"x-auth-subject", b"a\r\nx-auth-scopes: all"),
        (b"x-auth-subject", b"a\nb"),
        (b"x-auth-subject", b"a\rb"),
        (b"x-auth-subject", b"a\0b"),
        (b"x auth", b"a"),
        (b"x:auth", b"a"),
        (b"", b"a"),
    ],
)
async def test_a_request_is_not_sent_with_lines_that_could_be_read_two_ways_nor_without(
    serve, transport, header, looked_at
):
    server = await serve()
    own = lines([(b"host", b"h")]) + lines([(b"x-auth-scopes", b"one"), header])
    request = request_of("GET", httpx.URL(server.url), Fields([(b"accept", b"*/*")], own), {}, NOTHING)
    if looked_at:
        request.headers.multi_items()
    with pytest.raises(httpx.LocalProtocolError):
        await transport.handle_async_request(request)
    assert server.connections == 0


@pytest.mark.parametrize("pieces", [(b"he",), (b"hello", b"!")])
async def test_a_streamed_body_that_breaks_its_promise_of_length_ends_the_connection(serve, transport, pieces):
    received = []

    async def listening(peer):
        await peer.head()
        while data := await peer.read():
            received.append(data)

    server = await serve(listening)
    request = httpx.Request("POST", server.url, headers={"content-length": "5"}, content=chunks(*pieces))
    with pytest.raises(httpx.LocalProtocolError):
        await transport.handle_async_request(request)
    await eventually(lambda: server.ended == 1)
    assert b"hello".startswith(b"".join(received))


async def test_an_error_of_the_callers_own_stream_comes_back_as_it_is(serve, transport):
    async def broken():
        yield b"a"
        raise ValueError("the client went away")

    server = await serve()
    with pytest.raises(ValueError, match="the client went away"):
        await transport.handle_async_request(httpx.Request("POST", server.url, content=broken()))
    await eventually(lambda: server.ended == 1)


async def test_an_answer_that_comes_before_the_body_is_sent_is_returned_at_once(serve, transport):
    ended = asyncio.Event()

    async def endless():
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async def refusing(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await peer.hang()

    server = await serve(refusing)
    response = await transport.handle_async_request(httpx.Request("POST", server.url, content=endless()))
    assert (response.status_code, await body_of(response)) == (413, b"big")
    await asyncio.wait_for(ended.wait(), 20)
    await eventually(lambda: server.ended == 1)


async def test_the_answer_of_a_service_that_refuses_and_closes_is_not_lost(serve, transport):
    async def refusing(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig")

    server = await serve(refusing)
    body = chunks(*[b"x" * 10_000] * 50, pause=0.001)
    response = await transport.handle_async_request(httpx.Request("POST", server.url, content=body))
    assert (response.status_code, await body_of(response)) == (413, b"big")


async def test_request_and_answer_can_stream_at_the_same_time(serve, transport):
    async def echo(peer):
        await peer.head()
        await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while (data := await peer.read()) != b"0\r\n\r\n":
            await peer.send(data)
        await peer.send(b"0\r\n\r\n")

    questions = asyncio.Queue()

    async def asking():
        while question := await questions.get():
            yield question

    server = await serve(echo)
    response = await transport.handle_async_request(httpx.Request("POST", server.url, content=asking()))
    answers = aiter(response.stream)
    for question in (b"one", b"two", b"three"):
        await questions.put(question)
        assert await anext(answers) == question
    await questions.put(b"")
    assert [piece async for piece in answers] == []
    await eventually(lambda: idle(transport) == 1)


async def test_a_service_that_reads_slowly_slows_the_sender_down(serve, connect):
    produced = 0

    async def producing():
        nonlocal produced
        for _ in range(1000):
            produced += 64 * 1024
            yield b"x" * 64 * 1024

    async def not_reading(peer):
        await peer.head()
        await reading.wait()
        while not (await peer.read()).endswith(b"0\r\n\r\n"):
            pass
        await peer.send(OK)

    reading = asyncio.Event()
    server = await serve(not_reading)
    transport = connect(max_buffered="64KB")
    call = asyncio.create_task(transport.handle_async_request(httpx.Request("POST", server.url, content=producing())))
    await eventually(lambda: produced)
    await asyncio.sleep(0.2)
    # What the sockets of both ends hold is the system's; the rest is ours to bound.
    assert produced < 16 * 1024 * 1024
    reading.set()
    assert (await call).status_code == 200
    assert produced == 1000 * 64 * 1024


# Answers

FRAMED = {
    "content-length": ("GET", HEAD + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
    "empty": ("GET", HEAD + b"Content-Length: 0\r\n\r\n", b"", True),
    "chunked": ("GET", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", b"abc", True),
    "Chunked": ("GET", HEAD + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", b"", True),
    "trailers": (
        "GET",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"a",
        True,
    ),
    "no reason": ("GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 300\r\n\r\n", b"", True),
    "HEAD": ("HEAD", HEAD + b"Content-Length: 300\r\n\r\n", b"", True),
    "HEAD, chunked": ("HEAD", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"", True),
    "100": ("POST", b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 1\r\n\r\na", b"a", True),
    "103": (
        "GET",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2 + HEAD + b"Content-Length: 1\r\n\r\na",
        b"a",
        True,
    ),
    "103 with a length": (
        "GET",
        b"HTTP/1.1 103 Hints\r\nContent-Length: 9\r\n\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"",
        True,
    ),
    "close": ("GET", HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
    "1.0": ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
    "1.0, kept": ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
}


@pytest.mark.parametrize("pace", ["at once", "byte by byte"])
@pytest.mark.parametrize("case", FRAMED)
async def test_where_an_answer_ends_is_known(serve, transport, case, pace):
    method, raw, body, reused = FRAMED[case]

    async def framing(peer):
        while True:
            await peer.request()
            await (peer.send(raw) if pace == "at once" else peer.drip(raw))

    server = await serve(framing)
    for _ in range(3):
        response = await transport.handle_async_request(httpx.Request(method, server.url))
        assert await body_of(response) == body
        names = [name for name, _ in response.headers.raw]
        assert b"Link" not in names
        assert b"X-Sum" not in names
        assert response.http_version == ("HTTP/1.0" if case.startswith("1.0") else "HTTP/1.1")
    assert server.connections == (1 if reused else 3)


@pytest.mark.parametrize("head", [HEAD, b"HTTP/1.0 200 OK\r\n", HEAD + b"Connection: close\r\n"])
@pytest.mark.parametrize("pause", [0, 0.01])
async def test_a_body_without_a_length_ends_with_the_connection(serve, transport, head, pause):
    async def until_closed(peer):
        await peer.request()
        await peer.send(head + b"\r\nabc")
        await asyncio.sleep(pause)
        await peer.send(b"def")

    server = await serve(until_closed)
    for _ in range(2):
        response = await transport.handle_async_request(get(server.url))
        assert await body_of(response) == b"abcdef"
    assert server.connections == 2


async def test_headers_of_an_answer_keep_their_bytes_order_and_doubles(serve, transport):
    async def talkative(peer):
        fields = b"Set-Cookie: a=1\r\nX-Name: Zo\xeb\r\nSet-Cookie: b=2; Secure\r\nx-empty:\r\nX-Space: \t x  \r\n"
        await peer.answer(HEAD + fields + b"Content-Length: 0\r\n\r\n")

    server = await serve(talkative)
    response = await transport.handle_async_request(get(server.url))
    assert response.headers.raw == [
        (b"Set-Cookie", b"a=1"),
        (b"X-Name", b"Zo\xeb"),
        (b"Set-Cookie", b"b=2; Secure"),
        (b"x-empty", b""),
        (b"X-Space", b"x"),
        (b"Content-Length", b"0"),
    ]


async def test_cookies_redirects_and_codings_are_left_to_whoever_asked(serve, transport):
    coded = gzip.compress(b"hello")
    raw = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nSet-Cookie: session=alice\r\nContent-Encoding: gzip\r\n"

    async def redirecting(peer):
        while True:
            await peer.answer(raw + b"Content-Length: %d\r\n\r\n" % len(coded) + coded)

    server = await serve(redirecting)
    for _ in range(2):
        response = await transport.handle_async_request(get(server.url.replace("127.0.0.1", "localhost") + "/first"))
        assert response.status_code == 302
        assert await body_of(response) == coded
    assert all(request.startswith(b"GET /first ") for request in server.requests)
    assert b"alice" not in b"".join(server.requests)


NONSENSE = {
    "garbage": b"\x00\x01\x02 hello\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status 000": b"HTTP/1.1 000 x\r\ncontent-length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 x\r\ncontent-length: 0\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n\x81\x00",
    "101 without upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "length and coding": HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "coding and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "two lengths in one": HEAD + b"content-length: 3, 3\r\n\r\nabc",
    "length +3": HEAD + b"content-length: +3\r\n\r\nabc",
    "length 2^70": HEAD + b"content-length: 1180591620717411303424\r\n\r\nabc",
    "coding twice": HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "coding unknown": HEAD + b"transfer-encoding: identity\r\n\r\nabc",
    "bad chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "folded header": HEAD + b"a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "space before colon": HEAD + b"content-length : 3\r\n\r\nabc",
    "zero byte": HEAD + b"a: b\0c\r\ncontent-length: 0\r\n\r\n",
    "truncated head": HEAD + b"content-le",
    "truncated body": HEAD + b"content-length: 5\r\n\r\nabc",
    "truncated chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nabc",
    "no last chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "large head": HEAD + b"a: " + b"x" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "endless head": HEAD + b"".join(b"x-%d: y\r\n" % number for number in range(20_000)),
    "endless line": b"HTTP/1.1 200 " + b"x" * 200_000,
    "endless hints": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 10_000,
    "large trailers": HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\na: " + b"x" * 70_000 + b"\r\n\r\n",
    "many trailers": HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 50_000 + b"\r\n",
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("case", NONSENSE)
async def test_nonsense_is_an_error_of_the_service_and_ends_the_connection(serve, transport, case, whole):
    async def nonsensical(peer):
        await peer.answer(NONSENSE[case])
        if "truncated" not in case and case != "no last chunk":
            await peer.hang()

    server = await serve(nonsensical)
    with pytest.raises(httpx.RemoteProtocolError) as caught:
        await body_of(await transport.handle_async_request(get(server.url, whole=whole)))
    assert phase_of(caught.value) in {Phase.FIRST_BYTE, Phase.BODY}
    assert caught.value.request.url == server.url
    await eventually(lambda: server.ended == 1)
    assert server.connections == 1


async def test_a_head_within_its_bound_is_read_however_much_comes_with_it(serve, connect):
    async def large(peer):
        while True:
            await peer.answer(HEAD + b"content-length: 200000\r\na: " + b"x" * 1000 + b"\r\n\r\n" + b"y" * 200_000)

    transport = connect(max_head=2000)
    server = await serve(large)
    assert len(await body_of(await transport.handle_async_request(get(server.url)))) == 200_000


@pytest.mark.parametrize("extra", [b"x", OK, OK[:20], b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"])
@pytest.mark.parametrize("when", ["with it", "after it", "while idle"])
async def test_more_than_was_asked_for_is_nobodys_answer(serve, transport, extra, when):
    async def twice(peer):
        if peer.number > 1:
            await peer.answer()
            return
        await peer.answer(OK + extra if when == "with it" else OK)
        if when == "while idle":
            await asyncio.sleep(0.05)
        if when != "with it":
            await peer.send(extra)
        await peer.hang()

    server = await serve(twice)
    assert await body_of(await transport.handle_async_request(get(server.url))) == b"ok"
    await eventually(lambda: server.ended == 1)
    assert await body_of(await transport.handle_async_request(get(server.url))) == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize("extra", [b"", b"x", OK])
@pytest.mark.parametrize("coding", ["content-length", "chunked"])
async def test_a_large_body_ends_where_it_says(serve, transport, coding, extra):
    content = bytes(range(256)) * 4000
    plain = HEAD + b"content-length: %d\r\n\r\n" % len(content) + content
    pieces = [b"%x\r\n%b\r\n" % (size, content[:size]) for size in (1, 70_000, 300_000)]
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"".join(pieces) + b"0\r\n\r\n"

    async def large(peer):
        while True:
            await peer.answer((plain if coding == "content-length" else chunked) + extra)

    server = await serve(large)
    for _ in range(3):
        body = await body_of(await transport.handle_async_request(get(server.url)))
        assert body == (content if coding == "content-length" else content[:1] + content[:70_000] + content[:300_000])
        if extra:
            await eventually(lambda: server.open == 0)
    assert server.connections == (3 if extra else 1)


async def test_a_large_body_that_ends_early_is_an_error(serve, transport):
    async def truncating(peer):
        await peer.answer(HEAD + b"content-length: 1000000\r\n\r\n")
        await peer.drip([b"x" * 100_000] * 9, 0.01)

    server = await serve(truncating)
    with pytest.raises(httpx.RemoteProtocolError):
        await body_of(await transport.handle_async_request(get(server.url)))


async def test_a_body_after_the_answer_to_head_is_nobodys_answer(serve, transport):
    async def too_much(peer):
        await peer.answer(OK)
        await peer.hang()

    server = await serve(too_much)
    response = await transport.handle_async_request(httpx.Request("HEAD", server.url))
    assert await body_of(response) == b""
    await eventually(lambda: server.ended == 1)


# Bodies


async def test_a_body_that_came_with_its_head_needs_no_waiting(serve, transport):
    server = await serve()
    response = await transport.handle_async_request(get(server.url))
    assert isinstance(response.stream, WholeBody)
    assert response.stream.content == b"ok"
    assert idle(transport) == 1
    assert await response.aread() == b"ok"


async def test_the_head_is_returned_while_the_body_is_on_its_way(serve, transport):
    go_on = asyncio.Event()

    async def halting(peer):
        await peer.answer(HEAD + b"content-length: 6\r\n\r\nabc")
        await go_on.wait()
        await peer.send(b"def")
        await peer.hang()

    server = await serve(halting)
    response = await transport.handle_async_request(get(server.url))
    pieces = aiter(response.stream)
    assert await anext(pieces) == b"abc"
    go_on.set()
    assert [piece async for piece in pieces] == [b"def"]
    assert idle(transport) == 1


async def test_the_whole_body_is_waited_for_on_demand(serve, transport):
    async def slow(peer):
        await peer.request()
        await peer.drip(HEAD + b"content-length: 6\r\n\r\nabcdef", 0.001)
        await peer.hang()

    server = await serve(slow)
    response = await transport.handle_async_request(get(server.url, whole=True))
    assert response.stream.content == b"abcdef"
    assert idle(transport) == 1


async def test_a_whole_body_is_never_more_than_may_be_buffered(serve, connect):
    async def large(peer):
        await peer.answer(HEAD + b"content-length: 4000000\r\n\r\n" + b"x" * 4_000_000)

    server = await serve(large)
    transport = connect(max_buffered="64KB")
    response = await transport.handle_async_request(get(server.url, whole=True))
    assert not isinstance(response.stream, WholeBody)
    assert len(await body_of(response)) == 4_000_000


async def test_a_slow_reader_slows_the_service_down(serve, connect):
    sent = 0

    async def pouring(peer):
        nonlocal sent
        await peer.answer(HEAD + b"content-length: 64000000\r\n\r\n")
        for _ in range(1000):
            await peer.send(b"x" * 64_000)
            sent += 64_000

    server = await serve(pouring)
    transport = connect(max_buffered="64KB")
    response = await transport.handle_async_request(get(server.url))
    pieces = aiter(response.stream)
    received = len(await anext(pieces))
    await asyncio.sleep(0.2)
    assert sent < 16_000_000
    async for piece in pieces:
        assert len(piece) < 1_000_000
        received += len(piece)
    assert received == 64_000_000


async def test_closing_early_closes_the_connection(serve, transport):
    async def endless(peer):
        await peer.answer(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"3\r\nabc\r\n")
            await asyncio.sleep(0.001)

    server = await serve(endless)
    response = await transport.handle_async_request(get(server.url))
    async for piece in response.stream:
        assert re.fullmatch(b"(abc)+", piece)
        break
    await response.aclose()
    await eventually(lambda: server.ended == 1)
    assert idle(transport) == 0
    with pytest.raises(httpx.StreamClosed):
        await anext(aiter(response.stream))


async def test_closing_early_keeps_the_connection_if_all_has_come(serve, transport):
    async def two_writes(peer):
        await peer.answer(HEAD + b"content-length: 6\r\n\r\nabc")
        await asyncio.sleep(0.02)
        await peer.send(b"def")
        await peer.hang()

    server = await serve(two_writes)
    response = await transport.handle_async_request(get(server.url))
    await asyncio.sleep(0.1)
    await response.aclose()
    assert idle(transport) == 1


async def test_an_answer_is_all_that_httpx_makes_of_one(serve, transport):
    server = await serve()
    request = get(server.url)
    answer = await transport.handle_async_request(request)
    parts = {"headers": answer.headers, "stream": answer.stream, "extensions": answer.extensions}
    assert vars(answer) == vars(httpx.Response(answer.status_code, request=request, **parts))


async def test_it_is_an_httpx_transport(serve, transport):
    server = await serve()
    async with httpx.AsyncClient(transport=transport, base_url=server.url) as client:
        assert (await client.get("/users", params={"ids": "a,b"})).text == "ok"
        assert (await client.post("/users", json={"a": 1})).text == "ok"
    assert server.requests[0].startswith(b"GET /users?ids=a%2Cb HTTP/1.1\r\n")
