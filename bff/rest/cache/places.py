"""Under which names an answer is found when it has to go: its path here or at its service, tags, entities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from bff.core.route import Route
from bff.core.shelf import Shelf, Tag
from bff.edge.routing.template import Template, normal, template
from bff.rest.cache.stored import NotKept
from bff.rest.rewrite import pieces, rewritten
from bff.upstream.changes import DEEPEST, MAX_TAGS, above, at, names_given, path_of
from bff.upstream.client import Headers


def tags_of(service: str, inner: str, outer: str, headers: Headers) -> list[Tag]:
    """Of an answer.

    Args:
        service: its name.
        inner: the service's path.
        outer: the gateway's.
        headers: the answer's, with the names that the service gave to it.

    Raises:
        NotKept: there would be too many.
    """
    names = names_given(headers)
    if len(names) > MAX_TAGS:
        raise NotKept("tags")
    if inner.count("/") > DEEPEST or outer.count("/") > DEEPEST:
        raise NotKept("depth")
    return [*names, *at(service, inner), ("path", outer), *(("below", each) for each in above(outer))]


class Purge:
    """Drops what an operator names, from all caches of all gateways.

    Args:
        shelf: where it is.
        routes: by which a path of the gateway is one of a service.
    """

    def __init__(self, shelf: Shelf, routes: Iterable[Route]) -> None:
        self._shelf = shelf
        self._routes = [(each, template(each.path)) for each in routes if each.service is not None]

    def __call__(
        self,
        paths: Iterable[str] = (),
        tags: Iterable[str] = (),
        entities: Iterable[tuple[str, str]] = (),
        *,
        everything: bool = False,
    ) -> int:
        """Whoever asks from now on is given nothing that was read before: how many answers there were of it here.

        Args:
            paths: of the gateway; one that ends in `/*` is all below it.
            tags: names that services gave to answers.
            entities: services and ids.
            everything: all that there is.
        """
        if everything:
            return self._shelf.purge(None)
        found: list[Tag] = [("tag", each) for each in tags]
        found += [("entity", service, id) for service, id in entities]
        for each in paths:
            outer, whole = path_of(each.removesuffix("/*").encode()), each.endswith("/*")
            found.append(("below" if whole else "path", outer))
            found += [tag for route, parts in self._routes for tag in _inner(route, parts, outer, whole=whole)]
        return self._shelf.purge(frozenset(found))


def _inner(route: Route, parts: Template, outer: str, *, whole: bool) -> list[Tag]:
    """What a path of the gateway is at the route's service, where it is one of the route's."""
    assert route.service is not None  # noqa: S101 - of those that have one
    given = [normal(quote(each).encode()) for each in outer.split("/")[1:]]
    if any(known not in (None, segment) for known, segment in zip(parts.shape, given, strict=False)):
        return []
    if len(given) < len(parts.shape):
        return [("under", route.service, "")] if whole else []
    captured, rest = _captured(parts, given)
    if rest and not parts.rest:
        return []
    inner = outer if route.rewrite is None else path_of(rewritten(pieces(route.rewrite.partition("?")[0]), captured))
    return [("under" if whole else "at", route.service, inner)]


def _captured(parts: Template, given: Sequence[bytes]) -> tuple[dict[str, bytes], bytes]:
    rest = b"/".join(given[len(parts.shape) :])
    values = [segment for known, segment in zip(parts.shape, given, strict=False) if known is None]
    return dict(zip(parts.names, [*values, rest], strict=False)), rest
