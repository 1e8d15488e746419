"""The composition root: a Config in, an ASGI app out. Nothing else builds anything."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from random import Random
from types import ModuleType

import httpx
import strawberry
from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from graphql import GraphQLSchema, print_schema
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Lifespan

from bff import edge, kept
from bff.config import Config, ConfigError
from bff.console import Readiness, admin, configuration, drain, keys, limits, live, purges, requests, traffic, upstreams
from bff.console.logs import logs
from bff.core.certificates import Observed
from bff.core.parts import Part, Parts
from bff.core.policies import Policies
from bff.core.registry import Draft
from bff.core.route import Front
from bff.core.store import SharedLedger
from bff.core.telemetry import Telemetry, standard
from bff.core.watched import contents
from bff.edge.limits import Accounts
from bff.fronts import Fronts, Gateway
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
from bff.rest.openapi import OpenApi
from bff.rest.openapi.contract import Contract
from bff.rest.openapi.document import Description, Methods, describe
from bff.rest.openapi.page import Page
from bff.rest.own import Own
from bff.rest.routes import rest
from bff.rest.wellknown import WellKnown
from bff.upstream import Measures, Service, ServiceSettings, connect
from bff.upstream.deployments import DeploymentMetrics
from bff.upstream.identity import Signer
from bff.upstream.names import Resolve
from bff.upstream.names import resolve as system_resolve
from bff.upstream.tls import ServiceTls

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
    before: Gateway | None = None,
    pages: Iterable[APIRouter] = (),
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
        before: the one that it will take the place of: what is made of the same is taken over from it.
        pages: more of the admin port.

    Raises:
        SchemaError: the modules in schema/ do not fit together, or trusted documents do not fit them.
        ConfigError: a file that the configuration names cannot be used.
    """
    ours = telemetry is None
    telemetry = telemetry or standard(config.observability.logs.level)
    draft = Draft(telemetry.registry)
    telemetry = replace(telemetry, registry=draft)
    parts = Parts(before.state.parts if before else None)
    random = random or Random(secrets.randbits(128))  # noqa: S311 - neither ids nor waits are secrets
    certificates = Observed(telemetry)
    # Of a port that is listened at, nothing changes without a restart.
    tls = parts.keep("tls", None, lambda: kept.tls(config, certificates, telemetry))
    measures = Measures(telemetry)
    signer = kept.signer(config, parts)

    def connected(name: str, settings: ServiceSettings) -> Part[Service]:
        secured = ServiceTls(name, settings.tls, certificates) if settings.tls else None
        service = connect(name, settings, measures, telemetry, random, signer, network, secured, resolve)
        follows = [*([service.health.follow] if service.health else []), *([secured.files.follow] if secured else [])]
        return Part(service, follows=follows, closes=[service.close])

    services = {
        name: parts.keep(f"service {name}", (each, signer), partial(connected, name, each))
        for name, each in config.services.items()
    }
    DeploymentMetrics([each.deployments for each in services.values() if each.deployments], telemetry.registry)
    # Calls to identity providers are counted like those to services.
    wire = parts.keep("identity", None, lambda: kept.wire(network, measures, telemetry))
    credentials = kept.credentials(config, wire, telemetry, parts)
    readiness = Readiness(
        {n: each.health for n, each in services.items() if each.health and config.services[n].required}
    )
    policies = Policies(config.policies)
    execution = _execution(config, services, policies, telemetry, random, parts)
    origins = config.server.cors.origins if config.server.cors else ()
    asked = kept.requests(config, random, parts)
    graphql = GraphQL(execution, config.graphql, origins, credentials, telemetry, random, asked)
    contracts = kept.contracts(config, parts)
    aggregates = Aggregates(
        config.aggregates,
        execution,
        config.graphql.limits.cost,
        policies,
        cookies=credentials.cookie is not None,
    )
    pages_of = {name: described(each, execution.schema) for name, each in aggregates.endpoints.items()}
    description = _description(config, contracts, pages_of)
    validations = kept.validations(config, contracts, telemetry)
    cache = kept.cache(config, services, telemetry, parts)
    fronts: Mapping[Front, ASGIApp] = {
        Front.GRAPHQL: Ide(graphql, config.graphql.path, example) if config.graphql.ide else graphql,
        Front.REST: rest(config.routes, services, validations, cache),
        Front.AGGREGATE: aggregates,
        Front.OWN: Own(_own(config, execution.schema, signer, description)),
    }

    store = kept.store(config, telemetry, random, parts)
    routes = config.all_routes()
    ledger = SharedLedger(store) if store else None
    accounts = Accounts(config.limits, config.tiers, routes, kept.limiter("accounts", config, parts), telemetry, ledger)
    load = kept.load(config, telemetry, random, parts)
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
        addresses=kept.limiter("addresses", config, parts),
        firewall=config.firewall,
        observability=config.observability,
        telemetry=telemetry,
        requests=asked,
        random=random,
    )
    app = Gateway(
        [*layers, Middleware(Fronts, fronts=fronts, services=config.services.values())],
        title="Gateway",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=_QUIET,
        lifespan=_lifespan(parts, telemetry if ours else None),
    )
    app.state.parts, app.state.services = parts, services
    app.state.readiness = readiness
    app.state.requests = asked
    app.state.execution = execution
    app.state.accounts, app.state.store, app.state.cache = accounts, store, cache
    app.state.credentials = credentials
    app.state.drain = graphql.drain
    app.state.tls = tls
    app.state.admin = admin(
        telemetry,
        readiness,
        [
            live(telemetry.traffic, services, accounts, asked, readiness, most=config.admin.max_viewers),
            traffic(telemetry.traffic),
            requests(asked),
            purges(cache.purge if cache else None),
            limits(accounts),
            upstreams(services, telemetry),
            keys(credentials),
            drain(readiness, telemetry),
            configuration(config, origin or {}, lambda: print_schema(execution.schema)),
            logs(telemetry),
            *pages,
        ],
        token=config.admin.token,
        metrics=config.observability.metrics.prometheus,
    )
    app.middleware_stack = app.build_middleware_stack()  # now, since layers may refuse their settings
    draft.settle()
    return app


def _execution(
    config: Config,
    services: Mapping[str, Service],
    policies: Policies,
    telemetry: Telemetry,
    random: Random,
    parts: Parts,
) -> Execution:
    """Of GraphQL: the schema, what is known of documents, and the views of callers with entitlements."""
    # Modules are code, which a process loads once.
    modules = [each.__name__ for each in schema_modules(config)]
    schema = parts.keep(
        "schema", (modules, config.policies, config.graphql.defer), lambda: Part(_executable_schema(config))
    )
    path = config.graphql.documents.path
    made_of = (
        schema,
        dict(services),
        config.graphql,
        config.entitlements,
        {name: tier.entitlements for name, tier in config.tiers.items()},
        contents([path] if path else []),
    )
    return parts.keep(
        "execution", made_of, lambda: Part(_executing(config, schema, services, policies, telemetry, random))
    )


def _executable_schema(config: Config) -> GraphQLSchema:
    schema = schema_of(config)._schema  # noqa: SLF001
    if config.graphql.defer:
        defer.allow(schema)
    return schema


def _executing(
    config: Config,
    schema: GraphQLSchema,
    services: Mapping[str, Service],
    policies: Policies,
    telemetry: Telemetry,
    random: Random,
) -> Execution:
    max_batch = {name: each.max_batch for name, each in config.services.items()}
    documents = Documents(schema, config.graphql, telemetry, config.trusted, max_batch=max_batch, policies=policies)
    execution = Execution(schema, documents, services, config.graphql, telemetry, random)
    try:
        execution.add_views(config.tables())
    except UnknownCoordinate as error:
        raise ConfigError.of("entitlements", str(error)) from error
    return execution


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
    parts: Parts,
    telemetry: Telemetry | None,
) -> Lifespan[FastAPI]:
    """Keys and certificates are followed; at the end, all that is open is closed and what was recorded is sent."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.begin()
        try:
            yield
        finally:
            await parts.end()
        if telemetry:
            telemetry.end()

    return lifespan


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
