"""Compression of answers (RFC 9110 §8.4, §12.5.3), in the coding that client and gateway like best; never twice."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final, Literal, Protocol

import brotli  # type: ignore[import-untyped]  # it has no stubs
import zstandard
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.head import head

Coding = Literal["zstd", "br", "gzip"]

_SMALL: Final = 1024
"""Bytes below which a body gets no smaller by it, or hardly."""
_LARGE: Final = 128 * 1024
"""Bytes from which on it is done beside the loop."""
_KINDS: Final = re.compile(
    rb"(?:text/(?!event-stream)|application/(?:json|xml|javascript|x-ndjson|wasm|[^;\s]*\+(?:json|xml))|image/svg\+xml)",
    re.IGNORECASE,
)
_BODYLESS: Final = frozenset({204, 205, 206, 304})
_QUALITY: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_OF_OTHER_BYTES: Final = frozenset({b"content-length", b"accept-ranges", b"content-md5", b"content-digest", b"digest"})
_VARY: Final = (b"vary", b"Accept-Encoding")


class Compressor(Protocol):
    def some(self, data: bytes) -> bytes:
        """What can be read of it so far: streams stay as quick as they were."""

    def last(self, data: bytes) -> bytes:
        """The rest."""


class Gzip:
    def __init__(self) -> None:
        self._inner = zlib.compressobj(5, wbits=31)

    def some(self, data: bytes) -> bytes:
        return self._inner.compress(data) + self._inner.flush(zlib.Z_SYNC_FLUSH)

    def last(self, data: bytes) -> bytes:
        return self._inner.compress(data) + self._inner.flush()


class Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Compressor(quality=4)

    def some(self, data: bytes) -> bytes:
        made: bytes = self._inner.process(data) + self._inner.flush()
        return made

    def last(self, data: bytes) -> bytes:
        made: bytes = self._inner.process(data) + self._inner.finish()
        return made


class Zstd:
    """Its window stays below the 8 MB that clients have to have room for (RFC 9659)."""

    def __init__(self) -> None:
        self._inner = zstandard.ZstdCompressor(level=3).compressobj()

    def some(self, data: bytes) -> bytes:
        return self._inner.compress(data) + self._inner.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def last(self, data: bytes) -> bytes:
        return self._inner.compress(data) + self._inner.flush()


_COMPRESSORS: Final[dict[str, Callable[[], Compressor]]] = {"zstd": Zstd, "br": Brotli, "gzip": Gzip}


class Compression:
    """Above `errors`, so that problems are compressed too; below `observe`, which counts what is sent.

    Args:
        app: the layer below.
        codings: those offered; of two that a client likes as much, the first.
    """

    def __init__(self, app: ASGIApp, codings: Sequence[Coding]) -> None:
        self.app = app
        self.chosen = lru_cache(1024)(lambda accepted: negotiated(accepted, codings))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or scope["method"] == "HEAD":
            return self.app(scope, receive, send)
        coding = self.chosen(head(scope).values.get(b"accept-encoding", b""))
        return self.app(scope, receive, Compressed(coding, send).send)


def negotiated(accepted: bytes, codings: Sequence[Coding]) -> Coding | None:
    """The coding for a client that says this of what it can read; None: as it is."""
    qualities: dict[str, float] = {}
    for each in accepted.decode("latin-1").split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        found = next((match for part in parameters if (match := _QUALITY.fullmatch(part))), None)
        qualities[name.lower()] = float(found[1]) if found else 0.0 if parameters else 1.0
    best: Coding | None = None
    most = 0.0
    for coding in codings:
        quality = qualities.get(coding, qualities.get("*", 0.0))
        if quality > most:
            best, most = coding, quality
    return best


class Compressed:
    """One answer on its way. The head of one whose length is known waits for its body: if that is all of it, the new
    length is known as well.
    """

    def __init__(self, coding: Coding | None, send: Send) -> None:
        self._coding = coding
        self._send = send
        self._waiting: Message | None = None
        self._compressor: Compressor | None = None

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            await self._begin(message)
            return
        if kind == "http.response.body" and self._compressor is not None:
            message = await self._coded(self._compressor, message)
            if (start := self._waiting) is not None:
                self._waiting = None
                if not message.get("more_body"):
                    start["headers"].append((b"content-length", b"%d" % len(message["body"])))
                await self._send(start)
        await self._send(message)

    async def _begin(self, start: Message) -> None:
        headers = list(start.get("headers", ()))
        self._waiting = self._compressor = None
        if _may_be_coded(start["status"], headers):
            headers.append(_VARY)
            length = next((int(value) for name, value in headers if name == b"content-length"), None)
            if self._coding is not None and (length is None or length >= _SMALL):
                self._compressor = _COMPRESSORS[self._coding]()
                headers = [_weak(each) for each in headers if each[0] not in _OF_OTHER_BYTES]
                headers.append((b"content-encoding", self._coding.encode()))
                if length is not None:
                    self._waiting = {**start, "headers": headers}
                    return
        await self._send({**start, "headers": headers})

    async def _coded(self, compressor: Compressor, message: Message) -> Message:
        data, more = message.get("body", b""), message.get("more_body", False)
        if more and not data:
            return message
        step = compressor.some if more else compressor.last
        coded = step(data) if len(data) < _LARGE else await asyncio.to_thread(step, data)
        return {**message, "body": coded}


def _may_be_coded(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether it is text, and as nobody has coded it, cut it or forbidden it (RFC 9111 §5.2.2.6)."""
    said = dict(headers)
    return (
        status not in _BODYLESS
        and b"content-encoding" not in said
        and b"content-range" not in said
        and _KINDS.match(said.get(b"content-type", b"")) is not None
        and b"no-transform" not in said.get(b"cache-control", b"").lower()
    )


def _weak(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Other bytes that mean the same (RFC 9110 §8.8.3.3)."""
    name, value = header
    return (name, b"W/" + value) if name == b"etag" and value.startswith(b'"') else header
