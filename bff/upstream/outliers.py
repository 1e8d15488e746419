"""Deployments that fail calls are left out for a while, within bounds; after Envoy's outlier detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final

import httpx
from pydantic import Field

from bff.core.settings import Duration, Percent, Settings
from bff.upstream.phases import Phase, RefusedError, phase_of
from bff.upstream.target import Target

_OUR_OWN: Final = (RefusedError, httpx.PoolTimeout, httpx.LocalProtocolError, httpx.UnsupportedProtocol)
_LONGEST: Final = 10  # times `eject`, for one that fails again and again


class OutlierSettings(Settings):
    """When a target is left out for what it did to calls. With one target alone there is nothing to leave out."""

    consecutive_errors: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Answers of 5xx and failures, one after the other, after which a target is ejected."""
    eject: Annotated[Duration, Field(ge=0.1)] = 30.0
    """For how long; each time again so much longer, up to ten times."""
    max_ejected: Percent = 0.5
    """Of all targets of the service, at most so many at a time, and at least one unless it is `0%`: then none."""
    panic: Percent = 0.3
    """An arm of which less is left counts as down as a whole; where all arms are, calls go to all targets."""


class Outliers:
    """Judges the targets of one service by what came of calls.

    Args:
        settings: how.
        targets: of all arms.
        clock: the loop's.
        ejected: told of each ejection.
    """

    def __init__(
        self,
        settings: OutlierSettings,
        targets: Sequence[Target],
        clock: Callable[[], float],
        ejected: Callable[[Target], None],
    ) -> None:
        self._settings = settings
        self._targets = targets
        self._most = max(1, int(len(targets) * settings.max_ejected)) if settings.max_ejected else 0
        self._clock = clock
        self._told = ejected

    def answered(self, target: Target, status: int) -> None:
        if status >= 500:
            self._count(target, f"answered {status}")
        elif target.errors or target.ejections:
            target.errors = 0
            if target.ejections and self._clock() > target.ejected_until + self._settings.eject:
                target.ejections = 0

    def failed(self, target: Target, error: httpx.TransportError, *, hurried: bool) -> None:
        # What never left, for want of room here or for what it was, says nothing of who was to get it; nor does what
        # had less time than a service is given, or none at all.
        hurried = hurried or phase_of(error) is Phase.DEADLINE
        if isinstance(error, _OUR_OWN) or (hurried and isinstance(error, httpx.TimeoutException)):
            return
        self._count(target, type(error).__name__)

    def _count(self, target: Target, why: str) -> None:
        target.errors += 1
        now = self._clock()
        if target.errors < self._settings.consecutive_errors or now < target.ejected_until:
            return
        if sum(now < each.ejected_until for each in self._targets) < self._most:
            target.errors = 0
            target.times_ejected += 1
            target.ejections = min(target.ejections + 1, _LONGEST)
            target.ejected_until = now + self._settings.eject * target.ejections
            target.ejected_for = f"{self._settings.consecutive_errors} failures in a row, the last: {why}"
            self._told(target)
