"""Websockets of a route, with real sockets at both ends and a client and a service that others made."""

import asyncio
import contextlib
import io
import json
import socket
import time

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve as service_at
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bff.config import load
from bff.core.telemetry import JsonLog, Telemetry
from bff.generations import Generations
from bff.serve import _public
from tests.harness import BFF_YAML, SECRET, bearer, customer, token
from tests.upstream.raw import OK, Server, eventually

JWT = {"issuer": "https://id.internal", "audience": "shop", "algorithms": ["HS256"], "secret": SECRET}
ROUTE = {
    "name": "chat",
    "path": "/chat/{rest*}",
    "service": "users",
    "rewrite": "/rooms/{rest}",
    "scopes": {"read": ["users:read"]},
    "websocket": True,
}


class Running:
    def __init__(self, url, app, log):
        self.url, self.app, self._log = url, app, log

    def open(self, path="/chat/tea", **options):
        options = {"additional_headers": customer(), "compression": None, "proxy": None, **options}
        return connect(f"ws://{self.url}{path}", **options)

    @property
    def log(self):
        return [json.loads(line) for line in self._log.getvalue().splitlines()]

    async def refusal(self, **options):
        with pytest.raises(InvalidStatus) as refused:
            async with self.open(**options):
                pass
        return refused.value.response


@contextlib.asynccontextmanager
async def gateway(port, route=None, *, patience="10s", **overrides):
    """In front of a service at this port."""
    log = io.BytesIO()
    users = {"users": {"url": f"http://127.0.0.1:{port}", "timeout": patience, "connect_timeout": "20s"}}
    given = {"routes": [ROUTE | (route or {})], "services": users, **overrides}
    config = load(BFF_YAML, profile="production", overrides=given)
    app = Generations(config, telemetry=Telemetry(log=JsonLog(log)))
    server = _public(app, config)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server._serve([listening]))
    await eventually(server.up.is_set)
    try:
        async with asyncio.timeout(30):
            yield Running(f"127.0.0.1:{listening.getsockname()[1]}", app, log)
    finally:
        server.should_exit = server.force_exit = True
        await serving


@contextlib.asynccontextmanager
async def chat(handler, route=None, *, service=None, **overrides):
    """A gateway in front of a service that does this with each of its websockets."""
    serving = service_at(handler, "127.0.0.1", 0, compression=None, close_timeout=1, **(service or {}))
    async with serving as there, gateway(there.sockets[0].getsockname()[1], route, **overrides) as running:
        yield running


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def until_closed(websocket):
    await websocket.wait_closed()


class Kept:
    """A service that keeps its websockets, and how they were closed."""

    def __init__(self):
        self.sockets = []

    async def __call__(self, websocket):
        self.sockets.append(websocket)
        await websocket.wait_closed()

    async def closed(self):
        await eventually(lambda: self.sockets and self.sockets[0].close_code is not None)
        return self.sockets[0].close_code, self.sockets[0].close_reason


async def test_messages_pass_both_ways_as_they_are():
    async with chat(echo) as running, running.open() as client:
        for message in ("text", "", "ü" * 1000, b"", b"\x00\xff", b"x" * 500_000):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["in ", "three ", "frames"])
        assert await client.recv() == "in three frames"


async def test_the_handshake_is_a_request_of_the_route():
    kept = Kept()
    service = {
        "subprotocols": ["v2", "v1"],
        "process_response": lambda _, __, response: response.headers.update({"x-room": "tea", "server": "secret"}),
    }
    headers = customer() | {"x-auth-subject": "forged", "cookie": "a=b", "x-forwarded-for": "6.6.6.6"}
    async with chat(kept, service=service) as running:
        opening = running.open("/chat/tea;v=1?x=%2f&y", subprotocols=["v1", "v2"], additional_headers=headers)
        async with opening as client:
            assert client.subprotocol == "v2"
            assert client.response.headers["x-room"] == "tea"
            assert "server" not in client.response.headers
            await eventually(lambda: kept.sockets)
            request = kept.sockets[0].request
    assert request.path == "/rooms/tea;v=1?x=%2f&y"
    sent = request.headers
    assert sent.get_all("x-auth-subject") == ["usr_1"]
    assert sent.get_all("x-forwarded-for") == ["127.0.0.1"]
    assert sent.get_all("x-forwarded-proto") == ["http"]
    assert sent.get_all("host") == [running.app.current.config.services["users"].urls[0].removeprefix("http://")]
    assert sent["cookie"] == "a=b"
    assert len(sent.get_all("sec-websocket-key")) == len(sent.get_all("x-request-id")) == 1
    assert "authorization" not in sent


async def test_a_route_says_which_headers_pass():
    kept = Kept()
    changes = {
        "request": {"headers": {"allow": ["accept"], "set": {"x-room": "{rest}"}}},
        "response": {"headers": {"set": {"x-gate": "one"}}},
    }
    headers = customer() | {"x-mine": "1", "accept": "a/b"}
    async with chat(kept, changes) as running, running.open(additional_headers=headers) as client:
        assert client.response.headers["x-gate"] == "one"
        await eventually(lambda: kept.sockets)
        sent = kept.sockets[0].request.headers
    assert "x-mine" not in sent
    assert (sent["accept"], sent["x-auth-subject"]) == ("a/b", "usr_1")


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "bye"), (1011, "oops"), (3001, "ü"), (4999, "x" * 123)]
)
async def test_how_one_side_closes_is_told_to_the_other(code, reason):
    kept = Kept()
    async with chat(kept) as running:
        async with running.open() as client:
            await client.close(code, reason)
            assert await kept.closed() == (code, reason)
        kept.sockets.clear()
        async with running.open() as client:
            await eventually(lambda: kept.sockets)
            await kept.sockets[0].close(code, reason)
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (code, reason)
    lines = [line for line in running.log if line["event"] == "request"]
    assert [(line["status"], line["close"]) for line in lines] == [(101, code)] * 2
    assert lines[0]["route"] == "chat"


async def test_what_is_too_large_is_told_to_who_sent_it_and_to_who_would_have_had_it():
    async def grows(websocket):
        await websocket.recv()
        await websocket.send("x" * 2000)
        await websocket.wait_closed()

    async with chat(grows, {"websocket": {"max_message": "1KB"}}) as running:
        async with running.open() as client:
            await client.send("x" * 1025)
            await client.wait_closed()
            assert client.close_code == 1009
        async with running.open() as client:
            await client.send("x" * 1024)
            await client.wait_closed()
            assert client.close_code == 1009


async def test_who_has_gone_without_a_word_is_told_of():
    kept = Kept()
    async with chat(kept) as running:
        async with running.open() as client:
            await eventually(lambda: kept.sockets)
            client.transport.abort()
            assert (await kept.closed())[0] == 1001
        kept.sockets.clear()
        async with running.open() as client:
            await eventually(lambda: kept.sockets)
            kept.sockets[0].transport.abort()
            await client.wait_closed()
            assert client.close_code == 1014


async def test_where_nobody_says_anything_it_ends():
    kept = Kept()
    async with chat(kept, {"websocket": {"idle_timeout": "200ms"}}) as running, running.open() as client:
        await client.wait_closed()
        assert client.close_code == 1001
        assert (await kept.closed())[0] == 1001


async def test_when_the_gateway_ends_both_sides_are_told():
    kept = Kept()
    async with chat(kept) as running, running.open() as client:
        await eventually(lambda: kept.sockets)
        await running.app.drain()
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1001, "The gateway is going away: come again")
        assert (await kept.closed())[0] == 1001
        assert (await running.refusal()).status_code == 503


async def test_one_that_is_being_opened_when_the_gateway_ends_is_ended_too():
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(_connection, _request):
        asked.set()
        await go_on.wait()

    kept = Kept()
    async with service_at(kept, "127.0.0.1", 0, process_request=slowly) as there:
        port = there.sockets[0].getsockname()[1]
        async with gateway(port) as running:
            opening = asyncio.create_task(running.open().__aenter__())
            await asked.wait()
            await running.app.drain()
            go_on.set()
            client = await opening
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (1001, "The gateway is going away: come again")
            assert (await kept.closed())[0] == 1001


async def test_a_credential_that_ends_ends_it():
    kept = Kept()
    async with chat(kept, auth={"jwt": [JWT | {"leeway": "0s"}]}) as running:
        soon = bearer(token(exp=int(time.time()) + 3))
        async with running.open(additional_headers=soon) as client:
            await client.wait_closed()
            assert client.close_code == 1008
            assert "expired" in client.close_reason
            assert (await kept.closed())[0] == 1008


async def rises_to(count):
    """Where it stops."""
    await eventually(count)
    before = 0
    while before != count():
        before = count()
        await asyncio.sleep(0.3)
    return before


async def test_a_client_that_does_not_read_makes_the_service_wait():
    sent = 0

    async def floods(websocket):
        nonlocal sent
        with contextlib.suppress(ConnectionClosed):
            while True:
                await websocket.send(b"x" * 10_000)
                sent += 1

    async with chat(floods) as running, running.open(max_queue=1) as client:
        assert await rises_to(lambda: sent) < 3000
        client.transport.abort()


async def test_a_service_that_does_not_read_makes_the_client_wait():
    sent, over = 0, asyncio.Event()

    async def never_reads(_):
        await over.wait()

    async def flood(client):
        nonlocal sent
        while True:
            await client.send(b"x" * 10_000)
            sent += 1

    async with chat(never_reads, service={"max_queue": 1}) as running, running.open() as client:
        flooding = asyncio.create_task(flood(client))
        assert await rises_to(lambda: sent) < 3000
        flooding.cancel()
        client.transport.abort()
        over.set()


async def test_who_may_not_pass_is_told_before_the_service_is_asked():
    kept = Kept()
    cases = [
        ({"additional_headers": {}}, 401, "UNAUTHENTICATED"),
        ({"additional_headers": bearer(token(scope="orders:read"))}, 403, "FORBIDDEN"),
        ({"origin": "https://evil.example"}, 403, "FORBIDDEN"),
        ({"path": "/nothing"}, 404, "NOT_FOUND"),
    ]
    async with chat(kept) as running:
        for options, status, code in cases:
            refusal = await running.refusal(**options)
            assert (refusal.status_code, json.loads(refusal.body)["code"]) == (status, code)
            assert refusal.headers["content-type"] == "application/problem+json"
    assert kept.sockets == []
    assert [line["code"] for line in running.log if line["event"] == "audit"][:2] == ["UNAUTHENTICATED", "FORBIDDEN"]


async def test_pages_of_origins_that_are_named_may_open_one():
    async with chat(echo, {"websocket": {"origins": ["https://shop.example.com"]}}) as running:
        for origin in ("https://shop.example.com", f"http://{running.url}"):
            async with running.open(origin=origin) as client:
                await client.send("hello")
                assert await client.recv() == "hello"


async def test_a_route_without_them_has_none():
    async with chat(echo, {"websocket": False}) as running:
        assert (await running.refusal()).status_code == 404


async def test_they_count_against_what_their_caller_may_spend():
    async with chat(echo, tiers={"default": {"rate": ["2/minute"]}}) as running:
        for _ in range(2):
            async with running.open() as client:
                await client.send("hello")
                await client.recv()
        refusal = await running.refusal()
    assert (refusal.status_code, json.loads(refusal.body)["code"]) == (429, "RATE_LIMITED")
    assert "retry-after" in refusal.headers


async def test_how_many_somebody_has_is_bounded_and_how_many_there_are():
    async with chat(echo, {"websocket": {"max_per_caller": 1, "max_open": 2}}) as running:
        async with running.open(), running.open(additional_headers=customer("usr_2")) as other:
            third = await running.refusal(additional_headers=customer("usr_3"))
            assert (third.status_code, json.loads(third.body)["code"]) == (503, "OVERLOADED")
            await other.close()
            await eventually(lambda: len([e for e in running.log if e["event"] == "request"]) == 2)
            assert (await running.refusal()).status_code == 429
        await eventually(lambda: len([e for e in running.log if e["event"] == "request"]) == 4)
        async with running.open():
            pass


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\nx-why: tea\r\n\r\nnope", 403, None),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nnope", 502, "UPSTREAM_ERROR"),
        (OK, 502, "UPSTREAM_BAD_RESPONSE"),
        (b"nonsense\r\n\r\n", 502, "UPSTREAM_BAD_RESPONSE"),
        (b"HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", 502, "UPSTREAM_BAD_RESPONSE"),
        (None, 504, "UPSTREAM_TIMEOUT"),
        (b"", 502, "UPSTREAM_BAD_RESPONSE"),
    ],
)
async def test_a_service_that_does_not_open_one_is_a_plain_answer(answer, status, code):
    async def script(peer):
        await peer.head()
        if answer is None:
            await peer.hang()
        else:
            await peer.send(answer)

    service = await Server(script).start()
    try:
        async with gateway(service.port, patience="500ms" if answer is None else "10s") as running:
            refusal = await running.refusal()
    finally:
        await service.stop()
    assert refusal.status_code == status
    if code is None:
        assert (refusal.body, refusal.headers["x-why"]) == (b"nope", "tea")
    else:
        assert json.loads(refusal.body)["code"] == code
    assert str(service.port).encode() not in refusal.body


async def test_a_service_that_is_not_there_is_said_to_be_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    async with gateway(port) as running:
        refusal = await running.refusal()
    assert (refusal.status_code, json.loads(refusal.body)["code"]) == (503, "UPSTREAM_UNAVAILABLE")
