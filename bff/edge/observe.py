"""One timer, three sinks: the request's span, its access line and its metrics, for whatever the layers below answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from random import Random
from typing import Any, Literal

from opentelemetry import context as otel
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from prometheus_client import Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.identity import ANONYMOUS
from bff.core.settings import Settings
from bff.core.telemetry import DURATION_BUCKETS, Bounded, Telemetry
from bff.core.trace import Sampler, Trace

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# nginx's word for a client that left before it had its answer; never sent, only recorded.
CLIENT_CLOSED = 499


class LogSettings(Settings):
    format: Literal["json"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written; the access log is `info`."""


class TraceSettings(Settings):
    sample: float = 1.0
    """The share of new traces that is recorded, 0 to 1; a client's own decision in `traceparent` goes first."""


class MetricsSettings(Settings):
    prometheus: bool = True
    """Whether the admin port answers `/metrics`."""


class ObservabilitySettings(Settings):
    logs: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    metrics: MetricsSettings = MetricsSettings()


class Observe:
    """Outermost, so that refused and failed requests are seen with the status that the client saw."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ObservabilitySettings,
        telemetry: Telemetry,
        random: Random,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self.telemetry = telemetry
        self.clock = clock
        self.sampler = Sampler(settings.traces.sample, random)
        self.random = random
        self.operations = Bounded()
        self.duration = Histogram(
            "http_server_request_duration_seconds",
            "Time from a request's first byte to its answer's last.",
            ["http_request_method", "http_route", "http_response_status_code", "graphql_operation"],
            buckets=DURATION_BUCKETS,
            registry=telemetry.registry,
        )
        self.active = Gauge(
            "http_server_active_requests", "Requests that have no answer yet.", registry=telemetry.registry
        )
        self._durations: dict[tuple[str, str, int, str], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = self.clock()
        request_id, trace, span = self._begin(scope)
        answer = _Answer(send, request_id.encode())
        token = otel.attach(set_span_in_context(span)) if span else None
        self.active.inc()
        try:
            await self.app(scope, receive, answer.send)
        finally:
            self.active.dec()
            if token:
                otel.detach(token)
            self._end(scope, trace, span, answer, self.clock() - started)

    def _begin(self, scope: Scope) -> tuple[str, Trace, Span | None]:
        parent = state = given = None
        for name, value in scope["headers"]:
            if name == b"traceparent":
                parent = value
            elif name == b"tracestate":
                state = value
            elif name == b"x-request-id":
                given = value
        trace, span = self._record(scope, self.sampler.trace(parent, state))
        request_id = (
            given.decode() if given and _REQUEST_ID.fullmatch(given) else f"{self.random.getrandbits(128):032x}"
        )
        scope["bff.request_id"], scope["bff.trace"] = request_id, trace
        return request_id, trace, span

    def _record(self, scope: Scope, trace: Trace) -> tuple[Trace, Span | None]:
        """The request's span below the client's, or at the root of a new trace; nothing where nobody records."""
        if not trace.sampled:
            return trace, None
        above = otel.Context()
        if trace.parent_id:
            client = SpanContext(
                int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=TraceFlags(1)
            )
            above = set_span_in_context(NonRecordingSpan(client), above)
        span = self.telemetry.tracer.start_span(
            scope["method"],
            context=above,
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "url.scheme": scope["scheme"],
                "network.protocol.version": scope["http_version"],
            },
        )
        own = span.get_span_context()
        return replace(trace, trace_id=f"{own.trace_id:032x}", span_id=f"{own.span_id:016x}"), span

    def _end(self, scope: Scope, trace: Trace, span: Span | None, answer: _Answer, seconds: float) -> None:
        route = scope.get("bff.route")
        name = route.name if route else "none"
        operation: str = scope.get("bff.operation", "")
        status = answer.status if answer.complete else CLIENT_CLOSED
        self._histogram(scope["method"], name, status, operation).observe(seconds)
        if span:
            _finish(span, scope["method"], route.path if route else None, status)
        caller = scope.get("bff.caller", ANONYMOUS)
        facts: dict[str, Any] = {
            "request_id": scope["bff.request_id"],
            "trace_id": trace.trace_id,
            "method": scope["method"],
            "path": scope["path"],
            "route": name,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            "bytes": answer.size,
            "credential": caller.credential,
            "consumer": caller.consumer,
        }
        if operation:
            facts["operation"] = operation
        if code := scope.get("bff.code"):
            facts["code"] = code
        self.telemetry.log.info("request", **facts)

    def _histogram(self, method: str, route: str, status: int, operation: str) -> Histogram:
        method = method if method in _METHODS else "_OTHER"
        key = (method, route, status, self.operations(operation) if operation else "")
        child = self._durations.get(key)
        if child is None:
            child = self._durations[key] = self.duration.labels(*key)
        return child


def _finish(span: Span, method: str, path: str | None, status: int) -> None:
    if path:
        span.update_name(f"{method} {path}")
        span.set_attribute("http.route", path)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


class _Answer:
    """The way out: puts the request's id on the answer and remembers what the client was sent."""

    __slots__ = ("_request_id", "_send", "complete", "size", "status")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 500
        self.size = 0
        self.complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._request_id)]
            if all(name != b"date" for name, _ in headers):
                headers.append((b"date", _date(int(time.time()))))  # a service's own date stays (RFC 9110 §6.6.1)
            message["headers"] = headers
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self._send(message)
