"""The parts of one generation of the gateway: each is made when it is first asked for, of those that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from types import ModuleType

import httpx
import strawberry
from graphql import GraphQLSchema
from limits.strategies import RateLimiter

from bff.config import Config, ConfigError
from bff.console import Readiness
from bff.core.certificates import Observed
from bff.core.parts import Part, Parts
from bff.core.policies import Policies
from bff.core.purges import SharedPurges
from bff.core.requests import Requests
from bff.core.shelf import Shelf
from bff.core.store import SharedLedger, SharedStore, store_settings
from bff.core.telemetry import Telemetry
from bff.core.usage import Usage, UsageUnreadable
from bff.core.watched import contents
from bff.edge.credentials import Credentials
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
from bff.rest.cache import HttpCache
from bff.rest.cache.places import Purge
from bff.rest.openapi.contract import Contract
from bff.rest.openapi.contract import read as contract
from bff.rest.openapi.document import Description, describe
from bff.rest.proxy import Passthrough
from bff.rest.routes import rest
from bff.rest.validation import Validation
from bff.server import Tls
from bff.upstream import Measures, Service, ServiceSettings, connect
from bff.upstream.changes import Changes
from bff.upstream.identity import Signer
from bff.upstream.names import Resolve
from bff.upstream.observe import Observe
from bff.upstream.tls import ServiceTls
from bff.upstream.transport import ConnectionSettings, Transport


@dataclass(frozen=True, eq=False)
class Assembly:
    """The parts of one generation, by what they are.

    Attributes:
        config: what they are made for.
        telemetry: where logs, metrics and spans go.
        random: where ids and waits come from.
        parts: those that outlive a configuration that says the same of them.
        network: what carries calls to services and identity providers; None for connections of our own.
        resolve: where names of services lead, for these connections.
    """

    config: Config
    telemetry: Telemetry
    random: Random
    parts: Parts
    network: httpx.AsyncBaseTransport | None
    resolve: Resolve

    @cached_property
    def policies(self) -> Policies:
        return Policies(self.config.policies)

    # Connections: of clients, to services, to identity providers, to other gateways.

    @cached_property
    def certificates(self) -> Observed:
        return Observed(self.telemetry)

    @cached_property
    def tls(self) -> Tls | None:
        def tls() -> Part[Tls | None]:
            if (server := self.config.server).tls is None:
                return Part(None)
            tls = Tls(server.tls, server.protocols, self.certificates, self.telemetry)
            return Part(tls, follows=[tls.follow])

        # Of a port that is listened at, nothing changes without a restart.
        return self.parts.keep("tls", None, tls)

    @cached_property
    def measures(self) -> Measures:
        return Measures(self.telemetry)

    @cached_property
    def signer(self) -> Signer | None:
        """Where some service is told by its tokens who asks."""
        if not self.config.signs:
            return None
        signing = self.config.auth.signing
        return self.parts.keep("signer", signing, lambda: Part(Signer(signing)))

    @cached_property
    def services(self) -> dict[str, Service]:
        return {
            name: self.parts.keep(f"service {name}", self._made_of(each), partial(self._service, name, each))
            for name, each in self.config.services.items()
        }

    def _made_of(self, settings: ServiceSettings) -> object:
        return settings, self.signer, self.shelf if settings.cache.entities else None

    def _service(self, name: str, settings: ServiceSettings) -> Part[Service]:
        tls = ServiceTls(name, settings.tls, self.certificates) if settings.tls else None
        service = connect(
            name,
            settings,
            self.measures,
            self.telemetry,
            self.random,
            self.signer,
            self.network,
            tls,
            self.resolve,
            shelf=self.shelf,
        )
        follows = [*([service.health.follow] if service.health else []), *([tls.files.follow] if tls else [])]
        return Part(service, follows=follows, closes=[service.close])

    @cached_property
    def readiness(self) -> Readiness:
        required = {name for name, each in self.config.services.items() if each.required}
        return Readiness(
            {name: each.health for name, each in self.services.items() if each.health and name in required}
        )

    @cached_property
    def store(self) -> SharedStore | None:
        """Where there is one that others share."""
        settings = store_settings(self.config.store)
        if settings.url.is_memory:
            return None

        def store() -> Part[SharedStore]:
            try:
                made = SharedStore(settings, self.telemetry, random=self.random)
            except OSError as error:
                raise ConfigError.of("store", f"a file for TLS cannot be used: {error.strerror or error}") from error
            return Part(made, opens=[made.open], closes=[made.close])

        return self.parts.keep("store", (settings, contents(settings.files)), store)

    # The edge: who asks, and what they may spend.

    @cached_property
    def credentials(self) -> Credentials:
        auth, tiers = self.config.auth, frozenset(self.config.tiers)

        def wire() -> Part[Observe]:
            # Calls to identity providers are counted like those to services.
            network = self.network or Transport(ConnectionSettings())
            wire = Observe(network, "identity", self.measures.attempts, self.telemetry)
            return Part(wire, closes=[wire.aclose])

        # Before credentials, which use both: parts open in this order, and end in the other.
        network, store = self.parts.keep("identity", None, wire), self.store

        def credentials() -> Part[Credentials]:
            made = Credentials(auth, network, tiers=tiers, telemetry=self.telemetry, store=store)
            return Part(made, opens=[made.warm], follows=[made.follow], closes=[made.close])

        return self.parts.keep("credentials", (auth, tiers, store), credentials)

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
                made = Usage(settings, self.telemetry.log)
            except UsageUnreadable as error:
                raise ConfigError.of("observability.usage.path", str(error)) from error
            return Part(made, follows=[made.follow], closes=[made.write])

        return self.parts.keep("usage", settings, usage)

    # GraphQL: the schema, what is known of documents, and the views of callers with entitlements.

    @cached_property
    def execution(self) -> Execution:
        config = self.config
        path = config.graphql.documents.path
        made_of = (
            self.schema,
            self.usage,
            dict(self.services),
            config.graphql,
            config.entitlements,
            {name: tier.entitlements for name, tier in config.tiers.items()},
            contents([path] if path else []),
        )
        return self.parts.keep("execution", made_of, lambda: Part(self._execution()))

    @cached_property
    def schema(self) -> GraphQLSchema:
        # Modules are code, which a process loads once.
        made_of = (
            [each.__name__ for each in schema_modules(self.config)],
            self.config.policies,
            self.config.graphql.defer,
        )
        return self.parts.keep("schema", made_of, lambda: Part(self._schema()))

    def _schema(self) -> GraphQLSchema:
        schema = executable(schema_of(self.config))
        if self.config.graphql.defer:
            defer.allow(schema)
        return schema

    def _execution(self) -> Execution:
        config, telemetry = self.config, self.telemetry
        max_batch = {name: each.max_batch for name, each in config.services.items()}
        documents = Documents(
            self.schema, config.graphql, telemetry, config.trusted, max_batch=max_batch, policies=self.policies
        )
        execution = Execution(self.schema, documents, self.services, config.graphql, telemetry, self.random, self.usage)
        try:
            execution.add_views(config.tables())
        except UnknownCoordinate as error:
            raise ConfigError.of("entitlements", str(error)) from error
        return execution

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
        return {
            name: Validation(self.contracts[name], self.telemetry.log) for name in self.contracts.keys() & validating
        }

    @cached_property
    def description(self) -> Description:
        config = self.config
        aggregates = self.aggregates.endpoints.items()
        return describe(
            config.all_routes(),
            self.contracts,
            config.auth.schemes,
            config.limits.answered,
            remade={each.name for each in config.routes if each.request.remakes or each.response.remakes},
            aggregates={name: described(each, self.execution.schema) for name, each in aggregates},
            title=config.openapi.title,
            version=config.openapi.version,
        )

    @cached_property
    def cache(self) -> HttpCache | None:
        shelf = self.shelf
        if shelf is None or not any(each.cache for each in self.config.routes):
            return None

        def cache() -> Part[HttpCache]:
            made = HttpCache(shelf, self.services)
            return Part(made, closes=[made.close])

        return self.parts.keep("cache", (shelf, dict(self.services)), cache)

    # What is kept of answers, by routes and services.

    @cached_property
    def shelf(self) -> Shelf | None:
        """Begun anew with any change of what answers could depend on."""
        config = self.config
        # What requests change that end on the generation before, goes from this one's as well.
        beside = self.parts.keep("shelves", None, lambda: Part(list[Shelf]()))
        keeping = [each.cache for each in config.routes] + [each.cache.entities for each in config.services.values()]
        if not any(keeping):
            return None
        made_of = (config.cache, config.services, config.routes, self.signer, self.store)

        def shelf() -> Part[Shelf]:
            made = Shelf(config.cache, self.telemetry, beside)
            return Part(made, opens=[made.begin], closes=[made.close])

        return self.parts.keep("shelf", made_of, shelf)

    @cached_property
    def purge(self) -> Purge | None:
        """What operators purge by. Changes through services, and at other gateways, are followed from then on."""
        shelf, store = self.shelf, self.store
        if shelf is None:
            return None

        def changes() -> Part[Changes]:
            made = Changes(shelf, self.services.values())
            return Part(made, closes=[made.close])

        def shared(store: SharedStore) -> Part[SharedPurges]:
            made = SharedPurges(shelf, store, self.random)
            return Part(made, opens=[made.channel.open], follows=[made.channel.follow])

        self.parts.keep("changes", (shelf, dict(self.services)), changes)
        if store is not None:
            self.parts.keep("purges", (shelf, store), partial(shared, store))
        return Purge(shelf, self.config.all_routes())


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
