"""One timer, three sinks: the request's span, its access line and its metrics, for whatever the layers below answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from random import Random
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace
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
from prometheus_client import Counter, Gauge
from pydantic import Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.answer import SWITCHED, Answer, Header
from bff.core.durations import Durations
from bff.core.head import head
from bff.core.identity import ANONYMOUS
from bff.core.requests import Requests, RequestSettings
from bff.core.settings import Settings
from bff.core.telemetry import REQUEST, Bounded, Telemetry
from bff.core.trace import Sampler, Trace
from bff.core.under_way import UnderWay
from bff.core.usage import UsageSettings
from bff.core.waits import Waits
from bff.core.waterfall import Waterfall
from bff.edge.keep import Keep, KeepSettings

HeaderName = Annotated[str, Field(pattern=r"^[xX]-[A-Za-z0-9-]{1,60}$")]

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
    keep: KeepSettings = KeepSettings()


class MetricsSettings(Settings):
    prometheus: bool = True
    """Whether the admin port answers `/metrics`."""
    max_values: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Values of a label that clients can make up, such as operation names; all later ones count as `other`."""


class ObservabilitySettings(Settings):
    logs: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    metrics: MetricsSettings = MetricsSettings()
    requests: RequestSettings = RequestSettings()
    usage: UsageSettings = UsageSettings()
    arm_header: HeaderName | None = None
    """A header of answers that says which arm of each service they are from, `orders=canary`; by default none does."""


class AccessLine(msgspec.Struct, tag_field="event", tag="request", omit_defaults=True, gc=False):
    """What the log says of one request."""

    level: str
    timestamp: datetime
    request_id: str
    trace_id: str
    method: str
    path: str
    route: str
    status: int
    duration_ms: float
    bytes: int
    credential: str
    consumer: str | None
    address: str | None
    operation: str = ""
    code: str = ""
    close: int = 0
    arms: dict[str, str] | None = None
    cache: str = ""


class Observe:
    """Outermost, so that refused and failed requests are seen with the status that the client saw."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ObservabilitySettings,
        telemetry: Telemetry,
        random: Random,
        requests: Requests,
        under_way: UnderWay,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self.telemetry = telemetry
        self.clock = clock
        self.sampler = Sampler(settings.traces.sample, random)
        self.keep = Keep(settings.traces.keep, telemetry, clock)
        self.random = random
        self.requests = requests
        self.under_way = under_way
        self.arm_header = (settings.arm_header or "").lower().encode()
        self.operations = Bounded(settings.metrics.max_values)
        self.durations = Durations(
            "http_server_request_duration_seconds",
            "Time from a request's first byte to its answer's last.",
            ["http_request_method", "http_route", "http_response_status_code", "graphql_operation"],
            telemetry.registry,
        )
        self.overhead = Durations(
            "bff_overhead_seconds",
            "Time until a request's answer began that was not spent waiting for services.",
            ["http_route"],
            telemetry.registry,
        )
        self.refusals = Counter(
            "http_server_refusals",
            "Requests that were refused or failed as a whole, by the code of the error.",
            ["http_route", "code"],
            registry=telemetry.registry,
        )
        self.active = 0
        Gauge(
            "http_server_active_requests", "Requests that have no answer yet.", registry=telemetry.registry
        ).set_function(lambda: self.active)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self.clock()
        self.requests.begin(scope, started)
        trace, span, request_id = self._begin(scope)
        waits = scope["bff.waits"] = Waits(self.clock)
        answer = scope["bff.answer"] = Answer(
            send,
            waits,
            headers=[(b"x-request-id", request_id.encode())],
            defaults=[_date(int(time.time()))],  # a service's own stays (RFC 9110 §6.6.1)
        )
        ids = REQUEST.set((request_id, trace.trace_id))
        token = otel.attach(set_span_in_context(span)) if span else None
        counts = scope["type"] == "http"
        self.active += counts
        self.under_way.count += 1
        try:
            app = self.app
            outward = self._naming(scope, answer) if self.arm_header else answer.send
            await app(scope, receive, self._timing(scope, answer, outward) if self.requests.explains else outward)
        finally:
            self.active -= counts
            self.under_way.ended()
            answer.settle()
            if token:
                otel.detach(token)
            REQUEST.reset(ids)
            self._end(scope, trace, span, answer, started)

    def _naming(self, scope: Scope, answer: Answer) -> Send:
        """As `answer.send`, with the arms in a header: by the time that an answer begins, they are chosen."""

        async def send(message: Message) -> None:
            if not answer.begun and (arms := scope.get("bff.arms")):
                named = ", ".join(f"{service.lower()}={arm}" for service, arm in arms.items())
                answer.headers.append((self.arm_header, named.encode()))
            await answer.send(message)

        return send

    def _timing(self, scope: Scope, answer: Answer, outward: Send) -> Send:
        """As `outward`, with what took its time in `Server-Timing`, for callers who may be told."""

        async def send(message: Message) -> None:
            if not answer.begun and (said := self.requests.server_timing(scope)):
                answer.headers.append((b"server-timing", said))
            await outward(message)

        return send

    def _begin(self, scope: Scope) -> tuple[Trace, Span | None, str]:
        values = head(scope).values
        trace, span = self.sampler.trace(values.get(b"traceparent"), values.get(b"tracestate")), None
        if trace.sampled:
            trace, span = self._record(scope, trace)
        given = values.get(b"x-request-id")
        request_id = (
            given.decode()
            if given and _REQUEST_ID.fullmatch(given)
            else self.random.getrandbits(128).to_bytes(16).hex()
        )
        scope["bff.trace"], scope["bff.request_id"] = trace, request_id
        return trace, span, request_id

    def _record(self, scope: Scope, trace: Trace) -> tuple[Trace, Span]:
        """The request's span below the client's, or at the root of a new trace."""
        span = self.telemetry.tracer.start_span(_method(scope), context=_above(trace), kind=SpanKind.SERVER)
        own = span.get_span_context()
        return replace(trace, trace_id=f"{own.trace_id:032x}", span_id=f"{own.span_id:016x}"), span

    def _end(self, scope: Scope, trace: Trace, span: Span | None, answer: Answer, started: float) -> None:
        seconds = self.clock() - started
        method, route = _method(scope), scope.get("bff.route")
        name = route.name if route else "none"
        operation: str = scope.get("bff.operation", "")
        status = answer.status if answer.complete else CLIENT_CLOSED
        exemplar = trace.trace_id if trace.sampled else ""  # only a trace that is recorded can be looked at
        if status != SWITCHED:  # a websocket lasts as long as its client likes
            labels = self._labels(method, name, status, operation)
            self.durations.observe(seconds, labels, exemplar)
            self.telemetry.traffic.request(name, labels[3], status, seconds)
            waits: Waits = scope["bff.waits"]
            if waits.begun is not None and scope["type"] == "http":
                self.overhead.observe(waits.begun - started - waits.total, (name,), exemplar)
        if code := scope.get("bff.code"):
            self.refusals.labels(name, code).inc()
        waterfall: Waterfall | None = scope.get("bff.waterfall")
        failed = status >= 500 or (waterfall is not None and waterfall.went_wrong())
        self.requests.end(scope, status, seconds, failed=failed)
        arms: dict[str, str] | None = scope.get("bff.arms")
        if span is None and status != SWITCHED:
            begun = scope["bff.waits"].begun
            if self.keep.wants(seconds if begun is None else begun - started, failed=failed):
                span = self.keep.begin(trace, _above(trace), started, waterfall)
        if span:
            for service, arm in (arms or {}).items():
                span.set_attribute(f"bff.arm.{service}", arm)
            _finish(span, scope, route.path if route else None, status)
        caller = scope.get("bff.caller", ANONYMOUS)
        self.telemetry.log.line(
            AccessLine(
                "info",
                datetime.now(UTC),
                scope["bff.request_id"],
                trace.trace_id,
                method,
                scope["path"],
                name,
                status,
                round(seconds * 1e6) / 1000,
                answer.size,
                caller.credential,
                caller.consumer,
                client[0] if (client := scope.get("client")) else None,
                operation,
                scope.get("bff.code", ""),
                scope.get("bff.close", 0),
                arms or None,
                scope.get("bff.cache", ""),
            )
        )

    def _labels(self, method: str, route: str, status: int, operation: str) -> tuple[str, ...]:
        method = method if method in _METHODS else "_OTHER"
        return method, route, str(status), self.operations(operation) if operation else ""


def _method(scope: Scope) -> str:
    """A websocket begins as a GET (RFC 6455 §4.1), though its scope does not say so."""
    method: str = scope.get("method", "GET")
    return method


def _above(trace: Trace) -> otel.Context:
    """Where the client's own span is the current one, if it has one."""
    if not trace.parent_id:
        return otel.Context()
    client = SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(client), otel.Context())


def _finish(span: Span, scope: Scope, path: str | None, status: int) -> None:
    """By the stable conventions for HTTP servers: nothing in it is personal, and only a 5xx is an error."""
    method = _method(scope)
    known = method in _METHODS
    named = method if known else "HTTP"
    span.update_name(f"{named} {path}" if path else named)
    span.set_attributes(
        {
            "http.request.method": method if known else "_OTHER",
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
            "http.response.status_code": status,
        }
    )
    if path:
        span.set_attribute("http.route", path)
    if not known:
        span.set_attribute("http.request.method_original", method)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", scope.get("bff.code") or str(status))
    span.end()


@lru_cache(maxsize=1)
def _date(second: int) -> Header:
    return b"date", formatdate(second, usegmt=True).encode()
