"""Entitlements: what a partner may use of both fronts, in one table of GraphQL coordinates and REST requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator

from bff.core.identity import Caller
from bff.core.settings import malformed

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_COORDINATE = re.compile(rf"(!?)({_NAME})\.({_NAME}|\*)")
_REQUEST = re.compile(r"(!?)(GET|HEAD|POST|PUT|PATCH|DELETE|\*) (/\S*)")
_PARAMETERS = re.compile(";[^/]*")
# Who may see a thing may ask whether it is there, and what may be done with it (RFC 9110 §9.3.2, §9.3.7).
_LIKE_GET = frozenset({"HEAD", "OPTIONS"})


class Coordinate(NamedTuple):
    """`Product.stock`, or `Product.*`: see https://spec.graphql.org/draft/#sec-Schema-Coordinates ."""

    allowed: bool
    type: str
    field: str


class Request(NamedTuple):
    """A method and a path, in which `*` is any segment and `**` any number of them."""

    allowed: bool
    method: str
    path: re.Pattern[str]


class Entitlements:
    """A table. Of the entries that fit, the last one decides; what none fits is not allowed.

        Entitlements(["Product.*", "!Product.stock", "GET /api/products/**"])

    Raises:
        ValueError: an entry is neither a coordinate nor a request; the message is the entry.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self.coordinates: list[Coordinate] = []
        self._requests: list[Request] = []
        for entry in entries:
            if found := _COORDINATE.fullmatch(entry):
                self.coordinates.append(Coordinate(not found[1], found[2], found[3]))
            elif found := _REQUEST.fullmatch(entry):
                self._requests.append(Request(not found[1], found[2], _pattern(found[3])))
            else:
                raise ValueError(entry)

    def of_field(self, type_: str, field: str) -> bool | None:
        """Whether the table allows it; None if it says nothing of it."""
        verdict = None
        for entry in self.coordinates:
            if entry.type == type_ and entry.field in {field, "*"}:
                verdict = entry.allowed
        return verdict

    def allows_request(self, method: str, path: str) -> bool:
        """Whether a REST request is allowed, by its path with nothing encoded.

        Some servers drop what follows a semicolon in a segment: what they take the path for has to be allowed, too.
        """
        if ";" in path and not self.allows_request(method, _PARAMETERS.sub("", path)):
            return False
        verdict = False
        for entry in self._requests:
            if entry.method in {method, "*", "GET" if method in _LIKE_GET else method} and entry.path.fullmatch(path):
                verdict = entry.allowed
        return verdict


NOTHING = Entitlements(())


def _entry(text: object) -> str:
    try:
        Entitlements([str(text)])
    except ValueError:
        raise malformed("a coordinate (`Product.*`, `!Product.stock`) or a request (`GET /api/products/**`)") from None
    return str(text)


Entry = Annotated[str, BeforeValidator(_entry)]


class Tables:
    """Which table holds for whom: the one that a caller's key names, or else its tier's.

    Args:
        tables: by name.
        by_tier: the names of those of tiers.
    """

    def __init__(self, tables: Mapping[str, Entitlements], by_tier: Mapping[str, str]) -> None:
        self.tables = tables
        self.by_tier = by_tier

    def name(self, caller: Caller) -> str | None:
        """None for a caller that everything is there for."""
        return caller.entitlements or self.by_tier.get(caller.tier)

    def table(self, caller: Caller) -> Entitlements | None:
        """The same; a key whose table is not in the configuration any more is entitled to nothing."""
        name = self.name(caller)
        return None if name is None else self.tables.get(name, NOTHING)


EVERYTHING = Tables({}, {})


def _pattern(path: str) -> re.Pattern[str]:
    """`/api/products/**` is `/api/products` as well, as a route's `{rest*}` is."""
    parts = []
    for segment in path.split("/")[1:]:
        if segment == "**":
            parts.append("(?:/[^/]*)*")
        else:
            parts.append("/" + "[^/]*".join(re.escape(part) for part in segment.split("*")))
    return re.compile("".join(parts) + "/?")
