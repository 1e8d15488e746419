"""What operations cost their caller: taken from the account before any call is made, settled once they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

from bff.edge.limits import FLOOR, Tab
from bff.graphql import UNIT
from bff.graphql.execution import Answered, Prepared, Result

HEADER = b"x-cost"
"""Whoever sends it is told in `extensions.cost` what the operation cost."""


class Charges:
    """Operations in units of accounts.

    Args:
        limit: `graphql.limits.cost`. More is not taken, whatever that rule lets pass; nor for what has no bound.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def admit(self, tab: Tab | None, operations: Sequence[Prepared], *, others: int = 0) -> None:
        """Take what is missing from the tab for these operations, and the floor for each of the others.

        Raises:
            RateLimited: the account has not as much.
        """
        if tab is None:
            return
        missing = others * FLOOR - tab.taken
        for each in operations:
            missing += self._units(self._estimated(each))
        if missing > 0:
            await tab.take(missing)

    def settle(
        self, tab: Tab | None, operations: Sequence[Prepared], results: Sequence[Result], others: int = 0
    ) -> None:
        """Give back what was not used; nothing of what was executed and came to nothing, since its calls were made."""
        if tab is None or tab.taken <= max(FLOOR, len(operations) + others):
            return
        if any(result.get("data", operations) is None for result in results):
            return
        actual = sum(self._units(self.actual(each, result)) for each, result in zip(operations, results, strict=True))
        if actual + others < tab.taken:
            tab.settle(actual + others)

    async def event(self, tab: Tab | None, prepared: Prepared, result: Result) -> None:
        """Take what an event of a subscription has come to.

        Raises:
            RateLimited: the account has not as much.
        """
        if tab is not None:
            await tab.spend(self._units(self.actual(prepared, result)))

    def told(self, tab: Tab | None, prepared: Prepared, result: Result) -> dict[str, Any]:
        """`extensions.cost`: what the operation could come to, what it has come to, and units that are left."""
        told: dict[str, Any] = {"estimated": prepared.estimate.cost, "actual": self.actual(prepared, result)}
        if tab is not None:
            told |= {"units": tab.taken, "remaining": tab.left}
        return {"cost": told}

    def actual(self, prepared: Prepared, result: Result) -> int:
        """Never more than was estimated."""
        weight = result.weight if isinstance(result, Answered) else nan
        actual = prepared.operation.cost.actual(prepared.request.variables, result.get("data"), weight)
        most = prepared.estimate.cost
        return actual if most is None or actual < most else most

    def _estimated(self, prepared: Prepared) -> int:
        cost = prepared.estimate.cost
        return self._limit if cost is None else cost

    def _units(self, cost: int) -> int:
        most = self._limit
        return -(-(cost if cost < most else most) // UNIT) or FLOOR  # noqa: FURB136 - it is three times as fast
