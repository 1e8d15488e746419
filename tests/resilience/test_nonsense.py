"""Answers that are not what their contract says are told apart from all else, and cost neither time nor memory."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
from random import Random

import pytest
from msgspec.structs import replace

from bff.core.errors import UpstreamBadResponse
from bff.core.telemetry import Telemetry
from bff.upstream import Measures, ServiceSettings, connect
from bff.upstream.client import Upstream
from tests.resilience.chain import ORIGIN
from tests.upstream.raw import Server

BOMB = gzip.compress(b'{"items": [' + b" " * 20_000_000 + b"]}")
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def whole(body: bytes, more: bytes = b"") -> bytes:
    return JSON + more + b"content-length: %d\r\n\r\n" % len(body) + body


async def endless(peer):
    await peer.request()
    await peer.send(JSON + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"10000\r\n" + b" " * 65536 + b"\r\n")


def once(answer: bytes):
    async def script(peer):
        await peer.answer(answer)

    return script


NONSENSE = {
    "another shape": once(whole(b"[]")),
    "another type": once(whole(b"<html></html>").replace(b"application/json", b"text/html")),
    "another encoding": once(whole(gzip.compress(b"{}"), b"content-encoding: gzip\r\n")),
    "a gzip bomb": once(whole(BOMB, b"content-encoding: gzip\r\n")),
    "truncated": once(JSON + b'content-length: 1000\r\n\r\n{"items": ['),
    "truncated JSON": once(whole(b'{"items": [')),
    "empty": once(whole(b"")),
    "endless": endless,
    "another protocol": once(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
    "no HTTP": once(b"\x00\x01\x02" * 100),
    "an endless head": once(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000),
    "an interim answer and no other": once(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


@pytest.mark.parametrize("script", NONSENSE.values(), ids=NONSENSE)
async def test_it_is_a_bad_response_in_time_and_within_bounds(script):
    server = await Server(script).start()
    telemetry = Telemetry()
    settings = ServiceSettings(url=server.url, max_answer=256 * 1024, connect_timeout=20)
    service = connect("shop", settings, Measures(telemetry), telemetry, Random(7))  # noqa: S311
    origin = replace(ORIGIN, deadline=asyncio.get_running_loop().time() + 5)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(UpstreamBadResponse) as caught:
            await Upstream(service, origin).get("/things", dict[str, list[int]])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await service.close()
        await server.stop()
    assert time.monotonic() - started < 4
    assert most < 4_000_000  # the bomb has twenty, and what is endless has no end
    assert caught.value.members["service"] == "shop"
    assert caught.value.members["retryable"] is False
    assert caught.value.members["attempts"] == 1
    assert server.connections == 1
