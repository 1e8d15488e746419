"""Where all that is observed goes: one metrics registry, one log, one tracer provider, handed to each policy."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import msgspec
import orjson
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry

from bff import __version__
from bff.core.traffic import Traffic

OTHER = "other"

LEVELS = ("debug", "info", "warning", "error")

REQUEST: ContextVar[tuple[str, str] | None] = ContextVar("request", default=None)
"""The ids of the request that is served, `request_id` and `trace_id`: on every line that is written meanwhile."""

_MAX_KEPT = 1000
# Lines written together cost a tenth; nobody who reads a log misses a tenth of a second.
_LINES_KEPT_FOR = 0.1
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Telemetry:
    """The three sinks; by default metrics and spans stay in memory, and log lines go to standard output."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    log: JsonLog = field(default_factory=lambda: JsonLog(sys.stdout.buffer))
    spans: TracerProvider = field(default_factory=TracerProvider)
    traffic: Traffic = field(default_factory=Traffic)

    def audit(self, action: str, **facts: Any) -> None:
        """A line for those who ask later who was refused, or which credentials came and went.

        Nothing in it is a secret or names a person: `request_id` leads to the rest.
        """
        self.log.warning("audit", action=action, **{name: fact for name, fact in facts.items() if fact is not None})

    def end(self) -> None:
        """Send and write what was kept until now."""
        self.spans.shutdown()
        self.log.flush()

    @property
    def tracer(self) -> Tracer:
        return self.spans.get_tracer("bff")


class JsonLog:
    """One JSON object a line, and nothing else.

    Args:
        out: where lines go.
        level: the least that is written.
        hold: seconds that lines may be kept so as to be written together; warnings and errors never are.
    """

    def __init__(self, out: BinaryIO, level: str = "info", *, hold: float = 0.0) -> None:
        self._out = out
        self._hold = hold
        self._kept: list[bytes] = []
        self._flushing: asyncio.TimerHandle | None = None
        self.level = level
        if hold:
            atexit.register(self._end)

    @property
    def level(self) -> str:
        """The least that is written; it may be set while the gateway runs."""
        return self._level

    @level.setter
    def level(self, level: str) -> None:
        least = logging.getLevelNamesMapping()[level.upper()]
        self._takes_lines = least <= logging.INFO
        self._level = level
        bound = structlog.wrap_logger(
            _At(self._now),
            wrapper_class=structlog.make_filtering_bound_logger(least),
            processors=[
                _with_ids,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
            cache_logger_on_first_use=True,
        )
        self.debug, self.info, self.warning, self.error = bound.debug, bound.info, bound.warning, bound.error

    def line(self, event: msgspec.Struct) -> None:
        """An event of level `info` of which there is one a request: through no processors, and perhaps kept a while."""
        if not self._takes_lines:
            return
        self._kept.append(_ENCODER.encode(event))
        if not self._hold or len(self._kept) >= _MAX_KEPT:
            self.flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(self._hold, self.flush)

    def flush(self) -> None:
        """Write what was kept."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._kept:
            lines, self._kept = self._kept, []
            self._out.write(b"\n".join(lines) + b"\n")
            self._out.flush()

    def _end(self) -> None:
        with contextlib.suppress(ValueError):  # whoever runs the gateway within its own program may have closed it
            self.flush()

    def _now(self, line: bytes) -> None:
        self._kept.append(line)
        self.flush()


def _with_ids(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    ids = REQUEST.get()
    if ids is not None:
        event.setdefault("request_id", ids[0])
        event.setdefault("trace_id", ids[1])
    return event


class _At:
    """What structlog calls a logger: a method for each level, given the finished line."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = write


def _dumps(value: Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=str)


class Ids(RandomIdGenerator):
    """Random ones, but for a span that is made late: it gets the ids that its request has been known by."""

    given: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.given[0] if self.given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.given[1] if self.given else super().generate_span_id()


def tracer_provider(*processors: SpanProcessor) -> TracerProvider:
    """A provider that records whatever it is given: whether to record was decided before, by `Sampler`."""
    name = os.environ.get("OTEL_SERVICE_NAME", "bff")
    resource = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def otlp(environ: Mapping[str, str]) -> list[SpanProcessor]:
    """What sends spans to a collector, such as Jaeger, if the standard variables name one.

    See https://opentelemetry.io/docs/specs/otel/protocol/exporter/ ; the protocol is OTLP over HTTP.
    """
    if not any(environ.get(f"OTEL_EXPORTER_OTLP_{each}ENDPOINT") for each in ("", "TRACES_")):
        return []
    return [BatchSpanProcessor(OTLPSpanExporter())]


def standard(level: str) -> Telemetry:
    """As a process has it that runs the gateway: lines to standard output, spans to where the environment says."""
    log = JsonLog(sys.stdout.buffer, level, hold=_LINES_KEPT_FOR)
    return Telemetry(log=log, spans=tracer_provider(*otlp(os.environ)))


class Bounded:
    """Label values that clients can make up: the first `limit` are kept, all later ones count as `other`."""

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) >= self._limit:
            return OTHER
        self._seen.add(value)
        return value
