"""What a request asks for: path and query by its line, and all of it as ASGI has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from bff.core.errors import BadRequest
from bff.core.head import Head

_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)


_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
Address = tuple[str, int | None] | None


def scope_of(
    method: bytes,
    version: str,
    url: bytes,
    head: Head,
    place: tuple[str, Address, Address],
    state: Mapping[str, Any],
) -> dict[str, Any]:
    """The scope of a request.

    Args:
        method: of its line, as are
        version: and
        url: what it is for.
        head: what its headers say.
        place: of its connection, the scheme, our address and the client's.
        state: of the server.

    Raises:
        BadRequest: the line names another host than the headers do.
    """
    if url.startswith(b"/"):
        path, _, query = url.partition(b"?")
    else:
        path, query = _spelled_out(url, head.headers)
    scheme, server, client = place
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": version,
        "method": method.decode("latin-1"),
        "scheme": scheme,
        "path": readable(path),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": head.headers,
        "server": server,
        "client": client,
        "state": {**state},
        "bff.head": head,
    }


def _spelled_out(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Path and query of a target with its host. What is none goes on as a path, for the app to refuse."""
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
