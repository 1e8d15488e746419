"""Answers whose body is still on its way when their head is there: a call is over only when that has come, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx

from bff.upstream.wire import WholeBody

Ended = Callable[[BaseException | None], None]


def on_end(response: httpx.Response, call: Ended) -> bool:
    """Have this called once when the body has come, failed or been given up; False if it has come already."""
    if hasattr(response.stream, "content"):
        return False
    response.stream = Followed(cast("httpx.AsyncByteStream", response.stream), call)
    return True


def outlive(response: httpx.Response, silence: float) -> None:
    """Let a body last that is no end to be waited for, as long as some of it comes every `silence` seconds.

    Whoever wanted to know of its end is told that it was good: of what lasts, that is when it began.
    """
    stream = response.stream
    while isinstance(stream, Followed):
        stream.let_go()
        stream = stream.inner
    if (outlives := getattr(stream, "outlive", None)) is not None:
        outlives(silence)


async def read_up_to(response: httpx.Response, most: int) -> bytes | None:
    """All of a body, which the response has then as well; None if it is longer, and still to be read from its start.

    Raises:
        httpx.TransportError: it did not come.
    """
    content: bytes | None = getattr(response.stream, "content", None)
    if content is not None:
        return content if len(content) <= most else None
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        return None
    stream = cast("httpx.AsyncByteStream", response.stream)
    pieces, size = [], 0
    body = aiter(stream)
    async for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size > most:
            response.stream = _Rest(pieces, body, stream)
            return None
    await stream.aclose()
    response.stream = WholeBody(b"".join(pieces))
    return response.stream.content


class _Rest(httpx.AsyncByteStream):
    """A body of which some has been read."""

    def __init__(self, pieces: list[bytes], body: AsyncIterator[bytes], stream: httpx.AsyncByteStream) -> None:
        self._pieces, self._body, self._stream = pieces, body, stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        self._pieces.clear()
        async for piece in self._body:
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class Followed(httpx.AsyncByteStream):
    """A body that says when it is over."""

    def __init__(self, inner: httpx.AsyncByteStream, ended: Ended) -> None:
        self.inner = inner
        self._ended: Ended | None = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        error: BaseException | None = None
        try:
            async for chunk in self.inner:
                yield chunk
        except Exception as caught:
            error = caught
            raise
        finally:
            self._end(error)

    async def aclose(self) -> None:
        self._end(None)
        await self.inner.aclose()

    def let_go(self) -> None:
        """It is as good as over."""
        self._end(None)

    def __del__(self) -> None:
        # Whoever forgets it keeps its place no longer than the body itself.
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        ended: Any
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)
