"""What passes, as an operator looks at it: rates, failures and latencies of the last minutes, by who they belong to."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

SLOT: Final = 5
"""Seconds that are counted together."""
SLOTS: Final = 60
"""How many of them are kept: five minutes."""
SHOWN: Final = 50
"""Of each kind, the busiest; the rest are kept, and counted in the whole."""

# Each a quarter longer than the one before, from 0.2 ms to a minute: what is said of a latency is that exact.
_BOUNDS: Final = tuple(0.0002 * 1.25**step for step in range(58))
_MOST: Final = 500


# What calls come to: `4xx` is the caller's doing, and for what is cancelled nobody waits; all else has failed.
_FAILED: Final = "failed"
_REFUSED: Final = "refused"
_OUTCOMES: Final = {"1xx": "", "2xx": "", "3xx": "", "4xx": _REFUSED, "cancelled": _REFUSED}


class _Slot:
    __slots__ = ("before", "buckets", "failed", "number", "refused", "until")

    def __init__(self, number: int, before: list[_Slot]) -> None:
        self.number = number
        self.before = before
        self.until = (number + 1) * SLOT
        self.failed = self.refused = 0
        self.buckets = [0] * (len(_BOUNDS) + 1)


class Traffic:
    """Counted as it passes, a microsecond a time, for the routes, the operations and the services that there are.

    For one thread, as all that is observed on the loop is.

    Args:
        clock: seconds, from whenever.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        # The newest slot of each name, which has those before it.
        self._routes: dict[str, _Slot] = {}
        self._operations: dict[str, _Slot] = {}
        self._services: dict[str, _Slot] = {}
        self._last_failures: dict[str, str] = {}

    def request(self, route: str, operation: str, status: int, seconds: float) -> None:
        """One that a client was answered; `operation` is empty for those that have no name."""
        verdict = "" if status < 400 else _REFUSED if status < 500 else _FAILED
        self._add(self._routes, route, seconds, verdict)
        if operation:
            self._add(self._operations, operation, seconds, verdict)

    def call(self, service: str, outcome: str, seconds: float) -> None:
        """One attempt at a service; `outcome` as the metrics have it."""
        verdict = _OUTCOMES.get(outcome, _FAILED)
        if verdict is _FAILED:
            self._last_failures[service] = outcome
        self._add(self._services, service, seconds, verdict)

    def _add(self, newest: dict[str, _Slot], name: str, seconds: float, verdict: str) -> None:
        slot = newest.get(name)
        if slot is None or self._clock() >= slot.until:
            slot = self._next(newest, name, slot)
            if slot is None:
                return
        slot.buckets[bisect_left(_BOUNDS, seconds)] += 1
        if verdict is _FAILED:
            slot.failed += 1
        elif verdict:
            slot.refused += 1

    def _next(self, newest: dict[str, _Slot], name: str, last: _Slot | None) -> _Slot | None:
        """The slot that is counted in from now on; None for one name too many."""
        number, before = int(self._clock()) // SLOT, list[_Slot]()
        if last is not None:
            before = [each for each in (*last.before, last) if each.number > number - SLOTS]
            last.before = []
        elif len(self._routes) + len(self._operations) + len(self._services) >= _MOST:
            return None  # names are bounded where they come from; this is for all of them together
        slot = newest[name] = _Slot(number, before)
        return slot

    def state(self) -> dict[str, Any]:
        """The last five minutes by route, operation and service, as numbers that add up: see `figures`."""
        now = self._clock()
        last = int(now) // SLOT
        return {
            "seconds": min(max(now - self._began, 1.0), SLOT * SLOTS),
            "last_failures": self._last_failures,
            "routes": _counted_by_name(self._routes, last),
            "operations": _counted_by_name(self._operations, last),
            "services": _counted_by_name(self._services, last),
        }

    def shown(self) -> dict[str, Any]:
        """The last five minutes: of all requests, and by route, operation and service, the busiest first."""
        return figures([self.state()])


def figures(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `Traffic.shown` says, of what several processes of one machine have seen."""
    seconds = max(each["seconds"] for each in states)
    kinds = {kind: _together([each[kind] for each in states]) for kind in ("routes", "operations", "services")}
    busiest = {
        kind: sorted(found.items(), key=lambda each: -sum(each[1]["counts"]))[:SHOWN] for kind, found in kinds.items()
    }
    shown = {kind: {name: _figures(each, seconds) for name, each in found} for kind, found in busiest.items()}
    failures = {name: why for each in states for name, why in each["last_failures"].items()}
    for name, each in shown["services"].items():
        each["last_failure"] = failures.get(name)
    whole = _figures(_sum([_NOTHING, *kinds["routes"].values()]), seconds)
    return {"seconds": round(seconds), "slot": SLOT, "all": whole, **shown}


def _counted_by_name(newest: Mapping[str, _Slot], last: int) -> dict[str, Any]:
    found = {}
    for name, slot in newest.items():
        recent = [each for each in (*slot.before, slot) if each.number > last - SLOTS]
        if recent:
            found[name] = _counted(recent, last)
    return found


def _counted(slots: Iterable[_Slot], last: int) -> dict[str, Any]:
    counted = _sum([_NOTHING])
    for slot in slots:
        at = slot.number - last - 1  # the newest is the last one
        counted["counts"][at] += sum(slot.buckets)
        counted["failures"][at] += slot.failed
        counted["refused"][0] += slot.refused
        counted["buckets"] = [one + other for one, other in zip(counted["buckets"], slot.buckets, strict=True)]
    return counted


_NOTHING: Final[Mapping[str, Sequence[int]]] = {
    "counts": [0] * SLOTS,
    "failures": [0] * SLOTS,
    "refused": [0],
    "buckets": [0] * (len(_BOUNDS) + 1),
}


def _together(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for each in said for name in each)
    return {name: _sum([each[name] for each in said if name in each]) for name in names}


def _sum(counted: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    return {part: [sum(column) for column in zip(*(each[part] for each in counted), strict=True)] for part in _NOTHING}


def _figures(counted: Mapping[str, list[int]], seconds: float) -> dict[str, Any]:
    total = sum(counted["counts"])
    return {
        "count": total,
        "rate": round(total / seconds, 3),
        "failed": sum(counted["failures"]),
        "refused": sum(counted["refused"]),
        **{f"p{share}_ms": _quantile(counted["buckets"], total, share / 100) for share in (50, 95, 99)},
        "counts": counted["counts"],
        "failures": counted["failures"],
    }


def _quantile(buckets: list[int], total: int, share: float) -> float | None:
    """In milliseconds, within the bucket as if it were evenly filled."""
    if not total:
        return None
    rank, before = share * total, 0
    for at, count in enumerate(buckets):
        if count and before + count >= rank:
            low = _BOUNDS[at - 1] if at else 0.0
            high = _BOUNDS[at] if at < len(_BOUNDS) else low
            return round((low + (high - low) * (rank - before) / count) * 1000, 2)
        before += count
    return None
