"""One span and one measurement for each attempt, at whatever point it ends: answer, failure or cancel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport, RequestInfo
from opentelemetry.trace import Link, Span, SpanContext
from prometheus_client import Counter

from bff.core.durations import Distribution, Durations
from bff.core.telemetry import Telemetry
from bff.core.waterfall import Call, Read
from bff.upstream.phases import phase_of

# The names that are stable: without it, the instrumentation still has those of before.
os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")


_OUTCOMES = [f"{hundreds}xx" for hundreds in range(10)]


class Attempts:
    """Counted by service, arm, target and outcome: a status class, the phase that failed, or `cancelled`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.durations = Durations(
            "http_client_request_duration_seconds",
            "Time of one attempt at a service, to the head of its answer.",
            ["service", "arm", "target", "outcome"],
            telemetry.registry,
        )
        self.traffic = telemetry.traffic

    def record(self, labels: tuple[str, str, str, str], seconds: float, trace_id: str) -> None:
        self.durations.observe(seconds, labels, trace_id)
        self.traffic.call(labels[0], labels[3], seconds)


class Batches:
    """How many keys batched reads have, and how many of those that were asked for the request had read already."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.tracer
        self.keys = Distribution(
            "bff_batch_keys",
            "Keys in one batched read of one request.",
            ["batch"],
            telemetry.registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )
        self.known = Counter(
            "bff_batch_known_keys",
            "Keys that a request asked for again, and had read or was reading already.",
            ["batch"],
            registry=telemetry.registry,
        )

    def record(self, batch: str, keys: int) -> None:
        self.keys.observe(keys, (batch,))

    def span(self, read: Read, asking: Sequence[SpanContext]) -> AbstractContextManager[Span]:
        """Of one batched read, below whoever asked first, and linked to all who did."""
        return self._tracer.start_as_current_span(
            "dataloader.batch",
            attributes={
                "bff.loader.name": read.name,
                "bff.batch.size": read.keys,
                "bff.batch.asked": read.asked,
                "bff.batch.cache_hits": read.hits,
            },
            links=[Link(each) for each in {each.span_id: each for each in asking}.values()],
            record_exception=False,
        )


class Observe(httpx.AsyncBaseTransport):
    """Spans come from OpenTelemetry's own instrumentation, only where the request is recorded: it costs 0.1 ms a call.

    Its metrics are not used, since they leave out the calls that failed.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        service: str,
        attempts: Attempts,
        telemetry: Telemetry,
        arm: str = "",
        target: str = "",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.inner = inner
        self.recorded = AsyncOpenTelemetryTransport(inner, tracer_provider=telemetry.spans, request_hook=self._describe)
        self.service = service
        self.arm = arm
        self.target = target
        self.attempts = attempts
        self.clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        started = self.clock()
        outcome = "cancelled"
        recorded = request.extensions.get("recorded")
        call: Call | None = request.extensions.get("call")
        timing = None
        if call:
            timing = request.extensions["timing"] = call.attempt(request.url, self.arm)
        transport = self.recorded if recorded else self.inner
        try:
            response = await transport.handle_async_request(request)
            outcome = _OUTCOMES[response.status_code // 100]
            if timing:
                timing.status = response.status_code
        except httpx.TransportError as error:
            outcome = phase_of(error) or "failed"
            raise
        finally:
            trace_id = request.extensions["origin"].trace.trace_id if recorded else ""
            labels = (self.service, self.arm, self.target, outcome)
            self.attempts.record(labels, self.clock() - started, trace_id)
            if timing:
                timing.end()
                timing.failed = "" if timing.status else outcome
        return response

    async def _describe(self, span: Span, request: RequestInfo) -> None:
        span.set_attribute("bff.service", self.service)
        if self.arm:
            span.set_attribute("bff.arm", self.arm)
        # How often the call was sent before, by the name that the semantic conventions of HTTP have for it.
        if before := (request.extensions or {}).get("attempt", 1) - 1:
            span.set_attribute("http.request.resend_count", before)

    async def aclose(self) -> None:
        await self.inner.aclose()
