"""Some queries once more by graphql-core's own executor, after they have been answered: do both come to the same?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from random import Random
from typing import Annotated, Any

from graphql import ExecutionResult
from prometheus_client import Counter
from pydantic import Field

from bff.core.settings import Settings
from bff.core.telemetry import Telemetry
from bff.engine import unpacked
from bff.graphql.encoding import encoded

Execute = Callable[[], Awaitable[ExecutionResult]]
"""Executes the query once more, with reads of its own."""

_OUTCOMES = ("same", "different", "failed", "skipped")


class ShadowSettings(Settings):
    sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of queries that is executed twice. It costs the services their calls again."""
    max_running: Annotated[int, Field(ge=1, le=1000)] = 10
    """At once; one more is skipped."""


class Shadow:
    """Compares the answers of two executors, beside the requests and never in their way."""

    def __init__(self, settings: ShadowSettings, telemetry: Telemetry, random: Random) -> None:
        self._settings = settings
        self._log = telemetry.log
        self._random = random
        self._running: set[asyncio.Task[None]] = set()
        compared = Counter(
            "graphql_shadow", "Queries executed by both executors.", ["outcome"], registry=telemetry.registry
        )
        self._outcomes = {outcome: compared.labels(outcome) for outcome in _OUTCOMES}

    def follow(self, answered: ExecutionResult, again: Execute, *, text: str, operation: str, request_id: str) -> None:
        """Perhaps execute a query again, and compare what that comes to with what has been answered."""
        if self._random.random() >= self._settings.sample:
            return
        if len(self._running) >= self._settings.max_running:
            self._outcomes["skipped"].inc()
            return
        about = {"request_id": request_id, "operation": operation, "document": sha256(text.encode()).hexdigest()}
        task = asyncio.create_task(self._compare(answered, again, about))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _compare(self, answered: ExecutionResult, again: Execute, about: dict[str, str]) -> None:
        try:
            other = await again()
        except Exception as error:  # noqa: BLE001 - nobody waits for it: what there is to say is said here
            self._outcomes["failed"].inc()
            self._log.error("shadow_failed", **about, exc_info=error)
            return
        place = difference(answered, other)
        self._outcomes["different" if place else "same"].inc()
        if place:
            self._log.error("shadow_difference", **about, at=place)


def difference(one: ExecutionResult, other: ExecutionResult) -> str | None:
    """Where two results differ, or None. Which of several errors under one null is told may differ."""
    if encoded(one.data) != encoded(other.data):  # as it is sent: the order of keys counts
        return _place(unpacked(one.data), unpacked(other.data), "data")
    return None if bool(one.errors) == bool(other.errors) else "errors"


def _place(one: Any, other: Any, at: str) -> str:
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        keys: list[Any] = list(one)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        keys = list(range(len(one)))
    else:
        return at
    differing = next((key for key in keys if encoded(one[key]) != encoded(other[key])), None)
    return at if differing is None else _place(one[differing], other[differing], f"{at}.{differing}")
