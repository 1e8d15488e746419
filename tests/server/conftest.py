import asyncio
import contextlib
import socket

import pytest
import uvicorn
import uvloop

from bff.server import ConnectionSettings, Server, connections, http2
from tests.upstream.raw import eventually


def pytest_asyncio_loop_factories(item):
    """What touches sockets is tried on both loops: they differ in what they call when, and in what they forbid."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Client:
    """The client's end of one connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data):
        self.writer.write(data)

    async def answer(self, *, head=False):
        """Status, headers by name, and body; chunks put together."""
        top, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        status = int(top.split()[1])
        if head or status in {100, 204, 304}:
            return status, headers, b""
        if headers.get(b"transfer-encoding") == b"chunked":
            return status, headers, await self.chunks()
        if b"content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers[b"content-length"]))
        return status, headers, await self.reader.read()

    async def chunks(self):
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return body

    async def ended(self):
        """All that is left, up to the connection's end."""
        return await self.reader.read()


@contextlib.asynccontextmanager
async def served(app, tls=None, drain=None, grace=30, **settings):
    speaks = connections(ConnectionSettings(**settings))
    many = http2(speaks)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        http=tls.connections(lambda chosen: many if chosen == "h2" else speaks) if tls else speaks,
        date_header=False,
        timeout_graceful_shutdown=grace,
    )
    server = Server(config, drain)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server._serve([listening]))
    await eventually(server.up.is_set)
    writers = []

    async def connect(data=b"", **options):
        reader, writer = await asyncio.open_connection("127.0.0.1", connect.port, **options)
        writers.append(writer)
        writer.write(data)
        return Client(reader, writer)

    connect.server = server
    connect.port = listening.getsockname()[1]
    connect.serving = serving
    try:
        async with asyncio.timeout(60):
            yield connect
    finally:
        for writer in writers:
            writer.transport.abort()
        server.should_exit = server.force_exit = True
        await serving


@pytest.fixture
async def serve():
    """Serve an ASGI app on connections with these settings: `connect = await serve(app, keep_alive=1)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(app, **settings):
            return await stack.enter_async_context(served(app, **settings))

        yield start
