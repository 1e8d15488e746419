"""One request and its answer as a stream of HTTP/2 (RFC 9113 §5, §8): the exchange of HTTP/1.1 in other clothes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from starlette.types import Message

from bff.core.errors import BadRequest
from bff.core.head import head_of
from bff.server import frames
from bff.server.exchange import BODYLESS, OURS, TOKEN, VISIBLE, Exchange
from bff.server.target import readable

if TYPE_CHECKING:
    from bff.server.http2 import Http2

WINDOW: Final = 64 * 1024
"""Bytes of a request's body that may be on their way or wait to be read."""
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
# Of one connection alone: HTTP/2 has none of them (RFC 9113 §8.2.2).
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"upgrade"}
)
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_PATH = re.compile(rb"(?:/[^\x00-\x20\x7f#]*|\*)")

Header = tuple[bytes, bytes]


class Head:
    """What a header block asks for: the request's line and its headers, `host` among them.

    Raises:
        BadRequest: it is malformed (RFC 9113 §8.1.1).
    """

    __slots__ = ("headers", "length", "method", "path", "query")

    def __init__(self, block: Iterable[Header]) -> None:
        pseudo: dict[bytes, bytes] = {}
        headers: list[Header] = []
        cookies: list[bytes] = []
        for name, value in block:
            if name[:1] == b":":
                if headers or cookies or name not in _PSEUDO or name in pseudo:
                    raise BadRequest("A pseudo-header is unknown, comes twice, or comes after other headers")
                pseudo[name] = value
            elif name == b"cookie":
                cookies.append(value)  # one header again, as HTTP/1.1 has it (RFC 9113 §8.2.3)
            else:
                headers.append((name, value))
        if cookies:
            headers.append((b"cookie", b"; ".join(cookies)))
        for name, value in headers:
            if not name or name.translate(None, TOKEN) or name in _OF_CONNECTIONS or not _is_value(value):
                raise BadRequest("A header is malformed, or none that HTTP/2 has")
        self.method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        if not _METHOD.fullmatch(self.method) or not _PATH.fullmatch(target) or b":scheme" not in pseudo:
            raise BadRequest("A request needs :method, :scheme and :path")
        self.path, _, self.query = target.partition(b"?")
        self.headers = _with_host(headers, pseudo.get(b":authority"))
        self.length = _length_in(headers)

    def scope(self, server: object, client: object, state: dict[str, Any]) -> dict[str, Any]:
        """As ASGI has it."""
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "2",
            "method": self.method.decode("latin-1"),
            "scheme": "https",
            "path": readable(self.path),
            "raw_path": self.path,
            "query_string": self.query,
            "root_path": "",
            "headers": self.headers,
            "server": server,
            "client": client,
            "state": state.copy(),
            "bff.head": head_of(self.headers),
        }

    @classmethod
    def nothing(cls) -> Head:
        """In the place of one that is malformed."""
        head = cls([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"*"), (b":authority", b"")])
        head.headers = []
        return head


def _is_value(value: bytes) -> bool:
    return not value.translate(None, VISIBLE) and value == value.strip(b" \t")


def _with_host(headers: list[Header], authority: bytes | None) -> list[Header]:
    hosts = [value for name, value in headers if name == b"host"]
    if authority is None and hosts:
        return headers
    if authority is None:
        raise BadRequest("A request needs :authority")
    if not _is_value(authority) or any(host.lower() != authority.lower() for host in hosts):
        raise BadRequest("The request is for one host and its Host header names another")
    return headers if hosts else [(b"host", authority), *headers]


def _length_in(headers: list[Header]) -> int | None:
    said = {value for name, value in headers if name == b"content-length"}
    if len(said) > 1 or any(not value.isdigit() or len(value) > 18 for value in said):
        raise BadRequest("The content-length is none")
    return int(said.pop()) if said else None


class Stream(Exchange):
    """What the app is given for one request of a connection that carries many.

    Attributes:
        number: of the stream.
        window: bytes that the client takes of the answer now.
    """

    __slots__ = ("_headers", "_http2", "_more", "_taken", "number", "window")

    def __init__(self, http2: Http2, number: int, scope: dict[str, Any], window: int) -> None:
        super().__init__(http2, scope, keep_alive=True)  # type: ignore[arg-type]  # what it asks for is overridden below
        self._http2 = http2
        self.number, self.window = number, window
        self._taken = 0  # bytes that the app has taken and the client was not told of
        self._headers: list[Header] | None = None
        self._more: asyncio.Event | None = None

    # What comes.

    def take(self, data: bytes) -> int:
        if self._length is not None and self._came + len(data) > self._length:
            self._came += len(data)
            self._http2.give_back(len(data))
            self.break_off(BadRequest("The body is longer than its content-length"))
            return 0
        waiting = super().take(data)
        if not waiting:
            self._http2.give_back(len(data))  # nobody reads it any more
        return waiting

    def skip(self, size: int) -> None:
        """Padding: it counts as body, and is none."""
        self._taken += size
        self._http2.give_back(size)

    def end_body(self) -> None:
        if self._length is not None and self._came != self._length:
            if self._error is None:
                self.break_off(BadRequest("The body is not as long as its content-length"))
            return
        super().end_body()

    def leave(self) -> None:
        self._drop_body()
        super().leave()
        self.wake_writer()

    def _drop_body(self) -> None:
        """Nobody will read it: the connection's window is for others."""
        self._http2.give_back(self._buffered)
        self._body.clear()
        self._buffered = 0

    @property
    def room(self) -> int:
        """Bytes of body that the client may still send."""
        return WINDOW - self._buffered - self._taken

    @property
    def is_half_closed(self) -> bool:
        return self.body_is_here or self._error is not None

    async def receive(self) -> Message:
        message = await super().receive()
        size = len(message.get("body", b""))
        if size:
            self._taken += size
            self._http2.give_back(size)
            if message["more_body"] and self._taken >= WINDOW // 2:
                self._http2.write(frames.window_update(self.number, self._taken))
                self._taken = 0
        return message

    def _cut_off(self) -> None:
        self._http2.reset(self, frames.INTERNAL_ERROR)

    def _send_hint(self, status: int, headers: list[Header]) -> None:
        self._http2.write_headers(self.number, [(b":status", b"%d" % status), *headers], ended=False)

    def _let_go_on(self) -> None:
        self._http2.write_headers(self.number, [(b":status", b"100")], ended=False)

    def _want_more(self) -> None:
        if self._taken:
            self._http2.write(frames.window_update(self.number, self._taken))
            self._taken = 0

    # What goes.

    async def send(self, message: Message) -> None:
        if self._http2.congested:
            await self._http2.drained()
        if self._gone:
            return
        kind = message["type"]
        if kind == "http.response.start" and self._framing == 0:
            self._begin(message["status"], message.get("headers", []))
        elif kind == "http.response.body" and self._framing != 0 and not self.answered:
            await self._send(message.get("body", b""), ended=not message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is not what follows in an answer")

    def _begin(self, status: int, headers: list[Header]) -> None:
        self._framing = 1
        self._bodyless = self._bodyless or status in BODYLESS
        for name, value in headers:
            if not name or name.translate(None, TOKEN) or value.translate(None, VISIBLE):
                raise RuntimeError("a header is malformed, or its name not in lower case")
        kept = [header for header in headers if header[0] not in OURS]
        self._headers = [(b":status", b"%d" % status), *kept]
        # If the body takes its time, the head does not wait for it.
        self._http2.soon(self._send_head_alone)

    def _send_head_alone(self) -> None:
        if self._headers is not None and not self._gone:
            self._write_head(ended=False)

    def _write_head(self, *, ended: bool) -> None:
        headers, self._headers = self._headers or [], None
        self._http2.write_headers(self.number, headers, ended=ended)

    async def _send(self, data: bytes, *, ended: bool) -> None:
        if self._bodyless:
            data = b""
        last = ended and not self._trailing
        if self._headers is not None:
            self._write_head(ended=last and not data)
        elif last and not data:
            self._http2.write(frames.frame(frames.DATA, frames.END_STREAM, self.number))
        at = 0
        while at < len(data):
            at += await self._send_some(data, at, ended=last)
            if self._gone:
                return
        if ended:
            if self._trailing:
                self._http2.write_headers(self.number, self._trailing, ended=True)
            self._finish()

    async def _send_some(self, data: bytes, at: int, *, ended: bool) -> int:
        """As much as the client takes now, of what begins there; how much that was."""
        if self._http2.congested:
            await self._http2.drained()
            return 0
        size = min(len(data) - at, self.window, self._http2.window, self._http2.max_frame)
        if size <= 0:
            await self._for_room()
            return 0
        self.window -= size
        self._http2.window -= size
        flags = frames.END_STREAM if ended and at + size == len(data) else 0
        self._http2.write(frames.frame(frames.DATA, flags, self.number, data[at : at + size]))
        return size

    def _finish(self) -> None:
        self.answered = True
        self._drop_body()
        self._on_leave = None
        self._wake()
        self._http2.answered(self)

    async def _for_room(self) -> None:
        """Wait until the client takes more; one that does not is cut off from its answer."""
        self._more = self._more or asyncio.Event()
        self._more.clear()
        try:
            async with asyncio.timeout(self._http2.settings.write_timeout):
                await self._more.wait()
        except TimeoutError:
            self._http2.reset(self, frames.CANCEL)

    def wake_writer(self) -> None:
        if self._more is not None:
            self._more.set()
