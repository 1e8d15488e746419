"""One span and one measurement for each attempt, at whatever point it ends: answer, failure or cancel."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport, RequestInfo
from opentelemetry.trace import Span

from bff.core.durations import Durations
from bff.core.telemetry import Telemetry
from bff.upstream.phases import phase_of


class Attempts:
    """Counted by service, arm and outcome: a status class, the phase that failed, or `cancelled`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.durations = Durations(
            "http_client_request_duration_seconds",
            "Time of one attempt at a service, to the head of its answer.",
            ["service", "arm", "outcome"],
            telemetry.registry,
        )

    def record(self, service: str, arm: str, outcome: str, seconds: float) -> None:
        self.durations.observe(seconds, (service, arm, outcome))


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
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.inner = inner
        self.recorded = AsyncOpenTelemetryTransport(inner, tracer_provider=telemetry.spans, request_hook=self._describe)
        self.service = service
        self.arm = arm
        self.attempts = attempts
        self.clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        started = self.clock()
        outcome = "cancelled"
        transport = self.recorded if request.extensions.get("recorded") else self.inner
        try:
            response = await transport.handle_async_request(request)
            outcome = f"{response.status_code // 100}xx"
        except httpx.TransportError as error:
            outcome = phase_of(error) or "failed"
            raise
        finally:
            self.attempts.record(self.service, self.arm, outcome, self.clock() - started)
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
