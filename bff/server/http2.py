"""HTTP/2 on the public port (RFC 9113): many requests on one connection, each within bounds, and all of them together.

Frames are read here; header compression (RFC 7541) is the library's, `hpack`. What a client can do often at no cost to
itself (resets, pings, settings, frames of nothing) takes from an allowance, and the connection ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, ClassVar, Final, cast

import hpack
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from bff.core.errors import BadRequest, GatewayError
from bff.server import frames
from bff.server.connection import BESIDE_HEADERS, LAST_CALL, Connection
from bff.server.frames import Allowance, Broken, Reader, frame
from bff.server.settings import ConnectionSettings
from bff.server.stream import WINDOW, Head, Header, Stream

MAX_STREAMS: Final = 100
"""Requests under way on one connection, those included that a client has reset and whose work has not ended yet."""
_WINDOW: Final = 1024 * 1024
# Beyond what `max_headers` lets pass, so that a little too much is refused in words; more ends the connection.
_HEADROOM: Final = 2
_LAST_WORDS: Final = 0.1  # for a client that still sends to hear why: what it has not read by then, a reset destroys


class Http2(asyncio.Protocol):
    """The requests of one client, side by side; `http2` makes it for given settings."""

    settings: ClassVar[ConnectionSettings]
    resting: ClassVar[dict[Any, None]]  # connections without a request, those of HTTP/1.1 among them

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self._app, self._server, self._app_state = config.loaded_app, server_state, app_state
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._reader = Reader(self.settings.max_headers + BESIDE_HEADERS)
        self._decoder = hpack.Decoder(max_header_list_size=self.settings.max_headers * _HEADROOM)
        self._encoder = hpack.Encoder()
        self._streams: dict[int, Stream] = {}
        self._running = 0
        self._last = 0
        self._stream_window = 65535
        self.window = 65535
        self.max_frame = frames.MAX_FRAME
        self._taken = 0  # bytes of bodies that are gone and that the client was not told of
        self._allowance = Allowance(self._loop.time())
        self._ending = self._draining = self._closing = self.closed = False
        self._rest_until = inf
        self._alarm: asyncio.TimerHandle | None = None
        self._writable: asyncio.Event | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._held = self.congested = False

    # What the network does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn's own kinds; it asks for `shutdown`
        self._server_address = get_local_addr(self._transport)
        self._client_address = get_remote_addr(self._transport)
        values = [
            (frames.MAX_STREAMS, MAX_STREAMS),
            (frames.INITIAL_WINDOW, WINDOW),
            (frames.HEADER_LIST, self.settings.max_headers),
        ]
        self.write(frames.settings(values) + frames.window_update(0, _WINDOW - 65535))
        if len(self._server.connections) > self.settings.max_connections and not self._has_room():
            self._break(frames.ENHANCE_YOUR_CALM, within=0)
            return
        self._rest(self.settings.head_timeout)

    def _has_room(self) -> bool:
        """By closing a connection that nobody uses; what is under way goes on."""
        rested = next(iter(self.resting), None)
        if rested is None:
            return False
        del self.resting[rested]
        rested.abort()
        return True

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        try:
            for kind, number, flags, payload in self._reader.read(data):
                what = _READERS.get(kind)
                if what is None:
                    self._spend(1)  # unknown: to be ignored
                else:
                    what(self, number, flags, payload)
                if self._ending:
                    return
        except Broken as broken:
            self._break(broken.code)
        except hpack.HPACKError:
            self._break(frames.COMPRESSION_ERROR)

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = self._ending = True
        self._server.connections.discard(self)
        self.resting.pop(self, None)
        for timer in (self._alarm, self._cut):
            if timer is not None:
                timer.cancel()
        for stream in list(self._streams.values()):
            stream.leave()
        self._streams.clear()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Who does not read what is sent is not read either: else answers to pings would pile up."""
        self.congested = True
        self._transport.pause_reading()
        self._cut = self._loop.call_later(self.settings.write_timeout, self._transport.abort)

    def resume_writing(self) -> None:
        self.congested = False
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
        self._read_on()
        if self._writable is not None:
            self._writable.set()

    def hold(self) -> Callable[[], None]:
        """Read nothing until what is returned is called."""
        if not self._held and not self.closed:
            self._held = True
            self._transport.pause_reading()
        return self._listen

    def _listen(self) -> None:
        self._held = False
        self._read_on()

    def _read_on(self) -> None:
        if not self.closed and not self.congested and not self._held:
            self._transport.resume_reading()

    def abort(self) -> None:
        self._ending = True
        self._transport.abort()

    def shutdown(self) -> None:
        """What is under way is answered, and what was sent before the client could know (RFC 9113 §6.8)."""
        if not self._draining and not self._ending:
            self._draining = True
            self.write(frames.goaway(frames.MAX_WINDOW, frames.NO_ERROR))
            self._loop.call_later(LAST_CALL, self._take_no_more)

    def _take_no_more(self) -> None:
        if not self._ending:
            self.write(frames.goaway(self._last, frames.NO_ERROR))
            self._closing = True
            self._close_when_done()

    # What frames say.

    def _spend(self, units: float) -> None:
        self._allowance.spend(units, self._loop.time())

    def on_data(self, number: int, flags: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        size = len(payload)
        body = frames.unpadded(payload, flags)
        if number > self._last or not number:
            raise Broken(frames.PROTOCOL_ERROR)
        if stream is None or stream.is_half_closed:
            self._spend(1)
            self.give_back(size)  # sent before the client knew that its stream is over
            return
        if size > stream.room:
            raise Broken(frames.FLOW_CONTROL_ERROR)
        if size > len(body):
            stream.skip(size - len(body))
        if body:
            stream.take(body)
        elif not flags & frames.END_STREAM:
            self._spend(1)
        if flags & frames.END_STREAM:
            stream.end_body()
            self._forget_if_over(stream)

    def on_headers(self, number: int, flags: int, block: bytes) -> None:
        # Decoded in any case: what follows is compressed by what it has set.
        headers = cast("list[Header]", self._decoder.decode(block, raw=True))
        ended = bool(flags & frames.END_STREAM)
        stream = self._streams.get(number)
        if stream is not None:
            if not ended or stream.is_half_closed:
                raise Broken(frames.PROTOCOL_ERROR)
            stream.trailers += headers
            stream.end_body()
            self._forget_if_over(stream)
            return
        if not number % 2:
            raise Broken(frames.PROTOCOL_ERROR)
        if number <= self._last:
            self._spend(1)
            return
        self._last = number
        if self._running >= MAX_STREAMS or self._closing:
            self._spend(1)
            self.write(frames.reset(number, frames.REFUSED_STREAM))
            return
        self._begin(number, headers, ended=ended)

    def on_reset(self, number: int, flags: int, payload: bytes) -> None:  # noqa: ARG002 - every reader has these
        frames.number_in(payload)
        if number > self._last or not number:
            raise Broken(frames.PROTOCOL_ERROR)
        self._spend(1)
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.leave()
            self._close_when_done()

    def on_settings(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise Broken(frames.PROTOCOL_ERROR)
        if flags & frames.ACK:
            return
        self._spend(1)
        for key, value in frames.settings_in(payload):
            if key == frames.INITIAL_WINDOW:
                if value > frames.MAX_WINDOW:
                    raise Broken(frames.FLOW_CONTROL_ERROR)
                change, self._stream_window = value - self._stream_window, value
                for stream in self._streams.values():
                    stream.window += change
                    stream.wake_writer()
            elif key == frames.FRAME_SIZE:
                if not frames.MAX_FRAME <= value < 2**24:
                    raise Broken(frames.PROTOCOL_ERROR)
                self.max_frame = min(value, WINDOW)
            elif key == frames.TABLE_SIZE:
                self._encoder.header_table_size = min(value, 4096)
        self.write(frame(frames.SETTINGS, frames.ACK, 0))

    def on_ping(self, number: int, flags: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise Broken(frames.PROTOCOL_ERROR if number else frames.FRAME_SIZE_ERROR)
        if not flags & frames.ACK:
            self._spend(1)
            self.write(frame(frames.PING, frames.ACK, 0, payload))

    def on_window_update(self, number: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        more = frames.number_in(payload) & frames.MAX_WINDOW
        stream = self._streams.get(number)
        if number > self._last or (number == 0 and not more):
            raise Broken(frames.PROTOCOL_ERROR)
        if number == 0:
            self.window += more
            if self.window > frames.MAX_WINDOW:
                raise Broken(frames.FLOW_CONTROL_ERROR)
            for each in list(self._streams.values()):
                each.wake_writer()
        elif stream is not None:
            stream.window += more
            if not more or stream.window > frames.MAX_WINDOW:
                self.reset(stream, frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR)
            stream.wake_writer()
        if more < 1024:
            self._spend(0.2)

    def on_goaway(self, number: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        self._closing = True
        self._close_when_done()

    def on_priority(self, number: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        if len(payload) != 5:
            raise Broken(frames.FRAME_SIZE_ERROR)
        self._spend(0.2)

    def on_push(self, number: int, flags: int, payload: bytes) -> None:  # noqa: ARG002
        raise Broken(frames.PROTOCOL_ERROR)

    # Requests.

    def _begin(self, number: int, headers: list[Header], *, ended: bool) -> None:
        refused: GatewayError | None = None
        try:
            asked = Head(headers)
        except BadRequest as error:
            refused, asked = error, Head.nothing()
        if not ended and asked.length is None:
            # As HTTP/1.1 would say it: by this the layers above know that a body comes.
            asked.headers.append((b"transfer-encoding", b"chunked"))
        scope = asked.scope(self._server_address, self._client_address, self._app_state)
        if refused is not None:
            scope["bff.refusal"] = refused
        stream = Stream(self, number, scope, self._stream_window)
        self._streams[number] = stream
        self._rest_until = inf
        self.resting.pop(self, None)
        if ended:
            stream.end_body()
        self._running += 1
        stream.task = self._loop.create_task(stream.run(self._app, self._server.tasks))
        stream.task.add_done_callback(partial(self._ran, stream))

    def _ran(self, stream: Stream, _: asyncio.Task[None]) -> None:
        self._running -= not stream.answered

    # What a stream asks for.

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def write_headers(self, number: int, headers: list[Header], *, ended: bool) -> None:
        block = self._encoder.encode(headers)
        kind, flags = frames.HEADERS, frames.END_STREAM if ended else 0
        while len(block) > self.max_frame:
            self.write(frame(kind, flags, number, block[: self.max_frame]))
            block, kind, flags = block[self.max_frame :], frames.CONTINUATION, 0
        self.write(frame(kind, flags | frames.END_HEADERS, number, block))

    def give_back(self, size: int) -> None:
        """So many bytes of bodies are no longer here."""
        self._taken += size
        if self._taken >= _WINDOW // 2 and not self.closed:
            self.write(frames.window_update(0, self._taken))
            self._taken = 0

    def answered(self, stream: Stream) -> None:
        self._server.total_requests += 1
        self._running -= 1  # its client may ask for the next at once, before its task has ended
        if not stream.is_half_closed:
            # The answer is whole: the rest of the request is of no use (RFC 9113 §8.1).
            self.write(frames.reset(stream.number, frames.NO_ERROR))
            self._forget(stream)
        else:
            self._forget_if_over(stream)

    def reset(self, stream: Stream, code: int) -> None:
        self.write(frames.reset(stream.number, code))
        self._forget(stream)
        stream.leave()

    def soon(self, call: Any) -> None:
        self._loop.call_soon(call)

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent, or has left."""
        while self.congested and not self.closed:
            self._writable = self._writable or asyncio.Event()
            self._writable.clear()
            await self._writable.wait()

    # The end.

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.answered and stream.is_half_closed:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        if self._streams.pop(stream.number, None) is not None:
            self._close_when_done()

    def _close_when_done(self) -> None:
        if self._streams or self.closed:
            return
        if self._closing:
            self._ending = True
            self._transport.close()
        else:
            self._rest(self.settings.keep_alive)

    def _break(self, code: int, *, within: float = _LAST_WORDS) -> None:
        self._ending = True
        self.write(frames.goaway(self._last, code))
        for stream in list(self._streams.values()):
            stream.leave()
        self._streams.clear()
        self._transport.pause_reading()
        self._loop.call_later(within, self._transport.close)

    def _rest(self, seconds: float) -> None:
        """Close unless a request comes meanwhile."""
        self.resting[self] = None
        self._rest_until = self._loop.time() + seconds
        if self._alarm is None:
            self._alarm = self._loop.call_at(self._rest_until, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._streams or self._rest_until == inf:
            return
        if self._loop.time() + 0.001 < self._rest_until:
            self._alarm = self._loop.call_at(self._rest_until, self._ring)
            return
        self._break(frames.NO_ERROR, within=0)


_READERS: Final[dict[int, Callable[[Http2, int, int, bytes], None]]] = {
    frames.DATA: Http2.on_data,
    frames.HEADERS: Http2.on_headers,
    frames.PRIORITY: Http2.on_priority,
    frames.RST_STREAM: Http2.on_reset,
    frames.SETTINGS: Http2.on_settings,
    frames.PUSH_PROMISE: Http2.on_push,
    frames.PING: Http2.on_ping,
    frames.GOAWAY: Http2.on_goaway,
    frames.WINDOW_UPDATE: Http2.on_window_update,
}


def http2(one: type[Connection]) -> type[Http2]:
    """The class for connections whose handshake has chosen HTTP/2; its settings and bound are those of `one`'s."""
    return type("ConfiguredHttp2", (Http2,), {"settings": one.settings, "resting": one.resting})
