"""What goes up of a request's headers, and what a service is told of the connection that it came over."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec
from starlette.types import Scope

from bff.core.head import Head, lines
from bff.core.route import Route
from bff.rest.names import end_to_end, goes_up
from bff.upstream.client import Headers

# What says how a body comes, or asks to wait before it.
_OF_BODY = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_SECURE = frozenset({"https", "wss"})
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")


def request_headers(scope: Scope) -> Headers:
    """As they go up, where the route has nothing else in mind."""
    said, connection = scope["bff.head"], _connection(scope)
    return [*said.once(_going_up), (b"via", said.once(_hops) + connection.via), *connection.headers]


def request_lines(scope: Scope) -> bytes:
    """The same written out, for a request that nobody looks at and that has no body: less what is said of one."""
    said: Head = scope["bff.head"]
    kept, hops = said.once(_as_lines)
    connection = _connection(scope)
    if hops:
        return kept + lines([(b"via", hops + connection.via), *connection.headers])
    return kept + connection.text


class _Connection(msgspec.Struct, frozen=True):
    """What a service is told of a connection: in `via`, in other headers, and all of it written out."""

    via: bytes
    headers: Headers
    text: bytes


def _connection(scope: Scope) -> _Connection:
    route: Route = scope["bff.route"]
    # A client writes into Host what it likes, and only where routes are told apart by it, it is known to be true.
    host = scope["bff.head"].values.get(b"host", b"") if route.hosts else b""
    client = scope.get("client")
    return _of_connection(client[0] if client else "", scope["scheme"] in _SECURE, host, scope["http_version"])


def _going_up(said: Head) -> Headers:
    """What goes on as it came."""
    return end_to_end(said.headers, goes_up)


def _hops(said: Head) -> bytes:
    """What `via` says of the way until here."""
    return b"".join([b"%b, " % value for name, value in said.headers if name == b"via"])


def _as_lines(said: Head) -> tuple[bytes, bytes]:
    return lines([each for each in _going_up(said) if each[0] not in _OF_BODY]), _hops(said)


@lru_cache(4096)
def _of_connection(address: str, is_secure: bool, host: bytes, version: str) -> _Connection:
    """In the words that most read, and in those of RFC 7239."""
    proto = b"https" if is_secure else b"http"
    headers, forwarded = [(b"x-forwarded-proto", proto)], [b"proto=" + proto]
    if host and _HOST.fullmatch(host):
        headers.append((b"x-forwarded-host", host))
        forwarded.insert(0, b'host="%b"' % host)
    if address:
        headers.append((b"x-forwarded-for", address.encode()))
        forwarded.insert(0, b"for=" + _node(address))
    headers.append((b"forwarded", b";".join(forwarded)))
    via = b"%b bff" % version.encode()
    return _Connection(via, headers, lines([(b"via", via), *headers]))


def _node(address: str) -> bytes:
    """RFC 7239 §6: what has a colon in it is quoted, and in brackets."""
    return b'"[%b]"' % address.encode() if ":" in address else address.encode()
