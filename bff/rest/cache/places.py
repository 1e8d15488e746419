"""Under which names an answer is found when it has to go: its path here or at its service, tags, entities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from bff.core.shelf import Tag
from bff.rest.cache.directives import field
from bff.rest.cache.stored import NotKept
from bff.upstream.client import Headers, Service

_DEEPEST: Final = 16
_MAX_TAGS: Final = 64
_POINTING: Final = (b"location", b"content-location")


def path_of(target: bytes) -> str:
    """Decoded, without its query and without a slash at its end: as two who mean the same resource both have it."""
    return unquote(target.partition(b"?")[0].decode("latin-1")).rstrip("/")


def above(path: str) -> list[str]:
    """The path and each above it, down from the root."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def tags_of(service: str, inner: str, outer: str, headers: Headers) -> list[Tag]:
    """Of an answer.

    Args:
        service: its name.
        inner: the service's path.
        outer: the gateway's.
        headers: the answer's, with the names that the service gave to it: `Surrogate-Key`, by spaces, or `Cache-Tag`,
            by commas.

    Raises:
        NotKept: there would be too many.
    """
    names = (field(headers, b"surrogate-key") or b"").split()
    names += [name.strip() for name in (field(headers, b"cache-tag") or b"").split(b",") if name.strip()]
    if len(names) > _MAX_TAGS:
        raise NotKept("tags")
    if inner.count("/") > _DEEPEST or outer.count("/") > _DEEPEST:
        raise NotKept("depth")
    found: list[Tag] = [("tag", name.decode("latin-1")) for name in dict.fromkeys(names)]
    found += [("at", service, inner), ("path", outer)]
    found += [("under", service, each) for each in above(inner)]
    found += [("below", each) for each in above(outer)]
    found += [("entity", service, each) for each in dict.fromkeys(inner.split("/")) if each]
    return found


def changed_by(service: Service, target: bytes, response: httpx.Response | None) -> list[str]:
    """The service's paths whose answers a call may have changed: its own, and those that the answer names (§4.4)."""
    found = [path_of(target)]
    for name, value in response.headers.raw if response is not None else ():
        if name.lower() in _POINTING and (named := _inner(service, target, value)) is not None:
            found.append(named)
    return found


def _inner(service: Service, target: bytes, value: bytes) -> str | None:
    """A path of the same service; None if it is elsewhere."""
    try:
        url = urlsplit(urljoin("//service" + target.decode("latin-1"), value.decode("latin-1")))
        hosts = {each.netloc.decode("ascii"): each.raw_path.decode("ascii").rstrip("/") for each in service.addresses}
        base = "" if url.netloc == "service" else hosts[url.netloc]
    except (ValueError, KeyError):
        return None
    return path_of(url.path.removeprefix(base).encode("latin-1", "replace"))


def affected(service: str, paths: Iterable[str]) -> list[Tag]:
    """What a change of these has to drop: the answers there, below it, and those of the collections above it."""
    found: list[Tag] = []
    for path in paths:
        found.append(("under", service, path))
        found += [("at", service, each) for each in above(path)]
    return found


def is_affected(inner: str, paths: Iterable[str]) -> bool:
    """Whether an answer of that path is among them."""
    return any(f"{inner}/".startswith(f"{path}/") or f"{path}/".startswith(f"{inner}/") for path in paths)


def named(paths: Iterable[str], tags: Iterable[str], entities: Iterable[tuple[str, str]]) -> list[Tag]:
    """What an operator means by them; a path that ends in `/*` is all below it, and itself."""
    found: list[Tag] = [("tag", each) for each in tags]
    for each in paths:
        path = path_of(each.removesuffix("/*").encode())
        found.append(("below" if each.endswith("/*") else "path", path))
    for service, id in entities:
        found += [("entity", service, id), ("record", service, id)]
    return found
