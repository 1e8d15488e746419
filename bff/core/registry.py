"""Metrics over reloads: what counts the same goes on from where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from bff.core.durations import Shaped

_ASKS: Final = "_child_samples"
"""Where a gauge has whom it asks for its value: `Gauge.set_function` puts it there, over the method of its class."""


class Draft(CollectorRegistry):
    """What a gateway in the making registers. Nobody sees it before `settle`, so a failure on the way changes nothing.

    A metric of the same name, kind and labels shares its values with the one that it takes the place of, which those
    who still use that one may go on counting with.

    Args:
        registry: what is scraped.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry
        self._asking: list[tuple[Any, dict[tuple[str, ...], Any]]] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        known = self._registry._names_to_collectors  # noqa: SLF001 - it has no public way to ask
        names = self._collector_to_names[collector]
        before = next((known[name] for name in names if name in known), None)
        if before is not None and _alike(before, collector):
            vars(collector).update(vars(before))
            if isinstance(before, Gauge):
                self._asking.append((before, {key: vars(each).get(_ASKS) for key, each in _children(before)}))

    def discard(self) -> None:
        """Have gauges ask for their values whom they asked before, and nobody else."""
        for gauge, asked in self._asking:
            for key, each in _children(gauge):
                if asked.get(key) is not None:
                    vars(each)[_ASKS] = asked[key]
                elif vars(each).pop(_ASKS, None) is not None:
                    gauge.remove(*key)

    def settle(self) -> None:
        """From now on this is what is scraped; what it has no more stays, since counters do not vanish."""
        for collector, names in self._collector_to_names.items():
            known = self._registry._names_to_collectors  # noqa: SLF001
            for before in {id(known[name]): known[name] for name in names if name in known}.values():
                self._registry.unregister(before)
            self._registry.register(collector)
        # What stays of this generation must not keep alive what goes.
        self._asking.clear()
        self._collector_to_names.clear()
        self._names_to_collectors.clear()

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


def forget(registry: CollectorRegistry, is_gone: Callable[[Mapping[str, str]], bool]) -> None:
    """Show no state any more of what there is no more; what was counted of it stays."""
    for gauge in list(registry._collector_to_names):  # noqa: SLF001
        if isinstance(gauge, Gauge):
            for key, _ in _children(gauge):
                if is_gone(dict(zip(gauge._labelnames, key, strict=True))):  # noqa: SLF001
                    gauge.remove(*key)


def _children(gauge: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Those with labels, by their values."""
    return list(gauge._metrics.items()) if gauge._labelnames else []  # noqa: SLF001


def _alike(one: Collector, other: Collector) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, MetricWrapperBase) and isinstance(other, MetricWrapperBase):
        # Those of a gauge come to be in it only after it is registered, and ours say no more than its type does.
        said = isinstance(one, Gauge) or one._kwargs == other._kwargs  # noqa: SLF001
        return said and one._labelnames == other._labelnames  # noqa: SLF001
    return isinstance(one, Shaped) and isinstance(other, Shaped) and one.shape == other.shape
