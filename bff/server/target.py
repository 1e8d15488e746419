"""What a request's line asks for: path and query, and the path as people read it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from bff.core.errors import BadRequest

_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)


def target_of(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Path and query. What has neither goes on as a path, for the app to refuse.

    Raises:
        BadRequest: it names another host than the headers do.
    """
    if url.startswith(b"/"):
        path, _, query = url.partition(b"?")
        return path, query
    absolute = _ABSOLUTE.fullmatch(url)
    if absolute is None:
        return url, b""
    # It says a second time which host is meant (RFC 9112 §3.2.2): two names are two meanings.
    if any(name == b"host" and value.lower() != absolute[1].lower() for name, value in headers):
        raise BadRequest("The request is for one host and its Host header names another")
    return absolute[2] or b"/", absolute[3] or b""


def readable(path: bytes) -> str:
    """Percent-decoded, as ASGI has it beside the raw one."""
    text = path.decode("latin-1")
    return unquote(text) if "%" in text else text
