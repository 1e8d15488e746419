"""Where on its way a call to a service failed: attached to the httpx error, read by metrics and problem documents."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import httpx

E = TypeVar("E", bound=httpx.TransportError)


class Phase(StrEnum):
    POOL = "pool"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    FIRST_BYTE = "first_byte"
    BODY = "body"
    # Those that are not the network's: the gateway itself did not let the call go.
    BULKHEAD = "bulkhead"
    BREAKER = "breaker"
    DEADLINE = "deadline"


class RefusedError(httpx.TransportError):
    """A policy of the gateway's own did not let the call go: nothing was sent, and nobody has failed.

    Args:
        message: why.
        request: what was not sent.
        phase: the policy that says so.
        retry_after: seconds after which it may let one go.
    """

    def __init__(self, message: str, request: httpx.Request, phase: Phase, retry_after: float | None = None) -> None:
        super().__init__(message, request=request)
        self.phase = phase
        self.retry_after = retry_after


def failed(kind: type[E], message: str, request: httpx.Request, phase: Phase) -> E:
    error = kind(message, request=request)
    vars(error)["phase"] = phase
    return error


def phase_of(error: BaseException) -> Phase | None:
    """The phase in which this call failed; None if the error was not raised by the transport."""
    phase: Phase | None = vars(error).get("phase")
    return phase


def attempts_of(error: BaseException) -> int | None:
    """How often the call was sent that failed with this; None if it never came to an attempt."""
    attempts: int | None = vars(error).get("attempts")
    return attempts
