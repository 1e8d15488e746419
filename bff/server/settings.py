"""The bounds of clients' connections, and of the heads of their requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bff.core.settings import Duration, Settings, Size


class ConnectionSettings(Settings):
    max_connections: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000
    """Open at a time, websockets included: one more takes the place of the one that rests longest, or is refused."""
    max_headers: Size = 64 * 1024
    """Of a request: names and values together."""
    max_pipelined: Annotated[int, Field(ge=1, le=1000)] = 64
    """Requests of an HTTP/1.1 connection that wait for their turn; what comes after them is not read yet."""
    head_timeout: Duration = 10.0
    """For a request's head to come, from its first byte on; for the first one, from the opening of the connection."""
    keep_alive: Duration = 75.0
    """How long a connection may rest between two requests: longer than a load balancer in front keeps its own."""
    write_timeout: Duration = 60.0
    """For a client to take more of its answer."""
