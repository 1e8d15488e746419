"""What every call to a service crosses, from GraphQL and REST alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, Final, Literal

import httpx
from pydantic import Field

from bff.core.head import lines
from bff.core.settings import Complaint, Duration, File, Size
from bff.core.shelf import Shelf
from bff.core.telemetry import Telemetry
from bff.upstream.balance import Balance
from bff.upstream.breaker import Breaker, BreakerSettings, Breaks
from bff.upstream.bulkhead import Bulkhead, Holds
from bff.upstream.client import Origin, Service, Upstream
from bff.upstream.coalesce import Coalesce, CoalesceSettings, Shares
from bff.upstream.deadline import Attempt, Deadline
from bff.upstream.deployments import Deployments, DeploymentSettings
from bff.upstream.entities import Entities, ServiceCacheSettings
from bff.upstream.events import Counts, EventStreams, StreamSettings
from bff.upstream.feeds import Feeds
from bff.upstream.gather import Gathering
from bff.upstream.health import Health, HealthSettings
from bff.upstream.identity import Signer
from bff.upstream.mirror import Mirror, Mirrored
from bff.upstream.names import Resolve
from bff.upstream.names import resolve as system_resolve
from bff.upstream.observe import Attempts, Batches, Observe
from bff.upstream.retry import Repeats, Retry, RetrySettings
from bff.upstream.target import Addressed, Target
from bff.upstream.tls import ServiceTlsSettings, Tls
from bff.upstream.transport import Transport, TransportSettings
from bff.upstream.websocket import Websockets

__all__ = ["Measures", "Origin", "Service", "ServiceSettings", "Upstream", "connect"]


_CHECKS: Final = 2
"""Connections for the checks of one address."""


class ServiceSettings(DeploymentSettings):
    timeout: Duration = 2.0
    """For one attempt, first byte to last."""
    connect_timeout: Duration = 1.0
    """To resolve the name and connect."""
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Open at once; a call past it waits for one, at most a second."""
    resolve_interval: Annotated[Duration, Field(ge=0.05)] = 5.0
    """Between two looks at where its names lead: the longest that calls go to where they lead no more."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Calls under way at a time; one past it waits, at most until its request ends. By default there is no bound but
    `max_connections`."""
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Calls that may wait for `max_concurrency`; one more is refused at once."""
    breaker: BreakerSettings | Literal["off"] = BreakerSettings()
    """When a target that fails is left alone: `breaker: {errors: 50%, minimum: 20, window: 10s, open: 5s}`."""
    retry: RetrySettings = RetrySettings()
    """Whether calls that failed are made again: `retry: {attempts: 3}`. Idempotent ones, or those with a key."""
    identity: Literal["forward", "signed", "none"] = "forward"
    """How the service is told who asks: `forward` in headers, `signed` by a token of the gateway's. `none`: not at all,
    since answers do not depend on it."""
    forward_credentials: bool = False
    """Whether the service also gets the client's own `Authorization` or `X-API-Key`, as it came."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Ids in one batched read; more make several calls side by side."""
    max_answer: Size = 16 * 1024 * 1024
    """Bytes of one answer that is read whole (GraphQL's); REST streams without a bound."""
    coalesce: CoalesceSettings | bool = False
    """Whether identical reads under way at the same time share one call; of different callers with `identity: none`."""
    gather: Annotated[Duration, Field(le=0.1)] = 0.0
    """How long a batched read waits, while another one is under way, for ids of other requests to join it."""
    cache: ServiceCacheSettings = ServiceCacheSettings()
    """Whether its records are kept: `cache: {entities: true}`, for as long as it says that they are good."""
    streams: StreamSettings = StreamSettings()
    tls: ServiceTlsSettings | None = None
    """For an https:// address: whom to believe, and what to show. By default the system's authorities, and nothing."""
    openapi: File | None = None
    """Its OpenAPI document, 3.0 or 3.1: for the gateway's own, and for routes that validate by it."""
    required: bool = False
    """Whether the gateway is not ready while none of the service's targets is healthy; checked by `health`."""

    @property
    def sockets(self) -> int:
        """The most that it may have open, websockets apart; each of its addresses has pools of its own."""
        of_each = self.max_connections + self.streams.max_open  # and answers of calls that last
        if self.health or self.required:
            of_each += _CHECKS
        copies = len(self.targets[self.mirror.to]) * self.mirror.max_in_flight if self.mirror else 0
        return len(self.urls) * of_each + self.streams.max_open + copies

    def problems(self) -> Iterable[Complaint]:
        yield from super().problems()
        if self.tls is not None and not all(each.lower().startswith("https:") for each in self.urls):
            yield ("tls",), "needs an https:// address in `url`, and in all `targets`"
        if self.forward_credentials and self.identity != "forward":
            why = "takes the place of" if self.identity == "signed" else "does without"
            yield ("forward_credentials",), f"must be false with `identity: {self.identity}`, which {why} them"


class Measures:
    """What the policies of all services are measured by, made once for a gateway."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.attempts = Attempts(telemetry)
        self.batches = Batches(telemetry)
        self.breaks = Breaks(telemetry)
        self.repeats = Repeats(telemetry)
        self.holds = Holds(telemetry)
        self.shares = Shares(telemetry)
        self.streams = Counts(telemetry)
        self.mirrored = Mirrored(telemetry)


@dataclass(frozen=True)
class _Wires:
    """Connections to a service: those of its calls, and others beside them that calls cannot use up."""

    settings: ServiceSettings
    network: httpx.AsyncBaseTransport | None
    tls: Tls | None
    resolve: Resolve

    def of(self, max_connections: int, **others: Any) -> httpx.AsyncBaseTransport:
        connections = TransportSettings(
            connect_timeout=self.settings.connect_timeout,
            resolve_interval=self.settings.resolve_interval,
            max_connections=max_connections,
            **others,
        )
        return self.network or Transport(connections, tls=self.tls, resolve=self.resolve)

    def of_websockets(self) -> httpx.AsyncBaseTransport:
        return self.network or Websockets(self.tls, self.resolve, self.settings.connect_timeout)


def connect(
    name: str,
    settings: ServiceSettings,
    measures: Measures,
    telemetry: Telemetry,
    random: Random,
    signer: Signer | None = None,
    network: httpx.AsyncBaseTransport | None = None,
    tls: Tls | None = None,
    resolve: Resolve = system_resolve,
    clock: Callable[[], float] = time.monotonic,
    shelf: Shelf | None = None,
) -> Service:
    """The service with its chain of policies. Read bottom-up: the last one is the outermost."""
    deployments = Deployments(name, settings, telemetry, random, clock)
    wires = _Wires(settings, network, tls, resolve)
    wire = wires.of(settings.max_connections, max_lasting=settings.streams.max_open)
    breakers: dict[Target, Breaker] = {}
    for_anybody = settings.identity == "none"

    def observed(target: Target, wire: httpx.AsyncBaseTransport) -> Observe:
        # Nearest to the wire: a span and a measurement for each attempt, whatever the policies above make of it.
        return Observe(wire, name, measures.attempts, telemetry, target.arm, str(target.url))

    def to(target: Target, wire: httpx.AsyncBaseTransport) -> Addressed:
        # Above the span, so that it says which deployment was called.
        return Addressed(observed(target, wire), target.url)

    def guarded(target: Target) -> httpx.AsyncBaseTransport:
        # Each attempt has a time of its own, and the service is told of it.
        transport = Attempt(observed(target, wire), target.url, settings.timeout, clock)
        # Of each target, behind what chooses between them: where one fails it is left alone, and others are not.
        if settings.breaker == "off":
            return transport
        url, timeout, full = str(target.url), settings.timeout, settings.max_connections
        breaker = Breaker(transport, name, url, settings.breaker, measures.breaks, timeout, full, clock)
        breakers[target], target.admits = breaker, breaker.admits
        return breaker

    # Which deployment an attempt goes to.
    transport = balanced = deployments.balanced(guarded)
    arm = balanced.arm if isinstance(balanced, Balance) else None
    # Around one attempt: those that fail and may be repeated are, as far as the budget goes.
    transport = retry = Retry(transport, name, settings.retry, measures.repeats, random, clock)
    # Around all attempts and the waits between them: a service that hangs fills its own hold.
    transport = bulkhead = Bulkhead(transport, name, settings.max_concurrency, settings.max_waiting, measures.holds)
    # Outermost: everything below, waiting included, has to end by the request's own deadline.
    transport = Deadline(transport, clock)
    # Around the call as a whole, since further attempts are no further reads.
    if settings.mirror:
        copies = wires.of(settings.mirror.max_in_flight)
        arms = {each: Addressed(copies, each.url) for each in deployments.targets if each.arm == settings.mirror.to}
        transport = Mirror(transport, name, settings.mirror, arms, measures.mirrored, random, clock)
    if settings.cache.entities and shelf is not None:
        # Above all that a call costs, and below what is shared, so that many who miss the same ask once.
        signed = settings.identity == "signed"
        transport = Entities(transport, name, shelf, for_anybody=for_anybody, signed=signed, arm=arm)
    # Above all that an attempt costs: what is shared is attempted once, for as long as anybody waits.
    shared = None
    if settings.coalesce:
        how = settings.coalesce if isinstance(settings.coalesce, CoalesceSettings) else CoalesceSettings()
        transport = shared = Coalesce(transport, how, name, measures.shares, for_anybody=for_anybody, arm=arm)
    return Service(
        name,
        deployments.addresses,
        transport,
        told=_told(name, settings, signer),
        max_batch=settings.max_batch,
        batches=measures.batches,
        max_answer=settings.max_answer,
        for_anybody=for_anybody,
        gathering=Gathering(settings.gather, settings.max_batch, arm) if settings.gather else None,
        timeout=settings.timeout,
        streams=_streams(name, settings, deployments, wires, to, measures, random),
        sockets=_sockets(deployments, wires, to),
        feeds=Feeds(settings.streams.max_pending),
        deployments=deployments,
        shown=lambda: _shown(deployments, bulkhead, retry, breakers),
        health=_health(name, settings, deployments, wires, telemetry, random, clock),
        arm=arm,
        on_purge=[shared.forget] if shared else [],
    )


def _health(
    name: str,
    settings: ServiceSettings,
    deployments: Deployments,
    wires: _Wires,
    telemetry: Telemetry,
    random: Random,
    clock: Callable[[], float],
) -> Health | None:
    """Beside the chain: checks have connections of their own, so that no call keeps one from being made."""
    if not (settings.health or settings.required):
        return None
    checks = wires.of(_CHECKS)
    ways = {target: Addressed(checks, target.url) for target in deployments.targets}
    health = Health(name, settings.health or HealthSettings(), ways, telemetry, random, clock)
    deployments.health = health.state
    return health


def _streams(
    name: str,
    settings: ServiceSettings,
    deployments: Deployments,
    wires: _Wires,
    to: Callable[[Target, httpx.AsyncBaseTransport], httpx.AsyncBaseTransport],
    measures: Measures,
    random: Random,
) -> EventStreams:
    """Beside the chain: streams live long, so they neither take connections from calls nor have a deadline."""
    lasting = wires.of(settings.streams.max_open, read_timeout=settings.streams.silence)
    balanced = deployments.balanced(lambda target: to(target, lasting))
    return EventStreams(name, balanced, settings.streams, measures.streams, random)


def _sockets(
    deployments: Deployments,
    wires: _Wires,
    to: Callable[[Target, httpx.AsyncBaseTransport], httpx.AsyncBaseTransport],
) -> httpx.AsyncBaseTransport:
    """Beside the chain, as streams are."""
    sockets = wires.of_websockets()
    return deployments.balanced(lambda target: to(target, sockets))


def _shown(
    deployments: Deployments, bulkhead: Bulkhead, retry: Retry, breakers: Mapping[Target, Breaker]
) -> dict[str, object]:
    """What operators are told of a service."""
    judged = [breakers[each].shown() if each in breakers else None for each in deployments.targets]
    return {
        "in_flight": bulkhead.in_flight,
        "waiting": bulkhead.waiting,
        "retries_left": retry.budget.left,
        "split": _split(deployments),
        "targets": [{**each, "breaker": of} for each, of in zip(deployments.state(), judged, strict=True)],
    }


def _split(deployments: Deployments) -> dict[str, object] | None:
    """The shares of the arms for everybody, and until when they are an operator's, in seconds since 1970."""
    weights = deployments.split.weights
    if weights is None:
        return None
    return {"weights": weights.now(), "configured": weights.configured, "set_until": weights.set_until}


def _told(name: str, settings: ServiceSettings, signer: Signer | None) -> Callable[[Origin], bytes]:
    """What the service is told of who asks."""
    if settings.identity == "signed" and signer:
        return lambda origin: lines(signer.headers(origin.caller, name))
    if settings.identity != "forward":
        return lambda _: b""
    if settings.forward_credentials:
        return lambda origin: lines([*origin.caller.headers, *origin.credentials])
    return lambda origin: origin.caller.lines
