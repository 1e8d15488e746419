"""One deployment of a service: where it is, how it does, and the step that addresses a call to it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from bff.core.head import lines
from bff.upstream.wire import Fields, parts_of


class Target:
    """One deployment, and what is known of it at the moment. Times are by the loop's clock, in seconds.

    Attributes:
        url: where it is.
        arm: which arm of the service it belongs to; empty where there are none.
        in_flight: calls that have not ended yet.
        errors: failures in a row.
        ejections: how often it was ejected without having been good in between.
        ejected_until: until when calls go elsewhere.
        ejected_for: why that was, the last time.
        times_ejected: since the start.
        healthy: what its health checks say; None where there are none, or not yet.
        admits: whether its breaker lets a call pass; None where it has none.
    """

    __slots__ = (
        "admits",
        "arm",
        "ejected_for",
        "ejected_until",
        "ejections",
        "errors",
        "healthy",
        "in_flight",
        "times_ejected",
        "url",
    )

    def __init__(self, url: httpx.URL, arm: str = "") -> None:
        self.url = url
        self.arm = arm
        self.in_flight = self.errors = self.ejections = self.times_ejected = 0
        self.ejected_until = 0.0
        self.ejected_for = ""
        self.healthy: bool | None = None
        self.admits: Callable[[], bool] | None = None

    def is_up(self, now: float) -> bool:
        """Whether it is to get calls."""
        return self.ejected_until <= now and self.healthy is not False and (self.admits is None or self.admits())


class Addressed(httpx.AsyncBaseTransport):
    """Gives what is asked of a service the host, the base path and the URL of one deployment of it.

    What comes is its own from then on.

    Args:
        inner: what takes it there.
        url: where that is.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, url: httpx.URL) -> None:
        self.inner = inner
        self.url = url
        self.host = lines([(b"host", url.netloc)])
        self.path = url.raw_path.rstrip(b"/")

    def handle_async_request(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:
        request.url = self.url
        given, own = parts_of(request.headers)
        request.headers = Fields(given, self.host + own)
        request.extensions["target"] = self.path + request.extensions["target"]
        return self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()
