"""A service on loopback that does on each connection exactly what a script says, byte by byte."""

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable

import httpx

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """The service's end of one connection."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = server.connections
        self._server = server
        self._reader, self._writer = reader, writer

    async def head(self) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._server.requests.append(head)
        return head

    async def request(self) -> bytes:
        """All of a request, head and body, as it came."""
        head = await self.head()
        body = b""
        if match := re.search(rb"content-length: *(\d+)", head, re.IGNORECASE):
            body = await self._reader.readexactly(int(match[1]))
        elif b"transfer-encoding: chunked" in head.lower():
            body = await self._reader.readuntil(b"0\r\n\r\n")
        self._server.requests[-1] += body
        return head + body

    async def read(self, most: int = 65536) -> bytes:
        return await self._reader.read(most)

    async def send(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, data: bytes = OK) -> None:
        await self.request()
        await self.send(data)

    async def drip(self, pieces: bytes | list[bytes], pause: float = 0) -> None:
        """Send piece by piece, or byte by byte."""
        for piece in pieces:
            await self.send(bytes([piece]) if isinstance(piece, int) else piece)
            await asyncio.sleep(pause)

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing, until the other end closes."""
        while await self.read():
            pass


Script = Callable[[Peer], Awaitable[None]]


async def answering(peer: Peer) -> None:
    while True:
        await peer.answer()


class Server:
    """Runs the script for every connection, and closes the connection after it."""

    def __init__(self, script: Script = answering) -> None:
        self._script = script
        self._tasks: set[asyncio.Task] = set()
        self.connections = self.ended = self.open = self.most_open = 0
        self.requests: list[bytes] = []
        self.errors: list[BaseException] = []

    async def start(self, host: str = "127.0.0.1", port: int = 0, **options) -> "Server":
        self._server = await asyncio.start_server(self._serve, host, port, **options)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            await self._script(Peer(self, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway closed the connection
        except Exception as error:  # noqa: BLE001 - shown when the test ends
            self.errors.append(error)
        finally:
            self._tasks.discard(asyncio.current_task())
            self.open -= 1
            self.ended += 1
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.errors:
            raise self.errors[0]


def get(url: str, **extensions) -> httpx.Request:
    return httpx.Request("GET", url, extensions=extensions)


async def eventually(condition: Callable[[], bool], within: float = 20) -> None:
    """Wait for what the other end of a connection sees a moment later."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.002)


def idle(transport) -> int:
    return sum(occupancy.idle for occupancy in transport.occupancy().values())
