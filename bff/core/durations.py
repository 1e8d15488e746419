"""Metrics for the paths that every request takes: prometheus_client's own cost five times as much."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

# From a millisecond, a cached answer, to the longest request that a route allows by default.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class _Series:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def buckets(self, bounds: Sequence[str]) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        pairs = list(zip(bounds, map(float, accumulate(self.counts)), strict=True))
        return [(*pair, self.exemplars[n]) if n in self.exemplars else pair for n, pair in enumerate(pairs)]


class Shaped(Collector):
    """By its labels' values, of which the caller bounds how many there are.

    Observed on one thread, so without locks; a scrape on another sees each series as it is at some moment.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._described = name, documentation, labels

    @property
    def shape(self) -> tuple[object, ...]:
        """Two of one shape can share what they have counted."""
        return self._described[::2]


class Tally(Shaped):
    """A counter."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        super().__init__(name, documentation, labels)
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def add(self, labels: tuple[str, ...], more: int = 1) -> None:
        """Count it; what has come 0 times is shown, too."""
        self._counts[labels] = self._counts.get(labels, 0) + more

    def describe(self) -> Iterator[CounterMetricFamily]:
        name, documentation, labels = self._described
        yield CounterMetricFamily(name, documentation, labels=labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        for family in self.describe():
            for labels, count in list(self._counts.items()):
                family.add_metric(labels, count)
            yield family


class Distribution(Shaped):
    """A histogram."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        buckets: Sequence[float],
    ) -> None:
        super().__init__(name, documentation, labels)
        self._buckets = buckets
        self._bounds = [*map(floatToGoString, buckets), "+Inf"]
        self._series: dict[tuple[str, ...], _Series] = {}
        registry.register(self)

    @property
    def shape(self) -> tuple[object, ...]:
        return *super().shape, tuple(self._buckets)

    def observe(self, value: float, labels: tuple[str, ...] = (), trace_id: str = "") -> None:
        """Count it. `trace_id`: of a trace that is recorded, in which one finds such a value; each bucket keeps one."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(len(self._bounds))
        bucket = bisect_left(self._buckets, value)
        series.counts[bucket] += 1
        series.total += value
        if trace_id:
            series.exemplars[bucket] = Exemplar({"trace_id": trace_id}, value, time.time())

    def describe(self) -> Iterator[HistogramMetricFamily]:
        name, documentation, labels = self._described
        yield HistogramMetricFamily(name, documentation, labels=labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        for family in self.describe():
            for labels, series in list(self._series.items()):
                family.add_metric(labels, series.buckets(self._bounds), sum_value=series.total)
            yield family


class Durations(Distribution):
    """Of seconds."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        super().__init__(name, documentation, labels, registry, BUCKETS)
