"""One client's connection: requests in the order they come (RFC 9112), within bounds of memory and time.

It stands where uvicorn has its own protocol, `uvicorn.Config(http=...)`: sockets, start, end and websockets stay with
uvicorn. What is no request is not answered here, but handed to the app as a refusal in `scope["bff.refusal"]`: so it
is counted, logged and worded as everything else is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Final, cast

import httptools
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from bff.core.errors import BadRequest, GatewayError, HeadersTooLarge, Overloaded, UriTooLong
from bff.core.head import head_of
from bff.server.deadlines import Deadlines
from bff.server.exchange import Exchange
from bff.server.repeats import Again, Repeats
from bff.server.settings import ConnectionSettings
from bff.server.target import scope_of
from bff.server.websocket import hand_over, is_handshake

# The most that a head may have beside the headers that are counted: request line, colons, spaces and line breaks.
BESIDE_HEADERS: Final = 16 * 1024
_MAX_BUFFERED: Final = 64 * 1024
# How long a client may go on with a body that nobody reads any more, before its connection is closed.
LINGER: Final = 5.0
# How long a connection without a request is left open once the gateway ends: its client may just have sent one, and
# to close then would be to lose it.
LAST_CALL: Final = 0.5
# How long a client that rests is known by what it said: who asks so seldom gains little, and many may rest.
WARM: Final = 5.0
# Bytes of the shortest request, `GET / HTTP/1.1` and two line breaks: no fewer make one more wait.
_SHORTEST: Final = 18


class Connection(asyncio.Protocol):
    """The requests of one client, answered one after the other; `connections` makes it for given settings."""

    settings: ClassVar[ConnectionSettings]
    resting: ClassVar[dict[Any, None]]  # those without a request; the one that rests longest is first
    at_once: ClassVar[int]  # bytes that have no more requests than may wait
    warm: ClassVar[float]  # seconds for which a client that rests is known by what it said

    # More than thirty: in a dictionary of each, they would take a search each time.
    __slots__ = (
        "__weakref__", "_answering", "_app", "_app_state", "_barren", "_config", "_draining", "_ending", "_headers",
        "_held", "_in_head", "_incoming", "_loop", "_parser", "_paused", "_place", "_repeats", "_server", "_transport",
        "_unparsed", "_unsent", "_until", "_upgrading", "_url", "_waiting", "_warm", "_whole", "_writable", "closed",
        "congested", "done",
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config, self._server, self._app_state = config, server_state, app_state
        self._app = config.loaded_app
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser: httptools.HttpRequestParser = httptools.HttpRequestParser(self)
        self._url, self._headers = b"", cast("list[tuple[bytes, bytes]]", [])
        self._in_head = self._upgrading = False
        self._repeats = Repeats()
        self._warm = False  # whether it rests and has something to forget
        self._whole = False  # whether the last read brought a head to its end, or some of a body
        self._barren = 0  # bytes that came since then
        self._incoming: Exchange | None = None
        self._answering: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._unparsed = memoryview(b"")  # of the last read, what comes after requests that wait
        self._paused = self._held = self._ending = self._draining = False
        self._until = Deadlines(self._loop, self)
        self._unsent: float = inf  # bytes, when it was last looked whether the client takes any
        self._writable: asyncio.Event | None = None
        self.congested = self.closed = False
        # For whoever awaits what takes no time: a third of what a coroutine costs that waits for nothing.
        self.done = self._loop.create_future()
        self.done.set_result(None)

    # What the network does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)  # type: ignore[arg-type]  # uvicorn's own kinds; it asks for `shutdown`
        scheme = "https" if is_ssl(self._transport) else "http"
        self._place = scheme, get_local_addr(self._transport), get_remote_addr(self._transport)
        self._until.head = self._until.within(self.settings.head_timeout)
        if len(self._server.connections) > self.settings.max_connections:
            self._make_room()
        self.resting[self] = None

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        if self._answering is None and self._incoming is None and not self._in_head and not self._unparsed:
            again = self._repeats.request_in(data)
            if again is not None:
                self._ask_again(again)
                return
        if len(data) <= self.at_once:
            self._parse(data)
        else:
            self._unparsed = memoryview(data)
            self._parse_on()

    def _parse_on(self) -> None:
        """What was read, up to where nothing more may wait; then more is read."""
        while self._unparsed and not self._paused and not self._ending:
            # No request begins before the body under way ends.
            size = self.at_once + (self._incoming.left if self._incoming is not None else 0)
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._parse(piece)
        if not self._paused and not self.closed:
            self._transport.resume_reading()

    def _parse(self, data: bytes | memoryview) -> None:
        self._whole = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(bytes(data[upgrade.args[0] :]) + bytes(self._unparsed))
        except httptools.HttpParserError as error:
            why = error.__context__
            self._refuse(why if isinstance(why, GatewayError) else BadRequest("This is not a valid HTTP/1.1 request"))
        else:
            if self._in_head or self._incoming is not None:
                self._not_yet(min(len(data), self.at_once))

    def eof_received(self) -> None:
        """Who has closed one half is taken to have left: nobody else does it."""

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = True
        self._hear_no_more()
        self._server.connections.discard(self)
        self.resting.pop(self, None)
        self._until.end()
        for exchange in filter(None, (self._answering, self._incoming, *self._waiting)):
            exchange.leave()
        self._waiting.clear()
        self._answering = self._incoming = None
        self.resume_writing()
        del self._parser  # it holds this connection, which holds it

    def pause_writing(self) -> None:
        self.congested = True
        self._unsent = inf
        self._until.write = self._until.within(self.settings.write_timeout)

    def resume_writing(self) -> None:
        self.congested = False
        self._until.write = inf
        if self._writable is not None:
            self._writable.set()

    def shutdown(self) -> None:
        """What is under way is answered, and nothing after it."""
        self._draining = True
        if self._answering is None and not self._in_head:
            self._warm = False
            self._until.rest = self._until.within(LAST_CALL)

    # What the parser finds.

    def on_message_begin(self) -> None:
        self._in_head, self._whole = True, False
        self._wake()
        self._barren = 0
        self._url, self._headers = b"", []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._whole = True
        self._until.head = inf
        parser, version = self._parser, self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise BadRequest("HTTP/1.1 is spoken here")
        upgrades = parser.should_upgrade()
        if upgrades and self._answering is None and is_handshake(parser.get_method(), self._headers):
            self._upgrading = self._config.ws_protocol_class is not None
            if self._upgrading:
                return
        # Whatever else a client would change to, it is not spoken here: one answer, and no guessing what comes after.
        keep_alive = version == "1.1" and not upgrades and parser.should_keep_alive()
        head = head_of(self._headers)
        self._repeats.learn(head, keep_alive=keep_alive)
        scope = scope_of(parser.get_method(), version, self._url, head, self._place, self._app_state)
        self._incoming = Exchange(self, scope, keep_alive=keep_alive)
        self._headers = self._incoming.trailers  # what comes of them after this
        self._take_turn(self._incoming)

    def _ask_again(self, again: Again) -> None:
        method, url, head, body = again
        self._until.head = inf
        self._wake()
        exchange = Exchange(self, scope_of(method, "1.1", url, head, self._place, self._app_state), keep_alive=True)
        if body:
            exchange.take(body)
        exchange.end_body()
        self._begin(exchange)

    def _wake(self) -> None:
        self.resting.pop(self, None)
        self._warm = False
        self._until.rest = inf

    def on_body(self, body: bytes) -> None:
        self._whole = True
        if self._incoming is not None and self._incoming.take(body) > _MAX_BUFFERED:
            self._pause()

    def on_message_complete(self) -> None:
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.end_body()
            if exchange.answered and not self._ending:
                self._rest()

    # Whose turn it is.

    def _take_turn(self, exchange: Exchange) -> None:
        if self._answering is None:
            self._begin(exchange)
        else:
            self._waiting.append(exchange)
            self._pause()

    def _begin(self, exchange: Exchange) -> None:
        self._answering = exchange
        self._until.rest = inf
        # By its class and with a name, since the loop would have one made up for each.
        exchange.task = asyncio.Task(exchange.run(self._app, self._server.tasks), loop=self._loop, name="request")

    def answered(self, exchange: Exchange) -> None:
        """All of an answer is out: the next one's turn, a rest, or the end."""
        self._answering = None
        self._server.total_requests += 1
        if not exchange.keep_alive:
            self._end(self._ending or self._incoming is exchange)
        elif self._incoming is exchange:
            # The rest of its body is read over; who sends too much of it is cut off.
            self._until.rest = self._until.within(LINGER)
            self.resume_reading()
        elif self._waiting:
            self._begin(self._waiting.popleft())
        else:
            self._rest()

    def _rest(self) -> None:
        if self._paused:
            self.resume_reading()
        if not self._in_head:
            self.resting[self] = None
            self._warm = not self._draining
            self._until.rest = self._until.within(self.warm if self._warm else LAST_CALL)

    def _end(self, client_is_sending: bool) -> None:
        """Close once all is sent; a client that still sends hears the answer first: a reset would destroy it."""
        client_is_sending = client_is_sending or bool(self._waiting or self._unparsed)
        self._hear_no_more()
        self._waiting.clear()
        if client_is_sending and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self.resume_reading()
            self._until.rest = self._until.within(LINGER)
        else:
            self._transport.close()
            self._until.write = self._until.within(self.settings.write_timeout)

    def closes_after(self) -> bool:
        """Whether nothing can follow the answer that is being sent, although its request would allow it."""
        return (self._ending or self._draining) and not self._waiting and not self._in_head and not self._unparsed

    def _refuse(self, error: GatewayError) -> None:
        """Nothing that comes from here on can be understood."""
        self._hear_no_more()
        self._in_head = False
        self._until.head = inf
        broken, self._incoming = self._incoming, None
        if broken is not None:
            broken.break_off(error)
            return
        scope = scope_of(b"", "1.1", b"", head_of([]), self._place, self._app_state)
        self._take_turn(Exchange(self, scope | {"bff.refusal": error}, keep_alive=False))
        self.resume_reading()

    def _hear_no_more(self) -> None:
        self._ending = True
        self._unparsed = memoryview(b"")

    def _not_yet(self, size: int) -> None:
        if self._in_head and not self._barren and not self._paused:
            self._until.head = self._until.within(self.settings.head_timeout)
        self._barren = 0 if self._whole else self._barren + size
        if self._barren > self.settings.max_headers + BESIDE_HEADERS:
            self._refuse(HeadersTooLarge() if self._headers or not self._in_head else UriTooLong())

    def _make_room(self) -> None:
        """By closing a connection that nobody uses, as nginx does it; what is under way goes on."""
        rested = next(iter(self.resting), None)
        if rested is not None:
            del self.resting[rested]
            rested.abort()
        else:
            self._refuse(Overloaded("The gateway has as many connections as it may", retry_after=1))

    def _upgrade(self, rest: bytes) -> None:
        self._hear_no_more()
        if not self._upgrading:
            return  # what was asked for by way of an upgrade has its answer, or will have
        self.closed = True
        self._server.connections.discard(self)
        self._until.end()
        del self._parser
        hand_over(self._transport, self._url, self._headers, rest, self._config, self._server, self._app_state)

    # What an exchange asks for.

    def write(self, data: bytes, more: bytes = b"") -> None:
        if self._transport.is_closing():
            return
        if more:
            self._transport.writelines((data, more))
        else:
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent, or has left."""
        while self.congested and not self.closed:
            self._writable = self._writable or asyncio.Event()
            self._writable.clear()
            await self._writable.wait()

    def hold(self) -> Callable[[], None]:
        """Read nothing until what is returned is called."""
        self._held = True
        self._pause()
        return self._listen

    def _listen(self) -> None:
        self._held = False
        self.resume_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._waiting and not self.closed and not self._held:
            self._paused = False
            if self._in_head:
                self._until.head = self._until.within(self.settings.head_timeout)
            if self._unparsed:
                self._loop.call_soon(self._parse_on)  # not now: this may be called by what is being parsed
            else:
                self._transport.resume_reading()

    def soon(self, call: Any) -> None:
        self._loop.call_soon(call)

    def abort(self) -> None:
        self._ending = True
        self._transport.abort()

    def _pause(self) -> None:
        if not self._paused and not self.closed:
            self._paused = True
            self._until.head = inf  # it is not the client that takes its time
            self._transport.pause_reading()

    # What is late.

    def write_is_late(self) -> None:
        if self._is_taking():
            self._until.write = self._until.within(self.settings.write_timeout)
        else:
            self.abort()

    def head_is_late(self) -> None:
        if self._in_head:
            self._refuse(BadRequest("The request's head did not come in time"))
        else:
            self._transport.close()

    def rest_is_over(self) -> None:
        further = self.settings.keep_alive - self.warm
        if self._warm and further > 0:
            self._warm = False
            self._repeats.forget()
            self._until.rest = self._until.within(further)
        elif self._transport.get_write_buffer_size() and self._is_taking():
            self._until.rest = self._until.within(self.settings.write_timeout)
        elif self._transport.get_write_buffer_size() or self._incoming is not None or self._ending:
            self.abort()
        else:
            self._transport.close()

    def _is_taking(self) -> bool:
        """Whether the client has taken some of what waits for it, since this was last asked."""
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        return self._unsent < before


def connections(settings: ConnectionSettings) -> type[Connection]:
    """The class that `uvicorn.Config(http=...)` takes."""
    own = {"settings": settings, "resting": {}, "at_once": _SHORTEST * settings.max_pipelined, "__slots__": ()}
    return type("ConfiguredConnection", (Connection,), own | {"warm": min(WARM, settings.keep_alive)})
