"""A route with every default already applied: the one thing from which each layer reads its own policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from bff.core.expressions import Expression

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_COST = 1_000_000
"""Units of one request."""


class Front(StrEnum):
    """Which of the gateway's faces answers."""

    GRAPHQL = "graphql"
    REST = "rest"
    AGGREGATE = "aggregate"
    OWN = "own"

    # The text's own, straight: an enum's hashes its name each time, by a call of Python.
    __hash__ = str.__hash__


OPERATIONS = frozenset({Front.GRAPHQL, Front.AGGREGATE})
"""Those that execute operations, which cost their callers what they ask for."""


class Condition(NamedTuple):
    """That a header, parameter or cookie has one of these values, in which `*` stands for anything."""

    where: Literal["headers", "query", "cookies"]
    name: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}[{self.name}] = {' | '.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of `routes`, or the GraphQL endpoint, which is a route like the others.

    Attributes:
        name: what logs, metrics and spans call it.
        path: its template, such as `/api/users/{rest*}`.
        methods: those it answers; None: all that the gateway knows.
        hosts: those it is asked for at, `*.example.com` for all below one; none: any.
        conditions: what else of a request has to hold, all of it.
        when: and what else, as an expression over it.
        priority: which of two goes first that say as much.
        service: where it leads; None: the gateway answers by itself.
        rewrite: the service's path as a template over what `path` captured.
        public: whether a request without a credential is let through.
        read_scopes, write_scopes: what a caller needs for GET, HEAD and OPTIONS, and for all else.
        policies: the names of those that have to hold for a caller, all of them.
        cost: units that a request takes from its caller's account.
        cost_header: what the service's answer says the units in, after all.
        concurrency: requests of one caller under way at a time.
        max_body: bytes of request body.
        timeout: seconds for the whole request.
        relay_errors: whether a service's 5xx bodies go on to the client as they are.
        validate: whether requests, or answers as well, are held to the service's own document.
        cache: whether answers are kept and given out again, as RFC 9111 allows.
        firewall: `off`, `detect` or `block`; None: as `firewall.mode` says.
    """

    name: str
    path: str
    front: Front = Front.REST
    methods: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    when: Expression | None = None
    priority: int = 0
    service: str | None = None
    rewrite: str | None = None
    public: bool = False
    read_scopes: frozenset[str] = field(default_factory=frozenset)
    write_scopes: frozenset[str] = field(default_factory=frozenset)
    policies: tuple[str, ...] = ()
    cost: int = 1
    cost_header: bytes | None = None
    concurrency: int | None = None
    max_body: int = 2 * 1024 * 1024
    timeout: float = 30.0
    relay_errors: bool = False
    validate: Literal["request", "both", "off"] = "off"
    cache: bool = False
    firewall: Literal["off", "detect", "block"] | None = None

    def scopes_for(self, method: str) -> frozenset[str]:
        return self.read_scopes if method in READS else self.write_scopes
