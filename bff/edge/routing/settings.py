"""One entry of `routes`, and the `Route` that is made of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bff.core.expressions import Expression, Over
from bff.core.request import REQUEST
from bff.core.route import MAX_COST, Condition, Route
from bff.core.settings import Complaint, Duration, Settings, Size, malformed
from bff.edge.routing.template import LITERAL, fault, template

# Its base has a method of that name, long deprecated; the key is what configurations have.
warnings.filterwarnings("ignore", message='Field name "validate" in "(Rest)?RouteSettings')

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_NAMES = re.compile(r"\{([^{}]*)\}")
_PARAMETER = re.compile(r"query\.[A-Za-z0-9_.~-]{1,64}")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")


def _pattern(value: str) -> str:
    if value.count("*") > 1:
        raise malformed("text with one `*` at most, which stands for anything")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
Values = Pattern | Annotated[tuple[Pattern, ...], Field(min_length=1)]
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$")]
Host = Annotated[
    str, Field(pattern=r"^(\*\.)?([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$|^\[[0-9a-f:.]+\]$", max_length=253)
]


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
    hosts: tuple[Host, ...] = ()
    """Those it is asked for at: `[api.example.com, "*.shop.example.com"]`; by default any."""
    headers: dict[HeaderName, Values] = Field(default_factory=dict)
    """What headers have to be, all of them: `{x-client: [ios, "ios/*"]}`; one `*` in a value stands for anything."""
    query: dict[str, Values] = Field(default_factory=dict)
    """What parameters have to be: `{v: "2"}`."""
    cookies: dict[str, Values] = Field(default_factory=dict)
    """What cookies have to be."""
    when: Annotated[Expression, Over(*REQUEST, "caller", "body")] | None = None
    """And what else: over `method`, `path`, `host`, `headers`, `query`, `cookies`, `caller` and `body` (JSON)."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Which of two routes goes first that say as much: the larger."""
    service: str | None = None
    """The name of the service that it leads to."""
    rewrite: str | None = None
    """The service's path, and perhaps its query: `/users/{rest}`, `/users?q={query.term}`. By default as sent."""
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
    validate: Literal["request", "both", "off"] = "off"  # type: ignore[assignment]  # which pydantic once had, too
    """Whether requests, or answers as well, are held to the service's OpenAPI document."""
    cache: bool = False
    """Whether answers are kept and given out again, as they say themselves in `Cache-Control` (RFC 9111)."""
    firewall: Literal["off", "detect", "block"] | None = None
    """By default what `firewall.mode` says."""

    def problems(self) -> Iterable[Complaint]:
        if complaint := fault(self.path):
            yield ("path",), complaint
        elif self.rewrite is not None:
            for complaint in _rewrite_faults(self.rewrite, template(self.path).names):
                yield ("rewrite",), complaint


def _rewrite_faults(rewrite: str, captured: Sequence[str]) -> Iterable[str]:
    path, _, query = rewrite.partition("?")
    inside, beside = (_NAMES.sub("", each).replace("/", "") for each in (path, query))
    if not path.startswith("/") or not LITERAL.fullmatch(inside) or not _QUERY.fullmatch(beside):
        yield "must be a path such as /users/{rest}, percent-encoded, perhaps with a query: /users?id={id}"
    for name in _NAMES.findall(path):
        if name.startswith("query."):
            yield f"uses {{{name}}} in its path: what a client's parameters say can only be in the query"
        elif name not in captured:
            yield f"uses {{{name}}}, which `path` does not capture"
    for name in _NAMES.findall(query):
        if name not in captured and not _PARAMETER.fullmatch(name):
            yield f"uses {{{name}}}, which is neither what `path` captures nor a parameter such as {{query.term}}"


def _conditions(settings: RouteSettings) -> Iterable[Condition]:
    places: tuple[tuple[Literal["headers", "query", "cookies"], Mapping[str, Values]], ...] = (
        ("headers", {name.lower(): values for name, values in settings.headers.items()}),
        ("query", settings.query),
        ("cookies", settings.cookies),
    )
    for where, wanted in places:
        for name, values in wanted.items():
            yield Condition(where, name, (values,) if isinstance(values, str) else values)


def route(settings: RouteSettings) -> Route:
    return Route(
        name=settings.name,
        path=settings.path,
        methods=None if settings.methods is None else frozenset(settings.methods),
        hosts=settings.hosts,
        conditions=tuple(_conditions(settings)),
        when=settings.when,
        priority=settings.priority,
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
        validate=settings.validate,
        cache=settings.cache,
        firewall=settings.firewall,
    )
