"""By when something has to come of a client on its connection: one timer for the connection's whole life.

It is set again only when it rings or has to ring earlier: most requests are answered long before, and so never touch
the loop's timers.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final, Protocol

# The timer of a loop may ring this much early: uvloop counts in milliseconds.
_TICK: Final = 0.001


class Overdue(Protocol):
    """What is done once a time is over."""

    def write_is_late(self) -> None: ...

    def rest_is_over(self) -> None: ...

    def head_is_late(self) -> None: ...


class Deadlines:
    """The times of one connection.

    Attributes:
        head: by when a request's head has to be here; by the loop's clock as the others, and `inf` where there is none.
        rest: by when another request has to begin.
        write: by when the client has to take more of its answer.
    """

    __slots__ = ("_alarm", "_at", "_loop", "_overdue", "head", "rest", "write")

    def __init__(self, loop: asyncio.AbstractEventLoop, overdue: Overdue) -> None:
        self._loop = loop
        self._overdue: Overdue | None = overdue
        self._alarm: asyncio.TimerHandle | None = None
        self._at = inf
        self.head = self.rest = self.write = inf

    def within(self, seconds: float) -> float:
        """The time in so many seconds, by which this looks whether it is one of its own."""
        when = self._loop.time() + seconds
        if when < self._at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._ring_at(when)
        return when

    def end(self) -> None:
        """The connection is over, and nothing can be late on it."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._at = -inf
        self._alarm = self._overdue = None  # it holds this

    def _ring_at(self, when: float) -> None:
        self._at = when
        self._alarm = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm, self._at = None, inf
        now = self._loop.time() + _TICK
        overdue = self._overdue
        assert overdue is not None  # noqa: S101 - `end` has cancelled the timer
        if self.write <= now:
            overdue.write_is_late()
        elif self.rest <= now:
            overdue.rest_is_over()
        elif self.head <= now:
            overdue.head_is_late()
        elif (following := min(self.write, self.rest, self.head)) < inf:
            self._ring_at(following)
