"""What it costs a request to be seen, its trace not recorded: `python -m benchmarks.observing`.

The same gateway in memory, in turns: as it is, without what is kept for explanations and usage, and without metrics
and access log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import median
from typing import Any
from unittest.mock import patch

import httpx
import orjson
from prometheus_client import Counter, Gauge

from bff.app import build
from bff.config import read
from bff.core.durations import Distribution, Durations
from bff.core.requests import Requests
from bff.core.telemetry import JsonLog, Telemetry
from bff.core.traffic import Traffic
from bff.core.usage import Usage
from bff.edge.observe import Observe
from bff.serve import spare_what_stays
from bff.upstream.observe import Observe as ObserveCalls
from bff.upstream.transport import WholeBody
from demo import API_KEY

ROUNDS = 15
REQUESTS = 1500

_USER = {"id": "usr_1", "name": "User 1", "email": "one@example.com", "created_at": "2026-01-01T00:00:00Z"}
_ONE, _PAGE = orjson.dumps(_USER), orjson.dumps({"items": [_USER], "next_cursor": None})
_JSON = [(b"content-type", b"application/json")]
_QUERY = orjson.dumps({"query": '{ user(id: "usr_1") { id name email } }'})

Request = Callable[[], Awaitable[None]]


class Services(httpx.AsyncBaseTransport):
    """Answer at once with one user."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = _PAGE if request.url.query else _ONE
        return httpx.Response(200, headers=_JSON, stream=WholeBody(body), request=request)


def costs() -> dict[str, dict[str, float]]:
    """Microseconds of CPU of a request, by workload: in all, and of these for what it is seen by."""
    return asyncio.run(_costs())


async def _costs() -> dict[str, dict[str, float]]:
    config = read(Path("bff.yaml"), environ={}, overrides={"limits": {"mode": "off"}, "observability": _NO_TRACES})
    app = build(config, network=Services(), telemetry=Telemetry(log=JsonLog(BytesIO(), hold=0.1)), random=Random(7))  # noqa: S311
    requests = {
        "R1": _request(app, "GET", "/api/users/usr_1"),
        "G1": _request(app, "POST", "/graphql", _QUERY),
    }
    spare_what_stays()  # as a process has it that serves
    return {name: await _compared(each) for name, each in requests.items()}


async def _compared(request: Request) -> dict[str, float]:
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "seen": nullcontext,
        "counted": partial(_without, _KEPT),
        "unseen": partial(_without, _KEPT + _COUNTED),
    }
    await _taken(request)  # all that is made once
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name in ways if number % 2 else reversed(ways):
            with ways[name]():
                found[name].append(await _taken(request))
    seen, counted, unseen = found.values()
    return {
        "in all": median(seen),
        "metrics and access log": median(one - other for one, other in zip(counted, unseen, strict=True)),
        "explanations and usage": median(one - other for one, other in zip(seen, counted, strict=True)),
    }


_NO_TRACES = {"traces": {"sample": 0.0}}


async def _taken(request: Request) -> float:
    started = time.process_time()
    for _ in range(REQUESTS):
        await request()
    return (time.process_time() - started) / REQUESTS * 1e6


def _request(app: Any, method: str, path: str, body: bytes = b"") -> Request:
    headers = [(b"host", b"gateway"), (b"x-api-key", API_KEY.encode())]
    if body:
        headers += [*_JSON, (b"content-length", b"%d" % len(body))]

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != httpx.codes.OK:
            raise ValueError(f"{method} {path}: {message['status']}")

    async def request() -> None:
        sent = [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            if not sent:
                await asyncio.Event().wait()  # the client stays
            return sent.pop()

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("192.0.2.1", 40000),
            "server": ("gateway", 80),
        }
        await app(scope, receive, send)

    return request


async def _passed_on(observe: ObserveCalls, request: httpx.Request) -> httpx.Response:
    request.extensions["timing"] = None
    return await observe.inner.handle_async_request(request)


@contextmanager
def _without(parts: Sequence[tuple[type, str]]) -> Iterator[None]:
    """Ids and `traceparent` are made all the same, since services are sent them."""
    with ExitStack() as stack:
        for owner, name in parts:
            stack.enter_context(patch.object(owner, name, _passed_on if owner is ObserveCalls else _nothing))
        yield


def _nothing(*_: object, **__: object) -> None:
    pass


_COUNTED = (
    (Observe, "_end"),
    (ObserveCalls, "handle_async_request"),
    (Durations, "observe"),
    (Distribution, "observe"),
    (Counter, "inc"),
    (Gauge, "inc"),
    (Gauge, "dec"),
    (Traffic, "request"),
    (Traffic, "call"),
)
_KEPT = ((Requests, "begin"), (Usage, "count"))


def main() -> None:
    for name, found in costs().items():
        print(f"{name}  " + ", ".join(f"{what} {cost:.0f} µs" for what, cost in found.items()))


if __name__ == "__main__":
    main()
