"""One HTTP/1.1 connection to a service: sends a request, receives its answer, within bounds of memory and time."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from math import inf
from typing import Final, cast

import httptools
import httpx
import msgspec

from bff.core.waterfall import Timing
from bff.upstream.bounds import Bounds, Limits
from bff.upstream.phases import Phase, failed
from bff.upstream.wire import Outgoing

# The timer of a loop may ring this much early: uvloop counts in milliseconds.
_TICK: Final = 0.001
_LARGE: Final = 16 * 1024
# What is read of an enum's class takes several times as long as a name.
_SEND, _FIRST_BYTE, _BODY = Phase.SEND, Phase.FIRST_BYTE, Phase.BODY


class NonsenseError(Exception):
    """The answer is no HTTP that can be relied on. Raised in callbacks to stop the parser."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; whoever took it from the pool calls, in this order,
    `send`, `read` until it is empty, `finish`.

    While nothing is under way, and after all of an answer has come, `complete` is true: any more bytes are
    nobody's answer, so they close the connection.
    """

    # More than thirty: in a dictionary of each, they would take a search each time.
    __slots__ = (
        "_alarm", "_alarm_at", "_bounds", "_buffered", "_chunks", "_congested", "_deadline", "_expires", "_head_only",
        "_head_size", "_is_1_1", "_length", "_limits", "_loop", "_on_close", "_parser", "_parser_strayed", "_patient",
        "_paused", "_phase", "_plain", "_request", "_timing", "_trailer_size", "_transport", "_until_end", "_upload",
        "_waiter", "_writer", "address", "closed", "complete", "error", "headers", "heard", "idle_since",
        "keep_alive", "opened_at", "reused", "status", "trailers", "version",
    )  # fmt: skip

    def __init__(self, bounds: Bounds, on_close: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bounds = bounds
        self._on_close = on_close
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: deque[bytes] = deque()  # empty between exchanges
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = self._expires = inf
        self._upload: asyncio.Task[None] | None = None
        self._congested = False
        self._timing: Timing | None = None
        self.closed = False
        self.reused = False
        self.keep_alive = True
        self.complete = True
        self.address = ""
        self.opened_at = self.idle_since = self._loop.time()

    # What the owner does.

    def send(
        self, request: httpx.Request, outgoing: Outgoing, limits: Limits, deadline: float, *, whole: bool = False
    ) -> asyncio.Future[None]:
        """Start an exchange; a body that is not in the head follows on its own, side by side with the answer.

        What is returned is done when status and headers are here; with `whole`, when the body is, too, unless it is
        more than may be buffered. All of it must be over at `deadline`, by the loop's clock.
        """
        self._request, self._limits, self._deadline = request, limits, deadline
        self._timing = request.extensions.get("timing")
        if self._timing is not None:
            self._timing.reused = self.reused
            self._timing.enter(_SEND)
        self._head_only = outgoing.head_only
        self.status, self.version = 0, b"HTTP/1.1"
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: Exception | None = None
        self.heard = self.complete = False
        self._until_end = True
        self._length = self._plain = 0
        self._head_size = self._trailer_size = 0
        self.trailers: list[tuple[bytes, bytes]] = []
        self._patient, self._paused = whole, False
        self._waiter = self._loop.create_future()
        self._transport.write(outgoing.head)
        if outgoing.frames is None:
            self._sent()
        else:
            self._phase = _SEND
            self._expire_at(deadline)
            self._upload = self._loop.create_task(self._send_frames(outgoing.frames))
        return self._waiter

    async def read(self) -> bytes:
        """What has come of the body since the last call, or else what comes next; empty at its end."""
        if not self._chunks and not self.complete:
            self._expire_in(self._limits.read)
            while not (self._chunks or self.complete):
                if self.error is not None:
                    raise self.error
                self._waiter = self._loop.create_future()
                await self._waiter
            # However slowly this is read, the deadline stands.
            self._expires = self._deadline
        if len(self._chunks) > 1 and len(self._chunks[0]) >= _LARGE:
            # To join it with others would be to copy it.
            chunk = self._chunks.popleft()
            self._buffered -= len(chunk)
            return chunk
        return self.take()

    def outlive(self, silence: float) -> None:
        """From here on, only such a silence ends it."""
        self._limits = msgspec.structs.replace(self._limits, read=silence)
        self._expires = self._deadline = inf

    def take(self) -> bytes:
        """What of the body is here."""
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            if not self.closed:
                self._transport.resume_reading()
        return data

    def finish(self) -> bool:
        """End the exchange, wherever it is; true if the connection can carry another one, otherwise it is closed."""
        clean = self.complete and self.keep_alive
        if self._upload is not None:
            clean = clean and self._upload.done()
            self._upload.cancel()
            self._upload = None
        self._expires = inf
        self.complete = self.reused = True
        if self._timing is not None:
            self._timing.end()
            self._timing = None
        if not clean:
            self.abort()
            return False
        if self._chunks or self._paused:
            self.take()
        if self._parser_strayed:
            self._parser = httptools.HttpResponseParser(self)
        return True

    def fail(self, error: Exception) -> None:
        """End the exchange with this error, unless all of the answer is here, and close."""
        if not self.complete and self.error is None:
            self.error = error
        self.abort()
        self._wake()
        self._wake_writer()

    def close(self, why: str) -> None:
        """Close now, whatever is under way."""
        if self.complete:
            self.abort()
        else:
            self._fail(httpx.ReadError, why)

    def abort(self) -> None:
        self.keep_alive = False
        self._expires = inf
        self._transport.abort()

    # What the network does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._bounds.buffered)

    def data_received(self, data: bytes) -> None:
        if self.complete:
            self.abort()
            return
        if not self.heard:
            self.heard = True
            self._is_1_1 = data.startswith(b"HTTP/1.1 ")
        if self._plain:
            self._take_plain(data)
        elif not self._parse(data):
            return
        if self._buffered > self._bounds.buffered and not self.complete and not self._paused:
            self._paused = True
            self._patient = False
            self._expires = self._deadline
            self._transport.pause_reading()
        if self.status and (self.complete or not self._patient):
            self._wake()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._ended(exc)
        if self._alarm is not None:
            self._alarm.cancel()
        self._wake_writer()
        self._on_close(self)

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False
        self._wake_writer()

    def _parse(self, data: bytes) -> bool:
        if not self.status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
            if not self.status and self._head_size > self._bounds.head:
                raise NonsenseError("its head is too large")  # noqa: TRY301 - one place says what follows
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, NonsenseError) as error:
            why = error.__context__ if isinstance(error.__context__, NonsenseError) else error
            self._fail(httpx.RemoteProtocolError, f"not a valid answer: {why}")
            return False
        return True

    def _take_plain(self, data: bytes) -> None:
        surplus = len(data) > self._plain
        if surplus:
            data = data[: self._plain]
        self._chunks.append(data)
        self._buffered += len(data)
        self._plain -= len(data)
        self.complete = not self._plain
        if surplus:
            self.abort()

    # What the parser finds.

    def on_message_begin(self) -> None:
        if self.complete:
            raise NonsenseError("it goes on after its end")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            self.trailers.append((name.lower(), value))
            self._trailer_size += len(name) + len(value)
            if self._trailer_size > self._bounds.head:
                raise NonsenseError("its trailers are too large")
            return
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            self._until_end = False
            self._length = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            # Whoever reads on would see a coded body as the content.
            if value.strip().lower() != b"chunked" or not self._until_end:
                raise NonsenseError("its transfer-encoding is not chunked, once")
            self._until_end = False
        self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._is_1_1:
            # To ask the parser takes as long as two headers.
            self._look_at_version()
        if not 100 <= status <= 599 or status == 101:
            raise NonsenseError(f"its status is {status}")
        if status < 200:
            if status == 103 and (beside := self._request.extensions.get("beside")) is not None:
                beside.hint(status, list(self.headers))
            self.headers.clear()
            self._until_end, self._length = True, 0
            self._is_1_1 = False  # as far as is known of the one to come
            return
        if self._head_size > self._bounds.head:
            # The reads up to here had a part of the body in them, perhaps.
            self._head_size = sum(len(name) + len(value) + 4 for name, value in self.headers)
            if self._head_size > self._bounds.head:
                raise NonsenseError("its head is too large")
        self.keep_alive = self.keep_alive and self._parser.should_keep_alive()
        self.status = status
        # Where there is no body, the parser still waits for the one that the headers speak of.
        self.complete = self._parser_strayed = self._head_only
        self._phase = _BODY
        if not self._patient:
            self._expires = self._deadline
        if self._timing is not None:
            self._timing.enter(_BODY)

    def on_body(self, body: bytes) -> None:
        if self.complete:
            raise NonsenseError("it goes on after its end")
        self._chunks.append(body)
        self._buffered += len(body)
        if self._length - self._buffered > _LARGE:
            # What is left is plain bytes, and the parser would only copy them.
            self._plain = self._length - self._buffered
            self._parser_strayed = True
        self._length = 0

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True

    def _look_at_version(self) -> None:
        version = self._parser.get_http_version()
        if version == "1.0":
            self.version = b"HTTP/1.0"
        elif version != "1.1":
            raise NonsenseError(f"its version is {version}")

    # How both meet.

    async def _send_frames(self, frames: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(frames):
                async for frame in frames:
                    # uvloop does not even forgive an attempt.
                    if self.closed:
                        return
                    self._transport.write(frame)
                    if self._congested:
                        await self._drained()
        except Exception as error:  # noqa: BLE001 - the caller's own stream may raise anything: it gets it back
            self.fail(error)
        else:
            if not self.status:
                self._sent()

    async def _drained(self) -> None:
        while self._congested and not self.closed:
            if not self.status:
                self._expire_in(self._limits.write)
            self._writer = self._loop.create_future()
            await self._writer
        if not self.status:
            self._expires = self._deadline

    def _sent(self) -> None:
        self._phase = _FIRST_BYTE
        if self._timing is not None:
            self._timing.enter(_FIRST_BYTE)
        self._expire_in(self._limits.read)

    def _ended(self, exc: Exception | None) -> None:
        self.keep_alive = False
        if self.complete or self.error is not None:
            return
        if exc is None and self.status and self._until_end:
            self.complete = True
            self._wake()
        elif exc is None and self.heard:
            self._fail(httpx.RemoteProtocolError, "the answer ended in the middle")
        elif isinstance(exc, ssl.SSLError) and not self.heard:
            # Of TLS 1.3, a client's handshake is done before its service has judged what it has shown (RFC 8446 §2).
            self._phase = Phase.TLS
            self._fail(httpx.ConnectError, f"the service ended the handshake: {exc.reason}")
        elif self._phase is _SEND:
            self._fail(httpx.WriteError, f"the connection died while the request was sent: {exc or 'closed'}")
        else:
            self._fail(httpx.ReadError, f"the connection died after the request was sent: {exc or 'closed'}")

    def _fail(self, kind: type[httpx.TransportError], message: str) -> None:
        self.fail(failed(kind, message, self._request, self._phase))

    def _wake(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if self.error is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(self.error)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    # One timer for the life of the connection, set again only when it rings or has to ring earlier: most exchanges
    # are over long before, and so never touch the loop's timers.

    def _expire_in(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        self._expire_at(when if when < self._deadline else self._deadline)  # noqa: FURB136 - it is three times as fast

    def _expire_at(self, when: float) -> None:
        self._expires = when
        if when < self._alarm_at and not self.closed:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = when
            self._alarm = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, inf
        if self._expires > self._loop.time() + _TICK:
            self._expire_at(self._expires)
        elif self._phase is _SEND:
            self._fail(httpx.WriteTimeout, "the request could not be sent in time")
        else:
            self._fail(httpx.ReadTimeout, "the answer did not come in time")
