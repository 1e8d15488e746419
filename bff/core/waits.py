"""How long a request waits for services: what is left of its time is the gateway's own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Waits(msgspec.Struct, gc=False):
    """Of one request, in `scope["bff.waits"]`: waits side by side count once, and none after its answer has begun.

    Args:
        clock: in seconds.

    Attributes:
        begun: when the answer began; None until then.
        total: seconds that were waited until then.
    """

    _clock: Callable[[], float]
    begun: float | None = None
    total: float = 0.0
    _under_way: int = 0
    _since: float = 0.0

    def enter(self) -> None:
        if not self._under_way:
            self._since = self._clock()
        self._under_way += 1

    def leave(self) -> None:
        self._under_way -= 1
        if not self._under_way and self.begun is None:
            self.total += self._clock() - self._since

    @property
    def so_far(self) -> float:
        """Seconds until now, as long as the answer has not begun."""
        under_way = self._under_way and self.begun is None
        return self.total + (self._clock() - self._since if under_way else 0.0)

    def end(self) -> None:
        """The answer begins."""
        if self.begun is None:
            self.begun = self._clock()
            if self._under_way:
                self.total += self.begun - self._since
