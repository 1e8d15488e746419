"""Operations over connections that stay: subscriptions, and whatever else comes over a websocket."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bff.core.settings import Duration, Settings, WebOrigin


class SubscriptionSettings(Settings):
    max_per_caller: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Subscriptions of a caller at a time, over all its connections, and as many websockets."""
    max_sockets: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Websockets at a time; one more is refused with 503."""
    max_operations: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Operations under way on one websocket, of any kind."""
    origins: tuple[WebOrigin, ...] = ()
    """Pages that may open websockets, `https://shop.example.com`, beside those of this host and of `server.cors`."""
    init_timeout: Annotated[Duration, Field(ge=0.1)] = 10.0
    """For a websocket's `connection_init`."""
    heartbeat: Annotated[Duration, Field(ge=0.1)] = 15.0
    """Between signs of life: pings on websockets, comments in event streams."""
    send_timeout: Annotated[Duration, Field(ge=0.1)] = 10.0
    """For a client to take what it is sent; then its connection is cut."""
