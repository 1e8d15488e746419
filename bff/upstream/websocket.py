"""Websockets to a service (RFC 6455): the handshake is a call like any other, and its answer has what it opened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple
from weakref import WeakSet

import httpx
from aiohappyeyeballs import start_connection
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from bff.upstream.names import Resolve
from bff.upstream.phases import Phase, failed
from bff.upstream.tls import Tls
from bff.upstream.wire import WholeBody

SWITCHED: Final = 101
_NEXT_ADDRESS_AFTER: Final = 0.25
_CLOSE_TIMEOUT: Final = 2.0
# Made by the handshake itself.
_OURS: Final = frozenset({"host", "upgrade", "connection"})


class Wanted(NamedTuple):
    """What one is opened with.

    Attributes:
        subprotocols: what its client speaks, the one that it likes most first.
        message: bytes of one message of the service's.
        pending: bytes on their way to the service before who sends them waits.
        heartbeat: seconds between pings, and for the answer to one.
    """

    subprotocols: Sequence[str]
    message: int
    pending: int
    heartbeat: float


class Websockets(httpx.AsyncBaseTransport):
    """Opens one for each request, by `extensions["websocket"]`, a `Wanted`.

    An answer of 101 has the open connection in `extensions["websocket"]`; any other is the service's refusal, whole.
    Errors are httpx's, as of `Transport`.
    """

    def __init__(self, tls: Tls | None, resolve: Resolve, connect_timeout: float) -> None:
        self._tls = tls or Tls()
        self._resolve = resolve
        self._connect_timeout = connect_timeout
        self._open: WeakSet[ClientConnection] = WeakSet()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        socket = await self._connected(request)
        given = [(name, value) for name, value in request.headers.multi_items() if name not in _OURS]
        try:
            await socket.handshake(given, None)
        except InvalidStatus as refused:
            socket.transport.abort()
            answer = refused.response
            return httpx.Response(
                answer.status_code,
                headers=_raw(answer.headers),
                stream=WholeBody(bytes(answer.body or b"")),
                request=request,
            )
        except (InvalidHandshake, EOFError, OSError, ValueError) as error:
            socket.transport.abort()
            why = f"not a valid answer to a websocket's handshake: {error}"
            raise failed(httpx.RemoteProtocolError, why, request, Phase.FIRST_BYTE) from error
        except BaseException:
            socket.transport.abort()
            raise
        assert socket.response is not None  # noqa: S101 - or the handshake had failed
        self._open.add(socket)
        headers = _raw(socket.response.headers)
        extensions = {"websocket": socket}
        return httpx.Response(SWITCHED, headers=headers, extensions=extensions, stream=WholeBody(b""), request=request)

    async def aclose(self) -> None:
        """Cut those that are open still."""
        for socket in list(self._open):
            socket.transport.abort()
        await asyncio.sleep(0)

    async def _connected(self, request: httpx.Request) -> ClientConnection:
        url, wanted = request.url, request.extensions["websocket"]
        secure, host = url.scheme == "https", url.raw_host.decode("ascii")
        port = url.port or (443 if secure else 80)
        path, _, query = request.extensions["target"].decode("ascii").partition("?")
        protocol = ClientProtocol(
            WebSocketURI(secure, host, port, path, query),
            subprotocols=[Subprotocol(each) for each in wanted.subprotocols] or None,
            max_size=wanted.message,
        )
        phase = Phase.DNS
        try:
            async with asyncio.timeout(self._connect_timeout):
                addresses = await self._resolve(host, port)
                phase = Phase.CONNECT
                sock = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER)
                phase = Phase.TLS if secure else phase
                _, socket = await asyncio.get_running_loop().create_connection(
                    lambda: ClientConnection(
                        protocol,
                        ping_interval=wanted.heartbeat,
                        ping_timeout=wanted.heartbeat,
                        close_timeout=_CLOSE_TIMEOUT,
                        max_queue=1,
                        write_limit=wanted.pending,
                    ),
                    sock=sock,
                    ssl=self._tls.context() if secure else None,
                    server_hostname=(self._tls.server_name or host) if secure else None,
                )
        except TimeoutError as error:
            raise failed(httpx.ConnectTimeout, "could not connect in time", request, phase) from error
        except (OSError, UnicodeError) as error:
            if phase is Phase.TLS:
                self._tls.failed(error)
            raise failed(httpx.ConnectError, f"could not connect: {type(error).__name__}", request, phase) from error
        return socket


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.raw_items()]
