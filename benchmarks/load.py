"""The load: keep-alive connections that ask and wait; every answer is compared with the one that was checked.

`closed` keeps all connections busy and drains at the deadline, so that no CPU is spent on a request that isn't counted.
`steady` sends at a fixed rate whatever happens and measures from when a request was due, so that a server that stalls
is charged for everyone who had to wait (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import httptools
import uvloop

PATIENCE = 60.0  # seconds that a run may go on after its end, for the last answers


class Answer(NamedTuple):
    status: int
    body: bytes


class Request(NamedTuple):
    """What goes over the wire, and the answer that is known to be right."""

    raw: bytes
    answer: Answer | None = None


@dataclass
class Result:
    """What came of a run. A wrong answer is an error like a refused one; the first error is kept for the reader."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""

    @property
    def count(self) -> int:
        return len(self.latencies)

    @property
    def rate(self) -> float:
        return self.count / self.seconds if self.seconds else 0.0

    def quantile(self, q: float) -> float:
        """Seconds within which the share `q` of all requests was answered."""
        ordered = sorted(self.latencies)
        return ordered[round((len(ordered) - 1) * q)] if ordered else 0.0

    def add(self, request: Request, answer: Answer, latency: float) -> None:
        self.latencies.append(latency)
        if answer != (request.answer or answer):
            self.fail(f"answered {answer.status} {answer.body[:400]!r}")

    def fail(self, error: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or error


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.transport: asyncio.Transport | None = None
        self.waiting: asyncio.Future[Answer] | None = None

    async def ask(self, raw: bytes) -> Answer:
        """The answer to `raw`; ConnectionError if the server closes instead of answering."""
        loop = asyncio.get_running_loop()
        if self.transport is None:
            await loop.create_connection(lambda: self, "127.0.0.1", self.port)
        if self.transport is None:
            raise ConnectionError("closed as soon as it was opened")
        self.waiting = loop.create_future()
        self.transport.write(raw)
        return await self.waiting

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []

    def data_received(self, received: bytes) -> None:
        try:
            self.parser.feed_data(received)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        answer = Answer(self.parser.get_status_code(), b"".join(self.parts))
        self.parts.clear()
        if not self.parser.should_keep_alive():
            self.close()
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(exc or ConnectionError("closed without an answer"))


def replay(port: int, raws: Sequence[bytes]) -> list[Answer]:
    """Each request once, one after the other."""

    async def run() -> list[Answer]:
        async with connected(port, 1) as (connection,), asyncio.timeout(PATIENCE):
            return [await connection.ask(raw) for raw in raws]

    return uvloop.run(run())


def closed(port: int, requests: Sequence[Request], *, connections: int, seconds: float) -> Result:
    """As many requests as the server manages with `connections` clients, each asking again once it has its answer."""

    async def client(connection: Connection, turns: Iterator[Request], deadline: float, result: Result) -> None:
        while (began := time.perf_counter()) < deadline:
            request = next(turns)
            try:
                answer = await connection.ask(request.raw)
            except OSError as error:
                result.fail(repr(error))
                await asyncio.sleep(0.01)  # a server that is gone is not asked in a busy loop
            else:
                result.add(request, answer, time.perf_counter() - began)

    async def run() -> Result:
        result, turns = Result(), itertools.cycle(requests)
        async with connected(port, connections) as pool, asyncio.timeout(seconds + PATIENCE):
            began = time.perf_counter()
            await asyncio.gather(*[client(connection, turns, began + seconds, result) for connection in pool])
            result.seconds = time.perf_counter() - began
        return result

    return uvloop.run(run())


def steady(port: int, requests: Sequence[Request], *, connections: int, seconds: float, rate: float) -> Result:
    """`rate` requests a second for `seconds`; who finds all connections busy waits, and the wait counts."""

    async def client(idle: asyncio.Queue[Connection], request: Request, due: float, result: Result) -> None:
        connection = await idle.get()
        try:
            answer = await connection.ask(request.raw)
        except OSError as error:
            result.fail(repr(error))
        else:
            result.add(request, answer, time.perf_counter() - due)
        finally:
            idle.put_nowait(connection)

    async def run() -> Result:
        result, turns = Result(), itertools.cycle(requests)
        idle: asyncio.Queue[Connection] = asyncio.Queue()
        async with (
            connected(port, connections) as pool,
            asyncio.timeout(seconds + PATIENCE),
            asyncio.TaskGroup() as clients,
        ):
            for connection in pool:
                idle.put_nowait(connection)
            began = time.perf_counter()
            for turn in range(int(rate * seconds)):
                due = began + turn / rate
                # The loop's own timers tick in milliseconds; a sleeping thread is on time within 0.1 ms.
                await asyncio.to_thread(time.sleep, max(0.0, due - time.perf_counter()))
                clients.create_task(client(idle, next(turns), due, result))
        result.seconds = time.perf_counter() - began
        return result

    return uvloop.run(run())


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Connection]]:
    pool = [Connection(port) for _ in range(count)]
    try:
        yield pool
    finally:
        for connection in pool:
            connection.close()
