"""What one exchange with a service may take: of time, and of memory."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How long each phase of one call may take, in seconds."""

    connect: float
    pool: float
    write: float
    read: float


@dataclass(frozen=True, slots=True)
class Bounds:
    head: int
    """Bytes of an answer's status line and headers, interim answers included; and of its trailers."""
    buffered: int
    """Bytes waiting to be read, or to be sent, beyond which the other side is made to wait. One read of the socket
    may come on top."""
