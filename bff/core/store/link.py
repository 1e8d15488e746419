"""A server of the store, and whether it is there: after a failure nobody asks it until it has answered again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from ssl import SSLContext
from typing import Any

from bff.core.store.settings import StoreSettings
from bff.core.store.wire import Late, Refused, StoreUnavailable, Wire, asked, command

_MAX_KEPT = 10_000
"""Commands that nobody waits for, until the server is back; the oldest are dropped."""

Place = tuple[str, int] | str
"""Host and port, or the path of a socket."""

_PING = command("PING")


class Link:
    """One server.

    Args:
        place: finds out where it is; asked before each connection.
        settings: how long to wait for what.
        tls: for an encrypted connection.
        greeting: the commands that each new connection begins with.
        changed: told when it goes away, with the reason, and when it is back, with None.
        random: spreads the probes of many gateways.

    Attributes:
        up: whether it may be asked.
    """

    def __init__(
        self,
        place: Callable[[], Awaitable[Place]],
        settings: StoreSettings,
        tls: SSLContext | None,
        greeting: Sequence[bytes],
        changed: Callable[[str | None], None],
        random: Random,
    ) -> None:
        self.up = self._missed = False
        self._place, self._settings, self._tls, self._greeting = place, settings, tls, greeting
        self._changed, self._random = changed, random
        self._later: deque[bytes] = deque(maxlen=_MAX_KEPT)
        self._troubled = asyncio.Event()
        self._attempted = asyncio.Event()
        self._wire: Wire
        self._task: asyncio.Task[None] | None = None

    def call(self, sent: bytes, late: Late | None = None) -> asyncio.Future[Any]:
        """Send a command.

        Raises:
            StoreUnavailable: it is away, at once; what is returned raises it where there is no answer in time.
        """
        if not self.up:
            raise StoreUnavailable("away")
        return self._wire.call(sent, late)

    def tell(self, sent: bytes) -> None:
        """Send a command that nobody waits for, now or when it is back."""
        if self.up:
            self._wire.tell(sent)
        else:
            self._later.append(sent)

    def is_of_no_use(self, reason: str) -> None:
        """It answers, but not so that it could be used: look for it anew."""
        if self.up:
            self._trouble(reason)
            self._wire.abort()

    async def open(self) -> None:
        """Look for it until `close`; return when it is there, or the first attempt has failed."""
        self._task = asyncio.create_task(self._follow())
        await self._attempted.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.up:
            self.up = False
            self._wire.close()

    async def _follow(self) -> None:
        while True:
            try:
                wire = await self._connected()
            except (OSError, StoreUnavailable, UnicodeError) as error:
                self._miss(_reason(error))
            else:
                await self._while_connected(wire)
            self._attempted.set()
            await asyncio.sleep(self._settings.probe * self._random.uniform(0.5, 1))

    async def _connected(self) -> Wire:
        """A new connection that is ready for use.

        Raises:
            OSError: there is none.
            StoreUnavailable: it does not let us in.
        """
        wire = None
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                wire = await connect(await self._place(), self._settings.connect_timeout, self._tls, self._lost)
                await asked(wire, self._greeting)
        except BaseException:
            if wire is not None:
                wire.abort()
            raise
        wire.hurry(self._settings.timeout)
        return wire

    def _lost(self, reason: str) -> None:
        if self.up:
            self._trouble(reason)

    def _trouble(self, reason: str) -> None:
        self.up = False
        self._troubled.set()
        self._miss(reason)

    def _miss(self, reason: str) -> None:
        if not self._missed:
            self._missed = True
            self._changed(reason)

    async def _while_connected(self, wire: Wire) -> None:
        self._wire = wire
        while not wire.lost:
            self._is_back(wire)
            self._attempted.set()
            await self._troubled.wait()
            if not wire.lost and not await self._answers_again(wire):
                wire.abort()
                return

    def _is_back(self, wire: Wire) -> None:
        self._troubled.clear()
        wire.slow = False
        self.up = True
        while self._later:
            wire.tell(self._later.popleft())
        if self._missed:
            self._missed = False
            self._changed(None)

    async def _answers_again(self, wire: Wire) -> bool:
        """Whether it comes to answer in time, on the connection where it did not: what came late has been read then."""
        loop = asyncio.get_running_loop()
        heard = loop.time()

        def hear(_: Any) -> None:
            nonlocal heard
            heard = loop.time()

        while not wire.lost:
            wire.slow = False
            try:
                await wire.call(_PING, hear)
            except StoreUnavailable:
                if loop.time() - heard > self._settings.connect_timeout:
                    return False
                await asyncio.sleep(self._settings.probe * self._random.uniform(0.5, 1))
            else:
                return True
        return False


async def connect(place: Place, patience: float, tls: SSLContext | None, trouble: Callable[[str], None]) -> Wire:
    """A connection on which nothing has been said yet.

    Raises:
        OSError: there is none.
    """
    loop = asyncio.get_running_loop()
    if isinstance(place, str):
        _, wire = await loop.create_unix_connection(lambda: Wire(patience, trouble), place)
    else:
        host, port = place
        _, wire = await loop.create_connection(lambda: Wire(patience, trouble), host, port, ssl=tls)
    return wire


def _reason(error: Exception) -> str:
    """What may be told of it: neither addresses, which asyncio puts into its errors, nor what was asked."""
    if isinstance(error, Refused):
        return f"refused by the server: {str(error).split(' ', 1)[0]}"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, StoreUnavailable):
        return str(error)
    return f"no connection: {type(error).__name__}"
