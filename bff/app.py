"""The composition root: a Config in, an ASGI app out. Nothing else builds anything."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from random import Random

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from graphql import print_schema
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Lifespan

from bff import edge
from bff.assembly import Assembly
from bff.config import Config
from bff.console import admin, configuration, drain, keys, limits, live, purges, requests, traffic, upstreams
from bff.console.logs import logs
from bff.console.usage import usage
from bff.core.parts import Parts
from bff.core.registry import Draft
from bff.core.route import Front
from bff.core.telemetry import Telemetry, standard
from bff.fronts import Fronts, Gateway
from bff.graphql.ide import Example, Ide
from bff.graphql.weights import scopes_in
from bff.rest.openapi.page import Page
from bff.rest.own import Own
from bff.rest.wellknown import WellKnown
from bff.upstream.deployments import DeploymentMetrics
from bff.upstream.names import Resolve
from bff.upstream.names import resolve as system_resolve

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
    made = Assembly(
        config=config,
        telemetry=replace(telemetry, registry=draft),
        random=random or Random(secrets.randbits(128)),  # noqa: S311 - neither ids nor waits are secrets
        parts=Parts(before.state.parts if before else None),
        network=network,
        resolve=resolve,
    )
    try:
        app = _app(made, example, origin or {}, pages, telemetry if ours else None)
    except BaseException:
        made.parts.discard()
        draft.discard()
        raise
    draft.settle()
    return app


def _app(
    made: Assembly,
    example: Example | None,
    origin: Mapping[str, str],
    pages: Iterable[APIRouter],
    ends: Telemetry | None,
) -> Gateway:
    config = made.config
    fronts = Middleware(
        Fronts, fronts=_fronts(made, example), services=config.services.values(), count=made.usage.count
    )
    app = Gateway(
        [*_layers(made), fronts],
        title="Gateway",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=_QUIET,
        lifespan=_lifespan(made.parts, ends),
    )
    app.state.parts = made.parts
    app.state.tls, app.state.services, app.state.store = made.tls, made.services, made.store
    app.state.credentials, app.state.accounts = made.credentials, made.accounts
    app.state.execution, app.state.cache, app.state.shelf = made.execution, made.cache, made.shelf
    app.state.readiness, app.state.requests = made.readiness, made.requests
    app.state.under_way = made.under_way
    app.state.drain = partial(_drain, made)
    app.state.admin = _admin(made, origin, pages)
    app.middleware_stack = app.build_middleware_stack()  # now, since layers may refuse their settings
    return app


async def _drain(made: Assembly) -> None:
    """Begin nothing that lasts any more, and end what does."""
    await asyncio.gather(made.graphql.drain(), made.rest.drain())


def _layers(made: Assembly) -> list[Middleware]:
    config = made.config
    return edge.layers(
        trusted_proxies=config.server.trusted_proxies,
        proxy_headers=config.server.proxy_headers,
        compression=config.server.compression,
        cors=config.server.cors,
        max_headers=config.server.max_headers,
        max_body=config.server.max_body,
        routes=config.all_routes(),
        described=made.methods.of,
        auth=config.auth,
        credentials=made.credentials,
        policies=made.policies,
        tables=config.tables(),
        limits=config.limits,
        load=made.load,
        accounts=made.accounts,
        addresses=made.limiter("addresses"),
        firewall=config.firewall,
        observability=config.observability,
        telemetry=made.telemetry,
        requests=made.requests,
        under_way=made.under_way,
        random=made.random,
    )


def _fronts(made: Assembly, example: Example | None) -> dict[Front, ASGIApp]:
    config = made.config
    return {
        Front.GRAPHQL: Ide(made.graphql, config.graphql.path, example) if config.graphql.ide else made.graphql,
        Front.REST: made.rest,
        Front.AGGREGATE: made.aggregates,
        Front.OWN: Own(_own(made)),
    }


def _own(made: Assembly) -> dict[str, ASGIApp]:
    """What the gateway says of itself, by the names of its routes."""
    config, apps = made.config, dict[str, ASGIApp]()
    if (auth := config.auth).metadata_path:
        scopes = scopes_in(made.execution.schema)
        scopes = scopes.union(*(each.read_scopes | each.write_scopes for each in config.all_routes()))
        apps["protected-resource"] = WellKnown(
            {
                "resource": auth.resource,
                "resource_name": auth.realm,
                "authorization_servers": sorted(auth.issuers),
                "scopes_supported": sorted(scopes),
                "bearer_methods_supported": ["header"],
            }
        )
    if made.signer:
        apps["jwks"] = WellKnown(made.signer.jwks)
    if (openapi := config.openapi).enabled:
        apps["openapi"] = made.openapi
        if openapi.page:
            apps["docs"] = apps["docs.assets"] = Page(openapi.page, openapi.path, openapi.title)
    return apps


def _admin(made: Assembly, origin: Mapping[str, str], pages: Iterable[APIRouter]) -> FastAPI:
    """What operators see and change, each topic by a router of its own."""
    config, telemetry = made.config, made.telemetry
    viewers, shelf = config.admin.max_viewers, made.shelf
    kept = shelf.kept if shelf is not None else lambda: None
    DeploymentMetrics([each.deployments for each in made.services.values() if each.deployments], telemetry.registry)
    return admin(
        telemetry,
        made.readiness,
        [
            live(telemetry.traffic, made.services, made.accounts, made.requests, made.readiness, kept, most=viewers),
            traffic(telemetry.traffic),
            requests(made.requests),
            usage(made.usage),
            purges(made.purge),
            limits(made.accounts),
            upstreams(made.services, telemetry),
            keys(made.credentials),
            drain(made.readiness, telemetry),
            configuration(config, origin, lambda: print_schema(made.execution.schema)),
            logs(telemetry),
            *pages,
        ],
        token=config.admin.token,
        metrics=config.observability.metrics.prometheus,
    )


def _lifespan(parts: Parts, telemetry: Telemetry | None) -> Lifespan[FastAPI]:
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
