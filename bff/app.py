"""The composition root: a Config in, an ASGI app out. Nothing else builds anything."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from random import Random
from types import ModuleType
from typing import Any

import httpx
import strawberry
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from graphql import GraphQLSchema, print_schema
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from bff import edge
from bff.config import Config, ConfigError
from bff.console import Readiness, admin, configuration, drain, keys, limits, live, purges, requests, traffic, upstreams
from bff.console.logs import logs
from bff.core.asked import Asked
from bff.core.certificates import Observed
from bff.core.deadline import REQUEST_TIMEOUT, seconds_asked
from bff.core.head import head
from bff.core.policies import Policies
from bff.core.requests import Requests
from bff.core.route import Front
from bff.core.store import SharedLedger, SharedStore, store_settings
from bff.core.telemetry import JsonLog, Telemetry, otlp, tracer_provider
from bff.edge.credentials import Credentials
from bff.edge.limits import Accounts
from bff.edge.overload import Load
from bff.graphql import defer
from bff.graphql.aggregates.description import Described, described
from bff.graphql.aggregates.endpoint import Aggregates
from bff.graphql.compose import compose
from bff.graphql.documents import Documents
from bff.graphql.execution import Execution
from bff.graphql.front import GraphQL
from bff.graphql.ide import Example, Ide
from bff.graphql.views import UnknownCoordinate
from bff.graphql.weights import scopes_in
from bff.rest.cache import HttpCache
from bff.rest.openapi import OpenApi
from bff.rest.openapi.contract import Contract
from bff.rest.openapi.contract import read as contract
from bff.rest.openapi.document import Description, Methods, describe
from bff.rest.openapi.page import Page
from bff.rest.own import Own
from bff.rest.routes import rest
from bff.rest.validation import Validation
from bff.rest.wellknown import WellKnown
from bff.server import Tls
from bff.upstream import Measures, Origin, Service, connect
from bff.upstream.deployments import DeploymentMetrics
from bff.upstream.identity import Signer
from bff.upstream.names import Resolve
from bff.upstream.names import resolve as system_resolve
from bff.upstream.observe import Observe
from bff.upstream.tls import ServiceTls
from bff.upstream.transport import ConnectionSettings, Transport

CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
"""What of a request goes on to services that ask for it."""

# Lines written together cost a tenth; nobody who reads a log misses a tenth of a second.
_LINES_KEPT_FOR = 0.1

# Every request has been observed by the edge already, GraphQL and REST alike.
_QUIET: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def build(
    config: Config,
    *,
    network: httpx.AsyncBaseTransport | None = None,
    resolve: Resolve = system_resolve,
    telemetry: Telemetry | None = None,
    random: Random | None = None,
    example: Example | None = None,
    origin: Mapping[str, str] | None = None,
) -> Gateway:
    """The gateway's app. `app.state.admin` is the one for the admin port; `await app.state.drain()` ends what lasts.

    Args:
        config: as `bff.config.read` gives it.
        network: what carries calls to services and identity providers; by default connections of our own.
        resolve: where names of services lead, for these connections.
        telemetry: where logs, metrics and spans go.
        random: where ids and waits come from.
        example: what GraphiQL begins with.
        origin: where each value of the configuration came from, as `bff.config.traced` says it.

    Raises:
        SchemaError: the modules in schema/ do not fit together, or trusted documents do not fit them.
        ConfigError: a file that the configuration names cannot be used.
    """
    telemetry = telemetry or _telemetry(config)
    random = random or Random(secrets.randbits(128))  # noqa: S311 - neither ids nor waits are secrets
    certificates = Observed(telemetry)
    tls = Tls(config.server.tls, config.server.protocols, certificates, telemetry) if config.server.tls else None
    measures = Measures(telemetry)
    signer = Signer(config.auth.signing) if config.signs else None
    secured = {name: ServiceTls(name, each.tls, certificates) for name, each in config.services.items() if each.tls}
    services = {
        name: connect(name, settings, measures, telemetry, random, signer, network, secured.get(name), resolve)
        for name, settings in config.services.items()
    }
    DeploymentMetrics([each.deployments for each in services.values() if each.deployments], telemetry.registry)
    # Calls to identity providers are counted like those to services.
    wire = Observe(network or Transport(ConnectionSettings()), "identity", measures.attempts, telemetry)
    credentials = Credentials(config.auth, wire, tiers=frozenset(config.tiers), telemetry=telemetry)
    checks = {name: each.health for name, each in services.items() if each.health}
    readiness = Readiness({name: each for name, each in checks.items() if config.services[name].required})
    policies = Policies(config.policies)
    execution = _execution(config, services, policies, telemetry, random)
    pages = config.server.cors.origins if config.server.cors else ()
    kept = Requests(config.observability.requests, random)
    graphql = GraphQL(execution, config.graphql, pages, credentials, telemetry, random, kept)
    contracts = {name: contract(name, each.openapi) for name, each in config.services.items() if each.openapi}
    has_cookies = credentials.cookie is not None
    aggregates = Aggregates(config.aggregates, execution, config.graphql.limits.cost, policies, cookies=has_cookies)
    pages_of = {name: described(each, execution.schema) for name, each in aggregates.endpoints.items()}
    description = _description(config, contracts, pages_of)
    validations = {
        name: Validation(each, telemetry.log)
        for name, each in contracts.items()
        if any(route.service == name and route.validate != "off" for route in config.routes)
    }
    caching = any(each.cache for each in config.routes)
    cache = HttpCache(config.cache, services.values(), telemetry) if caching else None
    fronts: Mapping[Front, ASGIApp] = {
        Front.GRAPHQL: Ide(graphql, config.graphql.path, example) if config.graphql.ide else graphql,
        Front.REST: rest(config.routes, services, validations, cache),
        Front.AGGREGATE: aggregates,
        Front.OWN: Own(_own(config, execution.schema, signer, description)),
    }

    store = _store(config, telemetry, random)
    routes = config.all_routes()
    accounts = Accounts(config.limits, config.tiers, routes, telemetry, SharedLedger(store) if store else None)
    priorities = {name: tier.priority for name, tier in config.tiers.items()}
    load = Load(config.server.overload, config.server.max_in_flight, priorities, telemetry, random)
    layers = edge.layers(
        trusted_proxies=config.server.trusted_proxies,
        proxy_headers=config.server.proxy_headers,
        compression=config.server.compression,
        cors=config.server.cors,
        max_headers=config.server.max_headers,
        max_body=config.server.max_body,
        routes=routes,
        described=Methods(description.entries).of,
        auth=config.auth,
        credentials=credentials,
        policies=policies,
        tables=config.tables(),
        limits=config.limits,
        load=load,
        accounts=accounts,
        firewall=config.firewall,
        observability=config.observability,
        telemetry=telemetry,
        requests=kept,
        random=random,
    )
    app = Gateway(
        [*layers, Middleware(Fronts, fronts=fronts, forwards=_forwards(config), balances=_balances(config))],
        title="Gateway",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=_QUIET,
        lifespan=_lifespan(
            telemetry,
            [*([store.open] if store else []), credentials.warm],
            [
                credentials.follow,
                *(each.follow for each in checks.values()),
                *([tls.follow] if tls else []),
                *(each.files.follow for each in secured.values()),
            ],
            [
                *([store.close] if store else []),
                *([cache.close] if cache else []),
                credentials.close,
                wire.aclose,
                *(each.close for each in services.values()),
            ],
        ),
    )
    app.state.services = services
    app.state.readiness = readiness
    app.state.requests = kept
    app.state.execution = execution
    app.state.accounts = accounts
    app.state.cache = cache
    app.state.store = store
    app.state.credentials = credentials
    app.state.drain = graphql.drain
    app.state.log = telemetry.log
    app.state.tls = tls
    app.state.admin = admin(
        telemetry,
        readiness,
        [
            live(telemetry.traffic, services, accounts, kept, readiness, most=config.admin.max_viewers),
            traffic(telemetry.traffic),
            requests(kept),
            purges(cache.purge if cache else None),
            limits(accounts),
            upstreams(services, telemetry),
            keys(credentials),
            drain(readiness, telemetry),
            configuration(config, origin or {}, lambda: print_schema(execution.schema)),
            logs(telemetry),
        ],
        token=config.admin.token,
        metrics=config.observability.metrics.prometheus,
    )
    return app


def _store(config: Config, telemetry: Telemetry, random: Random) -> SharedStore | None:
    """Where there is one that others share."""
    settings = store_settings(config.store)
    if settings.url.is_memory:
        return None
    try:
        return SharedStore(settings, telemetry, random=random)
    except OSError as error:
        raise ConfigError.of("store", f"a file for TLS cannot be used: {error.strerror or error}") from error


def _execution(
    config: Config, services: Mapping[str, Service], policies: Policies, telemetry: Telemetry, random: Random
) -> Execution:
    """Of GraphQL: the schema, what is known of documents, and the views of callers with entitlements."""
    schema = schema_of(config)._schema  # noqa: SLF001
    if config.graphql.defer:
        defer.allow(schema)
    max_batch = {name: each.max_batch for name, each in config.services.items()}
    documents = Documents(schema, config.graphql, telemetry, config.trusted, max_batch=max_batch, policies=policies)
    execution = Execution(schema, documents, services, config.graphql, telemetry, random)
    try:
        execution.add_views(config.tables())
    except UnknownCoordinate as error:
        raise ConfigError.of("entitlements", str(error)) from error
    return execution


def _forwards(config: Config) -> bool:
    return any(each.forward_credentials for each in config.services.values())


def _balances(config: Config) -> bool:
    return any(each.targets for each in config.services.values())


def _own(config: Config, schema: GraphQLSchema, signer: Signer | None, description: Description) -> dict[str, ASGIApp]:
    """What the gateway says of itself, by the names of its routes."""
    auth, apps = config.auth, dict[str, ASGIApp]()
    if auth.metadata_path:
        scopes = scopes_in(schema).union(*(each.read_scopes | each.write_scopes for each in config.all_routes()))
        apps["protected-resource"] = WellKnown(
            {
                "resource": auth.resource,
                "resource_name": auth.realm,
                "authorization_servers": sorted(auth.issuers),
                "scopes_supported": sorted(scopes),
                "bearer_methods_supported": ["header"],
            }
        )
    if signer:
        apps["jwks"] = WellKnown(signer.jwks)
    if (openapi := config.openapi).enabled:
        apps["openapi"] = OpenApi(description, config.tables())
        if openapi.page:
            apps["docs"] = apps["docs.assets"] = Page(openapi.page, openapi.path, openapi.title)
    return apps


def _description(config: Config, contracts: Mapping[str, Contract], aggregates: Mapping[str, Described]) -> Description:
    return describe(
        config.all_routes(),
        contracts,
        config.auth.schemes,
        config.limits.answered,
        remade={each.name for each in config.routes if each.request.remakes or each.response.remakes},
        aggregates=aggregates,
        title=config.openapi.title,
        version=config.openapi.version,
    )


def _lifespan(
    telemetry: Telemetry,
    opens: Iterable[Callable[[], Awaitable[None]]],
    follows: Iterable[Callable[[], Coroutine[Any, Any, None]]],
    closes: Iterable[Callable[[], Awaitable[None]]],
) -> Lifespan[FastAPI]:
    """Keys and certificates are followed; at the end, all that is open is closed and what was recorded is sent."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = [asyncio.create_task(follow()) for follow in follows]
        for opened in opens:
            await opened()
        yield
        for each in following:
            each.cancel()
        for close in closes:
            await close()
        telemetry.spans.shutdown()
        telemetry.log.flush()

    return lifespan


def _telemetry(config: Config) -> Telemetry:
    log = JsonLog(sys.stdout.buffer, config.observability.logs.level, hold=_LINES_KEPT_FOR)
    return Telemetry(log=log, spans=tracer_provider(*otlp(os.environ)))


class Gateway(FastAPI):
    """The framework's app below our layers instead of around them: what they answer never crosses its own."""

    def __init__(self, layers: Sequence[Middleware], **options: Any) -> None:
        super().__init__(**options)
        self.layers = layers

    def build_middleware_stack(self) -> ASGIApp:
        app = super().build_middleware_stack()
        for layer, arguments, options in reversed(self.layers):
            # Its method, since Python enters a method of its own without a detour, and a callable object with one.
            app = layer(app, *arguments, **options).__call__
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the framework's, less what it measures for itself."""
        if scope["type"] == "lifespan" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)


class Fronts:
    """Hands a request to the front of its route, with what services are told of it in `scope["bff.origin"]`.

    Straight, since the framework's own router would look the route up again.
    """

    def __init__(
        self, app: ASGIApp, fronts: Mapping[Front, ASGIApp], *, forwards: bool = False, balances: bool = False
    ) -> None:
        self.app = app
        self.fronts = fronts
        self.forwards = forwards
        self.balances = balances

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route = scope.get("bff.route")
        if route is None:
            return self.app(scope, receive, send)
        asked = head(scope).values.get(REQUEST_TIMEOUT)
        seconds = route.timeout if asked is None else min(route.timeout, seconds_asked(asked))
        deadline = asyncio.get_running_loop().time() + seconds
        own = tuple(each for each in scope["headers"] if each[0] in CREDENTIALS) if self.forwards else ()
        scope["bff.origin"] = Origin(
            scope["bff.caller"],
            scope["bff.trace"],
            scope["bff.request_id"],
            deadline,
            own,
            hurried=seconds < route.timeout,
            asked=Asked(scope) if self.balances else None,
            waits=scope.get("bff.waits"),
            waterfall=scope.get("bff.waterfall"),
        )
        return self.fronts[route.front](scope, receive, send)


def schema_of(config: Config) -> strawberry.Schema:
    """The schema of all configured services.

    Raises:
        SchemaError: the modules in schema/ do not fit together, or name a policy that is not configured.
    """
    return compose(schema_modules(config), Policies(config.policies))


def schema_modules(config: Config) -> list[ModuleType]:
    """schema/<name>.py of every configured service that has one; a service without is REST only."""
    return [import_module(name) for name in map("schema.{}".format, config.services) if _exists(name)]


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError as error:
        # A plain proxy has no schema/ at all, which is fine; a schema/ that cannot find what it imports is not.
        if error.name is None or not module.startswith(error.name):
            raise
        return False
