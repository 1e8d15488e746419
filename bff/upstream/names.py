"""Where the name of a service leads: kept for a moment, and asked for again in the background while it is in use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

AddressInfo = tuple[int, int, int, str, Any]
"""As `getaddrinfo` gives it."""

Resolve = Callable[[str, int], Awaitable[list[AddressInfo]]]


async def resolve(host: str, port: int) -> list[AddressInfo]:
    """As the system does it.

    Raises:
        OSError: there is no such name, or nobody to ask.
    """
    found: list[Any] = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found


class Name:
    """One name, and where it leads.

    Args:
        host, port: what is asked for.
        resolve: how.
        interval: seconds for which an answer is used, and between questions while it is watched.
        timeout: seconds for a question in the background.
        moved: told where it leads, each time that this was asked in the background.
    """

    def __init__(
        self, host: str, port: int, resolve: Resolve, interval: float, timeout: float, moved: Callable[[set[str]], bool]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._host, self._port = host, port
        self._resolve = resolve
        self._interval, self._timeout = interval, timeout
        self._moved = moved
        self._known: list[AddressInfo] = []
        self._known_at = 0.0
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._literal = _is_literal(host)

    async def addresses(self, *, anew: bool = False) -> list[AddressInfo]:
        """All that there are, begun at another one each time, so that connections spread over them.

        Raises:
            OSError: it leads nowhere.
        """
        if anew or not self._known or self._loop.time() >= self._known_at + self._interval:
            self._keep(await self._resolve(self._host, self._port))
        first = [each for each in self._known if each[0] == self._known[0][0]]  # of the family that is preferred
        self._turn += 1
        start = self._turn % len(first)
        return [*first[start:], *first[:start], *(each for each in self._known if each not in first)]

    def watch(self) -> None:
        """Ask again and again, until `moved` says that nobody uses it."""
        if self._timer is None and self._asking is None and not self._literal:
            self._timer = self._loop.call_later(self._interval, self._ask)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        self._timer = None
        self._asking = self._loop.create_task(self._look())

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                self._keep(await self._resolve(self._host, self._port))
        except (OSError, UnicodeError, RuntimeError):
            pass  # what is known holds until something else is; the next look may find it
        in_use = self._moved({each[4][0] for each in self._known})
        self._asking = None
        if in_use:
            self.watch()

    def _keep(self, found: list[AddressInfo]) -> None:
        if found:
            self._known, self._known_at = found, self._loop.time()


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
