"""Metrics of several processes as those of one: what was counted is added up, also of processes that have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# Of a gauge, what the whole gateway has is the sum, unless its name says what it is.
_LEAST: Final = ("_up", "_good", "_successful", "_timestamp_seconds", "_created")
_MOST: Final = ("_state", "_lag_seconds", "_info", "_generation")
_COUNTED: Final = frozenset({"counter", "histogram", "summary"})
_MAX_ENDED: Final = 100_000
"""Series that are kept of processes that have ended."""

_Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class _Family:
    """One metric: its values by the name and labels of each sample."""

    def __init__(self, name: str, documentation: str, kind: str) -> None:
        self.name, self.documentation, self.kind = name, documentation, kind
        self.series: _Series = {}
        least, most = name.endswith(_LEAST), name.endswith(_MOST)
        self._gauge = min if least else max if most else None

    def add(self, series: _Series) -> None:
        gauge = self._gauge if self.kind not in _COUNTED else None
        for key, value in series.items():
            here = self.series.get(key)
            self.series[key] = value if here is None else gauge(here, value) if gauge else here + value

    def metric(self) -> Metric:
        metric = Metric(self.name, self.documentation, self.kind)
        for (sample, labels), value in self.series.items():
            metric.add_sample(sample, dict(labels), value)
        return metric


class Totals:
    """What all processes together have measured.

    A counter never falls: of a process that is gone, what it last said counts on; of one that is late, meanwhile.
    """

    def __init__(self) -> None:
        self._last: dict[int, dict[str, _Family]] = {}
        self._ended: dict[str, _Family] = {}

    def text(self, said: Mapping[int, str | None], own: CollectorRegistry) -> bytes:
        """All of it, in Prometheus' text format.

        Args:
            said: what each process says, by its number, in that format; None where one did not say in time.
            own: what is to be said besides.
        """
        for process in [each for each in self._last if each not in said]:
            self._keep(self._last.pop(process).values())
        self._last |= {process: _read(text) for process, text in said.items() if text is not None}
        total: dict[str, _Family] = {}
        for families in (self._ended, *self._last.values()):
            _add(total, families.values())
        registry = CollectorRegistry()
        registry.register(_Given([*own.collect(), *(each.metric() for each in total.values())]))
        return generate_latest(registry)

    def _keep(self, families: Iterable[_Family]) -> None:
        kept = sum(len(each.series) for each in self._ended.values())
        for each in families:
            if each.kind in _COUNTED and kept + len(each.series) <= _MAX_ENDED:
                _add(self._ended, [each])


class _Given(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _add(total: dict[str, _Family], families: Iterable[_Family]) -> None:
    for each in families:
        total.setdefault(each.name, _Family(each.name, each.documentation, each.kind)).add(each.series)


def _read(text: str) -> dict[str, _Family]:
    families: dict[str, _Family] = {}
    read: Iterable[Any] = text_string_to_metric_families(text)
    for each in read:
        family = families.setdefault(each.name, _Family(each.name, each.documentation, each.type))
        for sample in each.samples:
            family.series[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return families
