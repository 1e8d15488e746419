"""Where clients are sent: by a service, in the words of the gateway's clients, since its address is nobody else's
business; or by a route that redirects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import httpx
from starlette.types import Scope

from bff.core.route import Route
from bff.rest.templates import Text, as_url
from bff.upstream.client import Headers

_NAMES = frozenset({b"location", b"content-location"})
_REST = re.compile(r"\{(\w+)\*\}$")
# What a request says can only be behind the first slash: it never decides which host its client is sent to.
_TARGET = re.compile(r"(?:https?://[A-Za-z0-9.-]+(?::[0-9]+)?)?(?:/(?![/\\]).*|/)|https?://[A-Za-z0-9.-]+(?::[0-9]+)?")


def outward(headers: Headers, addresses: Sequence[httpx.URL], target: bytes, scope: Scope) -> Headers:
    """The headers, with each `Location` within the service as a path of the route.

    A service makes it of the `Host` that it sees, which is its own. One that the route does not lead to is left out;
    what points elsewhere, and what is a path already, stays.

    Args:
        headers: of the answer.
        addresses: of the service's deployments, any of which may point to any.
        target: path and query of what was asked of it, below its address.
        scope: of the request.
    """
    seen: Headers = []
    for name, value in headers:
        bases = _with_host_of(value, addresses) if name in _NAMES else []
        outer = next((path for url, base in bases if (path := _outer(url, base, target, scope)) is not None), None)
        if outer is not None:
            seen.append((name, outer))
        elif not bases:
            seen.append((name, value))
    return seen


def _with_host_of(value: bytes, addresses: Sequence[httpx.URL]) -> list[tuple[httpx.URL, httpx.URL]]:
    """The URL, beside each of the addresses whose host it has."""
    try:
        url = httpx.URL(value.decode("latin-1"))
    except httpx.InvalidURL:
        return []
    # It may have been told of another scheme: of the client's.
    return [(url, each) for each in addresses if each.netloc == url.netloc]


def _outer(url: httpx.URL, base: httpx.URL, target: bytes, scope: Scope) -> bytes | None:
    route: Route = scope["bff.route"]
    asked, outer, inner = scope["raw_path"], scope["raw_path"], target.partition(b"?")[0]
    if name := _rest(route.path, route.rewrite):
        rest = scope["bff.captured"][name]
        outer, inner = asked.removesuffix(rest).rstrip(b"/"), inner.removesuffix(rest).rstrip(b"/")
    path, mark, query = url.raw_path.partition(b"?")
    inner = base.raw_path.rstrip(b"/") + inner
    if not path.startswith(inner):
        return None
    beyond = path.removeprefix(inner)
    if beyond and (name is None or not beyond.startswith(b"/")):
        return None
    fragment = b"#" + url.fragment.encode() if url.fragment else b""
    return (outer + beyond or b"/") + mark + query + fragment


@cache
def _rest(path: str, rewrite: str | None) -> str | None:
    """The name of what both end with, so that all below the one is below the other."""
    found = _REST.search(path)
    return found[1] if found and (rewrite is None or rewrite.endswith(f"{{{found[1]}}}")) else None


def target_fault(to: str) -> str | None:
    """Why a route cannot redirect there; None if it can."""
    if not _TARGET.fullmatch(to) or not to.isascii() or not to.isprintable() or " " in to or "\\" in to:
        return (
            "must be a path such as /api/{rest}, or an address such as https://www.example.com/{rest}, its host in full"
        )
    return None


class Target:
    """Where a route redirects to: what `to` says, ready to be filled."""

    def __init__(self, to: str) -> None:
        path, mark, query = to.partition("?")
        self._path = Text(path)
        self._query = Text(query) if mark else None

    def of(self, scope: Scope) -> bytes | None:
        """As it is sent; None if the request lacks a value."""
        # What a path captured is as it came, but in a query what separates parameters is quoted like all else.
        captured = {name: value.decode("latin-1") for name, value in scope["bff.captured"].items()}
        path = self._path.fill(scope, as_url, captured)
        query = scope["query_string"].decode("latin-1") if self._query is None else self._query.fill(scope, as_url)
        if path is None or query is None or path.startswith("//"):  # an empty value, and what follows would be a host
            return None
        return (f"{path}?{query}" if query else path).encode("latin-1")
