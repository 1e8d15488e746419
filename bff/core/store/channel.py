"""What a gateway tells all others at once: published in the store, and heard over a connection of its own.

Whoever was not connected has missed something, and is told that instead. Who says something hears it as well: what did
not come back is said again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final

from bff.core.store.shared import SharedStore
from bff.core.store.wire import StoreUnavailable, Wire, command

_BEAT: Final = 0.2
"""Seconds between two looks whether the connection still is one."""
_PATIENCE: Final = 0.5
"""Seconds for the answer to each, and for what was said to come back."""
_MAX_UNHEARD: Final = 1000
_PING: Final = command("PING")

EVERYTHING: Final = b""
"""The message that more was said than could be kept: all that others could have said may be true."""


class Channel:
    """One subject on which all gateways hear each other.

    Args:
        store: which they share.
        name: of the subject.
        hear: told each message of another gateway, in the order in which they said it.
        connected: told that from now on all is heard, and that something may have been missed before.
        cut_off: told that nothing is heard any more, within a second of when that began.
        random: spreads the attempts of many gateways.

    Attributes:
        is_connected: whether all is heard.
        told, heard: how many messages went out, and came in from others.
    """

    def __init__(
        self,
        store: SharedStore,
        name: str,
        *,
        hear: Callable[[bytes], None],
        connected: Callable[[], None],
        cut_off: Callable[[], None],
        random: Random | None = None,
    ) -> None:
        self.is_connected = False
        self.told = self.heard = 0
        self._store, self._key = store, store.key(name)
        self._hear, self._connected, self._cut_off = hear, connected, cut_off
        self._random = random or Random()  # noqa: S311 - no secret
        self._me = secrets.token_hex(6).encode()
        self._unheard: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._attempted = asyncio.Event()
        self._lost = asyncio.Event()

    def tell(self, message: bytes) -> None:
        """Say it to all others, now or as soon as that is possible. Nobody waits for it."""
        self.told += 1
        if len(self._unheard) >= _MAX_UNHEARD:
            self._unheard.clear()
            message = EVERYTHING
        number = b"%d" % self.told
        self._unheard[number] = message, asyncio.get_running_loop().time()
        if self.is_connected:
            self._publish(number, message)

    async def open(self) -> None:
        """Return when it is connected, or the first attempt has failed."""
        await self._attempted.wait()

    async def follow(self) -> None:
        """Be connected, for as long as this runs."""
        while True:
            with suppress(OSError, StoreUnavailable, UnicodeError):
                wire = await self._store.listen(self._key, self._heard, self._end)
                try:
                    self._begin()
                    await self._watch(wire)
                finally:
                    self._end("")
                    wire.abort()
            self._attempted.set()
            await asyncio.sleep(self._store.settings.probe * self._random.uniform(0.5, 1))

    def _begin(self) -> None:
        self._lost.clear()
        self.is_connected = True
        self._connected()
        now = asyncio.get_running_loop().time()
        for number, (message, _) in list(self._unheard.items()):
            self._unheard[number] = message, now
            self._publish(number, message)
        self._attempted.set()

    def _end(self, _: str) -> None:
        self._lost.set()
        if self.is_connected:
            self.is_connected = False
            self._cut_off()

    async def _watch(self, wire: Wire) -> None:
        """Return when it is of no use any more."""
        wire.hurry(_PATIENCE)
        loop = asyncio.get_running_loop()
        while not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_BEAT):
                    await self._lost.wait()
                    return
            await wire.call(_PING)
            oldest = next(iter(self._unheard.values()), None)
            if oldest is not None and loop.time() - oldest[1] > _PATIENCE:
                return

    def _publish(self, number: bytes, message: bytes) -> None:
        self._store.say(self._key, command("PUBLISH", self._key, b"%b %b %b" % (self._me, number, message)))

    def _heard(self, said: bytes) -> None:
        who, _, rest = said.partition(b" ")
        number, _, message = rest.partition(b" ")
        if who == self._me:
            self._unheard.pop(number, None)
        else:
            self.heard += 1
            self._hear(message)
