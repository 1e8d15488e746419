"""Whether the gateway is of use right now: what `/readyz` says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from bff.upstream.health import Health


class Readiness:
    """Ready while nothing is being shut down or drained and every required service has a healthy target.

    Args:
        required: of the services without which the gateway is of no use, by name.

    Attributes:
        draining: because it ends.
        told_to_drain: by an operator, who may take it back.
        refused: what is wrong with the configuration's files now; it is ready with the one before all the same.
    """

    def __init__(self, required: Mapping[str, Health]) -> None:
        self.draining = False
        self.told_to_drain = False
        self.refused: Sequence[str] = ()
        self._required = required

    async def problems(self) -> dict[str, str]:
        """What is in the way, by the name of what it is."""
        if self.draining:
            return {"gateway": "shutting down"}
        if self.told_to_drain:
            return {"gateway": "an operator drains it"}
        answers = await asyncio.gather(*(health.problem() for health in self._required.values()))
        return {name: problem for name, problem in zip(self._required, answers, strict=True) if problem}
