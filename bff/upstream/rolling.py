"""How often things happened of late: counts over a window that moves on in slots, so that adding costs little."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

SLOTS: Final = 10


class Rolling:
    """Counts of `kinds` things in the last `seconds`.

    Attributes:
        totals: how often each happened in the window; call `look` first.
    """

    __slots__ = ("_clock", "_ends", "_newest", "_older", "_width", "totals")

    def __init__(self, seconds: float, kinds: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._width = seconds / SLOTS
        self._ends = clock() + self._width
        self._older: deque[list[int]] = deque([[0] * kinds for _ in range(SLOTS - 1)])
        self._newest = [0] * kinds
        self.totals = [0] * kinds

    def add(self, kind: int) -> None:
        now = self._clock()
        if now >= self._ends:
            self._move_on(now)
        self._newest[kind] += 1
        self.totals[kind] += 1

    def look(self) -> None:
        """Let go of what is no longer in the window."""
        now = self._clock()
        if now >= self._ends:
            self._move_on(now)

    def clear(self) -> None:
        for counts in (*self._older, self._newest, self.totals):
            counts[:] = [0] * len(counts)

    def _move_on(self, now: float) -> None:
        steps = int((now - self._ends) / self._width) + 1
        self._ends += steps * self._width
        if steps >= SLOTS:
            self.clear()
            return
        for _ in range(steps):
            self._older.append(self._newest)
            self._newest = self._older.popleft()
            for kind, count in enumerate(self._newest):
                self.totals[kind] -= count
                self._newest[kind] = 0
