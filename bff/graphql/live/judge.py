"""Whose a connection is that stays, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.types import Scope

from bff.core.certificates import Certificate
from bff.core.identity import Caller


class Judge(Protocol):
    """Who judges the credentials of connections that stay."""

    async def identify_connection(
        self, handshake: Caller, payload: Mapping[str, Any] | None, certificate: Certificate | None, /
    ) -> Caller:
        """The caller, by the handshake and what the client says of itself; raises GatewayError for a bad one."""
        ...

    async def until_revoked(self, scope: Scope, payload: Mapping[str, Any] | None = None, /) -> None:
        """Returns when it is no longer of that caller."""
        ...


def end_of(caller: Caller, now: float) -> float | None:
    """When the caller's credential ends, by the loop's clock; None if it never does.

    Args:
        caller: whose connection it is.
        now: seconds since 1970.
    """
    if caller.expires is None:
        return None
    return asyncio.get_running_loop().time() + max(0.0, caller.expires - now)
