"""Health checks of a service's targets, from the start and whether there is traffic or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Annotated, Any, Final

import httpx
from pydantic import Field

from bff.core.settings import Duration, Settings
from bff.core.telemetry import Telemetry
from bff.upstream.phases import phase_of
from bff.upstream.target import Target
from bff.upstream.wire import NOTHING, Fields, request_of

_SOMEWHERE: Final = httpx.URL("http://service")
_HEADERS: Final = Fields([(b"accept", b"*/*"), (b"user-agent", b"bff-health")])
_JITTER: Final = 0.1  # of the interval, so that many gateways do not ask at once


class HealthSettings(Settings):
    """How it is found out which targets are to get calls."""

    path: Annotated[str, Field(pattern=r"^/[!-~]{0,500}$")] = "/healthz"
    """Asked by GET; any 2xx means that the target is healthy."""
    interval: Annotated[Duration, Field(ge=0.1)] = 5.0
    """Between two checks of a target, a tenth more or less."""
    timeout: Annotated[Duration, Field(ge=0.01)] = 1.0
    """Of one check, connecting included."""
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 3
    """Failed checks in a row after which a target has no calls. The very first check decides at once."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    """Good checks in a row after which it has calls again."""


class Check:
    """What is known of one target: `reason` is what its last check came to."""

    __slots__ = ("at", "next_at", "reason", "streak", "under_way")

    def __init__(self) -> None:
        self.at: float | None = None
        self.next_at: float | None = None
        self.reason = "not checked yet"
        self.streak = 0
        self.under_way: asyncio.Task[None] | None = None


class Health:
    """Keeps `healthy` of each target.

    Args:
        service: its name.
        settings: how often, and when it counts.
        ways: what takes a check to each target.
        telemetry: told of each change.
        random: for the intervals.
        clock: the loop's.
    """

    def __init__(
        self,
        service: str,
        settings: HealthSettings,
        ways: Mapping[Target, httpx.AsyncBaseTransport],
        telemetry: Telemetry,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._settings = settings
        self._ways = ways
        self._log = telemetry.log
        self._random = random
        self._clock = clock
        self._checks = {target: Check() for target in ways}

    async def follow(self) -> None:
        """Check all targets until cancelled."""
        async with asyncio.TaskGroup() as group:
            for target in self._ways:
                group.create_task(self._watch(target))

    async def problem(self) -> str | None:
        """Why no target is of use; those that are not known, or not any more, are asked first."""
        stale = self._clock() - 2 * self._settings.interval - self._settings.timeout
        unknown = [target for target, check in self._checks.items() if check.at is None or check.at < stale]
        await asyncio.gather(*map(self._checked, unknown))
        if any(target.healthy for target in self._ways):
            return None
        return "; ".join(dict.fromkeys(check.reason for check in self._checks.values()))

    def state(self, target: Target) -> dict[str, Any]:
        """As operators are shown it; times in seconds from now."""
        check, now = self._checks[target], self._clock()
        return {
            "healthy": target.healthy,
            "reason": check.reason,
            "checked": None if check.at is None else round(now - check.at, 3),
            "next_check": None if check.next_at is None else round(max(check.next_at - now, 0.0), 3),
        }

    async def close(self) -> None:
        for way in self._ways.values():
            await way.aclose()

    async def _watch(self, target: Target) -> None:
        while True:
            await self._checked(target)
            wait = self._settings.interval * self._random.uniform(1 - _JITTER, 1 + _JITTER)
            self._checks[target].next_at = self._clock() + wait
            await asyncio.sleep(wait)

    async def _checked(self, target: Target) -> None:
        """One check at a time: whoever wants another one meanwhile waits for it."""
        check = self._checks[target]
        if check.under_way is None or check.under_way.done():
            check.under_way = asyncio.get_running_loop().create_task(self._check(target, check))
        await asyncio.shield(check.under_way)

    async def _check(self, target: Target, check: Check) -> None:
        reason = await self._asked(self._ways[target])
        good = reason is None
        check.at, check.reason = self._clock(), reason or "answers"
        if good == target.healthy:
            check.streak = 0
            return
        check.streak += 1
        needed = self._settings.healthy_after if good else self._settings.unhealthy_after
        if target.healthy is None or check.streak >= needed:
            changed = not (good and target.healthy is None)
            target.healthy, check.streak = good, 0
            if changed:
                self._log.warning(
                    "target_health",
                    service=self._service,
                    arm=target.arm,
                    target=str(target.url),
                    healthy=good,
                    why=check.reason,
                )

    async def _asked(self, way: httpx.AsyncBaseTransport) -> str | None:
        """What is wrong, if something is."""
        path, now = self._settings.path, self._clock()
        extensions = {"target": path.encode(), "deadline": now + self._settings.timeout, "whole": True}
        request = request_of("GET", _SOMEWHERE, _HEADERS, extensions, NOTHING)
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await way.handle_async_request(request)
            await response.aclose()
        except (TimeoutError, httpx.TimeoutException):
            return f"{path} does not answer in time"
        except httpx.TransportError as error:
            return f"{path} cannot be asked: {phase_of(error) or type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the next check is made
            self._log.error("unexpected", service=self._service, exc_info=error)
            return f"{path} cannot be asked"
        return None if 200 <= response.status_code < 300 else f"{path} answers {response.status_code}"
