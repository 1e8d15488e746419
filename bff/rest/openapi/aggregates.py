"""Endpoints that no service has: what is known of each is taken for its service's document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from bff.core.route import Route
from bff.rest.openapi.contract import Contract, Object, Operation


class Described(Protocol):
    """What whoever answers it says of one endpoint.

    Attributes:
        path, method: where it is.
        body: its Operation Object.
        components: what it refers to.
        scopes: that a caller needs.
        open: whether nobody has to say who it is.
    """

    @property
    def path(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def body(self) -> Object: ...
    @property
    def components(self) -> Object: ...
    @property
    def scopes(self) -> frozenset[str]: ...
    @property
    def open(self) -> bool: ...


def contracts_of(aggregates: Mapping[str, Described]) -> dict[str, Contract]:
    """By the names of their routes."""
    return {
        name: Contract("aggregates", (Operation(each.path, each.method, each.body),), each.components)
        for name, each in aggregates.items()
    }


def as_described(routes: Iterable[Route], aggregates: Mapping[str, Described]) -> Iterator[Route]:
    """All routes; an aggregate's as if it were the route that needs what its fields need."""
    for route in routes:
        each = aggregates.get(route.name)
        if each is None:
            yield route
        else:
            yield replace(route, public=each.open, read_scopes=each.scopes, write_scopes=each.scopes)
