"""The transport nearest the wire: every call to a service ends here, as one HTTP/1.1 exchange on a pooled connection.

It sends what the request has and returns what came: no cookies, no redirects, no decoding, and no retry but of a call
that found nobody (a connection that its service had closed while it was idle).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Annotated, Final

import httpx
from pydantic import Field

from bff.core.settings import Duration, Settings, Size
from bff.upstream.bounds import Bounds, Limits
from bff.upstream.connection import Connection
from bff.upstream.names import Resolve
from bff.upstream.names import resolve as system_resolve
from bff.upstream.phases import Phase, failed
from bff.upstream.pool import Occupancy, Origin, Pool, Room
from bff.upstream.tls import Tls
from bff.upstream.wire import Fields, WholeBody, encode, response_of

_POOL: Final = Phase.POOL  # what is read of an enum's class takes several times as long as a name
Count = Annotated[int, Field(ge=1, le=100_000)]


class TransportSettings(Settings):
    connect_timeout: Duration = 1.0
    """To resolve the service's name, connect and shake hands."""
    pool_timeout: Duration = 1.0
    """To wait for a connection while all are in use."""
    write_timeout: Duration = 10.0
    """For the service to take more of a request's body."""
    read_timeout: Duration = 30.0
    """For the service to begin its answer, once the request is sent, and between any two pieces of its body."""
    max_connections: Count = 100
    """Open at once, to each address of the service."""
    max_idle: Count = 100
    """Kept open while not in use."""
    max_lasting: Count = 1000
    """Open at once for event streams, to each address, beside those of calls; one past it stays among them."""
    max_waiting: Count = 1000
    """Calls that may wait for a connection; one more is refused at once."""
    idle_timeout: Duration = 4.0
    """After which an unused connection is closed: less than the 5 s after which many servers close theirs."""
    max_age: Duration = 60.0
    """After which a connection carries no further call, so that calls spread over addresses that are new."""
    resolve_interval: Annotated[Duration, Field(ge=0.05)] = 5.0
    """Between two looks at where the service's name leads; connections to where it leads no more are closed."""
    max_head: Annotated[Size, Field(ge=1024)] = 64 * 1024
    """Of an answer: its status line and headers, and again its trailers."""
    max_buffered: Annotated[Size, Field(ge=1024)] = 256 * 1024
    """Of each body under way, before the sender is made to wait."""


class _Arriving(httpx.AsyncByteStream):
    """A body that is still on its way: read to its end or closed, or else only its deadline frees the connection."""

    def __init__(self, connection: Connection, pool: Pool) -> None:
        self._connection: Connection | None = connection
        self._pool = pool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._connection is None:
            raise httpx.StreamClosed
        try:
            while data := await self._connection.read():
                yield data
        finally:
            await self.aclose()

    def outlive(self, silence: float) -> None:
        """It may last, as long as some of it comes every so many seconds."""
        if self._connection is not None:
            self._connection.outlive(silence)
            self._pool.lend(self._connection)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)


class Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1 to any number of origins, each with its own pool.

        response = await transport.handle_async_request(httpx.Request("GET", url))

    The request's extensions, all optional:

    - `timeout`: httpx's, `{"connect", "pool", "write", "read"}` in seconds, None for no limit; what is missing is
      from the settings.
    - `deadline`: when by the loop's clock the whole of the answer must have come.
    - `target`: bytes in place of the URL's path and query.
    - `whole`: true to wait for the body as well, if it is not larger than `max_buffered`. `response.stream` is then
      a `WholeBody`, as it also is without when all came at once; otherwise it is read as any httpx stream.

    Errors are httpx's: ConnectError, ConnectTimeout and PoolTimeout mean that nothing was sent, LocalProtocolError
    that the request cannot be sent; all others that the service may have seen it. `phase_of(error)` says where it was.
    """

    def __init__(
        self, settings: TransportSettings, *, tls: Tls | None = None, resolve: Resolve = system_resolve
    ) -> None:
        self._resolve = resolve
        self._room = Room(
            settings.max_connections,
            settings.max_idle,
            settings.max_lasting,
            settings.max_waiting,
            settings.idle_timeout,
            settings.max_age,
            settings.resolve_interval,
        )
        self._bounds = Bounds(settings.max_head, settings.max_buffered)
        self._limits = Limits(
            settings.connect_timeout, settings.pool_timeout, settings.write_timeout, settings.read_timeout
        )
        self._secured = tls or Tls()
        self._pools: dict[Origin, Pool] = {}  # as many as the configuration has origins
        self._last: tuple[httpx.URL, Pool] | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        outgoing = encode(request)
        said, pool = request.extensions, self._pool(request)
        limits = self._limits_of(said["timeout"]) if "timeout" in said else self._limits
        deadline: float = said.get("deadline", inf)
        if deadline <= pool.time():
            raise failed(httpx.PoolTimeout, "its deadline has passed", request, Phase.POOL)
        if timing := said.get("timing"):
            timing.enter(_POOL)
        connection = pool.take() or await pool.acquire(request, limits, deadline)
        repeatable = connection.reused and outgoing.replayable
        while True:
            try:
                await connection.send(request, outgoing, limits, deadline, whole=said.get("whole", False))
            except BaseException as error:
                pool.release(connection)
                # Any byte of an answer would mean that somebody has read the request; without, the service closed the
                # connection just before this call came.
                if not repeatable or connection.heard or not isinstance(error, httpx.NetworkError):
                    raise
            else:
                return _answer(pool, connection, request)
            outgoing, repeatable = encode(request), False
            connection = await pool.acquire(request, limits, deadline, fresh=True)

    def occupancy(self) -> dict[str, Occupancy]:
        """How full each origin's pool is, by `scheme://host:port`."""
        return {
            f"{origin.scheme.decode()}://{origin.host.decode()}:{origin.port}": pool.occupancy
            for origin, pool in self._pools.items()
        }

    async def aclose(self) -> None:
        """Close all connections, those in use as well; their calls end with ReadError, later ones with ConnectError."""
        self._closed = True
        for pool in list(self._pools.values()):
            pool.close()
        await asyncio.sleep(0)

    def _pool(self, request: httpx.Request) -> Pool:
        url, last = request.url, self._last
        if last is not None and last[0] is url:
            return last[1]
        origin = Origin(url.raw_scheme, url.raw_host, url.port or (443 if url.scheme == "https" else 80))
        pool = self._pools.get(origin)
        if pool is None:
            if self._closed:
                raise failed(httpx.ConnectError, "the gateway closed its connections", request, Phase.POOL)
            pool = self._pools[origin] = Pool(origin, self._room, self._bounds, self._tls(request), self._resolve)
        # Calls to one place come with one URL, whose parts take longer to read than all else here.
        self._last = url, pool
        return pool

    def _tls(self, request: httpx.Request) -> Tls | None:
        match request.url.scheme:
            case "http":
                return None
            case "https":
                return self._secured
        raise failed(httpx.UnsupportedProtocol, "only http and https are spoken here", request, Phase.POOL)

    def _limits_of(self, timeout: dict[str, float | None]) -> Limits:
        ours = self._limits
        return Limits(
            _seconds(timeout.get("connect", ours.connect)),
            _seconds(timeout.get("pool", ours.pool)),
            _seconds(timeout.get("write", ours.write)),
            _seconds(timeout.get("read", ours.read)),
        )


def _answer(pool: Pool, connection: Connection, request: httpx.Request) -> httpx.Response:
    status, headers, version = connection.status, connection.headers, connection.version
    stream: httpx.AsyncByteStream
    if connection.complete:
        stream = WholeBody(connection.take())
        pool.release(connection)
    else:
        stream = _Arriving(connection, pool)
    # Of its trailers, there are none before the end of its body.
    extensions = {"http_version": version, "trailers": connection.trailers}
    return response_of(status, Fields(headers), extensions, stream, request)


def _seconds(timeout: float | None) -> float:
    return inf if timeout is None else timeout
