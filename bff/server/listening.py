"""Taking connections, and the end of that: uvicorn's server, with TLS for each connection and an order at the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import uvicorn

from bff.core.receive import CUT_SHORT
from bff.server.connection import Connection
from bff.server.http2 import Http2
from bff.server.tls import Handshake

# Without a descriptor to be had, to look again at once is to do nothing else.
_LATER: Final = 1.0
_LOOK: Final = 0.1
# How long a turn of the loop may be for one connection to be taken in each.
_TURN: Final = 0.001
_AT_ONCE: Final = 64
# For those whose time is over to be told so.
_LAST_WORDS: Final = 2.0
_OURS: Final = (Connection, Handshake, Http2)


class Server(uvicorn.Server):
    """Leaves the signals to whoever runs it: two servers end in an order. What lasts ends before requests are awaited.

    Args:
        config: uvicorn's; with TLS, its `http` is what `Tls.connections` gives.
        drain: ends what would go on.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._drain = drain
        self._arriving: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self.servers = [_Door(each, self._let_in) for each in sockets or []]  # type: ignore[misc]
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._drain is not None:
            # Whoever is sent away is not to come back to this port.
            await self._stop_listening(sockets or [])
            ending = asyncio.create_task(self._end(self._drain))
            within = asyncio.get_running_loop().time() + float(self.config.timeout_graceful_shutdown or 0)
            while not ending.done() and not self.force_exit and asyncio.get_running_loop().time() < within:
                await asyncio.wait([ending], timeout=_LOOK)
            if not ending.done():
                await self._cut_short(ending)
            ending.cancel()
        await super().shutdown(sockets)

    async def _end(self, drain: Callable[[], Awaitable[None]]) -> None:
        await drain()
        for connection in list(self.server_state.connections):
            if not isinstance(connection, _OURS):  # a websocket that nothing was asked by
                connection.shutdown()
        await self._wait_tasks_to_complete()

    async def _cut_short(self, ending: asyncio.Task[None]) -> None:
        """Whoever still waits for an answer is told that there will be none."""
        answering = list(self.server_state.tasks)
        for each in answering:
            each.cancel(CUT_SHORT)
        # Of them too, since `ending` waits for nobody once it is told to end at once.
        await asyncio.wait([ending, *answering], timeout=_LAST_WORDS)
        self.config.timeout_graceful_shutdown = 0

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Whoever has connected by now is let in: to close a port resets all that wait behind it."""
        waiting = [each.dup() for each in sockets]
        for server in self.servers:
            server.close()
        came = []
        for each in waiting:
            with each, contextlib.suppress(OSError):
                while True:
                    came.append(each.accept()[0])
        for client in came:
            self._let_in(client)
        while self._arriving:
            await asyncio.wait(self._arriving)
        for connection in list(self.server_state.connections):
            if isinstance(connection, _OURS):  # websockets are told by `drain`, in their own way
                connection.shutdown()

    def _let_in(self, client: socket.socket) -> None:
        client.setblocking(False)
        protocol: asyncio.Protocol = self.config.http_protocol_class(
            self.config, self.server_state, self.lifespan.state
        )  # type: ignore[call-arg]
        if isinstance(protocol, Handshake):
            protocol.begin(client)
            return
        task = asyncio.get_running_loop().create_task(_attach(client, protocol))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _attach(client: socket.socket, protocol: asyncio.Protocol) -> None:
    with contextlib.suppress(OSError):  # it has gone
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, client)


class _Door:
    """What takes connections in the place of the loop's own server, which would bind a port to one certificate.

    One in a turn of the loop, as uvloop has it: so processes that share the port get as many each. But where turns are
    long as many as short ones would have taken: else clients wait for seconds before anybody sees that they are there.
    """

    def __init__(self, listening: socket.socket, let_in: Callable[[socket.socket], None]) -> None:
        listening.setblocking(False)
        self.sockets = [listening]
        self._let_in = let_in
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._looked: float | None = None  # when, if somebody may have been left waiting
        self._listen()

    def close(self) -> None:
        for each in self.sockets:
            self._loop.remove_reader(each)
            each.close()
        self.sockets = []
        if self._later is not None:
            self._later.cancel()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def _listen(self) -> None:
        for each in self.sockets:
            self._loop.add_reader(each, self._look, each)

    def _look(self, listening: socket.socket) -> None:
        now = time.perf_counter()
        turn = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        for _ in range(max(1, min(_AT_ONCE, int(turn / _TURN)))):
            if not self._take(listening):
                self._looked = None
                break

    def _take(self, listening: socket.socket) -> bool:
        """Whether somebody was there."""
        try:
            client, _ = listening.accept()
        except ConnectionAbortedError:
            return True
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._loop.remove_reader(listening)
            self._later = self._loop.call_later(_LATER, self._listen)
            return False
        self._let_in(client)
        return True
