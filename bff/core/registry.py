"""Metrics over reloads: what counts the same goes on from where it was."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from bff.core.durations import Shaped


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

    def register(self, collector: Collector) -> None:
        super().register(collector)
        known = self._registry._names_to_collectors  # noqa: SLF001 - it has no public way to ask
        names = self._collector_to_names[collector]
        before = next((known[name] for name in names if name in known), None)
        if before is not None and _alike(before, collector):
            vars(collector).update(vars(before))

    def settle(self) -> None:
        """From now on this is what is scraped; what it has no more stays, since counters do not vanish."""
        for collector, names in self._collector_to_names.items():
            known = self._registry._names_to_collectors  # noqa: SLF001
            for before in {id(known[name]): known[name] for name in names if name in known}.values():
                self._registry.unregister(before)
            self._registry.register(collector)
        # What stays of this generation must not keep alive what goes.
        self._collector_to_names.clear()
        self._names_to_collectors.clear()

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


def _alike(one: Collector, other: Collector) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, MetricWrapperBase) and isinstance(other, MetricWrapperBase):
        return one._labelnames == other._labelnames and one._kwargs == other._kwargs  # noqa: SLF001
    return isinstance(one, Shaped) and isinstance(other, Shaped) and one.shape == other.shape
