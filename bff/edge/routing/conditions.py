"""What a request has to be besides its path and method, and whether one request could be what two routes want."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from enum import IntEnum
from itertools import combinations

from bff.core.request import RequestView
from bff.core.route import METHODS, Condition, Route
from bff.edge.routing.template import template


class Stage(IntEnum):
    """When all is known that a route's conditions are over."""

    HEAD = 0
    CALLER = 1
    BODY = 2


def stage(route: Route) -> Stage:
    used = route.when.variables if route.when else frozenset[str]()
    return Stage.BODY if "body" in used else Stage.CALLER if "caller" in used else Stage.HEAD


def fits(pattern: str, value: str) -> bool:
    """Whether the value is what the pattern says, in which one `*` stands for anything."""
    begin, star, end = pattern.partition("*")
    if not star:
        return pattern == value
    return len(value) >= len(begin) + len(end) and value.startswith(begin) and value.endswith(end)


def meets(view: RequestView, conditions: Iterable[Condition]) -> bool:
    for each in conditions:
        value = view[each.where].get(each.name)
        if value is None or not any(fits(pattern, value) for pattern in each.values):
            return False
    return True


def answered(route: Route) -> frozenset[str]:
    """The methods of a route; who answers GET answers HEAD (RFC 9110 §9.3.2)."""
    methods = METHODS if route.methods is None else route.methods
    return methods | {"HEAD"} if "GET" in methods else methods


def weight(route: Route) -> tuple[int, int]:
    """Of two routes of one template and host, the larger goes first: the more conditions, and then the priority."""
    return len(route.conditions) + (route.when is not None), route.priority


def clashes(routes: Sequence[Route]) -> Iterator[str]:
    """Why these routes cannot be matched together."""
    for one, other in conflicts(routes):
        yield (
            f"{one.name} and {other.name} could both match {other.path}, and neither says more than the other: "
            "give one of them one more condition, or a `priority`"
        )
    for one, other, differing in disagreements(routes):
        yield (
            f"{one.name} has a condition over the body, and where it does not hold {other.name} may answer: they have "
            f"to agree on all that is judged before a body is read, and differ in {differing}"
        )


def conflicts(routes: Iterable[Route]) -> Iterator[tuple[Route, Route]]:
    """Pairs that could both be meant by one request, and of which neither goes first."""
    alike: dict[object, list[Route]] = {}
    for each in routes:
        parts = template(each.path)
        for host in each.hosts or (None,):
            alike.setdefault((parts.shape, parts.rest, host, weight(each)), []).append(each)
    seen: set[tuple[int, int]] = set()
    for group in alike.values():
        for one, other in combinations(group, 2):
            pair = (id(one), id(other))
            if pair not in seen and answered(one) & answered(other) and not _exclude(one, other):
                seen.add(pair)
                yield one, other


def _exclude(one: Route, other: Route) -> bool:
    """Whether they want different values of one thing."""
    wanted = {(each.where, each.name): each.values for each in one.conditions}
    return any(
        not any(_common(mine, theirs) for mine in wanted[each.where, each.name] for theirs in each.values)
        for each in other.conditions
        if (each.where, each.name) in wanted
    )


def _hosts_meet(one: Route, other: Route) -> bool:
    return not (one.hosts and other.hosts) or any(_common(a, b) for a in one.hosts for b in other.hosts)


def _common(one: str, other: str) -> bool:
    """Whether some value may fit both."""
    if "*" not in one or "*" not in other:
        return fits(one, other) or fits(other, one)
    (begin, _, end), (beginning, _, ending) = one.partition("*"), other.partition("*")
    return (begin.startswith(beginning) or beginning.startswith(begin)) and (
        end.endswith(ending) or ending.endswith(end)
    )


_JUDGED_AFTER = frozenset(
    (
        "name",
        "path",
        "methods",
        "hosts",
        "conditions",
        "when",
        "priority",
        "service",
        "rewrite",
        "relay_errors",
        "validate",
    )
)
_JUDGED_BEFORE = tuple(each.name for each in fields(Route) if each.name not in _JUDGED_AFTER)


def disagreements(routes: Sequence[Route]) -> Iterator[tuple[Route, Route, str]]:
    """A route with a condition over the body, one that may answer where it does not hold, and in what they differ.

    Who may pass and what it costs is judged before a body is read, so it has to be the same whichever it will be.
    """
    for one in routes:
        if stage(one) is not Stage.BODY:
            continue
        mine = template(one.path)
        for other in routes:
            theirs = template(other.path)
            if (
                other is not one
                and mine.overlaps(theirs)
                and mine.order() <= theirs.order()
                and _hosts_meet(one, other)
                and answered(one) & answered(other)
                and not _exclude(one, other)
            ):
                differing = (name for name in _JUDGED_BEFORE if getattr(one, name) != getattr(other, name))
                if name := next(differing, None):
                    yield one, other, name
