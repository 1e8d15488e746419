"""What decides while the store is away: this process alone, by `limits.on_store_error`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from prometheus_client import Counter

from bff.core.errors import Overloaded
from bff.core.store import Decision, MemoryStore, OnStoreError, Slot, Window
from bff.core.telemetry import Telemetry


class Fallback:
    """`local` holds this process to its share of each limit, `allow` to none, `deny` lets nothing pass.

    Args:
        mode: which of them.
        store: remembers what was let pass, also from one time that the store is away to the next.
        instances: how many processes share the limits, as far as is known.
    """

    def __init__(
        self, mode: OnStoreError, store: MemoryStore, instances: Callable[[], int], telemetry: Telemetry
    ) -> None:
        self._mode, self._store, self._instances = mode, store, instances
        counter = Counter(
            "bff_store_fallbacks", "Decisions on limits that were made without the store.", ["mode"],
            registry=telemetry.registry,
        )  # fmt: skip
        self._count = counter.labels(mode)

    def reserve(self, key: str, windows: Sequence[Window], cost: int, slots: Sequence[Slot]) -> Decision:
        """As the store's.

        Raises:
            Overloaded: nothing is to be admitted without it.
        """
        self._count.inc()
        if self._mode == "deny":
            raise Overloaded("What callers may spend cannot be looked up right now: try again soon", retry_after=1)
        if self._mode == "allow":
            return Decision((), (), [], 0, _Nothing(cost))
        windows, slots = _shares(tuple(windows), tuple(slots), self._instances())
        return self._store.reserve(key, windows, cost, slots)


class _Nothing:
    """What was let pass without an account."""

    def __init__(self, cost: int) -> None:
        self.cost = cost

    def settle(self, cost: int) -> None:
        self.cost = cost

    def release(self) -> None:
        """There is nothing to give back."""


@lru_cache(maxsize=1024)
def _shares(
    windows: tuple[Window, ...], slots: tuple[Slot, ...], instances: int
) -> tuple[tuple[Window, ...], tuple[Slot, ...]]:
    """What one of so many may allow, and at least 1."""
    return (
        tuple(
            Window(
                each.name, max(1, each.amount // instances), each.seconds, calendar=not each.span,
                enforced=each.enforced,
            )
            for each in windows
        ),
        tuple(each._replace(most=max(1, each.most // instances)) for each in slots),
    )  # fmt: skip
