"""Clients that ask again as soon as they are answered, refused or not: `python -m tests.acceptance.pressure --help`."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop


class Client(asyncio.Protocol):
    """One connection, on which the same request is sent again and again; each answer as (status, seconds)."""

    def __init__(self, request: bytes, answers: list[tuple[int, float]]) -> None:
        self.request, self.answers = request, answers
        self.buffer = b""
        self.transport: Any = None
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
            self.answers.append((int(head[9:12]), time.perf_counter() - self.sent))
            self.buffer = b""
            self.ask()


async def press(port: int, connections: int, seconds: float, body: bytes) -> list[tuple[int, float]]:
    head = b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    answers: list[tuple[int, float]] = []
    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(connections):
        made = await loop.create_connection(lambda: Client(head % len(body) + body, answers), "127.0.0.1", port)
        transports.append(made[0])
    await asyncio.sleep(seconds)
    for each in transports:
        each.abort()
    return answers


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in {"port": int, "connections": int, "seconds": float, "query": str, "into": Path}.items():
        parser.add_argument(name, type=kind)
    said = parser.parse_args()
    body = orjson.dumps({"query": said.query})
    began = time.perf_counter()
    answers = uvloop.run(press(said.port, said.connections, said.seconds, body))
    said.into.write_bytes(orjson.dumps({"seconds": time.perf_counter() - began, "answers": answers}))


if __name__ == "__main__":
    main()
