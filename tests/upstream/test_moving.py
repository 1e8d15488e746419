"""A service whose name leads elsewhere is followed: its old connections are let go, and nothing fails meanwhile."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import httpx

from bff.app import build
from bff.config import load
from tests.upstream.raw import eventually

HERE, THERE = "127.0.0.2", "127.0.0.3"
CONFIG = """
services: {{moving: {{url: "http://moving.internal:{port}", resolve_interval: 100ms, retry: {{attempts: 1}}}}}}
routes: [{{name: moving, path: "/m/{{rest*}}", service: moving, rewrite: "/{{rest}}", public: true}}]
limits: {{mode: 'off'}}
"""


class Instance:
    """One of the places that the service may be at."""

    def __init__(self):
        self.requests = 0
        self.connections = set()

    async def start(self, address, port=0):
        self.server = await asyncio.start_server(self._serve, address, port)
        return self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        self.connections.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                await asyncio.sleep(0.005)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def stop(self):
        self.server.close()
        for each in list(self.connections):
            each.close()


class Names:
    def __init__(self, *addresses):
        self.addresses = addresses
        self.error = None
        self.asked = 0

    async def __call__(self, host, port):
        assert host == "moving.internal"
        self.asked += 1
        if self.error:
            raise self.error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.addresses]


async def both():
    here, there = Instance(), Instance()
    port = await here.start(HERE)
    await there.start(THERE, port)
    return here, there, port


class Asking:
    """Clients who ask all the time."""

    def __init__(self, app, clients=8):
        self.statuses = Counter()
        transport = httpx.ASGITransport(app, client=("192.0.2.1", 40000))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway.example")
        self.tasks = [asyncio.create_task(self._ask()) for _ in range(clients)]

    async def _ask(self):
        while True:
            self.statuses[(await self.client.get("/m/x")).status_code] += 1

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        assert set(self.statuses) == {200}


async def test_a_service_that_moves_is_followed_while_it_is_called_and_nothing_fails():
    here, there, port = await both()
    names = Names(HERE)
    app = build(load(CONFIG.format(port=port)), resolve=names)
    async with app.router.lifespan_context(app):
        asking = Asking(app)
        await eventually(lambda: here.requests > 20)
        assert there.requests == 0
        names.addresses = (THERE,)
        await eventually(lambda: not here.connections)
        served = here.requests
        await eventually(lambda: there.requests > 20)
        assert here.requests == served, "nothing goes to where it was"
        await here.stop()
        names.error = socket.gaierror(-3, "no server answers")
        before = there.requests
        await asyncio.sleep(0.3)
        assert there.connections, "where it leads is not forgotten while nobody can say it"
        assert there.requests > before
        await asking.stop()
    await there.stop()


async def test_idle_connections_to_where_it_was_are_let_go():
    here, there, port = await both()
    names = Names(HERE)
    app = build(load(CONFIG.format(port=port)), resolve=names)
    async with app.router.lifespan_context(app):
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.example")
        await asyncio.gather(*(client.get("/m/x") for _ in range(3)))
        assert len(here.connections) == 3
        names.addresses = (THERE,)
        await eventually(lambda: not here.connections)
        asked = names.asked
        await asyncio.sleep(0.25)
        assert names.asked <= asked + 1, "a name that nobody uses is not asked for"
        assert (await client.get("/m/x")).status_code == 200
        assert there.requests == 1
    await here.stop()
    await there.stop()


async def test_a_service_that_has_moved_since_it_was_asked_for_is_found_by_the_same_call():
    here, there, port = await both()
    names = Names(HERE)
    app = build(
        load(CONFIG.format(port=port), overrides={"services": {"moving": {"resolve_interval": "1m"}}}), resolve=names
    )
    async with app.router.lifespan_context(app):
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.example")
        await client.get("/m/x")
        await here.stop()
        await eventually(lambda: not here.connections)
        names.addresses = (THERE,)
        assert (await client.post("/m/x")).status_code == 200
        assert there.requests == 1
    await there.stop()


async def test_connections_spread_over_all_addresses_of_a_name():
    here, there, port = await both()
    app = build(load(CONFIG.format(port=port)), resolve=Names(HERE, THERE))
    async with app.router.lifespan_context(app):
        asking = Asking(app)
        await eventually(lambda: here.requests > 10 and there.requests > 10)
        await asking.stop()
    await here.stop()
    await there.stop()
