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


def failed(kind: type[E], message: str, request: httpx.Request, phase: Phase) -> E:
    error = kind(message, request=request)
    vars(error)["phase"] = phase
    return error


def phase_of(error: BaseException) -> Phase | None:
    """The phase in which this call failed; None if the error was not raised by the transport."""
    phase: Phase | None = vars(error).get("phase")
    return phase
