"""Calls that failed made once more: those that may be, never past the deadline, and never so many as to do harm."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from enum import StrEnum
from random import Random
from typing import Annotated, Any, Final, Literal

import httpx
from opentelemetry.trace import get_current_span
from prometheus_client import Counter
from pydantic import Field

from bff.core.settings import Duration, Percent, Settings
from bff.core.telemetry import Telemetry
from bff.upstream.phases import RefusedError, phase_of

# RFC 9110 §9.2.2. A call of any other method may be repeated where its client has given it a key to be known by.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_KEY: Final = "idempotency-key"

Status = Annotated[int, Field(ge=400, le=599)]


class RetrySettings(Settings):
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """Of one call at most, the first one included; 1: no call is repeated."""
    on: tuple[Literal["connect", "reset", "timeout"] | Status, ...] = ("connect", "reset", "timeout", 502, 503, 504)
    """What is worth another attempt: no connection, one that died, no answer in time, or these statuses."""
    budget: Percent = 0.2
    """Repeated calls per first one, of all that the gateway makes to the service; what is not spent in 10 s is lost."""
    floor: Annotated[int, Field(ge=0, le=1000)] = 3
    """Repeated calls a second that the budget always allows, for services that are seldom called."""
    wait: Duration = 0.025
    """Before a call is repeated: a random time up to this, twice as much before each further one."""
    max_wait: Duration = 0.25
    """The longest that such a time may be."""
    max_retry_after: Duration = 1.0
    """The longest `Retry-After` of a service that is waited for; after a longer one, its answer is the last."""


class Decision(StrEnum):
    """Whether a call that failed, and may be repeated, is."""

    MADE = "made"
    ATTEMPTS = "attempts"
    """It had all of its attempts."""
    LATER = "later"
    """The service wants more time than `max_retry_after`."""
    DEADLINE = "deadline"
    """No time is left."""
    OPERATION = "operation"
    """The GraphQL operation has repeated as many as it may."""
    BUDGET = "budget"


class Retries:
    """How many of them what all one operation calls may still repeat."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Repeats:
    """By which they are counted, of all services."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.log = telemetry.log
        self.counter = Counter(
            "http_client_retries",
            "Calls to services that failed and may be repeated, by whether they were, or why not.",
            ["service", "decision"],
            registry=telemetry.registry,
        )


class Budget:
    """What a service's repeated calls are paid from: first ones earn a share of one each, to be spent within 10 s.

    A repeat spends what was earned first. Were both counted over the last 10 s, calls that time out together and are
    repeated seconds later would leave a debt once they themselves were forgotten.
    """

    def __init__(self, settings: RetrySettings, clock: Callable[[], float]) -> None:
        self._share, self._floor, self._clock = settings.budget, settings.floor, clock
        self._second = clock() + 1.0
        self._earned = deque([0.0] * 10, maxlen=10)  # in each second, as far as it is not spent
        self._repeated = 0  # in the second that is under way

    def earn(self) -> None:
        self._look()
        self._earned[-1] += self._share

    def spend(self) -> bool:
        """Whether one more may be repeated; it is counted as such, then."""
        if not self.left:
            return False
        self._repeated += 1
        owed = 1.0
        for second, earned in enumerate(self._earned):
            paid = min(max(0.0, earned), owed)
            self._earned[second] -= paid
            owed -= paid
        self._earned[-1] -= owed  # what the floor lent, until the second is over
        return True

    def give_back(self) -> None:
        """What was spent on a call that was not sent after all."""
        self._look()
        self._repeated = max(0, self._repeated - 1)
        self._earned[-1] += 1.0

    @property
    def left(self) -> int:
        """How many may be repeated right now."""
        self._look()
        return max(0, int(sum(self._earned) + 1e-9), self._floor - self._repeated)

    def _look(self) -> None:
        late = self._clock() - self._second
        if late < 0:
            return
        self._earned[-1] = max(0.0, self._earned[-1])
        self._repeated = 0
        passed = int(late) + 1
        self._second += passed
        self._earned.extend([0.0] * min(passed, 10))


class Retry(httpx.AsyncBaseTransport):
    """Reads `extensions["until"]` and `["origin"]`; says how often a call was sent in the answer's `["attempts"]`.

    Args:
        inner: what makes one attempt.
        service: its name.
        settings: of the service.
        repeats: where it is counted.
        random: for the waits.
        clock: the loop's.
        sleep: waits.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        service: str,
        settings: RetrySettings,
        repeats: Repeats,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.inner = inner
        self.budget = Budget(settings, clock)
        self._service, self._settings, self._repeats = service, settings, repeats
        self._causes = frozenset(settings.on)
        self._least = min([500, *(each for each in settings.on if isinstance(each, int))])
        self._random, self._clock, self._sleep = random, clock, sleep
        for decision in Decision:
            repeats.counter.labels(service, decision)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.budget.earn()
        request.extensions["tried"] = []  # where it was, so that another attempt goes elsewhere
        attempt = 1
        before: httpx.TransportError | None = None
        while True:
            request.extensions["attempt"] = attempt
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = response = await self.inner.handle_async_request(request)
                if response.status_code < self._least:
                    response.extensions["attempts"] = attempt
                    return response
            except httpx.TransportError as error:
                outcome = error
            wait = self._wait(request, attempt, outcome)
            if wait is None:
                if attempt > 1 and isinstance(outcome, RefusedError):
                    self._give_back(request)
                    if before is not None:
                        # Nothing was sent: what the call came to is still what it came to before.
                        outcome, attempt = before, attempt - 1
                try:
                    return _last(outcome, attempt)
                finally:
                    del outcome, before  # an error leads back here by its traceback
            if isinstance(outcome, httpx.Response):
                await outcome.aclose()
                before = None
            else:
                before = outcome.with_traceback(None)
            del outcome
            if request.extensions.get("recorded"):
                get_current_span().add_event("retry", {"attempt": attempt + 1, "wait_s": round(wait, 4)})
            await self._sleep(wait)
            attempt += 1

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _wait(
        self, request: httpx.Request, attempt: int, outcome: httpx.Response | httpx.TransportError
    ) -> float | None:
        """Seconds until it is sent again; None if it is not."""
        if isinstance(outcome, RefusedError):
            return None
        wait, decision = 0.0, None
        cause = _cause(outcome)
        if cause in self._causes and _may_be_repeated(request, cause):
            wait, decision = self._decide(request, attempt, outcome)
            self._repeats.counter.labels(self._service, decision).inc()
        elif isinstance(outcome, httpx.Response) and outcome.status_code < 500:
            return None  # the caller's own fault is no failed attempt
        self._tell(request, attempt, outcome, decision)
        return wait if decision is Decision.MADE else None

    def _decide(
        self, request: httpx.Request, attempt: int, outcome: httpx.Response | httpx.TransportError
    ) -> tuple[float, Decision]:
        if attempt >= self._settings.attempts:
            return 0.0, Decision.ATTEMPTS
        wait = self._random.uniform(0, min(self._settings.max_wait, self._settings.wait * 2 ** (attempt - 1)))
        after = retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        if after is not None:
            if after > self._settings.max_retry_after:
                return 0.0, Decision.LATER
            wait += after
        if self._clock() + wait >= request.extensions["until"]:
            return 0.0, Decision.DEADLINE
        retries: Retries | None = request.extensions["origin"].retries
        if retries is not None and not retries.left:
            return 0.0, Decision.OPERATION
        if not self.budget.spend():
            return 0.0, Decision.BUDGET
        if retries is not None:
            retries.left -= 1
        return wait, Decision.MADE

    def _give_back(self, request: httpx.Request) -> None:
        self.budget.give_back()
        retries: Retries | None = request.extensions["origin"].retries
        if retries is not None:
            retries.left += 1

    def _tell(
        self,
        request: httpx.Request,
        attempt: int,
        outcome: httpx.Response | httpx.TransportError,
        decision: Decision | None,
    ) -> None:
        """The line of a failed attempt."""
        origin = request.extensions["origin"]
        failed: dict[str, Any] = (
            {"status": outcome.status_code}
            if isinstance(outcome, httpx.Response)
            else {"phase": phase_of(outcome), "error": type(outcome).__name__}
        )
        self._repeats.log.warning(
            "attempt_failed",
            request_id=origin.request_id,
            trace_id=origin.trace.trace_id,
            service=self._service,
            method=request.method,
            attempt=attempt,
            **failed,
            retry=decision or "unsafe",
        )


def _last(outcome: httpx.Response | httpx.TransportError, attempts: int) -> httpx.Response:
    if isinstance(outcome, httpx.Response):
        outcome.extensions["attempts"] = attempts
        return outcome
    try:
        # What one of our own policies did not let go was not sent.
        vars(outcome)["attempts"] = attempts - isinstance(outcome, RefusedError)
        raise outcome
    finally:
        del outcome  # its traceback leads here


def _cause(outcome: httpx.Response | httpx.TransportError) -> str | int | None:
    """What of `on` it is."""
    match outcome:
        case httpx.Response():
            return outcome.status_code
        case httpx.PoolTimeout():
            return None  # our own connections are all in use: asking for one more would help nobody
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return "connect"
        case httpx.TimeoutException():
            return "timeout"
        case httpx.NetworkError():
            return "reset"
    return None


def _may_be_repeated(request: httpx.Request, cause: str | int | None) -> bool:
    if cause == "connect":
        return True  # nothing was sent
    if not isinstance(request.stream, httpx.ByteStream):
        return False  # a body that streams is gone
    return request.method in _IDEMPOTENT or _KEY in request.headers


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that its service asks for (RFC 9110 §10.2.3); of a date, by the service's own clock."""
    value = response.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
