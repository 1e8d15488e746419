"""Where one deployment of a service is, and the step that addresses a call to it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import httpx

from bff.upstream.wire import preceded, request_of


class Addressed(httpx.AsyncBaseTransport):
    """Gives what is asked of a service the host, the base path and the URL of one deployment of it.

    What came is left as it is: it may go elsewhere too, as another attempt or as a copy.

    Args:
        inner: what takes it there.
        url: where that is.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, url: httpx.URL) -> None:
        self.inner = inner
        self.url = url
        self._host = url.netloc
        self._path = url.raw_path.rstrip(b"/")

    def handle_async_request(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:
        return self.inner.handle_async_request(
            request_of(
                request.method,
                self.url,
                preceded(b"host", self._host, request.headers),
                {**request.extensions, "target": self._path + request.extensions["target"]},
                request.stream,
            )
        )

    async def aclose(self) -> None:
        await self.inner.aclose()
