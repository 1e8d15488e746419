"""Answers whose body is still on its way when their head is there: a call is over only when that has come, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx

Ended = Callable[[BaseException | None], None]


def on_end(response: httpx.Response, call: Ended) -> bool:
    """Have this called once when the body has come, failed or been given up; False if it has come already."""
    if hasattr(response.stream, "content"):
        return False
    response.stream = Followed(cast("httpx.AsyncByteStream", response.stream), call)
    return True


class Followed(httpx.AsyncByteStream):
    """A body that says when it is over."""

    def __init__(self, inner: httpx.AsyncByteStream, ended: Ended) -> None:
        self._inner = inner
        self._ended: Ended | None = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        error: BaseException | None = None
        try:
            async for chunk in self._inner:
                yield chunk
        except Exception as caught:
            error = caught
            raise
        finally:
            self._end(error)

    async def aclose(self) -> None:
        self._end(None)
        await self._inner.aclose()

    def __del__(self) -> None:
        # Whoever forgets it keeps its place no longer than the body itself.
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        ended: Any
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)
