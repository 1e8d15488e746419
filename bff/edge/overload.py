"""No more requests at a time than are answered in time: beyond that refused at once, those of important callers last.

The bound follows the latency that the gateway itself adds: how late its event loop is. A request crosses the loop a
dozen times or more, and waits for its turn each time; what it waits for a slow service is not in it, for which there
are bulkheads and breakers, nor most of what the loop waits while others have the processor. As in Envoy's adaptive
concurrency [1] and Netflix's concurrency-limits [2] the bound is multiplied by a gradient, the latency aimed at over
the latency measured, and grows by the square root of itself. That a single late turn is no overload, and the least of
several in a row is, is from CoDel [3].

[1] https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter
[2] https://github.com/Netflix/concurrency-limits  [3] https://www.rfc-editor.org/rfc/rfc8289
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from math import sqrt
from pathlib import Path
from random import Random
from typing import Annotated, Final, Literal, Protocol, cast

from prometheus_client import Counter, Gauge
from pydantic import Field
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.answer import Answer
from bff.core.errors import Overloaded
from bff.core.identity import Caller
from bff.core.settings import Duration, Rate, Settings
from bff.core.telemetry import Telemetry

Priority = Literal["low", "normal", "high"]

# Of the bound: the rest is kept for those above. Where nobody is above, it is all theirs.
_SHARES: Final[Mapping[Priority, float]] = {"low": 0.6, "normal": 0.85, "high": 1.0}
_EVERY: Final = 0.02
_IN_A_ROW: Final = 3
_STEEPEST: Final = 0.5
# What a processor was given to others for is not our queue; but whoever is to blame, four times as late is too late.
_LEAST_SHARE: Final = 0.25
# Refused clients come again at different times, and are told of none later than this.
_AWAY: Final = (0.5, 3.0)
_LONGEST: Final = 10.0
# Of the bound: below it there is room for those who were refused.
_CLEAR: Final = 0.75
# Where more than the next request waits: other streams, the rest of a body, or the answer itself.
_SHORT: Final = 0.5
# To refuse so many, each ten times a second, leaves most of a processor for the rest.
_FEW: Final = 128
# What the system says of a thread's time: run, waited, and how often.
_SCHEDULED: Final = Path("/proc/thread-self/schedstat")
_MOMENT: Final = 0.1


class OverloadSettings(Settings):
    mode: Literal["off", "measure", "enforce"] = "enforce"
    """Of the bound that adapts: `measure` counts what it would refuse; `server.max_in_flight` holds in any case."""
    lag: Annotated[Duration, Field(ge=0.001, le=10)] = 0.02
    """How late the event loop may be, again and again, before fewer requests are let in."""
    min_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 16
    """Below this the bound does not fall."""
    refusals: Rate = Rate(100, 1)
    """How fast connections whose requests were refused are listened to again, all in all, where more than 128 are."""


class Gradient:
    """The bound, between `least` and `most`, that keeps the loop's lag at about `target` seconds."""

    def __init__(self, least: int, most: int, target: float) -> None:
        self._least, self._most, self._target = float(min(least, most)), float(most), target
        self._lags = [0.0] * _IN_A_ROW
        self.limit = self._most

    @property
    def relaxed(self) -> bool:
        return self.limit >= self._most

    def observe(self, lag: float, peak: int) -> None:
        """Take one more measurement, and how many requests were in flight at most since the last one."""
        self._lags = [*self._lags[1:], lag]
        standing = min(self._lags)
        if standing <= self._target:
            self.limit = min(self._most, self.limit + sqrt(self.limit))
            return
        used = min(self.limit, max(float(peak), self._least))
        gradient = max(_STEEPEST, self._target / standing)
        self.limit = min(self._most, max(self._least, used * gradient + sqrt(used)))


def waited_for_processor() -> float:
    """Seconds that this thread could have run, and others did; 0 where the system does not say."""
    try:
        with _SCHEDULED.open("rb", buffering=0) as file:
            return int(file.read(128).split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Load:
    """What is in flight, and how much may be.

    In flight is a request from the end of its body, since a slow client is no work, until its answer begins.

    Attributes:
        lag: how late the loop was when last looked, in seconds.
    """

    def __init__(
        self,
        settings: OverloadSettings,
        max_in_flight: int,
        priorities: Mapping[str, Priority],
        telemetry: Telemetry,
        random: Random,
        clock: Callable[[], float] = time.perf_counter,
        waited: Callable[[], float] = waited_for_processor,
    ) -> None:
        self._mode, self._cap, self._random = settings.mode, max_in_flight, random
        self._clock, self._waited = clock, waited
        self.gradient = Gradient(settings.min_in_flight, max_in_flight, settings.lag)
        self._priorities = dict(priorities)
        most = max(map(_SHARES.__getitem__, ("normal", *priorities.values())))
        self._shares = {name: share / most for name, share in _SHARES.items()}
        self._of_all: Priority | Literal["any"] = "any" if {"normal", *priorities.values()} > {"normal"} else "normal"
        self._apart = settings.refusals.per / settings.refusals.amount
        self._held: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self.in_flight = self._peak = 0
        self.lag = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._due = self._waited_before = 0.0
        self._measure(telemetry)

    def _measure(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "bff_in_flight": ("Requests in flight.", lambda: self.in_flight),
            "bff_in_flight_limit": ("How many may be, by what was measured.", lambda: self.gradient.limit),
            "bff_event_loop_lag_seconds": ("How late the event loop is.", lambda: self.lag),
            "bff_refused_connections": ("Connections that are not listened to for a while.", lambda: len(self._held)),
        }
        for name, (documentation, value) in gauges.items():
            Gauge(name, documentation, registry=registry).set_function(value)
        decisions = Counter(
            "bff_overload_decisions", "Requests that were too many.", ["priority", "decision"], registry=registry
        )
        self._refused = {
            (priority, decision): decisions.labels(priority, decision)
            for priority in (*_SHARES, "any")
            for decision in ("refused", "measured")
        }

    def is_full(self) -> bool:
        """Whether there is no place for anybody."""
        return self.in_flight >= self._cap or (self._mode == "enforce" and self.in_flight >= self.gradient.limit)

    def enter(self, tier: str) -> Place:
        """A place for a request of this tier, to be taken once its body is here.

        Raises:
            Overloaded: there is none.
        """
        self.admit(tier)
        return Place(self)

    def admit(self, tier: str) -> None:
        """Refuse a request of this tier, if there is no place for it.

        Raises:
            Overloaded: that is so.
        """
        priority = self._priorities.get(tier, "normal")
        share = self._shares[priority]
        if self.in_flight >= self._cap * share:
            raise self.refusal(priority)
        if self._mode != "off" and self.in_flight >= self.gradient.limit * share:
            if self._mode == "enforce":
                raise self.refusal(priority)
            self._refused[priority, "measured"].inc()

    def refusal(self, priority: Priority | None = None) -> Overloaded:
        """Why somebody is refused, and for how long; without a priority it was not looked who it is."""
        self._refused[priority or self._of_all, "refused"].inc()
        of_all = self.in_flight >= self._cap
        why = "as many as server.max_in_flight allows" if of_all else "more than it answers in time"
        away = max(self._random.uniform(*_AWAY), min(_LONGEST, len(self._held) * self._apart))
        return Overloaded(f"The gateway has {why}: come again a little later", retry_after=away)

    async def refuse(self, scope: Scope, refusal: Overloaded) -> None:
        """Leave time for the rest: who is refused is not listened to for a moment.

        Where many are, until it is to come again, or there is room.

        Raises:
            Overloaded: the refusal.
        """
        away = cast("float", refusal.retry_after)
        exchange: Exchange | None = scope.get("bff.exchange")
        if exchange is not None:
            alone = exchange.body_is_here and scope["http_version"] != "2"
            longest = _MOMENT if len(self._held) < _FEW else away if alone else _SHORT
            self._hold(exchange.hold(), min(away, longest))
        elif scope["type"] == "websocket":  # its connection ends with the answer, and the next one begins
            await asyncio.sleep(min(away, _SHORT))
        raise refusal

    def _hold(self, listen: Callable[[], None], seconds: float) -> None:
        if listen not in self._held:
            self._held[listen] = asyncio.get_running_loop().call_later(seconds, self._listen, listen)
            self._watch_on()

    def _listen(self, listen: Callable[[], None]) -> None:
        self._held.pop(listen).cancel()
        listen()

    def taken(self) -> None:
        self.in_flight += 1
        if self.in_flight > self._peak:  # noqa: PLR1730 - it is three times as fast
            self._peak = self.in_flight
        self._watch_on()

    def left(self) -> None:
        self.in_flight -= 1

    def _watch_on(self) -> None:
        if self._watch is None or not self._loop.is_running():
            self._look_later(self._waited())

    def _look_later(self, waited: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._waited_before = waited
        self._due = self._clock() + _EVERY
        self._watch = self._loop.call_later(_EVERY, self._look)

    def _look(self) -> None:
        self.lag = max(0.0, self._clock() - self._due)
        waited = self._waited()
        ran = 1 - (waited - self._waited_before) / (_EVERY + self.lag)
        self.gradient.observe(self.lag * max(_LEAST_SHARE, ran), self._peak)
        # Clearly, and for all the time since the last look: else whoever has just been answered asks again for it.
        room = int(min(self._cap, self.gradient.limit) * _CLEAR) - self._peak
        self._peak, self._watch = self.in_flight, None
        for listen in list(islice(reversed(self._held), max(0, room))):
            self._listen(listen)
        if self.in_flight or self._held or not self.gradient.relaxed:
            self._look_later(waited)


class Place:
    """One request's place among those in flight; taken once and left once, however often that is said."""

    __slots__ = ("_load", "_taken")

    def __init__(self, load: Load) -> None:
        self._load: Load | None = load
        self._taken = False

    def take(self) -> None:
        if self._load is not None and not self._taken:
            self._taken = True
            self._load.taken()

    def leave(self) -> None:
        load, self._load = self._load, None
        if load is not None and self._taken:
            load.left()


class Exchange(Protocol):
    """What our own server offers beside ASGI, in `scope["bff.exchange"]`."""

    body_is_here: bool
    """Whether all of the request's body is."""

    def on_body(self, call: Callable[[], None]) -> None:
        """Have this called once all of the request's body is here: now, if it is."""

    def hold(self) -> Callable[[], None]:
        """Read nothing more from this connection, until what is returned is called."""


class Full:
    """Before auth and all that it costs: where there is no place for anybody, it does not matter who asks."""

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self.app = app
        self.load = load

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self.load.is_full():
            return self.load.refuse(scope, self.load.refusal())
        app = self.app
        return app(scope, receive, send)


class Overload:
    """After auth, since it depends on the caller's tier who goes first; before limits: what is refused costs nothing.

    A websocket is let in like a request and is not in flight; each of its operations takes a place by
    `scope["bff.place"]`, a function of its caller.
    """

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self.app = app
        self.load = load

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        caller: Caller | None = scope.get("bff.caller")
        if caller is None:
            return self.app(scope, receive, send)
        try:
            self.load.admit(caller.tier)
        except Overloaded as refusal:
            return self.load.refuse(scope, refusal)
        if scope["type"] == "websocket":
            scope["bff.place"] = self._place
            return self.app(scope, receive, send)
        answer: Answer = scope["bff.answer"]
        exchange: Exchange | None = scope.get("bff.exchange")
        if exchange is None or exchange.body_is_here:
            self.load.taken()
            answer.on_begin = self.load.left
        else:
            place = Place(self.load)
            answer.on_begin = place.leave
            exchange.on_body(place.take)
        app = self.app
        return app(scope, receive, send)

    def _place(self, caller: Caller) -> Place:
        place = self.load.enter(caller.tier)
        place.take()
        return place
