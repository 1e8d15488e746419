"""Early hints before an answer, and trailers after a body, both ways, byte by byte."""

import contextlib

import pytest

from tests.harness import gateway
from tests.server.conftest import served
from tests.upstream.raw import Server

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nServer: x\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TRAILERS = b"0\r\nX-Sum: abc\r\nContent-Type: a/b\r\nSet-Cookie: a=b\r\nServer: x\r\n\r\n"


def asked(*headers, method=b"GET"):
    lines = b"".join(b"%b\r\n" % header for header in headers)
    return b"%b /any HTTP/1.1\r\nhost: gateway.example\r\n%b\r\n" % (method, lines)


@contextlib.asynccontextmanager
async def passing(script, public=True, cache=False, **settings):
    there = await Server(script).start()
    route = {"name": "any", "path": "/{rest*}", "service": "users", "public": public, "cache": cache}
    one = gateway(real_network=True, services={"users": {"url": there.url}}, routes=[route], **settings)
    async with served(one.app) as connect:
        yield there, connect
    await one.close()
    await there.stop()


async def test_a_services_early_hints_go_on_before_its_answer():
    async def script(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" + HINT + HINT)
        await peer.send(OK)

    async with passing(script) as (_, connect):
        client = await connect(asked())
        for _ in range(2):
            hint = await client.reader.readuntil(b"\r\n\r\n")
            assert hint == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
        assert (await client.answer())[::2] == (200, b"ok")


async def test_an_older_client_gets_no_hints():
    async def script(peer):
        await peer.head()
        await peer.send(HINT + OK)

    async with passing(script) as (_, connect):
        client = await connect(asked().replace(b"1.1", b"1.0"))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("codings", [[], ["gzip"]])
async def test_a_services_trailers_go_on_to_who_takes_them_but_what_must_not_come_late(at_once, codings):
    async def script(peer):
        while True:
            await peer.head()
            if at_once:
                await peer.send(HEAD + b"2\r\nok\r\n" + TRAILERS)
            else:
                await peer.drip([HEAD, b"2\r\nok\r\n", TRAILERS], 0.05)

    async with passing(script, server={"compression": codings}) as (there, connect):
        client = await connect(asked(b"te: trailers, deflate", b"connection: te"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert await client.reader.readuntil(b"\r\n\r\n") == b"2\r\nok\r\n0\r\nx-sum: abc\r\n\r\n"
        client.send(asked())
        assert (await client.answer())[::2] == (200, b"ok")
        assert not any(b"\r\nte:" in each for each in there.requests)


@pytest.mark.parametrize(("said", "are_there"), [(b"max-age=60", False), (b"no-store", True)])
async def test_an_answer_that_is_kept_has_no_trailers(said, are_there):
    async def script(peer):
        while True:
            await peer.head()
            kept = HEAD.replace(b"\r\n\r\n", b"\r\ncache-control: %b\r\n\r\n" % said)
            await peer.send(kept + b"2\r\nok\r\n" + TRAILERS)

    async with passing(script, cache=True) as (there, connect):
        client = await connect()
        for _ in range(2):
            client.send(asked(b"te: trailers", b"connection: te"))
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert (b"transfer-encoding: chunked" in head) == are_there
            rest = b"2\r\nok\r\n0\r\nx-sum: abc\r\n\r\n" if are_there else b"ok"
            assert await client.reader.readexactly(len(rest)) == rest
        assert len(there.requests) == (2 if are_there else 1)


async def test_trailers_are_those_of_the_answer_and_not_of_one_that_was_given_up():
    async def script(peer):
        await peer.head()
        await peer.send(HEAD.replace(b"200 OK", b"503 No") + b"2\r\nno\r\n" + TRAILERS)
        await peer.head()
        await peer.send(HEAD + b"2\r\nok\r\n0\r\n\r\n")

    async with passing(script) as (there, connect):
        client = await connect(asked(b"te: trailers", b"connection: te"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"content-length: 2\r\n" in head  # so nothing follows
        assert await client.reader.readexactly(2) == b"ok"
        assert len(there.requests) == 2


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_clients_trailers_go_on_too(at_once):
    body = b"2\r\nab\r\n0\r\n"
    trailers = b"x-sum: abc\r\nauthorization: forged\r\nx-auth-subject: forged\r\ncontent-type: a/b\r\n\r\n"

    async def script(peer):
        await peer.head()
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += await peer.read()
        peer._server.requests.append(received)
        await peer.send(OK)

    async with passing(script) as (there, connect):
        client = await connect(asked(b"transfer-encoding: chunked", method=b"POST") + (body + trailers) * at_once)
        if not at_once:
            client.send(body)
            client.send(trailers)
        assert (await client.answer())[::2] == (200, b"ok")
        assert there.requests[1] == b"2\r\nab\r\n0\r\nx-sum: abc\r\n\r\n"


async def test_who_asks_for_leave_to_send_gets_it_only_where_it_may_pass():
    async with passing(lambda peer: peer.answer(), public=False) as (there, connect):
        client = await connect(asked(b"expect: 100-continue", b"content-length: 2", method=b"POST"))
        assert (await client.answer())[0] == 401
        assert there.requests == []
    async with passing(lambda peer: peer.answer()) as (there, connect):
        client = await connect(asked(b"expect: 100-continue", b"content-length: 2", method=b"POST"))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        assert (await client.answer())[::2] == (200, b"ok")
        assert there.requests[0].endswith(b"ab")
        assert b"expect" not in there.requests[0].lower()
