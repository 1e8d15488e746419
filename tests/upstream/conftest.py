import asyncio
import socket

import pytest
import uvloop

from bff.upstream.tls import Tls
from bff.upstream.transport import Transport, TransportSettings
from tests.upstream.raw import Server, answering


def pytest_asyncio_loop_factories(item):
    """What touches sockets is tried on both loops: they differ in what they call when, and in what they forbid."""
    if item.path.name.startswith("test_transport"):
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def serve():
    """Start a scripted service: `server = await serve(script)`."""
    servers = []

    async def start(script=answering, **options):
        servers.append(Server(script))
        return await servers[-1].start(**options)

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def connect():
    """Make a transport with these settings: `transport = connect(max_connections=1)`.

    It is patient: what is on this machine may be late when that is busy.
    """
    transports = []
    patient = {"connect_timeout": 30, "pool_timeout": 30}

    def make(ssl_context=None, **settings):
        transports.append(
            Transport(TransportSettings(**patient | settings), tls=Tls(lambda: ssl_context) if ssl_context else None)
        )
        return transports[-1]

    yield make
    for transport in transports:
        await transport.aclose()


@pytest.fixture
async def names(monkeypatch):
    """What names resolve to: a list of addresses, an error, or an event to wait for."""
    known = {}
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def resolve_known(host, port, **options):
        match known.get(host):
            case Exception() as error:
                raise error
            case asyncio.Event() as event:
                await event.wait()
            case list(addresses):
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
        return await resolve(host, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", resolve_known)
    return known


@pytest.fixture
def transport(connect):
    return connect()
