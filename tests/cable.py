"""What one process reaches another by, and what can be cut: then nothing comes through, as when packets are lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Cable:
    """Listens at an address of its own and passes on what comes to a server, both ways.

    Args:
        host: the address.
        to: host and port of the server.

    Attributes:
        port: where it listens.
    """

    def __init__(self, host: str, to: tuple[str, int]) -> None:
        self._host, self._to = host, to
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._pairs: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._came, host, 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.set)

    def snap(self) -> None:
        """End all connections that there are."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for each in self._pairs:
            each.cancel()

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        self._cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        task.add_done_callback(self._pairs.discard)
        with suppress(asyncio.CancelledError, OSError):  # it is snapped, or the server is gone
            await self._join(reader, writer)
        writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, back))
                both.create_task(self._pass(there, writer))
        finally:
            back.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while more := await reader.read(65536):
                await self._whole.wait()
                writer.write(more)
                await writer.drain()
        writer.close()


@contextmanager
def cable(host: str, to: tuple[str, int]) -> Iterator[Cable]:
    made = Cable(host, to)
    try:
        yield made
    finally:
        made.end()
