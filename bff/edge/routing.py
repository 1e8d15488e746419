"""Which route a request is for: the most specific template that matches its path as it was sent, and has its method."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.errors import MethodNotAllowed, NotFound
from bff.core.route import MAX_COST, METHODS, Route
from bff.core.settings import Complaint, Duration, Settings, Size

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_CAPTURE = re.compile(r"\{([a-z_][a-z0-9_]*)(\*?)\}")
_NAMES = re.compile(r"\{([^{}]*)\}")
_ENCODED = re.compile(rb"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class ScopeSettings(Settings):
    read: tuple[str, ...] = ()
    """What a caller needs for GET, HEAD and OPTIONS; with none, a credential is enough."""
    write: tuple[str, ...] = ()
    """What a caller needs for all other methods."""


Units = Annotated[int, Field(ge=0, le=MAX_COST)]


class CostSettings(Settings):
    """A cost that only the service knows."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    """Of its answer, with a number of units; without it, the request costs what was reserved."""
    reserve: Annotated[int, Field(ge=1, le=MAX_COST)] = 1
    """Units that the caller has to have before the service is asked."""


class RouteSettings(Settings):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    """What logs, metrics and spans call it."""
    path: str
    """A template: `/api/users/{id}` captures one segment, `/api/users/{rest*}` all that follow, or none."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] | None = None
    """Those it answers, and HEAD where GET is; by default all."""
    service: str
    """The name of the service that it leads to."""
    rewrite: str | None = None
    """The service's path, over what `path` captures: `/users/{rest}`. By default the path as it came."""
    public: bool = False
    """Whether no credential is needed."""
    scopes: ScopeSettings = ScopeSettings()
    policies: tuple[str, ...] = ()
    """Names from `policies`, all of which have to hold for a caller."""
    cost: Units | CostSettings = 1
    """Units that a request takes from its caller's account; or which header of the answer says how many."""
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests of one caller under way at a time; a few more wait, as `limits.queue` says."""
    max_body: Size = 2 * 1024 * 1024
    """Of a request; `server.max_body` holds as well."""
    timeout: Duration = 30.0
    """For the whole request."""
    errors: Literal["problem", "relay"] = "problem"
    """Whether a service's 5xx is replaced by a problem, unless it is one, or passed on as it is."""
    firewall: Literal["off", "detect", "block"] | None = None
    """By default what `firewall.mode` says."""

    def problems(self) -> Iterable[Complaint]:
        complaint = _fault(self.path)
        if complaint:
            yield ("path",), complaint
        elif self.rewrite is not None:
            captured = set(template(self.path).names)
            if not self.rewrite.startswith("/") or not _LITERAL.fullmatch(
                _NAMES.sub("", self.rewrite).replace("/", "")
            ):
                yield ("rewrite",), "must be a path such as /users/{rest}, percent-encoded and without a query"
            for name in _NAMES.findall(self.rewrite):
                if name not in captured:
                    yield ("rewrite",), f"uses {{{name}}}, which `path` does not capture"


def route(settings: RouteSettings) -> Route:
    return Route(
        name=settings.name,
        path=settings.path,
        methods=None if settings.methods is None else frozenset(settings.methods),
        service=settings.service,
        rewrite=settings.rewrite,
        public=settings.public,
        read_scopes=frozenset(settings.scopes.read),
        write_scopes=frozenset(settings.scopes.write),
        policies=settings.policies,
        cost=settings.cost if isinstance(settings.cost, int) else settings.cost.reserve,
        cost_header=None if isinstance(settings.cost, int) else settings.cost.header.lower().encode(),
        concurrency=settings.concurrency,
        max_body=settings.max_body,
        timeout=settings.timeout,
        relay_errors=settings.errors == "relay",
        firewall=settings.firewall,
    )


@dataclass(frozen=True, slots=True)
class Template:
    """A route's path, taken apart.

    Attributes:
        shape: its segments: a literal, None for a captured one.
        rest: whether all further segments are captured too.
        names: of what is captured, from left to right.
    """

    shape: tuple[bytes | None, ...]
    rest: bool
    names: tuple[str, ...]


def template(path: str) -> Template:
    """Takes apart what `RouteSettings` found sound."""
    shape: list[bytes | None] = []
    names, rest = [], False
    for segment in path.split("/")[1:]:
        capture = _CAPTURE.fullmatch(segment)
        if not capture:
            shape.append(_normal(segment.encode()))
            continue
        names.append(capture[1])
        rest = bool(capture[2])
        if not rest:
            shape.append(None)
    return Template(tuple(shape), rest, tuple(names))


def _fault(path: str) -> str | None:
    """Why this is no template; None if it is one."""
    if not path.startswith("/"):
        return "must begin with /"
    *inner, last = path.split("/")[1:]
    names = []
    for segment in (*inner, last):
        if capture := _CAPTURE.fullmatch(segment):
            names.append(capture[1])
        elif not _LITERAL.fullmatch(segment) or segment in {".", ".."}:
            return f"has a segment that is neither percent-encoded text, {{name}} nor {{name*}}: {segment}"
    if "" in inner:
        return "has an empty segment"
    if any(segment.endswith("*}") for segment in inner):
        return "may capture the rest, {name*}, only at its end"
    if len(set(names)) < len(names):
        return "captures two parts under one name"
    return None


def conflicts(routes: Iterable[Route]) -> Iterator[tuple[Route, Route]]:
    """Pairs of which neither is more specific: the same template but for names, and a method in common."""
    seen: dict[tuple[tuple[bytes | None, ...], bool], list[Route]] = {}
    for later in routes:
        parts = template(later.path)
        alike = seen.setdefault((parts.shape, parts.rest), [])
        yield from ((earlier, later) for earlier in alike if answered(earlier) & answered(later))
        alike.append(later)


def answered(each: Route) -> frozenset[str]:
    """The methods of a route; who answers GET answers HEAD (RFC 9110 §9.3.2)."""
    methods = METHODS if each.methods is None else each.methods
    return methods | {"HEAD"} if "GET" in methods else methods


class Match(NamedTuple):
    route: Route
    methods: frozenset[str]
    captured: dict[str, bytes]
    """What the template's names stand for, percent-encoded as it came."""


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, _Node] = field(default_factory=dict)
    capture: _Node | None = None
    ends: list[_Leaf] = field(default_factory=list)
    rests: list[_Leaf] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Leaf:
    route: Route
    methods: frozenset[str]
    names: tuple[str, ...]

    def match(self, values: tuple[bytes, ...]) -> Match:
        return Match(self.route, self.methods, dict(zip(self.names, values, strict=True)))


class Matcher:
    """The routes as a tree of path segments: a look-up costs what the path is long, not how many routes there are."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for each in routes:
            self._add(each)

    def _add(self, each: Route) -> None:
        parts, node = template(each.path), self._root
        for segment in parts.shape:
            if segment is not None:
                node = node.literals.setdefault(segment, _Node())
            else:
                node.capture = node.capture or _Node()
                node = node.capture
        (node.rests if parts.rest else node.ends).append(_Leaf(each, answered(each), parts.names))

    def matches(self, raw_path: bytes) -> Iterator[Match]:
        """All routes of this path, the most specific first: at each segment a literal, a captured one, the rest."""
        raw = raw_path.split(b"/")
        segments = [_normal(segment) for segment in raw] if b"%" in raw_path else raw
        found: list[Match] = []
        _walk(self._root, raw, segments, 1, (), found)
        return iter(found)


def _walk(
    node: _Node, raw: list[bytes], segments: list[bytes], at: int, values: tuple[bytes, ...], found: list[Match]
) -> None:
    if at < len(segments):
        literal = node.literals.get(segments[at])
        if literal is not None:
            _walk(literal, raw, segments, at + 1, values, found)
        if node.capture is not None and raw[at]:
            _walk(node.capture, raw, segments, at + 1, (*values, raw[at]), found)
    else:
        found += [leaf.match(values) for leaf in node.ends]
    for leaf in node.rests:
        found.append(leaf.match((*values, b"/".join(raw[at:]))))


def _normal(segment: bytes) -> bytes:
    """Percent-encoding that changes nothing undone, all other in capitals (RFC 3986 §6.2.2)."""
    return _ENCODED.sub(_decoded, segment)


def _decoded(encoded: re.Match[bytes]) -> bytes:
    octet = int(encoded[0][1:], 16)
    return bytes((octet,)) if octet in _UNRESERVED else encoded[0].upper()


class Routing:
    """Writes the route into `scope["bff.route"]`, and what its template captured into `scope["bff.captured"]`."""

    def __init__(self, app: ASGIApp, matcher: Matcher) -> None:
        self.app = app
        self.matcher = matcher

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        method = scope.get("method", "GET")  # a websocket's handshake is a GET
        allowed: set[str] = set()
        for match in self.matcher.matches(scope["raw_path"]):
            if method in match.methods:
                scope["bff.route"], scope["bff.captured"] = match.route, match.captured
                return self.app(scope, receive, send)
            allowed |= match.methods
        if not allowed:
            raise NotFound("There is nothing at this path")
        allow = ", ".join(sorted(allowed | {"OPTIONS"}))
        if method != "OPTIONS":
            raise MethodNotAllowed(f"This path answers {allow}", headers={"allow": allow})
        return _say_what_is_allowed(allow, send)


async def _say_what_is_allowed(methods: str, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", methods.encode())]})
    await send({"type": "http.response.body"})
