"""Where a service's operations are at the gateway: a route's `rewrite` the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bff.core.route import Route

_CAPTURE = re.compile(r"\{([A-Za-z0-9_.-]+)\}")


@dataclass
class Place:
    """One of a service's paths as clients of the gateway see it.

    Attributes:
        path: its template.
        fixed: of the service's path parameters those that the route says itself.
        added: parameters that only the gateway's path has.
    """

    path: str
    fixed: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)


def outer(route: Route, inner: str) -> Place | None:
    """Where the service's path is behind this route; None if it does not lead there."""
    rewrite = route.path.replace("*}", "}") if route.rewrite is None else route.rewrite.partition("?")[0]
    rest = found[1] if (found := re.search(r"\{(\w+)\*\}$", route.path)) else None
    bound: dict[str, list[str]] = {}
    place = Place("")
    if not _bind(_segments(rewrite), _segments(inner), rest, bound, place):
        return None
    segments = []
    for segment in _segments(route.path):
        name = segment[1:-1].rstrip("*") if segment.startswith("{") else None
        if name is None:
            segments.append(segment)
        elif name in bound:
            segments += bound[name]
        else:
            place.added.add(name)
            segments.append(f"{{{name}}}")
    names = _CAPTURE.findall("/".join(segments))
    place.path = "/" + "/".join(segments)
    return place if len(names) == len(set(names)) else None


def _bind(rewrite: list[str], inner: list[str], rest: str | None, bound: dict[str, list[str]], place: Place) -> bool:
    """Lay one over the other, segment by segment."""
    left = list(inner)
    for at, segment in enumerate(rewrite):
        found = _CAPTURE.fullmatch(segment)
        if found and found[1] == rest:
            taken = len(left) - (len(rewrite) - at - 1)
            if taken < 0:
                return False
            bound[found[1]], left = left[:taken], left[taken:]
            continue
        if not left:
            return False
        theirs = left.pop(0)
        if found:
            bound[found[1]] = [theirs]
        elif name := _CAPTURE.fullmatch(theirs):
            place.fixed.add(name[1])
        elif theirs != segment:
            return False
    return not left


def _segments(path: str) -> list[str]:
    return [each for each in path.split("/") if each]


def parameters_of(route: Route) -> Iterator[tuple[str, str]]:
    """Of a `rewrite` with a query: the service's parameter, and the client's that it is taken from."""
    for pair in (route.rewrite or "").partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if found := re.fullmatch(r"\{query\.([^{}]+)\}", value):
            yield name, found[1]


def sample(path: str) -> str:
    """A path of this template, with segments that no rule names."""
    return _CAPTURE.sub("~", path)


def generic(route: Route) -> Iterator[str]:
    """The templates of a route of which nothing more is known."""
    yield route.path.replace("*}", "}")
    if route.path.endswith("*}"):
        yield route.path.rpartition("/")[0] or "/"


def names_in(path: str) -> list[str]:
    return _CAPTURE.findall(path)
