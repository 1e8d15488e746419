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


class _Slot:
    __slots__ = ("buckets", "failed", "number", "refused", "until")

    def __init__(self, number: int) -> None:
        self.number = number
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
        self._slots: dict[tuple[str, str], list[_Slot]] = {}
        self._last_failures: dict[str, str] = {}

    def request(self, route: str, operation: str, status: int, seconds: float) -> None:
        """One that a client was answered; `operation` is empty for those that have no name."""
        failed, refused = status >= 500, 400 <= status < 500
        self._add("routes", route, seconds, failed, refused)
        if operation:
            self._add("operations", operation, seconds, failed, refused)

    def call(self, service: str, outcome: str, seconds: float) -> None:
        """One attempt at a service; `outcome` as the metrics have it."""
        refused = outcome in {"4xx", "cancelled"}
        failed = not refused and outcome not in {"1xx", "2xx", "3xx"}
        if failed:
            self._last_failures[service] = outcome
        self._add("services", service, seconds, failed, refused)

    def _add(self, kind: str, name: str, seconds: float, failed: bool, refused: bool) -> None:
        now = self._clock()
        slots = self._slots.get((kind, name))
        if slots is None:
            if len(self._slots) >= _MOST:  # names are bounded where they come from; this is for all of them together
                return
            slots = self._slots[kind, name] = []
        if slots and now < slots[-1].until:
            slot = slots[-1]
        else:
            number = int(now) // SLOT
            slot = _Slot(number)
            slots.append(slot)
            if slots[0].number <= number - SLOTS:
                del slots[: next(at for at, each in enumerate(slots) if each.number > number - SLOTS)]
        slot.buckets[bisect_left(_BOUNDS, seconds)] += 1
        if failed:
            slot.failed += 1
        elif refused:
            slot.refused += 1

    def state(self) -> dict[str, Any]:
        """The last five minutes by route, operation and service, as numbers that add up: see `figures`."""
        now = self._clock()
        last = int(now) // SLOT
        kinds: dict[str, dict[str, Any]] = {"routes": {}, "operations": {}, "services": {}}
        for (kind, name), slots in self._slots.items():
            recent = [slot for slot in slots if slot.number > last - SLOTS]
            if recent:
                kinds[kind][name] = _counted(recent, last)
        return {
            "seconds": min(max(now - self._began, 1.0), SLOT * SLOTS),
            "last_failures": self._last_failures,
            **kinds,
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
