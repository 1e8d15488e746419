"""The parts of one generation of the gateway: each is made when it is first asked for, of those that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import strawberry
from graphql import GraphQLSchema
from limits.strategies import RateLimiter

from bff.assembly.connections import Connections
from bff.config import Config, ConfigError
from bff.console import Readiness
from bff.core.parts import Part
from bff.core.policies import Policies
from bff.core.requests import Requests
from bff.core.store import SharedLedger
from bff.core.under_way import UnderWay
from bff.core.usage import Usage, UsageUnreadable
from bff.core.watched import contents
from bff.edge.credentials import Credentials
from bff.edge.credentials.revocations import Revocations
from bff.edge.limits import Accounts, limiter_of
from bff.edge.overload import Load
from bff.graphql import defer
from bff.graphql.aggregates.description import described
from bff.graphql.aggregates.endpoint import Aggregates
from bff.graphql.compose import compose, executable
from bff.graphql.documents import Documents
from bff.graphql.execution import Execution
from bff.graphql.front import GraphQL
from bff.graphql.views import UnknownCoordinate
from bff.graphql.weights import policies_in
from bff.rest.cache import HttpCache
from bff.rest.openapi import OpenApi
from bff.rest.openapi.contract import Contract
from bff.rest.openapi.contract import read as contract
from bff.rest.openapi.document import Description, Methods, describe, told_of
from bff.rest.proxy import Passthrough
from bff.rest.routes import rest
from bff.rest.validation import Validation


@dataclass(frozen=True, eq=False)
class Assembly(Connections):
    """The parts of one generation, by what they are."""

    @cached_property
    def readiness(self) -> Readiness:
        required = {name for name, each in self.config.services.items() if each.required}
        return Readiness(
            {name: each.health for name, each in self.services.items() if each.health and name in required}
        )

    @cached_property
    def under_way(self) -> UnderWay:
        return UnderWay()

    # The edge: who asks, and what they may spend.

    @cached_property
    def policies(self) -> Policies:
        return Policies(self.config.policies)

    @property
    def tables_by_tier(self) -> Mapping[str, str | None]:
        return {name: tier.entitlements for name, tier in self.config.tiers.items()}

    @cached_property
    def credentials(self) -> Credentials:
        auth, tiers = self.config.auth, frozenset(self.config.tiers)
        # Before credentials, which use both: parts open in this order, and end in the other.
        network, revocations = self.identity, self.revocations

        def credentials() -> Part[Credentials]:
            before = self.parts.before("credentials", Credentials)
            telemetry = self.telemetry
            made = Credentials(auth, network, tiers=tiers, telemetry=telemetry, revocations=revocations, before=before)
            return Part(made, opens=[made.begin], follows=[made.follow], closes=[made.close])

        return self.parts.keep("credentials", (auth, tiers, revocations), credentials)

    @cached_property
    def revocations(self) -> Revocations | None:
        """Where gateways share a store."""
        if (store := self.store) is None:
            return None

        def revocations() -> Part[Revocations]:
            made = Revocations(store, self.telemetry, self.parts.before("revocations", Revocations))
            return Part(made, opens=[made.begin], follows=[made.follow])

        return self.parts.keep("revocations", store, revocations)

    @cached_property
    def accounts(self) -> Accounts:
        config, ledger = self.config, SharedLedger(self.store) if self.store else None
        return Accounts(
            config.limits, config.tiers, config.all_routes(), self.limiter("accounts"), self.telemetry, ledger
        )

    def limiter(self, name: str) -> RateLimiter:
        most = self.config.limits.max_accounts
        return self.parts.keep(name, most, lambda: Part(limiter_of(most)))

    @cached_property
    def load(self) -> Load:
        server = self.config.server
        priorities = {name: tier.priority for name, tier in self.config.tiers.items()}
        bounds = server.overload, server.max_in_flight, priorities
        return self.parts.keep("load", bounds, lambda: Part(Load(*bounds, self.telemetry, self.random)))

    @cached_property
    def requests(self) -> Requests:
        settings = self.config.observability.requests
        return self.parts.keep("requests", settings, lambda: Part(Requests(settings, self.random)))

    @cached_property
    def usage(self) -> Usage:
        settings = self.config.observability.usage

        def usage() -> Part[Usage]:
            try:
                made = Usage(settings, self.telemetry.log, before=self.parts.before("usage", Usage))
            except UsageUnreadable as error:
                raise ConfigError.of("observability.usage.path", str(error)) from error
            return Part(made, opens=[made.begin], follows=[made.follow], closes=[made.close])

        return self.parts.keep("usage", settings, usage)

    # GraphQL: the schema, what is known of documents, and the views of callers with entitlements.

    @cached_property
    def schema(self) -> GraphQLSchema:
        config = self.config
        modules = [each.__name__ for each in schema_modules(config)]  # code, which a process loads once

        def made_of(schema: GraphQLSchema) -> object:
            return modules, config.graphql.defer, {name: config.policies.get(name) for name in policies_in(schema)}

        def schema() -> Part[GraphQLSchema]:
            made = executable(schema_of(config))
            if config.graphql.defer:
                defer.allow(made)
            return Part(made)

        return self.parts.keep_by("schema", made_of, schema)

    @cached_property
    def documents(self) -> Documents:
        config = self.config
        settings, path = config.graphql, config.graphql.documents.path
        batches = {name: each.max_batch for name, each in config.services.items()}

        def documents() -> Part[Documents]:
            telemetry, policies = self.telemetry, self.policies
            return Part(
                Documents(self.schema, settings, telemetry, config.trusted, max_batch=batches, policies=policies)
            )

        made_of = self.schema, settings, batches, contents([path] if path else [])
        return self.parts.keep("documents", made_of, documents)

    @cached_property
    def views(self) -> Mapping[str, Documents | None]:
        """What the tables of entitlements leave of these, by their names."""

        def views() -> Part[Mapping[str, Documents | None]]:
            try:
                return Part({name: self.documents.left_by(each) for name, each in self.config.tables().tables.items()})
            except UnknownCoordinate as error:
                raise ConfigError.of("entitlements", str(error)) from error

        return self.parts.keep("views", (self.documents, self.config.entitlements), views)

    @cached_property
    def execution(self) -> Execution:
        config = self.config

        def execution() -> Part[Execution]:
            return Part(
                Execution(
                    self.schema,
                    self.documents,
                    self.services,
                    config.graphql,
                    self.telemetry,
                    self.random,
                    self.usage,
                    config.tables(),
                    self.views,
                )
            )

        made_of = self.documents, self.views, self.usage, dict(self.services), self.tables_by_tier
        return self.parts.keep("execution", made_of, execution)

    @cached_property
    def graphql(self) -> GraphQL:
        config = self.config
        origins = config.server.cors.origins if config.server.cors else ()
        return GraphQL(
            self.execution, config.graphql, origins, self.credentials, self.telemetry, self.random, self.requests
        )

    @cached_property
    def aggregates(self) -> Aggregates:
        return Aggregates(
            self.config.aggregates,
            self.execution,
            self.config.graphql.limits.cost,
            self.policies,
            cookies=self.credentials.cookie is not None,
        )

    # REST: routes, contracts, what they are good for, and the cache.

    @cached_property
    def rest(self) -> Passthrough:
        config = self.config
        origins = config.server.cors.origins if config.server.cors else ()
        return rest(
            config.routes, self.services, self.validations, self.cache, self.credentials, origins, self.telemetry
        )

    @cached_property
    def contracts(self) -> dict[str, Contract]:
        """Services' OpenAPI documents, by their names."""

        def read(name: str, path: Path) -> Part[Contract]:
            return Part(contract(name, path))

        return {
            name: self.parts.keep(f"contract {name}", contents([each.openapi]), partial(read, name, each.openapi))
            for name, each in self.config.services.items()
            if each.openapi
        }

    @cached_property
    def validations(self) -> Mapping[str, Validation]:
        """By the contracts of services with routes that validate."""
        validating = {each.service for each in self.config.routes if each.validate != "off"}

        def validation(contract: Contract) -> Part[Validation]:
            return Part(Validation(contract, self.telemetry.log))

        return {
            name: self.parts.keep(f"validation {name}", each, partial(validation, each))
            for name, each in self.contracts.items()
            if name in validating
        }

    @cached_property
    def description(self) -> Description:
        config = self.config
        aggregates = self.aggregates.endpoints.items()
        remade = {each.name for each in config.routes if each.request.remakes or each.response.remakes}
        made_of: dict[str, Any] = {
            "routes": [told_of(each) for each in config.all_routes()],
            "contracts": self.contracts,
            "schemes": config.auth.schemes,
            "limits": config.limits.answered,
            "remade": remade,
            "aggregates": {name: described(each, self.schema) for name, each in aggregates},
            "title": config.openapi.title,
            "version": config.openapi.version,
        }
        return self.parts.keep("description", made_of, lambda: Part(describe(**made_of)))

    @cached_property
    def methods(self) -> Methods:
        return self.parts.keep("methods", self.description, lambda: Part(Methods(self.description.entries)))

    @cached_property
    def openapi(self) -> OpenApi:
        made_of = self.description, self.config.entitlements, self.tables_by_tier
        return self.parts.keep("openapi", made_of, lambda: Part(OpenApi(self.description, self.config.tables())))

    @cached_property
    def cache(self) -> HttpCache | None:
        shelf = self.shelf
        if shelf is None or not any(each.cache for each in self.config.routes):
            return None

        def cache() -> Part[HttpCache]:
            made = HttpCache(shelf, self.services)
            return Part(made, closes=[made.close])

        return self.parts.keep("cache", (shelf, dict(self.services)), cache)


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
