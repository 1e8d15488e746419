"""What the policies between a call and its connection cost while nothing fails: the chain and a bare wire, in turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from statistics import median

import httpx

from bff.core.identity import ANONYMOUS
from bff.core.telemetry import Telemetry
from bff.core.trace import Trace
from bff.upstream import Measures, Origin, ServiceSettings, connect
from bff.upstream.transport import WholeBody

ROUNDS = 15
CALLS = 4000
_ORIGIN = Origin(ANONYMOUS, Trace("1" * 32, "1" * 16, sampled=False), "a-request", 1e9)


class Wire(httpx.AsyncBaseTransport):
    """Answers at once, so that what is measured is what lies above."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=WholeBody(b"{}"), request=request)


def costs() -> dict[str, float]:
    """Microseconds of CPU that a call costs above the wire: the policies of a service as it ships, and without some."""
    return asyncio.run(_costs())


async def _costs() -> dict[str, float]:
    wire = Wire()
    request = httpx.Request("GET", "http://service")
    ways: dict[str, Callable[[], Awaitable[httpx.Response]]] = {"wire": lambda: wire.handle_async_request(request)}
    for name, settings in {
        "as shipped": {},
        "with a bulkhead": {"max_concurrency": 100},
        "without a breaker": {"breaker": "off"},
    }.items():
        ways[name] = _chain(wire, settings)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name in ways if number % 2 else reversed(ways):
            call = ways[name]
            started = time.process_time()
            for _ in range(CALLS):
                await call()
            found[name].append((time.process_time() - started) / CALLS * 1e6)
    return {
        name: median(own - bare for own, bare in zip(each, found["wire"], strict=True))
        for name, each in found.items()
        if name != "wire"
    }


def _chain(wire: httpx.AsyncBaseTransport, settings: dict[str, object]) -> Callable[[], Awaitable[httpx.Response]]:
    """The policies alone: the request is made by the client, and is the same without them."""
    telemetry = Telemetry()
    made = ServiceSettings.model_validate({"url": "http://service.internal", **settings})
    service = connect("service", made, Measures(telemetry), telemetry, Random(7), network=wire)  # noqa: S311
    headers = [(b"accept", b"application/json")]

    def call() -> Awaitable[httpx.Response]:
        said = {"target": b"/things?ids=1", "origin": _ORIGIN, "deadline": 1e9, "whole": True}
        return service.transport.handle_async_request(
            service._request("GET", headers, b"", b"", said)  # noqa: SLF001
        )

    return call


def main() -> None:
    for name, cost in costs().items():
        print(f"{name:<20}{cost:6.1f} µs of CPU a call")


if __name__ == "__main__":
    main()
