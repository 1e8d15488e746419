"""How long a request waits for services: what is left of its time is the gateway's own."""

from __future__ import annotations

from collections.abc import Callable


class Waits:
    """Of one request, in `scope["bff.waits"]`: waits side by side count once, and none after its answer has begun.

    Args:
        clock: in seconds.

    Attributes:
        begun: when the answer began; None until then.
        total: seconds that were waited until then.
    """

    __slots__ = ("_clock", "_since", "_under_way", "begun", "total")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._under_way = 0
        self._since = self.total = 0.0
        self.begun: float | None = None

    def enter(self) -> None:
        if not self._under_way:
            self._since = self._clock()
        self._under_way += 1

    def leave(self) -> None:
        self._under_way -= 1
        if not self._under_way and self.begun is None:
            self.total += self._clock() - self._since

    def end(self) -> None:
        """The answer begins."""
        if self.begun is None:
            self.begun = self._clock()
            if self._under_way:
                self.total += self.begun - self._since
