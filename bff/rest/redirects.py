"""What a service calls its own things, in the words of the gateway's clients: its address is nobody else's business."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import httpx
from starlette.types import Scope

from bff.core.route import Route
from bff.upstream.client import Headers

_NAMES = frozenset({b"location", b"content-location"})
_REST = re.compile(r"\{(\w+)\*\}$")


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
