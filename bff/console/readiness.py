"""Whether the gateway is of use right now: what `/readyz` says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bff.upstream.health import Health


class Readiness:
    """Ready while nothing is being shut down and every required service has a healthy target.

    Args:
        required: of the services without which the gateway is of no use, by name.
    """

    def __init__(self, required: Mapping[str, Health]) -> None:
        self.draining = False
        self._required = required

    async def problems(self) -> dict[str, str]:
        """What is in the way, by the name of what it is."""
        if self.draining:
            return {"gateway": "shutting down"}
        answers = await asyncio.gather(*(health.problem() for health in self._required.values()))
        return {name: problem for name, problem in zip(self._required, answers, strict=True) if problem}
