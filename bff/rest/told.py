"""What goes up of a request's headers, and what a service is told of the connection that it came over."""

from __future__ import annotations

import re
from functools import lru_cache

from starlette.types import Scope

from bff.core.head import Head
from bff.core.route import Route
from bff.rest.names import end_to_end, goes_up
from bff.upstream.client import Headers

_SECURE = frozenset({"https", "wss"})
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")


def request_headers(scope: Scope) -> Headers:
    """As they go up, where the route has nothing else in mind."""
    said: Head = scope["bff.head"]
    kept, via = said.once(_going_up)
    route: Route = scope["bff.route"]
    # A client writes into Host what it likes, and only where routes are told apart by it, it is known to be true.
    host = said.values.get(b"host", b"") if route.hosts else b""
    client = scope.get("client")
    connection = _of_connection(client[0] if client else "", scope["scheme"] in _SECURE, host)
    own = _spoken(scope["http_version"])
    return [*kept, (b"via", via + own if via else own), *connection]


@lru_cache(maxsize=16)
def _spoken(version: str) -> bytes:
    """What `via` says of this gateway."""
    return b"%b bff" % version.encode()


def _going_up(said: Head) -> tuple[Headers, bytes]:
    """What goes on as it came, and what `via` says of the way until here."""
    hops = b"".join([b"%b, " % value for name, value in said.headers if name == b"via"])
    return end_to_end(said.headers, goes_up), hops


@lru_cache(4096)
def _of_connection(address: str, is_secure: bool, host: bytes) -> Headers:
    """In the words that most read, and in those of RFC 7239."""
    proto = b"https" if is_secure else b"http"
    headers, forwarded = [(b"x-forwarded-proto", proto)], [b"proto=" + proto]
    if host and _HOST.fullmatch(host):
        headers.append((b"x-forwarded-host", host))
        forwarded.insert(0, b'host="%b"' % host)
    if address:
        headers.append((b"x-forwarded-for", address.encode()))
        forwarded.insert(0, b"for=" + _node(address))
    return [*headers, (b"forwarded", b";".join(forwarded))]


def _node(address: str) -> bytes:
    """RFC 7239 §6: what has a colon in it is quoted, and in brackets."""
    return b'"[%b]"' % address.encode() if ":" in address else address.encode()
