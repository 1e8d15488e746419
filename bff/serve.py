"""One process of the gateway: requests of clients and of operators, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import sha256
from typing import Any, ClassVar, Final, Literal, NamedTuple

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from bff.config import Config, ConfigError, DrainSettings
from bff.core.descriptors import raised
from bff.core.systemd import NOBODY, ServiceManager
from bff.generations import Generations, Read
from bff.graphql.ide import Example
from bff.server import Server, Tls, connections, http2

# Beside connections: files, the admin port, the store, keys of the issuer, probes and what the runtime itself has open.
_BESIDE: Final = 128


class _Websocket(WebSocketsSansIOProtocol):
    """Uvicorn's websocket, cut when its client takes nothing of what it is sent for `patience` seconds."""

    patience: ClassVar[float]
    _cut: asyncio.TimerHandle | None = None

    async def run_asgi(self) -> None:
        self.scope["bff.socket"] = self  # type: ignore[typeddict-unknown-key]  # ours, beside ASGI
        await super().run_asgi()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # by a refusal, which it would take for none

    def bound(self, message: int, pending: int) -> None:
        """Take no larger messages, and have no more wait for the client."""
        self.conn.max_message_size = message
        self.transport.set_write_buffer_limits(high=pending)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        self._stay()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stay()
        super().connection_lost(exc)

    def _stay(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


class Listening(NamedTuple):
    """The sockets at which clients and operators connect; other processes may take clients at the same one."""

    clients: socket.socket
    operators: socket.socket


def _public(app: Generations, config: Config) -> Server:
    live = config.graphql.subscriptions
    one = connections(config.server)
    http: Callable[..., Any] = one
    tls: Tls | None = app.current.app.state.tls
    if tls is not None:
        many = http2(one)
        http = tls.connections(lambda chosen: many if chosen == "h2" else one)
    return _server(
        app.__call__,  # Python enters a method of its own without a detour
        config.server.host,
        config.server.port,
        http=http,
        graceful=config.server.drain.timeout,
        lifespan="on",
        drain=app.drain,
        # Compression would take 60 KB of memory for each websocket.
        ws=type("Websocket", (_Websocket,), {"patience": live.send_timeout}),
        ws_per_message_deflate=False,
        ws_max_size=config.graphql.limits.size,
        ws_ping_interval=live.heartbeat,
        ws_ping_timeout=live.heartbeat,
    )


def _for_operators(app: ASGIApp, config: Config) -> Server:
    return _server(app, config.admin.host, config.admin.port, http="httptools", graceful=1, lifespan="off", ws="none")


def _server(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    http: Any,
    graceful: float,
    lifespan: Literal["on", "off"],
    drain: Callable[[], Awaitable[None]] | None = None,
    **websockets: Any,
) -> Server:
    return Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            interface="asgi3",
            loop="uvloop",
            http=http,
            lifespan=lifespan,
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,  # `observe` dates the gateway's own answers
            proxy_headers=False,
            timeout_graceful_shutdown=round(graceful),
            **websockets,
        ),
        drain,
    )


def listen(section: str, host: str, port: int) -> socket.socket:
    """A port, had before anything starts: one that is taken is then one sentence instead of half a gateway.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise ConfigError.of(f"{section}.port", f"{host}:{port} cannot be listened at: {error.strerror}") from error


def descriptors(config: Config) -> int:
    """How many this configuration may need at once in one process."""
    services = sum(each.sockets for each in config.services.values())
    websockets = sum(each.sockets.max_open for each in config.routes if each.sockets)
    return config.server.max_connections + services + websockets + _BESIDE


async def serve(
    config: Config,
    *,
    started: Callable[[], None],
    read: Read | None = None,
    example: Example | None = None,
    at: Listening | None = None,
    manager: ServiceManager = NOBODY,
) -> None:
    """Serve until SIGTERM or SIGINT: say no at `/readyz`, wait, take no more connections, let requests end.

    SIGHUP has the configuration read again.

    Args:
        config: the settings.
        started: called once both ports answer.
        read: reads the configuration again.
        example: what GraphiQL begins with.
        at: where to listen, if not at the ports of the configuration.
        manager: who is told of reloads and of the end.

    Raises:
        ConfigError: a port cannot be had.
    """
    app = Generations(config, read, example=example)
    at = at or Listening(
        listen("server", config.server.host, config.server.port),
        listen("admin", config.admin.host, config.admin.port),
    )
    public = _public(app, config)
    admin = _for_operators(app.operators, config)
    _Heard(app, public, config.server.drain, manager).listen()
    spare_what_stays()
    if (allowed := raised()) < (needed := descriptors(config)):
        app.log.warning("few_descriptors", allowed=allowed, may_need=needed, mend="raise RLIMIT_NOFILE (ulimit -n)")
    async with asyncio.TaskGroup() as servers:
        servers.create_task(_until_end(public, at.clients, admin))
        servers.create_task(_until_end(admin, at.operators, public))
        await asyncio.gather(public.up.wait(), admin.up.wait())
        app.log.info("started", configuration=_digest(config), services=len(config.services))
        started()
    app.log.info("stopped")
    app.log.flush()  # a worker's process ends without another look


class _Heard:
    """What becomes of signals: the first to end has requests end, a second one ends at once, SIGHUP reloads."""

    def __init__(self, app: Generations, public: Server, drain: DrainSettings, manager: ServiceManager) -> None:
        self._app, self._public, self._settings, self._manager = app, public, drain, manager
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._end)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._do(self._reload()))

    def _do(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self) -> None:
        if self._ending:
            self._public.should_exit = self._public.force_exit = True
        else:
            self._ending = True
            self._do(self._drain())

    async def _drain(self) -> None:
        delay = self._settings.delay
        self._app.leave()
        self._manager.stopping()
        self._app.log.info("draining", delay_s=delay, timeout_s=self._settings.timeout)
        await asyncio.sleep(delay)
        self._public.should_exit = True

    async def _reload(self) -> None:
        self._manager.reloading()
        await self._app.reload("signal")
        self._manager.ready()


def _digest(config: Config) -> str:
    """What tells one configuration from another in the log; secrets are no part of it."""
    return sha256(config.model_dump_json().encode()).hexdigest()[:12]


async def operate(app: ASGIApp, config: Config, at: socket.socket, *, started: Callable[[], None]) -> None:
    """Serve operators alone, until SIGTERM or SIGINT.

    Args:
        app: what answers them.
        config: the settings.
        at: where they connect.
        started: called once it answers.
    """
    server = _for_operators(app, config)

    def stop() -> None:
        server.should_exit = True

    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([at]))
        await server.up.wait()
        started()


_NEW_OBJECTS = 20_000
"""Containers made, less those that are gone again, before the collector looks for cycles among the new ones: some
megabytes at most, and more than the requests in flight make. Python's own 700 has it look at what is about to go."""


def spare_what_stays() -> None:
    """What is loaded stays until the end, so the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


async def _until_end(server: Server, listening: socket.socket, other: Server) -> None:
    """Neither port is of use without the other."""
    try:
        await server.serve([listening])
    finally:
        other.should_exit = True
