"""The way out: what layers add to an answer before it begins, and how far it has got."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.types import Message, Send

from bff.core.waits import Waits

Header = tuple[bytes, bytes]

SWITCHED = 101
"""The status of a websocket's handshake."""

# A handshake may be refused by an answer like any other.
_START = frozenset({"http.response.start", "websocket.http.response.start"})
_BODY = frozenset({"http.response.body", "websocket.http.response.body"})


class Answer(msgspec.Struct, eq=False):
    """One request's answer, in `scope["bff.answer"]`. Layers write into it instead of wrapping `send` one by one.

    Attributes:
        headers: on the answer in any case.
        defaults: on the answer unless it has one of that name.
        on_begin: called as the answer begins, or else as the request ends without one.
        waits: for services, until then.
        status, size, begun, complete: what the client was sent so far.
    """

    _send: Send
    waits: Waits | None = None
    headers: list[Header] = []
    defaults: list[Header] = []
    on_begin: Callable[[], None] | None = None
    status: int = 500
    size: int = 0
    begun: bool = False
    complete: bool = False

    def send(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind in _BODY:
            self.size += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        elif kind in _START:
            self.begun = True
            self.status = message["status"]
            if self.waits is not None:
                self.waits.end()
            self.settle()
            given = message.get("headers", ())
            present, headers = dict(given), [*given]
            for default in self.defaults:
                if default[0] not in present:
                    headers.append(default)  # noqa: PERF401 - a comprehension would be one more function to call
            headers.extend(self.headers)
            message["headers"] = headers
        elif kind == "websocket.send":
            self.size += len(message.get("text") or message.get("bytes") or b"")
        elif kind == "websocket.accept":
            self.begun = self.complete = True
            self.status = SWITCHED
        return self._send(message)

    def settle(self) -> None:
        """It begins, or there will be none."""
        on_begin = self.on_begin
        if on_begin is not None:
            self.on_begin = None
            on_begin()
