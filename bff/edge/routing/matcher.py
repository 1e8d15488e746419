"""The routes as a tree of path segments: a look-up costs what the path is long, not how many routes there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from bff.core.request import RequestView
from bff.core.route import METHODS, Condition, Route
from bff.edge.routing.conditions import Stage, answered, meets, stage, weight
from bff.edge.routing.template import normal, template

_MOST = 2048  # paths that are remembered, of
_SMALL = 256  # bytes


class Match(msgspec.Struct, frozen=True):
    route: Route
    captured: dict[str, bytes]
    """What the template's names stand for, percent-encoded as it came."""
    stage: Stage
    """When it is known whether the rest of its conditions holds; HEAD: it does."""


class Matcher:
    """Which routes a request is for.

    Args:
        routes: in any order, without `conflicts`.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self.known: dict[tuple[str, bytes], list[Match]] = {}
        """What was found by nothing else of a request than its method and path."""
        for each in sorted(routes, key=weight, reverse=True):
            self._add(each)

    def _add(self, each: Route) -> None:
        parts, node = template(each.path), self._root
        for segment in parts.shape:
            if segment is not None:
                node = node.literals.setdefault(segment, _Node())
            else:
                node.capture = node.capture or _Node()
                node = node.capture
        ends = node.rests if parts.rest else node.ends
        for method in answered(each):
            ends.setdefault(method, _Hosts()).add(each, _Candidate(each, parts.names))

    def matches(self, method: str, raw_path: bytes, view: RequestView) -> list[Match]:
        """Those it may be, the one that goes first first; all but the last depend on what is not known yet."""
        raw = raw_path.split(b"/")
        segments = [normal(segment) for segment in raw] if raw_path.find(b"%") >= 0 else raw
        search = _Search(method, raw, segments, view)
        search.walk(self._root, 1, ())
        # A view has in it what was looked at.
        if search.found and not view and len(raw_path) <= _SMALL:
            if len(self.known) >= _MOST:
                self.known.clear()
            self.known[method, raw_path] = search.found
        return search.found

    def methods(self, raw_path: bytes, view: RequestView) -> list[str]:
        """Those by which something else of this path, and with the same headers, can be asked for."""
        return sorted(method for method in METHODS if self.matches(method, raw_path, view))


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, _Node] = field(default_factory=dict)
    capture: _Node | None = None
    ends: dict[str, _Hosts] = field(default_factory=dict)
    rests: dict[str, _Hosts] = field(default_factory=dict)


class _Candidate:
    """A route with what has to be looked at to know whether it is the one."""

    __slots__ = ("bare", "conditions", "is_decided", "names", "route", "stage", "when")

    def __init__(self, route: Route, names: tuple[str, ...]) -> None:
        self.route = route
        self.names = names
        self.conditions = route.conditions
        self.stage = stage(route)
        self.is_decided = self.stage is Stage.HEAD
        self.when = route.when if self.stage is Stage.HEAD else None
        self.bare = not self.conditions and self.when is None

    def holds(self, view: RequestView) -> bool:
        return meets(view, self.conditions) and (self.when is None or self.when.holds(view))


class _Hosts:
    """The routes of one template and method: those for one host, for all below one, for any."""

    __slots__ = ("any", "below", "named")

    def __init__(self) -> None:
        self.named: dict[str, _Choice] = {}
        self.below: dict[str, _Choice] = {}
        self.any = _Choice()

    def add(self, route: Route, candidate: _Candidate) -> None:
        for host in route.hosts:
            chosen, name = (self.below, host[1:]) if host.startswith("*") else (self.named, host)
            chosen.setdefault(name, _Choice()).add(candidate)
        if not route.hosts:
            self.any.add(candidate)

    def candidates(self, view: RequestView) -> Iterable[_Candidate]:
        return self._by_host(view) if self.named or self.below else self.any.candidates(view)

    def _by_host(self, view: RequestView) -> Iterator[_Candidate]:
        host: str = view["host"]
        if host in self.named:
            yield from self.named[host].candidates(view)
        at = host.find(".")
        while at >= 0:
            if (below := self.below.get(host[at:])) is not None:
                yield from below.candidates(view)
            at = host.find(".", at + 1)
        yield from self.any.candidates(view)


class _Choice:
    """Routes that only their conditions tell apart, found by the values that one of these wants to the letter."""

    __slots__ = ("_by_value", "_count", "_others", "_plain")

    def __init__(self) -> None:
        self._count = 0
        self._others: list[tuple[int, _Candidate]] = []
        self._plain: list[_Candidate] = []
        self._by_value: dict[tuple[str, str], dict[str, list[tuple[int, _Candidate]]]] = {}

    def add(self, candidate: _Candidate) -> None:
        """After all that go before it."""
        place, self._count = (self._count, candidate), self._count + 1
        key = next(filter(_is_to_the_letter, candidate.conditions), None)
        if key is None:
            self._others.append(place)
            self._plain.append(candidate)
            return
        values = self._by_value.setdefault((key.where, key.name), {})
        for value in set(key.values):
            values.setdefault(value, []).append(place)

    def candidates(self, view: RequestView) -> Iterable[_Candidate]:
        if not self._by_value:
            return self._plain
        places = self._others
        for (where, name), values in self._by_value.items():
            places = places + values.get(view[where].get(name), [])
        return [candidate for _, candidate in sorted(places, key=_place)]


def _is_to_the_letter(condition: Condition) -> bool:
    return not any("*" in value for value in condition.values)


def _place(placed: tuple[int, _Candidate]) -> int:
    return placed[0]


class _Search:
    """A walk down the tree, the most specific branch first, until a route needs nothing more to be the one."""

    __slots__ = ("found", "method", "raw", "segments", "view")

    def __init__(self, method: str, raw: list[bytes], segments: list[bytes], view: RequestView) -> None:
        self.method = method
        self.raw = raw
        self.segments = segments
        self.view = view
        self.found: list[Match] = []

    def walk(self, node: _Node, at: int, values: tuple[bytes, ...]) -> bool:
        """Whether it is at its end."""
        if at < len(self.segments):
            literal = node.literals.get(self.segments[at])
            if literal is not None and self.walk(literal, at + 1, values):
                return True
            raw = self.raw[at]
            if node.capture is not None and raw and self.walk(node.capture, at + 1, (*values, raw)):
                return True
        elif (ends := node.ends.get(self.method)) is not None and self._take(ends, values):
            return True
        if (rests := node.rests.get(self.method)) is not None:
            return self._take(rests, (*values, b"/".join(self.raw[at:])))
        return False

    def _take(self, hosts: _Hosts, values: tuple[bytes, ...]) -> bool:
        for each in hosts.candidates(self.view):
            if each.bare or each.holds(self.view):
                captured = dict(zip(each.names, values, strict=True))
                self.found.append(Match(each.route, captured, each.stage))
                if each.is_decided:
                    return True
        return False
