"""The load: keep-alive connections that ask and wait; every answer is compared with the one that was checked.

`closed` keeps all connections busy and drains at the deadline, so that no CPU is spent on a request that isn't counted.
`steady` sends at a fixed rate whatever happens and measures from when a request was due, so that a server that stalls
is charged for everyone who had to wait (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """One keep-alive connection with at most one request on its way.

    Args:
        answered: called with each answer, or with what happened instead of one.
    """

    def __init__(self, answered: Callable[[Answer | OSError], None]) -> None:
        self.answered = answered
        self.open = False
        self.waiting = False
        self.parts: list[bytes] = []
        self.parser = httptools.HttpResponseParser(self)

    @classmethod
    async def to(cls, port: int, answered: Callable[[Answer | OSError], None]) -> Connection:
        """A connection to the server at that port of loopback; OSError if it can't be."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(answered), "127.0.0.1", port)
        return connection

    def send(self, raw: bytes) -> None:
        self.waiting = True
        if self.open:
            self.transport.write(raw)
        else:
            self.done(ConnectionError("closed before anything was asked"))

    def close(self) -> None:
        self.open = False
        self.transport.abort()

    def done(self, answer: Answer | OSError) -> None:
        if self.waiting:
            self.waiting = False
            self.answered(answer)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.open = True

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
        self.done(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self.done(exc if isinstance(exc, OSError) else ConnectionError("closed without an answer"))


class Asker:
    """A client to wait for: each answer is one `await`. It connects again whenever the server has closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection: Connection | None = None
        self.answer: asyncio.Future[Answer] | None = None

    async def connect(self) -> Connection:
        if self.connection is None or not self.connection.open:
            self.connection = await Connection.to(self.port, self._answered)
        return self.connection

    async def ask(self, raw: bytes) -> Answer:
        """The answer to `raw`; OSError if the server closes instead of answering."""
        connection = await self.connect()
        self.answer = asyncio.get_running_loop().create_future()
        connection.send(raw)
        return await self.answer

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def _answered(self, answer: Answer | OSError) -> None:
        if self.answer is None or self.answer.done():
            return
        if isinstance(answer, Answer):
            self.answer.set_result(answer)
        else:
            self.answer.set_exception(answer)


class Client:
    """Asks again as soon as it has its answer, until there is nothing left to ask.

    It is a chain of callbacks: a task and a future for each request would cost more than many a server does.
    """

    def __init__(self, port: int, turns: Iterator[Request], result: Result) -> None:
        self.port = port
        self.turns = turns
        self.result = result
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self.connection: Connection | None = None

    async def run(self) -> None:
        self.ask()
        await self.ended

    def ask(self) -> None:
        request = next(self.turns, None)
        if request is None:
            self.ended.set_result(None)
            return
        self.request = request
        self.began = time.perf_counter()
        if self.connection is not None and self.connection.open:
            self.connection.send(request.raw)
        else:
            self.connecting = self.loop.create_task(self.connect_and_send())

    async def connect_and_send(self) -> None:
        try:
            self.connection = await Connection.to(self.port, self.answered)
        except OSError as error:
            self.answered(error)
        else:
            self.connection.send(self.request.raw)

    def answered(self, answer: Answer | OSError) -> None:
        if isinstance(answer, Answer):
            self.result.add(self.request, answer, time.perf_counter() - self.began)
            self.ask()
        else:
            self.result.fail(repr(answer))
            self.loop.call_later(0.01, self.ask)  # who is gone is not asked in a busy loop

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


def replay(port: int, raws: Sequence[bytes]) -> list[Answer]:
    """Each request once, one after the other."""

    async def run() -> list[Answer]:
        asker = Asker(port)
        try:
            async with asyncio.timeout(PATIENCE):
                return [await asker.ask(raw) for raw in raws]
        finally:
            asker.close()

    return uvloop.run(run())


def closed(
    port: int,
    requests: Iterable[Request],
    *,
    connections: int,
    seconds: float | None = None,
    patience: float = PATIENCE,
) -> Result:
    """As many requests as the server manages with `connections` clients.

    Args:
        port: of the server on loopback.
        requests: taken in turns; with `seconds` again and again, without each of them once.
        connections: how many clients there are.
        seconds: after which nothing more is asked.
        patience: seconds that it may take beyond that.
    """

    async def run() -> Result:
        result = Result()
        began = time.perf_counter()
        turns = iter(requests) if seconds is None else _until(began + seconds, itertools.cycle(requests))
        clients = [Client(port, turns, result) for _ in range(connections)]
        try:
            async with asyncio.timeout((seconds or 0.0) + patience):
                await asyncio.gather(*[client.run() for client in clients])
        finally:
            for client in clients:
                client.close()
        result.seconds = time.perf_counter() - began
        return result

    return uvloop.run(run())


def _until(deadline: float, turns: Iterator[Request]) -> Iterator[Request]:
    while time.perf_counter() < deadline:
        yield next(turns)


def steady(port: int, requests: Sequence[Request], *, connections: int, rate: float, count: int) -> Result:
    """`count` requests at `rate` a second; who finds all connections busy waits, and the wait counts."""

    async def client(idle: asyncio.Queue[Asker], request: Request, due: float, result: Result) -> None:
        asker = await idle.get()
        try:
            answer = await asker.ask(request.raw)
        except OSError as error:
            result.fail(repr(error))
        else:
            result.add(request, answer, time.perf_counter() - due)
        finally:
            idle.put_nowait(asker)

    async def run() -> Result:
        result, turns = Result(), itertools.cycle(requests)
        idle: asyncio.Queue[Asker] = asyncio.Queue()
        askers = [Asker(port) for _ in range(connections)]
        for asker in askers:
            await asker.connect()
            idle.put_nowait(asker)
        try:
            async with asyncio.timeout(count / rate + PATIENCE), asyncio.TaskGroup() as clients:
                began = time.perf_counter()
                for turn in range(count):
                    due = began + turn / rate
                    # The loop's own timers tick in milliseconds; a sleeping thread is on time within 0.1 ms.
                    await asyncio.to_thread(time.sleep, max(0.0, due - time.perf_counter()))
                    clients.create_task(client(idle, next(turns), due, result))
        finally:
            for asker in askers:
                asker.close()
        result.seconds = time.perf_counter() - began
        return result

    return uvloop.run(run())
