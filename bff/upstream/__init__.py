"""What every call to a service crosses, from GraphQL and REST alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Literal

import httpx
from pydantic import Field

from bff.core.settings import Duration, Settings, Size, Url
from bff.core.telemetry import Telemetry
from bff.upstream.client import Origin, Service, Upstream
from bff.upstream.deadline import Deadline
from bff.upstream.observe import Attempts, Observe
from bff.upstream.transport import ConnectionSettings, Transport

__all__ = ["Attempts", "Origin", "Service", "ServiceSettings", "Upstream", "connect"]


class ServiceSettings(Settings):
    url: Url
    """Where the service is; its name is resolved again as it changes."""
    timeout: Duration = 2.0
    """For one attempt, first byte to last."""
    connect_timeout: Duration = 1.0
    """To resolve the name and connect."""
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Open at once; a call past it waits for one, at most a second."""
    identity: Literal["forward", "none"] = "forward"
    """`none`: answers do not depend on the caller, so the service is not told who it is."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Ids in one batched read; more make several calls side by side."""
    max_answer: Size = 16 * 1024 * 1024
    """Bytes of one answer that is read whole (GraphQL's); REST streams without a bound."""
    required: bool = False
    """Whether the gateway is not ready while the service's `/healthz` does not answer."""


def connect(
    name: str,
    settings: ServiceSettings,
    attempts: Attempts,
    telemetry: Telemetry,
    network: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Service:
    """The service with its chain of policies. Read bottom-up: the last one is the outermost."""
    transport = network or Transport(
        ConnectionSettings(connect_timeout=settings.connect_timeout, max_connections=settings.max_connections)
    )
    # Nearest to the wire: a span and a measurement for each attempt, whatever the policies above make of it.
    transport = Observe(transport, name, attempts, telemetry)
    # Outermost: everything below, and so each attempt, has to end by the request's own deadline.
    transport = Deadline(transport, settings.timeout, clock)
    return Service(
        name,
        httpx.URL(settings.url),
        transport,
        forwards_identity=settings.identity == "forward",
        max_batch=settings.max_batch,
        max_answer=settings.max_answer,
    )
