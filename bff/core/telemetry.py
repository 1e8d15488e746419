"""Where all that is observed goes: one metrics registry, one log, one tracer provider, handed to each policy."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry

OTHER = "other"

# From a millisecond, a cached answer, to the longest request that a route allows by default.
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Telemetry:
    """The three sinks; by default metrics and spans stay in memory, and log lines go to standard output."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    log: Any = field(default_factory=lambda: json_log(sys.stdout.buffer))
    spans: TracerProvider = field(default_factory=TracerProvider)

    @property
    def tracer(self) -> Tracer:
        return self.spans.get_tracer("bff")


def json_log(out: BinaryIO, level: str = "info") -> Any:
    """A logger that writes one JSON object a line, and nothing else, to `out`."""
    return structlog.wrap_logger(
        structlog.BytesLogger(out),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        cache_logger_on_first_use=True,
    )


def _dumps(value: Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=str)


def tracer_provider(*processors: SpanProcessor) -> TracerProvider:
    """A provider that records whatever it is given: whether to record was decided before, by `Sampler`."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bff"}), shutdown_on_exit=False)
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
