"""What goes beside a request and its answer: early hints before it, and trailers after a body, both ways (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from starlette.types import Scope

from bff.core.head import Head
from bff.rest.names import comes_down, end_to_end, goes_up
from bff.upstream.client import Headers

# What must not come late: how long a message is, who asks, what is made of it, how long it is good (§6.5.1).
_NOT_LATE: Final = re.compile(
    rb"content-(?:length|type|encoding|range)|set-cookie2?|cookie|www-authenticate|authentication-info|host|expect|range"
    rb"|max-forwards|cache-control|pragma|age|expires|date|location|retry-after|vary|warning|if-.*|access-control-.*"
)
_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class Exchange(Protocol):
    """What our own server offers beside ASGI, in `scope["bff.exchange"]`."""

    trailers: Headers
    """Of the request, once all of its body is here."""

    def hint(self, status: int, headers: Headers) -> None:
        """An interim answer, if there is still time for one."""

    def trail(self, headers: Headers) -> None:
        """Have these follow the answer's body."""


class Beside(msgspec.Struct, eq=False):
    """Of one request."""

    _exchange: Exchange
    _said: Head
    is_chunked: bool

    def hint(self, status: int, headers: Headers) -> None:
        self._exchange.hint(
            status, [each for each in end_to_end(headers, comes_down) if _LINE.fullmatch(b":".join(each))]
        )

    def trailers(self) -> Headers:
        return _late(self._exchange.trailers, goes_up)

    def trail(self, headers: Headers) -> None:
        if b"trailers" in self._said.values.get(b"te", b"").lower():
            self._exchange.trail(_late(headers, comes_down))


def beside(scope: Scope) -> Beside | None:
    """None on a server that has nothing beside."""
    exchange: Exchange | None = scope.get("bff.exchange")
    if exchange is None:
        return None
    said: Head = scope["bff.head"]
    return Beside(exchange, said, b"transfer-encoding" in said.values)


def _late(headers: Headers, verdict: Callable[[bytes], bytes | None]) -> Headers:
    return [
        each
        for each in end_to_end(headers, verdict)
        if not _NOT_LATE.fullmatch(each[0]) and _LINE.fullmatch(b":".join(each))
    ]
