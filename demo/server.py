"""What all services share as processes: the command line, health, the problems, and an HTTP server that ends well."""

import argparse
import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from demo.calls import Calls
from demo.problems import problem

HOST = "127.0.0.1"

Renderers = Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]]
NONE: Renderers = {}


class Options(argparse.Namespace):
    """The command line of every service; each reads what concerns it."""

    host: str
    port: int
    data: Path
    latency: int
    heartbeat: float
    watch: float
    orders: str
    issuer: str | None
    fd: int | None
    endings: list[Callable[[], None]]
    """What a service adds here is called before its server waits for requests to end."""


def options(port: int) -> Options:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--host", default=HOST, help="0.0.0.0 where others have to reach it, as from container to container")
    add("--port", type=int, default=port, help="0 takes a free one")
    add("--data", type=Path, default=Path("var/demo"), help="folder of the SQLite files")
    add("--latency", type=int, default=0, metavar="MS", help="wait so long before each answer")
    add("--heartbeat", type=float, default=15, metavar="SECONDS", help="orders: between comments in an event stream")
    add("--watch", type=float, default=3600, metavar="SECONDS", help="orders: longest life of an event stream")
    add("--orders", default="http://127.0.0.1:8103", metavar="URL", help="payments: where the Order service is")
    add("--issuer", help="identity: the `iss` of its tokens, http://127.0.0.1:PORT where not given")
    add("--fd", type=int, help="a socket that listens already; the service ends when its standard input does")
    return parser.parse_args(namespace=Options(endings=[]))


def service(routes: Sequence[Route], latency: int = 0, renderers: Renderers = NONE) -> ASGIApp:
    """The routes as an application that counts its calls and never answers with anything but its contract's shapes."""
    known: list[BaseRoute] = [*routes]
    app = Starlette(
        routes=[*known, Route("/healthz", health)],
        exception_handlers={HTTPException: problem, Exception: problem, **renderers},
    )
    app.router.redirect_slashes = False  # a redirect would tell a caller outside where the service lives
    calls = Calls(app, known, latency / 1000)
    app.router.routes.append(Route("/-/calls", calls.show, methods=["GET", "DELETE"]))
    return calls


async def health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def serve(port: int, build: Callable[[Options], ASGIApp]) -> None:
    """Run one service until a signal, or the end of the process that started it, ends it."""
    chosen = options(port)
    listening = (
        socket.socket(fileno=chosen.fd) if chosen.fd is not None else socket.create_server((chosen.host, chosen.port))
    )
    chosen.port = listening.getsockname()[1]
    config = uvicorn.Config(
        build(chosen),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run(Server(config, chosen.endings), listening, with_parent=chosen.fd is not None))


class Server(uvicorn.Server):
    """Ends what would not end by itself, an event stream for instance, before it waits for the rest."""

    def __init__(self, config: uvicorn.Config, endings: list[Callable[[], None]]) -> None:
        super().__init__(config)
        self.endings = endings

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for end in self.endings:
            end()
        await super().shutdown(sockets)


async def run(server: Server, listening: socket.socket, *, with_parent: bool) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(sys.stdin)
        server.should_exit = True

    if with_parent:
        # The parent holds the other end and writes nothing: the input ends when the parent does, however it dies.
        loop.add_reader(sys.stdin, end)
    await server.serve(sockets=[listening])
