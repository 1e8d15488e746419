"""bff.yaml: the root of the settings tree, and how a file becomes one."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bff.core import loading
from bff.core.cpus import cpus
from bff.core.entitlements import Entitlements, Entry, Tables
from bff.core.expressions import Expression, Over
from bff.core.loading import ConfigError, DefaultsFrom, Loaded, did_you_mean
from bff.core.route import Front, Route
from bff.core.settings import Complaint, Duration, Key, Network, Secret, Settings, Size
from bff.core.shelf import CacheSettings
from bff.core.store import StoreSettings, StoreUrl, store_settings
from bff.edge.compression import Coding
from bff.edge.cors import CorsSettings
from bff.edge.credentials import AuthSettings
from bff.edge.firewall import FirewallSettings
from bff.edge.forwarded import Spoken
from bff.edge.limits import LimitSettings, TierSettings
from bff.edge.observe import ObservabilitySettings
from bff.edge.overload import OverloadSettings
from bff.edge.routing import clashes, route
from bff.graphql import UNIT, GraphQLSettings
from bff.graphql.aggregates import Aggregate, aggregates
from bff.graphql.trusted import DocumentsError, Trusted
from bff.graphql.trusted import read as read_trusted
from bff.rest.openapi import OpenApiSettings
from bff.rest.settings import RestRouteSettings
from bff.server import ConnectionSettings, TlsSettings
from bff.upstream import ServiceSettings

__all__ = ["PROFILES", "Config", "ConfigError", "Loaded", "json_schema", "load", "needs_restart", "read", "traced"]

# What a process reads once: its ports, the connections at them, and its log.
_FOR_THE_PROCESS = (
    *(f"server.{each}" for each in ("host", "port", "workers", "tls", "http2", "drain", "reload")),
    *(f"server.{each}" for each in ConnectionSettings.model_fields),
    "admin.host",
    "admin.port",
    "graphql.limits.size",
    "graphql.subscriptions.heartbeat",
    "graphql.subscriptions.send_timeout",
    "observability.logs",
)

JWKS_PATH = "/.well-known/jwks.json"

# What nobody has to say. The defaults of the settings are those of production; here is what differs from them.
PROFILES: Mapping[str, Mapping[str, Any]] = {
    "production": {"observability": {"traces": {"sample": 0.01}}},
    "development": {
        "graphql": {"get": True, "ide": True, "introspection": True, "batching": {"max_operations": 5}},
        "openapi": {"enabled": True},
        "observability": {"requests": {"sample": 1.0, "explain": True}},
    },
}


class DrainSettings(Settings):
    delay: Duration = 0.0
    """How long `/readyz` says no before the port is closed, while load balancers notice."""
    timeout: Duration = 20.0
    """How long requests under way may take to end."""


class ServerSettings(ConnectionSettings):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = 1
    """Processes that take clients at this port; `auto`: as many as there are CPUs to use."""
    tls: TlsSettings | None = None
    """Without it, plain HTTP: for a load balancer in front."""
    http2: bool = False
    """Whether clients may choose HTTP/2 in their handshake; websockets stay on HTTP/1.1."""
    trusted_proxies: tuple[Network, ...] = ()
    """Where load balancers and the like call from: what they say of the client is believed, and nobody else's word."""
    proxy_headers: Spoken = "x-forwarded"
    """Which headers they write: X-Forwarded-For and -Proto, or `forwarded` (RFC 7239)."""
    max_body: Size = 2 * 1024 * 1024
    """Of any request; a route may allow less."""
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Requests that wait for their answer at a time; one more is refused with 503."""
    overload: OverloadSettings = OverloadSettings()
    """How that bound falls while the gateway cannot answer so many in time: `overload: {mode: measure}`."""
    compression: tuple[Coding, ...] = ()
    """What answers may be compressed by, the favourite first: `[zstd, br, gzip]`. By default none is."""
    cors: CorsSettings | None = None
    """Whose pages may read answers; without it, those of the gateway's own origin."""
    drain: DrainSettings = DrainSettings()
    """What happens at SIGTERM."""
    reload: Annotated[Duration, Field(ge=0.1)] | Literal["off"] = 2.0
    """How often this file, and those that it names, are looked at; what changed counts from then on."""

    def problems(self) -> Iterable[Complaint]:
        if self.workers != 1 and not hasattr(signal, "sigtimedwait"):
            yield ("workers",), "has to be 1 on this system, which cannot wait for signals; Linux can"
        if self.http2 and self.tls is None:
            yield ("http2",), "needs `tls`: clients choose HTTP/2 in its handshake"

    @property
    def processes(self) -> int:
        """How many workers that is."""
        return cpus() if self.workers == "auto" else self.workers

    @property
    def protocols(self) -> tuple[str, ...]:
        """What is spoken, best first, as ALPN names it."""
        return ("h2", "http/1.1") if self.http2 else ("http/1.1",)


class AdminSettings(Settings):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9000
    token: Secret | None = None
    """What the console and `/-/...` ask for, as `Authorization: Bearer`; without one, this machine alone may read, and
    nobody may change anything."""
    max_viewers: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many may look at the console at a time."""


class Config(Settings):
    """The gateway's configuration: only `services` is required."""

    server: ServerSettings = ServerSettings()
    """Where clients connect, and the bounds of every request: `server: {port: 8080}`."""
    admin: AdminSettings = AdminSettings()
    """Where operators connect, for `/console`, `/healthz`, `/readyz` and `/metrics`: `admin: {port: 9000}`."""
    auth: AuthSettings = AuthSettings()
    """Which credentials are taken: `auth: {api_keys: [{consumer: acme, hash: "sha256:..."}]}`."""
    tiers: dict[str, TierSettings] = Field(default_factory=dict)
    """What callers may spend: `tiers: {default: {rate: [600/minute]}}`. A tier that is not named has no limit."""
    entitlements: dict[str, tuple[Entry, ...]] = Field(default_factory=dict)
    """What partners may use: `entitlements: {basic: ["Product.*", "!Product.stock", "GET /api/products/**"]}`."""
    limits: LimitSettings = LimitSettings()
    """Whether limits hold, and what one address may ask for: `limits: {mode: measure}`."""
    store: StoreUrl | StoreSettings = StoreUrl("memory://")
    """Where accounts are kept: `store: redis://valkey.internal`, for all gateways that name the same."""
    cache: CacheSettings = CacheSettings()
    """How much is kept of answers: `cache: {max_size: 64MB}`. Routes say whether, by `cache: true`."""
    firewall: FirewallSettings = FirewallSettings()
    """What is looked for in requests, and whether it is refused: `firewall: {mode: detect}`."""
    policies: dict[str, Annotated[Expression, Over("caller")]] = Field(default_factory=dict)
    """Rules over the caller, for `@policy` and for routes: `policies: {gold: "caller.tier == 'gold'"}`."""
    services: Annotated[dict[str, ServiceSettings], DefaultsFrom("service")]
    """The services behind the gateway, by name: `services: {users: {url: "http://users.internal"}}`."""
    routes: Annotated[tuple[RestRouteSettings, ...], DefaultsFrom("route")] = ()
    """REST: `routes: [{name: users, path: "/api/users/{rest*}", service: users, rewrite: "/users/{rest}"}]`."""
    openapi: OpenApiSettings = OpenApiSettings()
    """The description of these routes, for programs and people: `openapi: {enabled: true, title: Shop}`."""
    graphql: GraphQLSettings = GraphQLSettings()
    """The GraphQL endpoint: `graphql: {introspection: false}`."""
    observability: ObservabilitySettings = ObservabilitySettings()
    """What is logged, traced and measured: `observability: {logs: {level: debug}}`."""

    def problems(self) -> Iterable[Complaint]:
        yield from self._clashes()
        yield from self._told_twice()
        for tier, spending in self.tiers.items():
            yield from self._names(("tiers", tier), None, spending.entitlements)
        for index, key in enumerate(self.auth.api_keys):
            yield from self._names(("auth", "api_keys", index), key.tier, key.entitlements)
        for index, each in enumerate(self.auth.client_certificates):
            yield from self._names(("auth", "client_certificates", index), each.tier, each.entitlements)
        if self.auth.client_certificates and (self.server.tls is None or self.server.tls.client_ca is None):
            yield ("auth", "client_certificates"), "needs `server.tls.client_ca`: whose certificates are believed"

    def _told_twice(self) -> Iterable[Complaint]:
        """Credentials that a route sets for a service which the gateway gives one already."""
        for index, each in enumerate(self.routes):
            service = self.services.get(each.service or "")
            if service and (service.forward_credentials or service.identity == "signed"):
                for key in each.request.headers.credentials():
                    why = f"services.{each.service} is sent one already: its `identity` is signed, or it is forwarded"
                    yield ("routes", index, "request", "headers", *key), why

    def _clashes(self) -> Iterable[Complaint]:
        """Routes that lead nowhere, or that could take each other's requests."""
        names: dict[str, int] = {}
        for index, each in enumerate(self.routes):
            if each.service is not None and each.service not in self.services:
                hint = did_you_mean(each.service, self.services)
                yield ("routes", index, "service"), f"there is no service `{each.service}`{hint}"
            elif each.service is not None and each.validate != "off" and not self.services[each.service].openapi:
                yield ("routes", index, "validate"), f"needs the service's document: services.{each.service}.openapi"
            for at, name in enumerate(each.policies):
                if name not in self.policies:
                    hint = did_you_mean(name, self.policies)
                    yield ("routes", index, "policies", at), f"there is no policy `{name}` in `policies`{hint}"
            if names.setdefault(each.name, index) != index:
                yield ("routes", index, "name"), f"routes[{names[each.name]}] has the same name"
        if not any(any(each.problems()) for each in self.routes):
            yield from self._clashes_of_all()

    def _clashes_of_all(self) -> Iterable[Complaint]:
        """Among what is written in the file and in the trusted documents."""
        try:
            routes = self.all_routes()
        except DocumentsError:
            return  # said where they are compiled
        taken = {each.name for each in routes if each.front is not Front.AGGREGATE}
        for aggregate in self.aggregates:
            if aggregate.name in taken:
                yield ("graphql", "documents", "path"), f"{aggregate.where}: a route has this name already"
        for complaint in clashes(routes):
            yield ("routes",), complaint

    def _names(self, where: tuple[Key, ...], tier: str | None, table: str | None) -> Iterable[Complaint]:
        """Of tiers and tables that there are not."""
        if tier not in {None, *self.tiers, "default"}:
            yield (*where, "tier"), f"there is no tier {tier!r}{did_you_mean(tier or '', self.tiers)}"
        if table not in {None, *self.entitlements}:
            hint = did_you_mean(table or "", self.entitlements)
            yield (*where, "entitlements"), f"there is no table {table!r} in `entitlements`{hint}"

    def doubts(self) -> Iterable[str]:
        """What can be meant, and probably is not."""
        for tier, spending in self.tiers.items():
            windows = spending.windows()
            if not windows or self.limits.mode == "off":
                continue
            least = min(windows, key=lambda each: each.amount)
            most = -(-self.graphql.limits.cost // UNIT)
            if least.amount < most:
                yield (
                    f"tiers.{tier}: {least} is less than what one operation may cost, {most} units by "
                    "graphql.limits.cost: whoever asks for as much is always refused"
                )
            for each in self.routes:
                cost = route(each).cost
                if least.amount < cost:
                    yield f"tiers.{tier}: {least} is less than what route {each.name} costs, {cost} units"

    def tables(self) -> Tables:
        """Who is entitled to what."""
        return Tables(
            {name: Entitlements(entries) for name, entries in self.entitlements.items()},
            {name: tier.entitlements for name, tier in self.tiers.items() if tier.entitlements},
        )

    def all_routes(self) -> list[Route]:
        """Every route with its defaults applied, the GraphQL endpoint among them."""
        graphql = Route(
            "graphql",
            self.graphql.path,
            Front.GRAPHQL,
            public=True,  # what is not public is judged field by field
            max_body=self.graphql.limits.size,
            timeout=self.graphql.timeout,
        )
        assets = Route(
            "graphql.assets",
            f"{self.graphql.path.rstrip('/')}/assets/{{asset}}",
            Front.GRAPHQL,
            methods=frozenset({"GET"}),
            public=True,
            cost=0,
        )
        own = [assets] if self.graphql.ide else []
        by_id = replace(graphql, path=f"{graphql.path.rstrip('/')}/{{id}}")
        return [graphql, by_id, *own, *self._documents(), *(route(each) for each in self.routes), *self._aggregates()]

    @cached_property
    def trusted(self) -> tuple[Trusted, ...]:
        """The trusted documents, as they were when they were first asked for.

        Raises:
            DocumentsError: they cannot be read.
        """
        path = self.graphql.documents.path
        return read_trusted(path) if path else ()

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """Those trusted documents that are REST endpoints.

        Raises:
            DocumentsError: one makes no sense.
        """
        return aggregates(self.trusted)

    def _aggregates(self) -> Iterable[Route]:
        return (each.route(self.graphql.limits.size, self.graphql.timeout) for each in self.aggregates)

    def _documents(self) -> Iterable[Route]:
        if path := self.auth.metadata_path:
            yield Route("protected-resource", path, Front.OWN, methods=frozenset({"GET"}), public=True, cost=0)
        if self.signs:
            yield Route("jwks", JWKS_PATH, Front.OWN, methods=frozenset({"GET"}), public=True, cost=0)
        if self.openapi.enabled:
            document = Route(
                "openapi", self.openapi.path, Front.OWN, methods=frozenset({"GET"}), public=self.openapi.public, cost=0
            )
            yield document
            if page := self.openapi.page:
                yield replace(document, name="docs", path=page, public=True)
                yield replace(document, name="docs.assets", path=f"{page}/assets/{{asset}}", public=True)

    def files(self) -> list[Path]:
        """What is read besides the configuration itself when the gateway is built, and not followed on its own."""
        files = [self.graphql.documents.path, *(each.openapi for each in self.services.values())]
        return [each for each in (*files, *store_settings(self.store).files) if each]

    @property
    def signs(self) -> bool:
        """Whether some service is told who asks by a token of the gateway's."""
        return any(each.identity == "signed" for each in self.services.values())


def load(
    text: str,
    *,
    source: str = "bff.yaml",
    profile: str = "production",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    directory: Path = Path(),
) -> Config:
    """The configuration from a file's text; see `traced`.

        load("services: {users: {url: 'http://users.internal'}}", environ={"BFF__SERVICES__USERS__TIMEOUT": "3s"})

    Args:
        text: YAML 1.2.
        source: what errors call the file.
        profile: `production` or `development`.
        environ: the variables, for `${VAR}` and `BFF__SECTION__KEY`.
        overrides: values from the command line, nested as in the file.
        directory: what relative paths of `{file: path}` start from.

    Raises:
        ConfigError: with every problem that there is.
    """
    return _loaded(text, source, profile, environ, overrides, directory).config


def read(
    path: Path,
    *,
    profile: str = "production",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    files: list[Path] | None = None,
) -> Config:
    """The configuration from a file; see `traced`. To `files` is added what is read for it, also if it is no good."""
    return traced(path, profile=profile, environ=environ, overrides=overrides, files=files).config


def traced(
    path: Path,
    *,
    profile: str = "production",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    files: list[Path] | None = None,
) -> Loaded[Config]:
    """The configuration from a file, with where each value came from.

    The profile's defaults lie below the file, the file below `BFF__SECTION__KEY`, and all below `overrides`. Of a list
    or a mapping, one entry can be overridden: `BFF__ROUTES__0__COST=3`, `BFF__SERVICES__USERS__TIMEOUT=3s`.

    Raises:
        ConfigError: with every problem that there is.
    """
    files = [] if files is None else files
    files.append(path)
    return _loaded(loading.read_text(path), str(path), profile, environ, overrides, path.parent, files)


def needs_restart(key: str) -> bool:
    """Whether a key counts wholly only from the next start on; all others do as soon as they are read."""
    return any(key == each or key.startswith(f"{each}.") for each in _FOR_THE_PROCESS)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of bff.yaml, for editors."""
    return loading.json_schema(Config)


def _loaded(
    text: str,
    source: str,
    profile: str,
    environ: Mapping[str, str] | None,
    overrides: Mapping[str, Any] | None,
    directory: Path,
    files: list[Path] | None = None,
) -> Loaded[Config]:
    if profile not in PROFILES:
        raise ConfigError.of("profile", f"must be {' or '.join(PROFILES)}, not {profile!r}")

    def secret(named: Path) -> str:
        if files is not None:
            files.append(named)
        return loading.read_secret(named)

    return loading.load(
        Config,
        text,
        source=source,
        profile=PROFILES[profile],
        environ=environ,
        overrides=overrides,
        directory=directory,
        read=secret,
    )
