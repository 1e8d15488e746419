"""What connects a generation of the gateway with others, and what it keeps of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from random import Random

import httpx

from bff.config import Config, ConfigError
from bff.core.certificates import Observed
from bff.core.parts import Part, Parts
from bff.core.purges import SharedPurges
from bff.core.shelf import Shelf
from bff.core.store import SharedStore, store_settings
from bff.core.telemetry import Telemetry
from bff.core.watched import contents
from bff.rest.cache.places import Purge
from bff.server import Tls
from bff.upstream import Measures, Service, ServiceSettings, connect
from bff.upstream.changes import Changes
from bff.upstream.identity import Signer
from bff.upstream.names import Resolve
from bff.upstream.observe import Observe
from bff.upstream.tls import ServiceTls
from bff.upstream.transport import Transport, TransportSettings


@dataclass(frozen=True, eq=False)
class Connections:
    """Of clients, to services, to identity providers, to other gateways.

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
    def identity(self) -> Observe:
        """To identity providers: their calls are counted like those to services."""

        def identity() -> Part[Observe]:
            network = self.network or Transport(TransportSettings())
            wire = Observe(network, "identity", self.measures.attempts, self.telemetry)
            return Part(wire, closes=[wire.aclose])

        return self.parts.keep("identity", None, identity)

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
            return Part(made, closes=[made.close], unsaid=made.leave)

        def shared(store: SharedStore) -> Part[SharedPurges]:
            made = SharedPurges(shelf, store, self.random)
            return Part(made, opens=[made.channel.open], follows=[made.channel.follow])

        self.parts.keep("changes", (shelf, dict(self.services)), changes)
        if store is not None:
            self.parts.keep("purges", (shelf, store), partial(shared, store))
        return Purge(shelf, self.config.all_routes())
