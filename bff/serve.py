"""Running the gateway: the public and the admin port in one process, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from bff.app import build
from bff.config import Config, ConfigError
from bff.graphql.ide import Example
from bff.server import connections


class _Server(uvicorn.Server):
    """Leaves the signals to `serve`: two servers end here in an order."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FastAPI, host: str, port: int, *, http: Any, graceful: float, lifespan: str) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http=http,
            lifespan="on" if lifespan == "on" else "off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,  # `observe` dates the gateway's own answers
            proxy_headers=False,
            timeout_graceful_shutdown=round(graceful),
        )
    )


def _listening(section: str, host: str, port: int) -> socket.socket:
    """Had before anything starts: a port that is taken is then one sentence instead of half a gateway."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise ConfigError.of(f"{section}.port", f"{host}:{port} cannot be listened at: {error.strerror}") from error


async def serve(config: Config, *, started: Callable[[], None], example: Example | None = None) -> None:
    """Serve until SIGTERM or SIGINT: say no at `/readyz`, wait, take no more connections, let requests end.

    Args:
        config: the settings.
        started: called once both ports answer.
        example: what GraphiQL begins with.

    Raises:
        ConfigError: a port cannot be had.
    """
    app = build(config, example=example)
    public = _server(
        app,
        config.server.host,
        config.server.port,
        http=connections(config.server),
        graceful=config.server.drain.timeout,
        lifespan="on",
    )
    admin = _server(app.state.admin, config.admin.host, config.admin.port, http="httptools", graceful=1, lifespan="off")
    for_clients = _listening("server", config.server.host, config.server.port)
    for_operators = _listening("admin", config.admin.host, config.admin.port)
    loop = asyncio.get_running_loop()
    stopping: asyncio.Task[None] | None = None

    async def drain() -> None:
        app.state.readiness.draining = True
        await asyncio.sleep(config.server.drain.delay)
        public.should_exit = True

    def stop() -> None:
        nonlocal stopping
        if stopping is None:
            stopping = loop.create_task(drain())
        else:
            public.should_exit = public.force_exit = True

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    _spare_what_stays()
    async with asyncio.TaskGroup() as servers:
        servers.create_task(_until_end(public, for_clients, admin))
        servers.create_task(_until_end(admin, for_operators, public))
        await asyncio.gather(public.up.wait(), admin.up.wait())
        started()


_NEW_OBJECTS = 20_000
"""Containers made, less those that are gone again, before the collector looks for cycles among the new ones: some
megabytes at most, and more than the requests in flight make. Python's own 700 has it look at what is about to go."""


def _spare_what_stays() -> None:
    """What is loaded stays until the end, so the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


async def _until_end(server: _Server, listening: socket.socket, other: _Server) -> None:
    """Neither port is of use without the other."""
    try:
        await server.serve([listening])
    finally:
        other.should_exit = True
