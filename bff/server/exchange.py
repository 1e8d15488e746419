"""One request and its answer, as ASGI has them: what comes from the connection, and what goes to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.types import ASGIApp, Message

from bff.core.errors import GatewayError
from bff.core.head import Forms, Names, lines_of

if TYPE_CHECKING:
    from bff.server.connection import Connection

TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"  # in lower case, as ASGI has names
VISIBLE: Final = bytes([9, *range(32, 127), *range(128, 256)])
# To change what is not visible takes half as long as to look whether anything is left without what is.
_MASKED: Final = bytes(each if each in VISIBLE else ord("?") for each in range(256))
BODYLESS: Final = frozenset({204, 304})
# Said by this side of the connection alone.
OURS: Final = frozenset({b"connection", b"transfer-encoding"})
# How the end of an answer is told. Undecided: its head waits for a first piece of body, which may be all of it.
_NOT_BEGUN, _UNDECIDED, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _NO_BODY = range(6)
# To join a head with a body larger than this costs more than to hand both over.
_LARGE: Final = 16 * 1024
_LOG = logging.getLogger("bff.server")


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_STATUS_LINES: Final = {status: b"HTTP/1.1 %d %b\r\n" % (status, _phrase(status)) for status in range(200, 600)}


class _Form(msgspec.Struct, frozen=True, gc=False):
    """All that the names of its headers decide of a head.

    Attributes:
        text: their lines, with a place for each value.
        length: which of the values says how long the body is.
        is_ours: whether some of them say something of this connection.
    """

    text: bytes
    length: int | None
    is_ours: bool


def _form(names: Names) -> _Form:
    if b"" in names or b"".join(names).translate(None, TOKEN):
        raise RuntimeError("a header's name is malformed, or not in lower case")
    length = len(names) - 1 - names[::-1].index(b"content-length") if b"content-length" in names else None
    return _Form(lines_of(names), length, not OURS.isdisjoint(names))


_FORMS: Final = Forms(_form)


class Exchange:
    """What the app is given for one request: `scope`, `receive` and `send`.

    Attributes:
        keep_alive: whether another request may follow on its connection.
        answered: all of the answer is out.
        body_is_here: all of the request's body can be received without waiting.
        task: what answers it, from when that begins.
        trailers: of the request, once all of its body is here.
    """

    __slots__ = (
        "_body",
        "_bodyless",
        "_buffered",
        "_came",
        "_connection",
        "_delivered",
        "_error",
        "_expects",
        "_framing",
        "_gone",
        "_head",
        "_left",
        "_length",
        "_news",
        "_on_body",
        "_on_leave",
        "_scope",
        "_trailing",
        "_version",
        "answered",
        "body_is_here",
        "keep_alive",
        "task",
        "trailers",
    )

    def __init__(self, connection: Connection, scope: dict[str, Any], *, keep_alive: bool) -> None:
        self._connection = connection
        self.task: asyncio.Task[None]
        self._scope: dict[str, Any] | None = scope
        self._version: str = scope["http_version"]
        self._bodyless: bool = scope["method"] == "HEAD"
        self.keep_alive = keep_alive
        said = scope["bff.head"].values
        self._expects = b"expect" in said and said[b"expect"].lower() == b"100-continue"
        self._length = int(said[b"content-length"]) if b"content-length" in said else None
        self._came = 0
        self._body: list[bytes] = []
        self._buffered = 0
        self.body_is_here = self._delivered = self._gone = self.answered = False
        self.trailers: list[tuple[bytes, bytes]] = []
        self._trailing: list[tuple[bytes, bytes]] = []
        self._error: GatewayError | None = None
        self._news: asyncio.Event | None = None
        self._on_leave: Callable[[], None] | None = None
        self._on_body: Callable[[], None] | None = None
        self._framing = _NOT_BEGUN
        self._head: bytes | None = None
        self._left = 0
        scope["bff.exchange"] = self

    async def run(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """Have it answered, as one of these."""
        tasks.add(self.task)
        # Not kept: the scope leads back here by what is written into it, and what leads in a circle waits for the
        # garbage collector.
        scope, self._scope = self._scope, None
        assert scope is not None  # noqa: S101 - it runs once
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take a part for all
            if self._framing is _NOT_BEGUN:
                _LOG.error("the app failed before it answered", exc_info=error)
        finally:
            if not self.answered and not self._gone:
                self._cut_off()
            tasks.discard(self.task)

    # What comes.

    def take(self, data: bytes) -> int:
        """A piece of the body; how much is waiting to be read now."""
        self._came += len(data)
        if self.answered:
            return 0
        self._expects = False  # it did not wait for leave to go on
        self._body.append(data)
        self._buffered += len(data)
        self._wake()
        return self._buffered

    @property
    def left(self) -> int:
        """Bytes of the body that are still to come, as far as its length was told."""
        return (self._length or self._came) - self._came

    def end_body(self) -> None:
        self.body_is_here = True
        if self._news is not None:
            self._news.set()
        if self._on_body is not None:
            self._on_body()

    def break_off(self, error: GatewayError) -> None:
        """The rest of the body is not to be understood: whoever reads it gets this error."""
        self._error = error
        self.keep_alive = False
        self._wake()

    def leave(self) -> None:
        """The client has gone."""
        self._gone = True
        self._wake()
        if self._on_leave is not None:
            self._on_leave()

    def on_body(self, call: Callable[[], None]) -> None:
        """Have this called once all of the body is here: now, if it is."""
        if self.body_is_here:
            call()
        else:
            self._on_body = call

    def hold(self) -> Callable[[], None]:
        """Read nothing more from this connection, until what is returned is called."""
        return self._connection.hold()

    def on_leave(self, call: Callable[[], None] | None) -> None:
        """Have this called when the client leaves before it has its answer, in place of waiting for a message."""
        self._on_leave = call
        if self._gone and call is not None:
            call()

    async def receive(self) -> Message:
        while not (self._gone or self.answered):
            if not self._delivered and (self._body or self.body_is_here):
                data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                self._buffered = 0
                self._delivered = self.body_is_here
                return {"type": "http.request", "body": data, "more_body": not self.body_is_here}
            if self._error is not None and not self._delivered:
                raise self._error
            if self._expects and self._framing is _NOT_BEGUN:
                self._expects = False
                self._let_go_on()
            self._want_more()
            self._news = self._news or asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    def trail(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Have these follow the body; they come before its end is sent."""
        self._trailing = headers

    def hint(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """An interim answer (RFC 9110 §15.2), if there is still time for one."""
        if self._framing is _NOT_BEGUN and not self._gone:
            self._send_hint(status, headers)

    # What goes, as HTTP/1.1 has it.

    def _send_hint(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self._version == "1.1":
            self._connection.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _phrase(status), _lines(headers)))

    def _cut_off(self) -> None:
        """What was sent is not all."""
        self._connection.abort()

    def _let_go_on(self) -> None:
        self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _want_more(self) -> None:
        """All of the body that had come was taken."""
        self._connection.resume_reading()

    def send(self, message: Message) -> Awaitable[None]:
        if self._connection.congested:
            return self._send_later(message)
        if self._gone:
            return self._connection.done
        kind = message["type"]
        if kind == "http.response.body" and self._framing is not _NOT_BEGUN and not self.answered:
            self._send_body(message.get("body", b""), ended=not message.get("more_body", False))
        elif kind == "http.response.start" and self._framing is _NOT_BEGUN:
            self._start(message["status"], message.get("headers", []))
            if self._framing is not _LENGTH or self._left > _LARGE:
                self._connection.soon(self._send_head)
        else:
            raise RuntimeError(f"{kind} is not what follows in an answer")
        return self._connection.done

    async def _send_later(self, message: Message) -> None:
        await self._connection.drained()
        await self.send(message)

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._bodyless = self._bodyless or status in BODYLESS
        self._framing = _NO_BODY if self._bodyless else _UNDECIDED
        names, values = zip(*headers) if headers else ((), ())  # noqa: B905 - all are pairs
        form = _FORMS[names]
        if form.is_ours or (status == 204 and form.length is not None):
            headers = self._less_ours(status, headers)
            names, values = zip(*headers, strict=True) if headers else ((), ())
            form = _FORMS[names]
        if form.length is not None and not self._bodyless:
            self._framing, self._left = _LENGTH, int(values[form.length])
        said = b"".join(values)
        if said.translate(_MASKED) != said:
            raise RuntimeError("a header's value has a line break or another control character")
        self._head = _STATUS_LINES[status] + form.text % values

    def _less_ours(self, status: int, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Without what says something of this connection, which is heeded, and without a length of nothing."""
        if any(name == b"connection" and b"close" in value.lower() for name, value in headers):
            self.keep_alive = False
        dropped = OURS | {b"content-length"} if status == 204 else OURS
        return [header for header in headers if header[0] not in dropped]

    def _send_head(self) -> None:
        """If the body takes its time, the head does not wait for it; one that is short comes with its head anyway."""
        if self._head is not None and not self._gone:
            self._connection.write(self._whole_head(None))

    def _whole_head(self, length: int | None) -> bytes:
        """The head as it goes out. `length`: of the body, if all of it is here."""
        head, self._head = self._head or b"", None
        if self._framing is _UNDECIDED:
            if length is not None and not self._trailing:
                self._framing, self._left = _LENGTH, length
                head += b"content-length: %d\r\n" % length
            elif self._version == "1.1":
                self._framing = _CHUNKED
                head += b"transfer-encoding: chunked\r\n"
            else:
                self._framing, self.keep_alive = _UNTIL_CLOSE, False
        # A client that still waits for leave to send its body may send it or not: what comes next could be either.
        if (self._expects and not self.body_is_here) or self._connection.closes_after():
            self.keep_alive = False
        return head + (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")

    def _send_body(self, data: bytes, *, ended: bool) -> None:
        head = b"" if self._head is None else self._whole_head(len(data) if ended else None)
        if self._framing is _LENGTH:
            self._left -= len(data)
            if self._left < 0 or (ended and self._left):
                raise RuntimeError("the body is not as long as its content-length")
        elif self._framing is _CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if ended:
                data += b"0\r\n%b\r\n" % _lines(self._trailing)
        elif self._framing is _NO_BODY:
            data = b""
        if head and len(data) > _LARGE:
            self._connection.write(head, data)
        elif head or data:
            self._connection.write(head + data)
        if ended:
            self.answered = True
            self._on_leave = None
            self._wake()
            self._connection.answered(self)
