"""How what outlives a configuration is made, and what each is made of: see `bff.core.parts`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random

import httpx
from limits.strategies import RateLimiter

from bff.config import Config, ConfigError
from bff.core.certificates import Observed
from bff.core.parts import Part, Parts
from bff.core.requests import Requests
from bff.core.store import SharedStore, store_settings
from bff.core.telemetry import Telemetry
from bff.core.watched import contents
from bff.edge.credentials import Credentials
from bff.edge.limits import limiter_of
from bff.edge.overload import Load
from bff.rest.cache import HttpCache
from bff.rest.openapi.contract import Contract
from bff.rest.openapi.contract import read as contract
from bff.rest.validation import Validation
from bff.server import Tls
from bff.upstream import Measures, Service
from bff.upstream.identity import Signer
from bff.upstream.observe import Observe
from bff.upstream.transport import ConnectionSettings, Transport


def signer(config: Config, parts: Parts) -> Signer | None:
    """Where some service is told by its tokens who asks."""
    if not config.signs:
        return None
    return parts.keep("signer", config.auth.signing, lambda: Part(Signer(config.auth.signing)))


def tls(config: Config, certificates: Observed, telemetry: Telemetry) -> Part[Tls | None]:
    if config.server.tls is None:
        return Part(None)
    tls = Tls(config.server.tls, config.server.protocols, certificates, telemetry)
    return Part(tls, follows=[tls.follow])


def wire(network: httpx.AsyncBaseTransport | None, measures: Measures, telemetry: Telemetry) -> Part[Observe]:
    wire = Observe(network or Transport(ConnectionSettings()), "identity", measures.attempts, telemetry)
    return Part(wire, closes=[wire.aclose])


def credentials(config: Config, wire: Observe, telemetry: Telemetry, parts: Parts) -> Credentials:
    tiers = frozenset(config.tiers)

    def credentials() -> Part[Credentials]:
        made = Credentials(config.auth, wire, tiers=tiers, telemetry=telemetry)
        return Part(made, opens=[made.warm], follows=[made.follow], closes=[made.close])

    return parts.keep("credentials", (config.auth, tiers), credentials)


def store(config: Config, telemetry: Telemetry, random: Random, parts: Parts) -> SharedStore | None:
    """Where there is one that others share."""
    settings = store_settings(config.store)
    if settings.url.is_memory:
        return None

    def store() -> Part[SharedStore]:
        try:
            made = SharedStore(settings, telemetry, random=random)
        except OSError as error:
            raise ConfigError.of("store", f"a file for TLS cannot be used: {error.strerror or error}") from error
        return Part(made, opens=[made.open], closes=[made.close])

    return parts.keep("store", (settings, contents(settings.files)), store)


def requests(config: Config, random: Random, parts: Parts) -> Requests:
    settings = config.observability.requests
    return parts.keep("requests", settings, lambda: Part(Requests(settings, random)))


def limiter(name: str, config: Config, parts: Parts) -> RateLimiter:
    return parts.keep(name, config.limits.max_accounts, lambda: Part(limiter_of(config.limits.max_accounts)))


def load(config: Config, telemetry: Telemetry, random: Random, parts: Parts) -> Load:
    priorities = {name: tier.priority for name, tier in config.tiers.items()}
    bounds = config.server.overload, config.server.max_in_flight, priorities
    return parts.keep("load", bounds, lambda: Part(Load(*bounds, telemetry, random)))


def contracts(config: Config, parts: Parts) -> dict[str, Contract]:
    """Services' OpenAPI documents, by their names."""

    def read(name: str, path: Path) -> Part[Contract]:
        return Part(contract(name, path))

    return {
        name: parts.keep(f"contract {name}", contents([each.openapi]), partial(read, name, each.openapi))
        for name, each in config.services.items()
        if each.openapi
    }


def validations(config: Config, contracts: Mapping[str, Contract], telemetry: Telemetry) -> dict[str, Validation]:
    """By the contracts of services with routes that validate."""
    return {
        name: Validation(each, telemetry.log)
        for name, each in contracts.items()
        if any(route.service == name and route.validate != "off" for route in config.routes)
    }


def cache(config: Config, services: Mapping[str, Service], telemetry: Telemetry, parts: Parts) -> HttpCache | None:
    if not any(each.cache for each in config.routes):
        return None

    def cache() -> Part[HttpCache]:
        made = HttpCache(config.cache, services.values(), telemetry)
        return Part(made, closes=[made.close])

    return parts.keep("cache", (config.cache, dict(services)), cache)
