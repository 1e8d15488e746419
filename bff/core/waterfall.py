"""What one request did at services, call by call and phase by phase: taken down as it happens, laid out when asked for.

Nothing here says what was asked for, only how: paths are templates, keys are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any, Final

import msgspec

Span = tuple[float, float]

_CANCELLED: Final = "cancelled"
_ERROR: Final = 500


class Read(msgspec.Struct, frozen=True, gc=False):
    """What a call is made for.

    Attributes:
        name: of the batched read, or of the call, as `orders.orders_by_user`.
        keys: in this call.
        asked: by fields, those that came more than once included, over all calls of the batch.
        hits: of the batch's keys, how many the request had read already.
        since: when the first of them was asked for, by `perf_counter`; 0 where that is when the call began.
    """

    name: str
    keys: int = 0
    asked: int = 0
    hits: int = 0
    since: float = 0.0


class Timing(msgspec.Struct, eq=False):
    """One attempt at a target. Times are by `perf_counter`.

    Attributes:
        status: of the answer; 0 where there is none.
        failed: the phase that failed, or `cancelled`.
        reused: whether it went over a connection that was open already; None where nobody knows.
    """

    target: object  # which is written out only if somebody looks
    arm: str
    started: float = msgspec.field(default_factory=perf_counter)
    ended: float = 0.0
    status: int = 0
    failed: str = ""
    reused: bool | None = None
    _phases: list[tuple[str, float]] = []

    def enter(self, phase: str) -> None:
        """It gets on to this phase now."""
        self._phases.append((phase, perf_counter()))

    def end(self) -> None:
        self.ended = perf_counter()

    def phases(self) -> dict[str, float]:
        """Seconds in each, in their order."""
        found: dict[str, float] = {}
        for (phase, began), (_, next_began) in pairwise([*self._phases, ("", self.ended)]):
            name = str(phase)  # of an enum, whose members are no names to JSON
            found[name] = found.get(name, 0.0) + max(0.0, next_began - began)
        return found


class Call(msgspec.Struct, eq=False):
    """One call of a service, all attempts at it included.

    Attributes:
        what: method and path, as a template.
        status: of the answer; 0 where there is none.
        failed: the phase that failed, or `cancelled`.
        cached: how many of its records the gateway had already; with all of them, the service had no call.
        joined: whether it shared another request's call, so that the service had none of its own.
        went_wrong: whether it failed, for a reason that is not that nobody waited any more.
    """

    service: str
    what: str
    read: Read | None
    started: float = msgspec.field(default_factory=perf_counter)
    ended: float = 0.0
    status: int = 0
    failed: str = _CANCELLED
    joined: bool = False
    went_wrong: bool = False
    cached: int = 0
    attempts: list[Timing] = []

    def attempt(self, target: object, arm: str) -> Timing:
        timing = Timing(target, arm)
        self.attempts.append(timing)
        return timing

    def answered(self, status: int) -> None:
        self.status, self.failed, self.went_wrong = status, "", status >= _ERROR
        self.ended = perf_counter()

    def fail(self, phase: str) -> None:
        self.failed, self.went_wrong = phase, phase != _CANCELLED
        self.ended = perf_counter()

    @property
    def since(self) -> float:
        """When it was known that it would be made: what had not ended by then, it did not wait for."""
        return (self.read and self.read.since) or self.started

    def span(self, until: float) -> Span:
        """When it was under way, its body included where that streams; `until`: of the request."""
        ended = max([self.ended, *(each.ended for each in self.attempts)])
        return min(self.started, until), min(ended, until) if self.ended else until


class Waterfall(msgspec.Struct, eq=False):
    """The calls of one request, in the order in which they began.

    Args:
        most: calls that are taken down; of others there is only the number, `left_out`.
        started: when the request began, by `perf_counter`.
    """

    _most: int
    started: float = msgspec.field(default_factory=perf_counter)
    calls: list[Call] = []
    left_out: int = 0

    def call(self, service: str, what: str, read: Read | None = None) -> Call | None:
        """One that begins now; None if there are too many to take down."""
        if len(self.calls) >= self._most:
            self.left_out += 1
            return None
        call = Call(service, what, read)
        self.calls.append(call)
        return call

    def went_wrong(self) -> bool:
        """Whether a call did."""
        for each in self.calls:  # noqa: SIM110 - most requests have one call, for which `any` would cost more
            if each.went_wrong:
                return True
        return False

    def laid_out(self, until: float, *, targets: bool) -> dict[str, Any]:
        """All of it as JSON, in milliseconds from the request's begin.

        Args:
            until: when the request ended, by `perf_counter`.
            targets: whether to say where services are, which is for operators only.
        """
        spans = [each.span(until) for each in self.calls]
        since = [each.since for each in self.calls]
        waves, path = _waves(spans, since), critical_path(spans, since)
        return {
            "waves": max(waves, default=0),
            "gateway_ms": _ms(until - self.started - _covered(spans)),
            "critical_path": {"calls": path, "ms": _ms(sum([spans[at][1] - spans[at][0] for at in path]))},
            "waterfall": [
                self._row(call, span, waves[at], critical=at in path, targets=targets)
                for at, (call, span) in enumerate(zip(self.calls, spans, strict=True))
            ],
            "left_out": self.left_out,
        }

    def by_service(self, until: float) -> dict[str, tuple[int, float]]:
        """How many calls of each, and for how many seconds any of them was under way."""
        spans: dict[str, list[Span]] = {}
        for each in self.calls:
            spans.setdefault(each.service, []).append(each.span(until))
        return {service: (len(of), _covered(of)) for service, of in spans.items()}

    def _row(self, call: Call, span: Span, wave: int, *, critical: bool, targets: bool) -> dict[str, Any]:
        read = call.read
        return {
            "service": call.service,
            "call": call.what,
            "read": read and read.name,
            "keys": read and read.keys,
            "asked": read and read.asked,
            "hits": read and read.hits,
            "wave": wave,
            "start_ms": _ms(span[0] - self.started),
            "ms": _ms(span[1] - span[0]),
            "status": call.status or None,
            "failed": call.failed or None,
            "joined": call.joined,
            "cached": call.cached,
            "critical": critical,
            "attempts": [self._attempt(each, targets=targets) for each in call.attempts],
        }

    def _attempt(self, timing: Timing, *, targets: bool) -> dict[str, Any]:
        return {
            **({"target": str(timing.target)} if targets else {}),
            "arm": timing.arm or None,
            "start_ms": _ms(timing.started - self.started),
            "ms": _ms(timing.ended - timing.started),
            "status": timing.status or None,
            "failed": timing.failed or None,
            "reused": timing.reused,
            "phases": {phase: _ms(seconds) for phase, seconds in timing.phases().items()},
        }


def critical_path(spans: Sequence[Span], since: Sequence[float]) -> list[int]:
    """The calls that were waited for, first to last: before each the one that had ended last when it was asked for.

    No two of them overlap, so together they take no longer than the request.
    """
    path: list[int] = []
    before = float("inf")
    while candidates := [at for at, span in enumerate(spans) if span[1] <= before and at not in path]:
        last = max(candidates, key=lambda at: spans[at][1])
        path.append(last)
        before = min(spans[last][0], since[last])
    return path[::-1]


def _covered(spans: Iterable[Span]) -> float:
    """How long at least one of them lasted."""
    total, reached = 0.0, float("-inf")
    for started, ended in sorted(spans):
        if ended > reached:
            total += ended - max(started, reached)
            reached = ended
    return total


def _waves(spans: Sequence[Span], since: Sequence[float]) -> list[int]:
    """From 1 on: one more than the last wave of which a call had ended when this one was asked for."""
    waves = [0] * len(spans)
    ends = sorted(range(len(spans)), key=lambda at: spans[at][1])
    seen = reached = 0
    for at in sorted(range(len(spans)), key=lambda at: since[at]):
        while seen < len(ends) and spans[ends[seen]][1] <= since[at] and waves[ends[seen]]:
            reached = max(reached, waves[ends[seen]])
            seen += 1
        waves[at] = reached + 1
    return waves


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)
