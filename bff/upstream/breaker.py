"""A target that fails is left alone for a while, then tried by a few calls, then by more and more of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import httpx
from prometheus_client import Counter, Gauge
from pydantic import Field

from bff.core.settings import Duration, Percent, Settings
from bff.core.telemetry import Telemetry
from bff.upstream.bodies import on_end
from bff.upstream.phases import Phase, RefusedError, phase_of
from bff.upstream.rolling import Rolling

Share = Annotated[Percent, Field(gt=0)]

_GOOD, _FAILED, _SLOW = range(3)
# Of a service's time; who had less of it may just have been in a hurry.
_ENOUGH: Final = 0.5


class BreakerSettings(Settings):
    errors: Share = 0.5
    """The share of failed calls from which on the target is left alone."""
    slow_after: Duration | None = None
    """From when on a call that succeeded counts as slow; by default none does."""
    slow: Share = 0.5
    """The share of slow and failed calls from which on the target is left alone."""
    minimum: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Calls within `window`, below which nothing is concluded."""
    window: Annotated[Duration, Field(ge=0.1)] = 10.0
    """How long a call counts."""
    open: Annotated[Duration, Field(ge=0.01)] = 5.0
    """How long the target is left alone before it is tried again."""
    probes: Annotated[int, Field(ge=1, le=1000)] = 3
    """Calls at a time by which it is tried, then: one that succeeds begins the ramp, one that fails ends the trial."""
    ramp: Duration = 5.0
    """Over which the calls that may be under way at a time grow from `probes` to all."""


class State(StrEnum):
    CLOSED = "closed"
    """All calls pass."""
    OPEN = "open"
    """None do."""
    HALF_OPEN = "half_open"
    """A few do, to see."""
    RAMP = "ramp"
    """More and more do."""


# What is read of an enum's class takes several times as long as a name.
_CLOSED, _HALF_OPEN = State.CLOSED, State.HALF_OPEN


class Breaks:
    """By which the breakers of all targets are counted and logged; targets are the configuration's."""

    def __init__(self, telemetry: Telemetry) -> None:
        labels, registry = ["service", "target"], telemetry.registry
        self.log = telemetry.log
        self.state = Gauge(
            "http_client_breaker_state",
            "Of each target: 0 closed, 1 ramp, 2 half open, 3 open.",
            labels,
            registry=registry,
        )
        self.opened = Counter("http_client_breaker_opened", "Times that a breaker opened.", labels, registry=registry)
        self.refused = Counter(
            "http_client_breaker_refused", "Calls that a breaker did not let pass.", labels, registry=registry
        )


_OURS = (RefusedError, httpx.PoolTimeout, httpx.LocalProtocolError, httpx.UnsupportedProtocol)
_LEVELS = {State.CLOSED: 0, State.RAMP: 1, State.HALF_OPEN: 2, State.OPEN: 3}


class Breaker(httpx.AsyncBaseTransport):
    """Judges one target by what becomes of the calls to it.

    Who leaves, what the service refuses (4xx), what our own policies refuse and what had too little time says nothing
    of the target, and does not count.

    Args:
        inner: what makes a call.
        service: its name.
        target: what this one of its deployments is called.
        settings: of the service.
        breaks: where it is counted.
        timeout: seconds that a call is given.
        full: calls at a time, at which the ramp ends.
        clock: the loop's.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        service: str,
        target: str,
        settings: BreakerSettings,
        breaks: Breaks,
        timeout: float,
        full: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self.state = State.CLOSED
        self.in_flight = 0
        self.why = ""
        self._named = {"service": service, "target": target}
        self._settings, self._breaks, self._clock = settings, breaks, clock
        self._enough, self._full = timeout * _ENOUGH, max(full, settings.probes)
        self._slow_after = settings.slow_after
        self._calls = Rolling(settings.window, 3, clock)
        self._since = clock()
        self._epoch = self._probing = 0
        self._gauge = breaks.state.labels(**self._named)
        self._opened, self._refused = breaks.opened.labels(**self._named), breaks.refused.labels(**self._named)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.state is not _CLOSED and not self.admits():
            self._refused.inc()
            raise RefusedError(f"left alone: {self.why}", request, Phase.BREAKER, self.opens_in)
        began, epoch = self._clock(), self._epoch
        self.in_flight += 1
        self._probing += 1
        try:
            response = await self.inner.handle_async_request(request)
        except BaseException as error:
            self._ended(epoch, request, began, error)
            raise
        if response.status_code >= 500:
            self._over(epoch, _FAILED, f"status {response.status_code}")
        elif hasattr(response.stream, "content"):
            self._answered(epoch, began)
        else:
            on_end(response, partial(self._ended, epoch, request, began))
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()

    def admits(self) -> bool:
        """Whether a call that came now would pass."""
        now = self._clock()
        if self.state is State.OPEN and now - self._since >= self._settings.open:
            self._become(State.HALF_OPEN)
        match self.state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
            case State.HALF_OPEN:
                return self._probing < self._settings.probes
            case State.RAMP:
                passed = (now - self._since) / self._settings.ramp if self._settings.ramp else 1.0
                if passed >= 1:
                    self._become(State.CLOSED)
                    return True
                return self.in_flight < self._settings.probes + (self._full - self._settings.probes) * passed

    @property
    def opens_in(self) -> float:
        """Seconds until a call may pass again."""
        return max(0.0, self._since + self._settings.open - self._clock()) if self.state is State.OPEN else 1.0

    def shown(self) -> dict[str, object]:
        """What operators are told of it."""
        self._calls.look()
        good, failed, slow = self._calls.totals
        return {
            "state": self.state,
            "why": self.why,
            "since_s": round(self._clock() - self._since, 1),
            "next_probe_in_s": round(self.opens_in, 1) if self.state is State.OPEN else None,
            "calls": good + failed + slow,
            "failed": failed,
            "slow": slow,
        }

    def _ended(self, epoch: int, request: httpx.Request, began: float, error: BaseException | None) -> None:
        if error is None:
            self._answered(epoch, began)
        else:
            self._over(epoch, *self._judged(error, request, began))

    def _answered(self, epoch: int, began: float) -> None:
        if self._slow_after is not None and self._clock() - began > self._slow_after:
            self._over(epoch, _SLOW, f"slower than {self._slow_after:g} s")
        else:
            self._over(epoch, _GOOD)

    def _judged(self, error: BaseException, request: httpx.Request, began: float) -> tuple[int | None, str]:
        """What a call that failed says of the target, and why; None: nothing."""
        if not isinstance(error, httpx.TransportError) or isinstance(error, _OURS):
            return None, ""
        phase = phase_of(error)
        if isinstance(error, httpx.TimeoutException):
            hurried = request.extensions["origin"].hurried or request.extensions["until"] - began < self._enough
            # While a body is sent, it may be the client that is slow.
            if hurried or phase is Phase.SEND:
                return None, ""
        return _FAILED, f"{type(error).__name__} in phase {phase}"

    def _over(self, epoch: int, verdict: int | None, why: str = "") -> None:
        self.in_flight -= 1
        if epoch != self._epoch:
            return  # it began in another state, and says nothing of this one
        self._probing -= 1
        if verdict is None:
            return
        if self.state is not _HALF_OPEN:
            self._calls.add(verdict)
            if verdict != _GOOD:
                self._conclude(why)
        elif verdict != _GOOD:
            self._become(State.OPEN, f"a probe failed: {why}")
        else:
            self._become(State.RAMP if self._settings.ramp else State.CLOSED)

    def _conclude(self, why: str) -> None:
        good, failed, slow = self._calls.totals
        total = good + failed + slow
        if total < self._settings.minimum:
            return
        if failed >= self._settings.errors * total:
            self._become(State.OPEN, f"{failed} of {total} calls failed, the last one: {why}")
        elif slow and slow + failed >= self._settings.slow * total:
            self._become(State.OPEN, f"{slow + failed} of {total} calls failed or were slow, the last one: {why}")

    def _become(self, state: State, why: str = "") -> None:
        self.state, self._since = state, self._clock()
        self._epoch += 1
        self._probing = 0
        if why or state is State.CLOSED:
            self.why = why
        self._calls.clear()
        self._gauge.set(_LEVELS[state])
        if state is State.OPEN:
            self._opened.inc()
        self._breaks.log.warning("breaker", **self._named, state=state, why=self.why)
