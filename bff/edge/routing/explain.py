"""Why a request is for one route and not for the others, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from bff.core.request import RequestView
from bff.core.route import Route
from bff.edge.routing.conditions import answered, fits, meets
from bff.edge.routing.matcher import Matcher


class Passed(NamedTuple):
    """A route that has the request's path, and why it was not the one."""

    route: Route
    why: str


def passed_over(
    routes: Iterable[Route], chosen: Route | None, method: str, raw_path: bytes, view: RequestView
) -> Iterator[Passed]:
    """Those of this path, but for the chosen one.

    Args:
        routes: all there are.
        chosen: what came out, if anything.
        method: of the request.
        raw_path: its path as it was sent.
        view: the request, with `caller` and `body` as far as they are known.
    """
    for each in routes:
        if each is chosen:
            continue
        bare = replace(each, methods=None, hosts=(), conditions=(), when=None)
        if Matcher([bare]).matches("GET", raw_path, view):
            yield Passed(each, _why(each, chosen, method, view))


def _why(route: Route, chosen: Route | None, method: str, view: RequestView) -> str:
    if method not in answered(route):
        return f"it answers {', '.join(sorted(answered(route)))}"
    if route.hosts and not any(fits(host, view["host"]) for host in route.hosts):
        return f"it is for {' and '.join(route.hosts)}, not for {view['host'] or 'a request without a host'}"
    for each in route.conditions:
        if not meets(view, [each]):
            value = view[each.where].get(each.name)
            return f"{each} does not hold: " + ("there is none" if value is None else f"it is {value!r}")
    if route.when and not route.when.holds(view):
        return f"when: {route.when} does not hold"
    return f"{chosen.name} goes first: it says more" if chosen else "it was not reached"
