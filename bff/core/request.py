"""A request as conditions and expressions of the configuration see it: each part is read when the first one asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote_plus

from starlette.types import Scope

from bff.core.expressions import of_caller
from bff.core.identity import Caller

REQUEST: Final = ("method", "path", "host", "headers", "query", "cookies")
"""What is known of a request by its head."""


class RequestView(dict[str, Any]):
    """`method`, `path`, `host`, `headers`, `query` and `cookies`; `caller` and `body` once they are known.

    Of a parameter or cookie that comes more than once it has the first; of a header all, with commas between.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __missing__(self, name: str) -> Any:
        found = self[name] = _READ[name](self._scope)
        return found


def _method(scope: Scope) -> str:
    method: str = scope.get("method", "GET")  # a websocket begins as a GET (RFC 6455 §4.1)
    return method


def _host(scope: Scope) -> str:
    """The name that the client asked for, in lower case and without a port."""
    given: bytes = next((value for name, value in scope["headers"] if name == b"host"), b"")
    host = given.decode("latin-1").lower()
    if not host.endswith("]"):
        name, colon, port = host.rpartition(":")
        host = name if colon and port.isdigit() else host.removesuffix(":")
    return host.removesuffix(".")


def _headers(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for given, value in scope["headers"]:
        name, text = given.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _query(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parameters(scope["query_string"]):
        found.setdefault(name, unquote_plus(value.decode("latin-1")))
    return found


def parameters(query: bytes) -> list[tuple[str, bytes]]:
    """The names of a query, decoded, with their values as they came."""
    pairs = (each.partition(b"=") for each in query.split(b"&") if each)
    return [(unquote_plus(name.decode("latin-1")), value) for name, _, value in pairs]


def _cookies(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, text = pair.strip().partition("=")
                found.setdefault(key, text.strip('"'))
    return found


_READ: dict[str, Callable[[Scope], Any]] = {
    "method": _method,
    "path": lambda scope: scope["path"],
    "host": _host,
    "headers": _headers,
    "query": _query,
    "cookies": _cookies,
    "caller": lambda scope: of_caller(_caller(scope)),
}


def _caller(scope: Scope) -> Caller:
    caller: Caller = scope["bff.caller"]
    return caller
