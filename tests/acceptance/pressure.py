"""Clients that ask again as soon as they are answered, refused or not: `python -m tests.acceptance.pressure --help`.

It begins to count once each of them has had an answer, and ends when the gateway has had its time of a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvloop

LOOK = 0.05
LONGEST = 60.0


class Client(asyncio.Protocol):
    """One connection, on which the same request is sent again and again; each answer as (status, seconds)."""

    def __init__(self, request: bytes, answers: list[tuple[int, float]]) -> None:
        self.request, self.answers = request, answers
        self.buffer = b""
        self.transport: Any = None
        self.answered = False
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) >= length:
            self.answered = True
            self.answers.append((int(head[9:12]), time.perf_counter() - self.sent))
            self.buffer = b""
            self.ask()


class Times(NamedTuple):
    """What a process had since it began, in seconds: of a processor, and of waiting for one that others had."""

    cpu: float
    waited: float
    clock: float

    @classmethod
    def of(cls, pid: int) -> Times:
        cpu, waited, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
        return cls(cpu / 1e9, waited / 1e9, time.perf_counter())

    def since(self, before: Times) -> Times:
        return Times(*(now - then for now, then in zip(self, before, strict=True)))


async def until(state: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST):
        while not state():  # noqa: ASYNC110 - what another process does is no event here
            await asyncio.sleep(LOOK)


async def press(port: int, pid: int, connections: int, cpu: float, body: bytes) -> dict[str, object]:
    head = b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    answers: list[tuple[int, float]] = []
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        made = await loop.create_connection(lambda: Client(head % len(body) + body, answers), "127.0.0.1", port)
        clients.append(made[1])
    await until(lambda: all(each.answered for each in clients))
    answers.clear()
    before = Times.of(pid)
    await until(lambda: Times.of(pid).since(before).cpu >= cpu)
    had = Times.of(pid).since(before)
    for each in clients:
        each.transport.abort()
    return {**had._asdict(), "answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in {"port": int, "pid": int, "connections": int, "cpu": float, "query": str, "into": Path}.items():
        parser.add_argument(name, type=kind)
    said = parser.parse_args()
    body = orjson.dumps({"query": said.query})
    said.into.write_bytes(orjson.dumps(uvloop.run(press(said.port, said.pid, said.connections, said.cpu, body))))


if __name__ == "__main__":
    main()
