"""What is refused before anything costs: paths that mean two things to two readers, and what is too large."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from itertools import chain
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.errors import BadRequest, HeadersTooLarge, MethodNotAllowed, UriTooLong
from bff.core.head import Head
from bff.core.receive import bounded_receive
from bff.core.route import METHODS

MAX_TARGET = 8 * 1024
MAX_HEADERS = 100

_ALLOW = ", ".join(sorted(METHODS))
# Most paths are of plain characters, with no segment that is empty or begins with a dot: nothing to look at closer.
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9_~!$&'()*+,=:@.-]*)+/?|/")
_FAULTS = (
    (re.compile(rb"[^!-~]"), "has a control character, a space or a character that has to be percent-encoded"),
    (re.compile(rb"%(?![0-9A-Fa-f]{2})"), "has a % that two hexadecimal digits do not follow"),
    (re.compile(rb"%25[0-9A-Fa-f]{2}"), "is percent-encoded twice"),
    (re.compile(rb"%2f", re.IGNORECASE), "has an encoded slash"),
    (re.compile(rb"\\|%5c", re.IGNORECASE), "has a backslash"),
    (re.compile(rb"%(?:[01][0-9a-f]|7f)", re.IGNORECASE), "has an encoded control character"),
    (re.compile(rb"//"), "has an empty segment"),
    (re.compile(rb"#"), "has a fragment, which is no part of a request"),
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_NO_HOST = "Exactly one Host header is needed"
_NO_QUERY = re.compile(rb"[\x00-\x20\x7f#]")


class Guard:
    """Raises a ClientError for what no layer below should have to think about.

    Args:
        app: the layer below.
        max_headers: bytes of a request's headers.
        max_body: bytes of its body.
    """

    def __init__(self, app: ASGIApp, max_headers: int, max_body: int) -> None:
        self.app = app
        self.max_headers = max_headers
        self.max_body = max_body

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if (refusal := scope.get("bff.refusal")) is not None:
            raise refusal  # the server could not make a request of what came
        _check_target(scope["raw_path"], scope["query_string"])
        said: Head = scope["bff.head"]
        if len(said.headers) > MAX_HEADERS:
            raise HeadersTooLarge(f"A request may have {MAX_HEADERS} headers")
        size, fault = said.once(_looked_at)
        if size > self.max_headers:
            raise HeadersTooLarge(f"The headers may have {self.max_headers} bytes")
        if scope["type"] == "http":
            if scope["method"] not in METHODS:
                raise MethodNotAllowed(f"The methods are {_ALLOW}", headers={"allow": _ALLOW})
            if fault:
                raise BadRequest(fault)
            if b"host" not in said.values and scope["http_version"] == "1.1":
                raise BadRequest(_NO_HOST)
            receive = bounded_receive(said, receive, self.max_body)
        app = self.app
        return app(scope, receive, send)


def _check_target(path: bytes, query: bytes) -> None:
    if len(path) + 1 + len(query) > MAX_TARGET:
        raise UriTooLong(f"Path and query may have {MAX_TARGET} bytes")
    if not _PLAIN.fullmatch(path) and (fault := _path_fault(path)):
        raise BadRequest(f"The path {fault}")
    if query and _NO_QUERY.search(query):
        raise BadRequest("The query has a space, a control character or a #")


def _path_fault(path: bytes) -> str | None:
    """What about the path could be read in two ways, by this gateway and by a service behind it."""
    if not path.startswith(b"/"):
        return "does not begin with /"
    for pattern, fault in _FAULTS:
        if pattern.search(path):
            return fault
    for segment in path.split(b"/"):
        # Some servers drop what follows a semicolon before they resolve dots.
        if unquote_to_bytes(segment).partition(b";")[0] in {b".", b".."}:
            return "has a . or .. segment"
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    return None


def _looked_at(said: Head) -> tuple[int, str]:
    """How large the headers are, and what is wrong with them whatever the request."""
    return len(b"".join(chain.from_iterable(said.headers))), _fault(said)


def _fault(said: Head) -> str:
    """One host and one length, or else the next reader may see another message (RFC 9112 §3.2, §6.3)."""
    length = said.values.get(b"content-length")
    # Longer numbers are no size that anybody sends, and slow to read.
    if length is not None and (not length.isdigit() or len(length) > 18):
        return "Content-Length is not a number"
    if (length is not None and b"transfer-encoding" in said.values) or said.repeated & _FRAMING:
        return "The length of the body is said more than once"
    return _NO_HOST if b"host" in said.repeated else ""
