"""Traces that were not sampled and turn out to be worth it: those of requests that failed or were slow.

Until then a request costs what one that is not recorded costs; its spans are made when it ends, of what is known by
then: the request's own, and one for each attempt at a service.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

from opentelemetry import context as otel
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from pydantic import Field

from bff.core.settings import Duration, Settings
from bff.core.telemetry import Ids, Telemetry
from bff.core.trace import Trace
from bff.core.waterfall import Call, Timing, Waterfall

_ERROR = 400  # of a client's span; of a server's, 500 (the conventions for HTTP spans)


class KeepSettings(Settings):
    errors: bool = True
    """Whether traces are kept of requests that failed (5xx) or had a call fail, though they were not sampled."""
    slow: Duration = 1.0
    """From which duration on a request's trace is kept; 0: none is for that."""
    per_second: Annotated[int, Field(ge=0, le=1000)] = 10
    """How many of them at most, so that a bad day costs no more than a good one."""


class Keep:
    """Decides at the end of a request, and makes the spans.

    Args:
        settings: what is kept.
        telemetry: where spans go.
        clock: by which attempts are timed.
        now: since 1970, in nanoseconds.
    """

    def __init__(
        self,
        settings: KeepSettings,
        telemetry: Telemetry,
        clock: Callable[[], float],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._telemetry, self._clock, self._now = telemetry, clock, now
        self._errors, self._slow, self._most = settings.errors, settings.slow, settings.per_second
        self._second, self._kept = 0.0, 0

    def wants(self, seconds: float, *, failed: bool) -> bool:
        """Whether it is worth it, `seconds` being the time to the begin of its answer; it is counted as kept, then."""
        if not (self._slow and seconds >= self._slow) and not (self._errors and failed):
            return False
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._kept = now, 0
        self._kept += 1
        return self._kept <= self._most

    def begin(self, trace: Trace, above: otel.Context, started: float, waterfall: Waterfall | None) -> Span:
        """The span of a request that has just ended, with those of its attempts, by the ids that it had all along."""
        tracer, ids = self._telemetry.tracer, self._telemetry.spans.id_generator
        since = self._now() - round(self._clock() * 1e9)
        if isinstance(ids, Ids):
            ids.given = int(trace.trace_id, 16), int(trace.span_id, 16)
        try:
            root = tracer.start_span(
                "HTTP", above, SpanKind.SERVER, {"bff.kept": True}, start_time=since + round(started * 1e9)
            )
        finally:
            if isinstance(ids, Ids):
                ids.given = None
        below = set_span_in_context(root, above)
        for call in waterfall.calls if waterfall else ():
            for before, attempt in enumerate(call.attempts):
                span = tracer.start_span(
                    call.what.partition(" ")[0],
                    below,
                    SpanKind.CLIENT,
                    _attributes(call, attempt, before),
                    start_time=since + round(attempt.started * 1e9),
                )
                if attempt.failed or attempt.status >= _ERROR:
                    span.set_status(StatusCode.ERROR)
                    span.set_attribute("error.type", str(attempt.failed) or str(attempt.status))
                span.end(since + round(attempt.ended * 1e9))
        return root


def _attributes(call: Call, attempt: Timing, before: int) -> dict[str, str | int]:
    method, _, template = call.what.partition(" ")
    known: dict[str, str | int] = {
        "http.request.method": method,
        "url.full": str(attempt.target),
        "url.template": template,
        "bff.service": call.service,
        "bff.arm": attempt.arm,
        "bff.loader.name": call.read.name if call.read else "",
        "http.response.status_code": attempt.status,
        "http.request.resend_count": before,
    }
    return {name: value for name, value in known.items() if value}
