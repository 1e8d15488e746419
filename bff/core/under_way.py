"""What a gateway has begun with and not ended, websockets among it: whoever ends the gateway waits for it."""

from __future__ import annotations

import asyncio


class UnderWay:
    """Requests, counted by whoever answers them.

    Attributes:
        count: how many there are.
    """

    __slots__ = ("_none", "count")

    def __init__(self) -> None:
        self.count = 0
        self._none: asyncio.Event | None = None

    def ended(self) -> None:
        """One has."""
        self.count -= 1
        if self._none is not None and not self.count:
            self._none.set()

    async def none_left(self) -> None:
        """Wait until there is none."""
        if self.count:
            self._none = self._none or asyncio.Event()
            await self._none.wait()
