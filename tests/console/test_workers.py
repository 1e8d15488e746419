"""What operators are told where there are several workers, and one of them takes its time."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest

from bff.console import workers as console
from bff.console.workers import Worker, Workers, over_workers
from bff.core.settings import Secret

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 21\r\nconnection: close\r\n\r\n{"outcome": "taken"}\n'


@pytest.fixture
async def operators(tmp_path, monkeypatch):
    """Two workers, of which the second answers when it is told to."""
    go = asyncio.Event()

    async def at_once(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        writer.close()

    async def late(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        writer.write(ANSWER)
        writer.close()

    living = []
    servers = []
    for place, answer in enumerate((at_once, late)):
        path = tmp_path / str(place)
        servers.append(await asyncio.start_unix_server(answer, path))
        living.append(Worker(place, os.getpid(), path))
    monkeypatch.setattr(console, "_PATIENCE", 0.1)
    app = over_workers(Workers(2, lambda: living, lambda: [0, 0]), token=Secret("operators"), metrics=True, viewers=20)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 40000))
    headers = {"authorization": "Bearer operators"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9000", headers=headers) as client:
        client.go = go
        yield client
    for each in servers:
        each.close()


async def test_a_reload_that_takes_long_is_waited_for_and_says_what_came_of_it(operators):
    asked = asyncio.create_task(operators.post("/-/reload"))
    await asyncio.sleep(0.5)  # five times what others are given
    assert not asked.done()
    operators.go.set()
    answer = await asked
    assert (answer.status_code, answer.json()) == (200, {"outcome": "taken"})


async def test_what_else_changes_something_says_soon_that_not_all_have_answered(operators):
    answer = await operators.put("/-/drain")
    assert (answer.status_code, answer.json()) == (503, {"detail": "Not all workers have answered: ask again"})
    operators.go.set()
