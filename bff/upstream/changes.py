"""What a call that changes something takes with it: of all that is kept, the answers that are not true any more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from bff.core.directives import field
from bff.core.shelf import Shelf, Tag, Tags
from bff.upstream.client import Headers, Service

DEEPEST: Final = 16
"""Slashes in a path of which something is kept."""
MAX_TAGS: Final = 64
"""Names that a service may give to an answer which is kept."""
_POINTING: Final = (b"location", b"content-location")


def path_of(target: bytes) -> str:
    """Decoded, without its query and without a slash at its end: as two who mean the same resource both have it."""
    return unquote(target.partition(b"?")[0].decode("latin-1")).rstrip("/")


def above(path: str) -> list[str]:
    """The path and each above it, down from the root, as far as something is kept there."""
    parts = path.split("/", DEEPEST + 1)[: DEEPEST + 1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def at(service: str, path: str) -> list[Tag]:
    """The tags of what a service has at a path of its own."""
    found: list[Tag] = [("at", service, path)]
    found += [("under", service, each) for each in above(path)]
    found += [("entity", service, each) for each in dict.fromkeys(path.split("/")) if each]
    return found


def names_given(headers: Headers) -> list[Tag]:
    """The tags that a service gives to an answer: `Surrogate-Key`, by spaces, or `Cache-Tag`, by commas."""
    names = (field(headers, b"surrogate-key") or b"").split()
    names += [name.strip() for name in (field(headers, b"cache-tag") or b"").split(b",") if name.strip()]
    return [("tag", name.decode("latin-1")) for name in dict.fromkeys(names)]


def affected(service: str, paths: Iterable[str]) -> list[Tag]:
    """What a change of these has to drop: the answers there, below it, and those of the collections above it."""
    found: list[Tag] = []
    for path in paths:
        found.append(("under", service, path))
        found += [("at", service, each) for each in above(path)]
    return found


class Changes:
    """Follows what is changed through services, so that it is dropped, and nobody joins a read of before.

    Args:
        shelf: where answers are kept.
        services: whose answers they are.
    """

    def __init__(self, shelf: Shelf, services: Iterable[Service]) -> None:
        self._shelf, self._services = shelf, list(services)
        shelf.on_purge.append(self._forget)
        for each in self._services:
            each.on_change.append(self._changed)

    async def close(self) -> None:
        self.leave()

    def leave(self) -> None:
        self._shelf.on_purge.remove(self._forget)
        for each in self._services:
            each.on_change.remove(self._changed)

    def _changed(self, service: Service, target: bytes, response: httpx.Response | None) -> None:
        """By a call of an unsafe method, however it ended, unless it was refused (RFC 9111 §4.4)."""
        if response is None or not 400 <= response.status_code < 500:
            self._shelf.purge(frozenset(affected(service.name, _changed_by(service, target, response))))

    def _forget(self, tags: Tags) -> None:
        for each in self._services:
            if tags is None or any(len(tag) < 3 or tag[1] == each.name for tag in tags):
                for forget in each.on_purge:
                    forget()


def _changed_by(service: Service, target: bytes, response: httpx.Response | None) -> list[str]:
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
