"""An httpx request as HTTP/1.1 bytes (RFC 9112): nothing added, nothing rewritten, refused if its end is in doubt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any, Protocol

import httpx
import msgspec

from bff.core.head import CR, LF, NUL, TOKEN, Forms, Headers, Names, headers_in, lines_of
from bff.upstream.phases import Phase, failed

_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_SLICE = 64 * 1024
_HOST = b"host: "

NOTHING = httpx.ByteStream(b"")
"""The body of a request that has none: one for all, which is not read."""


class WholeBody(httpx.ByteStream):
    """A body that came in full with its head: `content` is there without waiting, and the connection is free again."""

    def __init__(self, content: bytes) -> None:
        self._stream = self.content = content


class Fields(httpx.Headers):
    """Headers as they are on the wire; httpx's own form of them is made for whoever asks for it.

    What is made of each by httpx is half the cost of a request, and most requests are passed on without a look.

    Args:
        given: pairs of bytes.
        own: lines of the gateway's own before them, that of `host` first.
    """

    _encoding: str | None = None

    def __init__(self, given: Headers, own: bytes = b"") -> None:
        self.given, self.own = given, own
        self._made: list[tuple[bytes, bytes, bytes]] | None = None

    @property
    def _list(self) -> list[tuple[bytes, bytes, bytes]]:  # type: ignore[override]
        if self._made is None:
            self._made = [(name, name.lower(), value) for name, value in self.raw]
        return self._made

    @property
    def raw(self) -> Headers:
        """Not to be changed: as long as nobody asked for httpx's form, it is what was given."""
        if self._made is not None:
            return super().raw
        return [*headers_in(self.own), *self.given] if self.own else self.given


def parts_of(headers: httpx.Headers) -> tuple[Headers, bytes]:
    """What was given and what is said before it; all of it as given, once somebody asked for httpx's form."""
    if isinstance(headers, Fields) and headers._made is None:  # noqa: SLF001
        return headers.given, headers.own
    return headers.raw, b""


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


def response_of(
    status: int,
    headers: httpx.Headers,
    extensions: dict[str, Any],
    stream: httpx.AsyncByteStream,
    request: httpx.Request,
) -> httpx.Response:
    """And for an answer whose body is still in its stream."""
    made = httpx.Response.__new__(httpx.Response)
    made.status_code, made.headers, made.extensions, made.stream = status, headers, extensions, stream
    made._request, made.next_request, made.history = request, None, []  # noqa: SLF001
    made.is_closed = made.is_stream_consumed = False
    made.default_encoding, made._num_bytes_downloaded = "utf-8", 0  # noqa: SLF001
    return made


class Beside(Protocol):
    """What goes beside a call, in `extensions["beside"]`: hints before its answer, trailers after its body."""

    def hint(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The service has sent this interim answer."""

    def trailers(self) -> list[tuple[bytes, bytes]]:
        """Those of the request, asked for once all of its body was sent in chunks."""


class Outgoing(msgspec.Struct, gc=False):
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
    """The head, how long the body is said to be, and whether it is chunked."""
    method, target = request.method.encode(), request.extensions.get("target") or request.url.raw_path
    given, own = parts_of(request.headers)
    values: tuple[bytes, ...] = ()
    form = _NONE
    if given:
        names, values = zip(*given)  # noqa: B905 - all are pairs
        form = _FORMS[names]
    if form.expects:
        # The body follows at once: there is nothing to wait for.
        given = [field for field in given if field[0].lower() != b"expect"]
        names, values = zip(*given, strict=True) if given else ((), ())
        form = _FORMS[names]
    if form.fault or form.hosts + (own[:6] == _HOST) != 1:
        raise _refused(request, form.fault or "exactly one host header is needed")
    if (method not in _METHODS and not _is_method(method)) or len(target.split()) != 1:
        raise _refused(request, "the request line is malformed")
    head = form.text % (method, target, own, *values)
    said = b"".join((target, *values)) if values else target
    if LF in said or CR in said or NUL in head:
        raise _refused(request, "a header's value has a line break or a zero byte")
    length = None if form.length is None else values[form.length]
    if length is not None and not (length.isdigit() and len(length) < 19):
        raise _refused(request, "content-length is not a number")
    if form.coding is not None and values[form.coding].lower() != b"chunked":
        raise _refused(request, "transfer-encoding is not chunked")
    return head, None if length is None else int(length), form.coding is not None


def _is_method(method: bytes) -> bool:
    return method not in {b"CONNECT", b""} and not method.translate(None, TOKEN)


class _Form(msgspec.Struct, frozen=True, gc=False):
    """All that the names of given headers decide of a head.

    Attributes:
        text: of a whole head, with a place for the method, the target, the gateway's own lines, and each value.
        hosts: how many of them say which host is meant.
        length, coding: which values say where the body ends.
        expects: whether one asks to wait before the body is sent.
        fault: why there can be no such head.
    """

    text: bytes
    hosts: int = 0
    length: int | None = None
    coding: int | None = None
    expects: bool = False
    fault: str = ""


def _form(names: Names) -> _Form:
    lowered = [name.lower() for name in names]
    lengths = [index for index, name in enumerate(lowered) if name == b"content-length"]
    codings = [index for index, name in enumerate(lowered) if name == b"transfer-encoding"]
    fault = ""
    if b"".join(names).translate(None, TOKEN) or b"" in names:
        fault = "a header's name is malformed"
    elif len(lengths) + len(codings) > 1:
        fault = "the length of its body is said more than once"
    length, coding = lengths[0] if lengths else None, codings[0] if codings else None
    text = b"%b %b HTTP/1.1\r\n%b" + lines_of(names) + b"\r\n"
    return _Form(text, lowered.count(b"host"), length, coding, b"expect" in lowered, fault)


_FORMS = Forms(_form)
_NONE = _form(())


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
        beside: Beside | None = request.extensions.get("beside")
        lines = [b"%b: %b\r\n" % trailer for trailer in beside.trailers()] if beside is not None else []
        yield b"0\r\n%b\r\n" % b"".join(lines)
    elif sent != length:
        raise _refused(request, f"content-length is {length} and the body {'is longer' if sent > length else 'ended'}")


def _chunk(data: bytes) -> bytes:
    # An empty chunk would end the body.
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _SLICE):
        yield content[start : start + _SLICE]


def stream_of(content: bytes | AsyncIterable[bytes]) -> httpx.AsyncByteStream:
    """The body of a request."""
    if not isinstance(content, bytes):
        return _Streamed(content)
    return httpx.ByteStream(content) if content else NOTHING


class _Streamed(httpx.AsyncByteStream):
    def __init__(self, content: AsyncIterable[bytes]) -> None:
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._content)


def _refused(request: httpx.Request, why: str) -> httpx.LocalProtocolError:
    return failed(httpx.LocalProtocolError, f"not sent: {why}", request, Phase.SEND)
