"""Connections that stay: whose they are, for how long, and how many somebody may have."""

from __future__ import annotations

import asyncio
from collections import Counter as Multiset
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from starlette.types import Scope

from bff.core.certificates import Certificate
from bff.core.errors import RateLimited
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


class Seats:
    """How many of something each account has."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken: Multiset[str] = Multiset()

    def __len__(self) -> int:
        return self._taken.total()

    @contextmanager
    def taken(self, account: str) -> Iterator[None]:
        """Hold one.

        Raises:
            RateLimited: the account has as many as it may.
        """
        if self._taken[account] >= self._most:
            raise RateLimited(f"This caller has {self._most} {self._what} already: end one first", retry_after=1)
        self._taken[account] += 1
        try:
            yield
        finally:
            self._taken[account] -= 1
            if not self._taken[account]:
                del self._taken[account]
