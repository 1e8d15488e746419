"""An httpx request as HTTP/1.1 bytes (RFC 9112): nothing added, nothing rewritten, refused if its end is in doubt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from bff.upstream.phases import Phase, failed

_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_LENGTHS = frozenset(map(len, (b"host", b"expect", b"content-length", b"transfer-encoding")))
_SLICE = 64 * 1024

NOTHING = httpx.ByteStream(b"")
"""The body of a request that has none: one for all, which is not read."""


class WholeBody(httpx.ByteStream):
    """A body that came in full with its head: `content` is there without waiting, and the connection is free again."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.content = content


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> httpx.Headers:
    """These as httpx has them, which are bytes already: its own look at each is half the cost of a request."""
    made = httpx.Headers.__new__(httpx.Headers)
    made._list, made._encoding = [(name, name.lower(), value) for name, value in raw], None  # noqa: SLF001
    return made


def preceded(name: bytes, value: bytes, headers: httpx.Headers) -> httpx.Headers:
    """These with another one before them."""
    made = httpx.Headers.__new__(httpx.Headers)
    made._list, made._encoding = [(name, name, value), *headers._list], None  # noqa: SLF001
    return made


def followed(headers: httpx.Headers, name: bytes, value: bytes) -> httpx.Headers:
    """These with another one after them."""
    made = httpx.Headers.__new__(httpx.Headers)
    made._list, made._encoding = [*headers._list, (name, name, value)], None  # noqa: SLF001
    return made


def request_of(
    method: str,
    url: httpx.URL,
    headers: httpx.Headers,
    extensions: dict[str, Any],
    stream: httpx.SyncByteStream | httpx.AsyncByteStream,
) -> httpx.Request:
    """The same for a request, whose parts are what httpx would make of them."""
    made = httpx.Request.__new__(httpx.Request)
    made.method, made.url, made.headers, made.extensions, made.stream = method, url, headers, extensions, stream
    return made


@dataclass(slots=True)
class Outgoing:
    head: bytes
    """Request line and headers; and the body too, where it is small and at hand."""
    frames: AsyncGenerator[bytes, None] | None
    """The rest of the message as it goes on the wire."""
    replayable: bool
    """May be sent a second time if the first had no answer at all."""
    head_only: bool
    """The answer has no body, whatever its headers say."""


def encode(request: httpx.Request) -> Outgoing:
    """The message for this request.

    Raises:
        httpx.LocalProtocolError: it cannot be written so that every reader sees the same one message.
    """
    head, length, chunked = _head(request)
    if isinstance(request.stream, httpx.ByteStream):
        content = b"" if request.stream is NOTHING else b"".join(request.stream)
        if not chunked and len(content) != (length or 0):
            raise _refused(request, f"content-length is {length} and the body has {len(content)} bytes")
        if len(content) <= _SLICE:
            head, frames = head + (_chunk(content) + b"0\r\n\r\n" if chunked else content), None
        else:
            frames = _frames(request, _slices(content), None if chunked else length)
        replayable = request.method in _IDEMPOTENT
    elif not isinstance(request.stream, AsyncIterable):
        raise _refused(request, "the body can only be read synchronously")
    elif length is None and not chunked:
        raise _refused(request, "a streamed body needs content-length or transfer-encoding: chunked")
    else:
        frames, replayable = _frames(request, request.stream, None if chunked else length), False
    return Outgoing(head, frames, replayable, head_only=request.method == "HEAD")


def _head(request: httpx.Request) -> tuple[bytes, int | None, bool]:
    method, target = request.method.encode(), request.extensions.get("target") or request.url.raw_path
    headers = request.headers.raw
    # Most names cannot be one that matters here, and are never lowered.
    framing = [(name.lower(), value) for name, value in headers if len(name) in _LENGTHS]
    if b"expect" in dict(framing):
        # The body follows at once: there is nothing to expect.
        headers = [header for header in headers if header[0].lower() != b"expect"]
    lines = [b"%b %b HTTP/1.1\r\n" % (method, target), *[b"%b: %b\r\n" % header for header in headers], b"\r\n"]
    head = b"".join(lines)
    if method == b"CONNECT" or not method or method.translate(None, _TOKEN) or len(target.split()) != 1:
        raise _refused(request, "the request line is malformed")
    names = [name for name, _ in headers]
    if b"".join(names).translate(None, _TOKEN) or b"" in names:
        raise _refused(request, "a header's name is malformed")
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
        raise _refused(request, "a header's value has a line break or a zero byte")
    return head, *_framing(request, framing)


def _framing(request: httpx.Request, headers: list[tuple[bytes, bytes]]) -> tuple[int | None, bool]:
    """How long the body is said to be, and whether it is chunked."""
    hosts = [value for name, value in headers if name == b"host"]
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(hosts) != 1:
        raise _refused(request, "exactly one host header is needed")
    if len(lengths) + len(codings) > 1:
        raise _refused(request, "the length of its body is said more than once")
    if lengths and not (lengths[0].isdigit() and len(lengths[0]) < 19):
        raise _refused(request, "content-length is not a number")
    if codings and codings[0].lower() != b"chunked":
        raise _refused(request, "transfer-encoding is not chunked")
    return int(lengths[0]) if lengths else None, bool(codings)


async def _frames(
    request: httpx.Request, body: AsyncIterable[bytes], length: int | None
) -> AsyncGenerator[bytes, None]:
    """The body as the wire has it, held to the length that was announced."""
    sent = 0
    async for data in body:
        if length is None:
            yield _chunk(data)
        else:
            sent += len(data)
            if sent > length:
                break
            yield data
    if length is None:
        yield b"0\r\n\r\n"
    elif sent != length:
        raise _refused(request, f"content-length is {length} and the body {'is longer' if sent > length else 'ended'}")


def _chunk(data: bytes) -> bytes:
    # An empty chunk would end the body.
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _SLICE):
        yield content[start : start + _SLICE]


def _refused(request: httpx.Request, why: str) -> httpx.LocalProtocolError:
    return failed(httpx.LocalProtocolError, f"not sent: {why}", request, Phase.SEND)
