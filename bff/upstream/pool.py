"""The connections to one origin: how many, for how long, and who gets the next one."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import deque
from math import inf
from typing import Final, NamedTuple

import httpx
import msgspec
from aiohappyeyeballs import start_connection

from bff.core.waterfall import Timing
from bff.upstream.bounds import Bounds, Limits
from bff.upstream.connection import Connection
from bff.upstream.names import AddressInfo, Name, Resolve
from bff.upstream.phases import Phase, failed
from bff.upstream.tls import Tls

# RFC 8305 recommends a quarter of a second before the next address is tried beside the first.
_NEXT_ADDRESS_AFTER: Final = 0.25
_LONGEST_QUESTION: Final = 10.0  # in seconds, for where a name leads, while nobody waits for it


class Origin(NamedTuple):
    scheme: bytes
    host: bytes
    port: int


class Room(msgspec.Struct, frozen=True):
    """How many connections and waiting callers there may be, and how long connections live, in seconds."""

    connections: int
    idle: int
    lasting: int
    waiting: int
    idle_for: float
    age: float
    resolve_interval: float


class Occupancy(NamedTuple):
    open: int
    """Connections, those that are being opened included."""
    idle: int
    """Of these, unused right now."""
    waiting: int
    """Calls in line for a connection."""


class Pool:
    """A place is taken from the attempt to connect until the socket is closed, so `room` is about sockets.

    Attributes:
        time: the loop's clock.
    """

    def __init__(self, origin: Origin, room: Room, bounds: Bounds, tls: Tls | None, resolve: Resolve) -> None:
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._origin, self._room, self._bounds, self._tls = origin, room, bounds, tls
        self._open: set[Connection] = set()
        self._lasting: set[Connection] = set()
        self._opening = 0
        self._idle: deque[Connection] = deque()  # the one that rested longest is first, the warmest is last
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._host = origin.host.decode("ascii")
        self._name = Name(self._host, origin.port, resolve, room.resolve_interval, _LONGEST_QUESTION, self._let_go)

    @property
    def occupancy(self) -> Occupancy:
        return Occupancy(len(self._open) + self._opening, len(self._idle), len(self._waiting))

    def take(self) -> Connection | None:
        """An idle connection, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if self._serves(connection):
                return connection
            connection.abort()
        return None

    async def acquire(
        self, request: httpx.Request, limits: Limits, deadline: float, *, fresh: bool = False
    ) -> Connection:
        """A connection, as soon as there is one; with `fresh`, not one of those that are idle now."""
        if not fresh and (connection := self.take()):
            return connection
        if self._places():
            self._opening += 1
            return await self._connect(request, self._when(limits.connect, deadline))
        connection = await self._stand_in_line(request, self._when(limits.pool, deadline))
        if connection is None:
            return await self._connect(request, self._when(limits.connect, deadline))
        return connection if self._serves(connection) else await self.acquire(request, limits, deadline)

    def release(self, connection: Connection) -> None:
        """Take a connection back, whatever state its exchange is in."""
        if connection.finish():
            self._offer(connection)

    def lend(self, connection: Connection) -> None:
        """Its answer lasts, and its place is for another call; afterwards it is closed."""
        if len(self._lasting) < self._room.lasting and connection in self._open:
            connection.keep_alive = False
            self._open.discard(connection)
            self._lasting.add(connection)
            self._offer_place()

    def close(self) -> None:
        self._closed = True
        self._name.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in (*self._open, *self._lasting):
            connection.close("the gateway closed its connections")
        while waiter := self._next_in_line():
            self._opening += 1
            waiter.set_result(None)

    def _places(self) -> bool:
        return len(self._open) + self._opening < self._room.connections

    def _serves(self, connection: Connection) -> bool:
        young = self.time() - connection.opened_at <= self._room.age
        return connection.keep_alive and young and not self._closed

    def _offer(self, connection: Connection) -> None:
        # Whether it has grown too old is asked when it is taken.
        if self._closed or not connection.keep_alive:
            connection.abort()
        elif self._waiting and (waiter := self._next_in_line()):
            waiter.set_result(connection)
        elif len(self._idle) >= self._room.idle:
            connection.abort()
        else:
            connection.idle_since = self.time()
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(self._room.idle_for, self._close_rested)

    def _offer_place(self) -> None:
        if self._places() and (waiter := self._next_in_line()):
            self._opening += 1
            waiter.set_result(None)

    def _next_in_line(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _stand_in_line(self, request: httpx.Request, until: float | None) -> Connection | None:
        """Wait for one's turn: what comes is a connection, or else a place for a new one."""
        if len(self._waiting) >= self._room.waiting:
            raise failed(httpx.PoolTimeout, "too many calls wait for a connection", request, Phase.POOL)
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                return await waiter
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.done() and not waiter.cancelled():
                # It came in the same moment as the end of the wait.
                self._pass_on(waiter.result())
            if isinstance(error, TimeoutError):
                raise failed(httpx.PoolTimeout, "no connection was free in time", request, Phase.POOL) from None
            raise

    def _pass_on(self, handed: Connection | None) -> None:
        if handed is not None:
            self._offer(handed)
        else:
            self._opening -= 1
            self._offer_place()

    async def _connect(self, request: httpx.Request, until: float | None) -> Connection:
        """Fill a place that is counted in `_opening` already."""
        phase = Phase.POOL
        connection: Connection | None = None
        timing: Timing | None = request.extensions.get("timing")
        try:
            if self._closed:
                raise failed(httpx.ConnectError, "the gateway closed its connections", request, phase)
            async with asyncio.timeout_at(until):
                phase = _enter(Phase.DNS, timing)
                addresses = await self._name.addresses()
                phase = _enter(Phase.CONNECT, timing)
                sock = await self._socket(addresses)
                address = sock.getpeername()[0]
                tls = self._tls
                if tls is not None:
                    phase = _enter(Phase.TLS, timing)
                _, connection = await self._loop.create_connection(
                    self._connection,
                    sock=sock,
                    ssl=tls.context() if tls else None,
                    server_hostname=(tls.server_name or self._host) if tls else None,
                )
            if not connection.keep_alive:
                raise failed(httpx.ConnectError, "closed before anything was sent", request, phase)
        except TimeoutError as error:
            raise failed(httpx.ConnectTimeout, "could not connect in time", request, phase) from error
        except (OSError, UnicodeError, RuntimeError) as error:
            if phase is Phase.TLS and self._tls:
                self._tls.failed(error)
            raise failed(httpx.ConnectError, f"could not connect: {_reason(error)}", request, phase) from error
        else:
            self._open.add(connection)
            connection.address = address
            self._name.watch()
            return connection
        finally:
            self._opening -= 1
            if connection is None or connection.closed:
                self._offer_place()

    async def _socket(self, addresses: list[AddressInfo]) -> socket.socket:
        try:
            return await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER)
        except OSError:
            # It may have moved since it was asked for.
            now = await self._name.addresses(anew=True)
            if {each[4] for each in now} <= {each[4] for each in addresses}:
                raise
        return await start_connection(now, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER)

    def _let_go(self, addresses: set[str]) -> bool:
        """Close connections to where the name leads no more, those in use after their exchange; false if none is open.

        Where nobody knows where it leads, all stay.
        """
        for connection in [each for each in self._open if addresses and each.address not in addresses]:
            connection.keep_alive = False
            if connection in self._idle:
                self._idle.remove(connection)
                connection.abort()
        return bool(self._open or self._opening)

    def _connection(self) -> Connection:
        return Connection(self._bounds, self._on_closed)

    def _on_closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._lasting.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._offer_place()

    def _close_rested(self) -> None:
        """Close what was idle for too long, and look again when the next one will have been."""
        self._sweep = None
        now = self.time()
        while self._idle and self._idle[0].idle_since + self._room.idle_for <= now:
            self._idle.popleft().abort()
        if self._idle:
            self._sweep = self._loop.call_at(self._idle[0].idle_since + self._room.idle_for, self._close_rested)

    def _when(self, seconds: float, deadline: float) -> float | None:
        when = min(self.time() + seconds, deadline)
        return when if when < inf else None


def _enter(phase: Phase, timing: Timing | None) -> Phase:
    if timing is not None:
        timing.enter(phase)
    return phase


def _reason(error: Exception) -> str:
    """Why, without the address that the system's own message has in it: this text may travel."""
    match error:
        case ssl.SSLError():
            return str(error.reason or type(error).__name__)
        case socket.gaierror():
            return str(error.strerror)
        case OSError(errno=int(number)):
            return errno.errorcode.get(number, type(error).__name__)
    return type(error).__name__
