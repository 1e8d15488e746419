"""Whether the gateway is of use right now: what `/readyz` says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bff.core.errors import GatewayError
from bff.core.identity import ANONYMOUS
from bff.core.trace import Trace
from bff.upstream.client import Origin, Service

_PROBE = Trace("0" * 31 + "1", "0" * 15 + "1", sampled=False)


class Readiness:
    """Ready while nothing is being shut down and every required service answers.

    Args:
        required: the services without which the gateway is of no use.
        timeout: seconds for one answer.
    """

    def __init__(self, required: Mapping[str, Service], timeout: float = 1.0) -> None:
        self.draining = False
        self._required = required
        self._timeout = timeout

    async def problems(self) -> dict[str, str]:
        """What is in the way, by the name of what it is."""
        if self.draining:
            return {"gateway": "shutting down"}
        answers = await asyncio.gather(*(self._probe(service) for service in self._required.values()))
        return {name: problem for name, problem in zip(self._required, answers, strict=True) if problem}

    async def _probe(self, service: Service) -> str | None:
        deadline = asyncio.get_running_loop().time() + self._timeout
        origin = Origin(ANONYMOUS, _PROBE, "readyz", deadline)
        try:
            response = await service.send("GET", b"/healthz", [], b"", origin, whole=True)
        except GatewayError as error:
            return error.detail
        await response.aclose()
        return None if response.status_code == 200 else f"/healthz answers {response.status_code}"
