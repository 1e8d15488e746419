"""What a service is asked for: a route's `rewrite` over what its template captured and the request's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from starlette.types import Scope

from bff.core.request import parameters
from bff.core.route import Route

_PARAMETER = "query."
# Of a path's characters those that mean something else in a query (WHATWG URL, application/x-www-form-urlencoded).
_TO_QUERY = {b"&": b"%26", b"+": b"%2B", b";": b"%3B", b"=": b"%3D"}


def target_of(route: Route, scope: Scope) -> bytes:
    """Path and query, percent-encoded; byte for byte as they came where the route has nothing else in mind."""
    query: bytes = scope["query_string"]
    if route.rewrite is None:
        path: bytes = scope["raw_path"]
    else:
        inner, asked = _parts(route.rewrite)
        path = rewritten(inner, scope["bff.captured"])
        if asked is not None:
            query = _query(asked, scope["bff.captured"], query)
    return b"%b?%b" % (path, query) if query else path


def rewritten(rewrite: Iterable[tuple[bytes, str]], captured: Mapping[str, bytes]) -> bytes:
    """The path that these pieces of a `rewrite` are for what was captured."""
    path = b""
    for literal, name in rewrite:
        path += literal
        if name:
            value = captured[name]
            # Nothing captured: the collection itself, whose path has no slash at its end.
            path = path + value if value else path.removesuffix(b"/")
    return path or b"/"


def _query(rewrite: str, captured: Mapping[str, bytes], query: bytes) -> bytes:
    """Without the pairs that would say what the request does not: `limit={query.limit}` where there is no limit."""
    given: dict[str, bytes] = {}
    for name, value in reversed(parameters(query)):
        given[_PARAMETER + name] = value.replace(b";", b"%3B")
    given |= {name: _quoted(value) for name, value in captured.items()}
    pairs = []
    for pair in rewrite.split("&"):
        parts = pieces(pair)
        if all(name in given for _, name in parts if name):
            pairs.append(b"".join(literal + (given[name] if name else b"") for literal, name in parts))
    return b"&".join(pairs)


def _quoted(value: bytes) -> bytes:
    for character, code in _TO_QUERY.items():
        value = value.replace(character, code)
    return value


@cache
def _parts(rewrite: str) -> tuple[list[tuple[bytes, str]], str | None]:
    """The pieces of the path and, if there is one, the query."""
    inner, mark, asked = rewrite.partition("?")
    return pieces(inner), asked if mark else None


@cache
def pieces(rewrite: str) -> list[tuple[bytes, str]]:
    """Each literal with the name that follows it."""
    parts = [*re.split(r"\{([^{}]*)\}", rewrite), ""]
    return [(literal.encode(), name) for literal, name in zip(parts[::2], parts[1::2], strict=True)]
