"""Routes for clients of HTTP/2: a body comes to its service as it was sent, whether or not it says how long it is."""

import contextlib
import re

import pytest

from tests.harness import gateway
from tests.server.h2.conftest import ASK
from tests.upstream.raw import OK, Server

POST = [(":method", "POST"), *ASK[1:]]


@contextlib.asynccontextmanager
async def passing(http2):
    """Clients of a gateway, and what its service got of each request: the head and the body."""
    received = []

    async def script(peer):
        while True:
            head = (await peer.head()).lower()
            received.append((head, await body_of(peer, head)))
            await peer.send(OK)

    there = await Server(script).start()
    route = {"name": "any", "path": "/{rest*}", "service": "users", "public": True}
    one = gateway(real_network=True, services={"users": {"url": there.url}}, routes=[route])
    yield await http2(one.app), received
    await one.close()
    await there.stop()


async def body_of(peer, head):
    body = b""
    if b"transfer-encoding" in head:
        while not body.endswith(b"\r\n\r\n"):
            body += await peer.read()
    elif length := re.search(rb"content-length: (\d+)", head):
        while len(body) < int(length[1]):
            body += await peer.read()
    return body


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("trailers", [[], [("x-sum", "abc"), ("authorization", "forged")]])
async def test_a_body_without_a_length_comes_whole_and_its_trailers_after_it(http2, at_once, trailers):
    async with passing(http2) as (connect, received):
        client = await connect()
        number = client.ask(POST, b"hello" if at_once else b"", ended=False)
        if not at_once:
            client.h2.send_data(number, b"hello")
        if trailers:
            client.h2.send_headers(number, trailers, end_stream=True)
        else:
            client.h2.end_stream(number)
        client.flush()
        assert (await client.answer(number))[0] == 200
    ((head, body),) = received
    if b"transfer-encoding: chunked" in head:
        assert b"content-length" not in head
        assert body == b"5\r\nhello\r\n0\r\n" + b"x-sum: abc\r\n" * bool(trailers) + b"\r\n"
    else:
        assert b"content-length: 5" in head
        assert body == b"hello"
        assert not trailers


async def test_a_body_that_never_had_a_byte_is_none(http2):
    async with passing(http2) as (connect, received):
        client = await connect()
        number = client.ask(ended=False)
        client.h2.end_stream(number)
        client.flush()
        assert (await client.answer(number))[0] == 200
    ((head, body),) = received
    assert body in {b"", b"0\r\n\r\n"}
    assert b"content-length" not in head
