"""One contender under one workload: is it right, and what does it cost."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks import load
from benchmarks.contenders import GRAPHQL, REST, Contender
from benchmarks.identity import FORGED
from benchmarks.processes import Process, busy_seconds
from benchmarks.workloads import Backends, Target, Workload


class Wrong(Exception):
    """A contender that does not do the work: its figures would mean nothing."""


class Reference:
    """The right answers, put together once for all contenders."""

    def __init__(self, backends: Backends) -> None:
        self.backends = backends
        self.known: dict[str, list[Any]] = {}

    def answers(self, workload: Workload) -> list[Any]:
        if workload.name not in self.known:
            self.known[workload.name] = [workload.reference(self.backends, n) for n in range(workload.variants)]
        return self.known[workload.name]


@dataclass(frozen=True)
class Run:
    """How a contender is loaded: for how long, by how many at once; or, with a rate, how many requests at that rate."""

    seconds: float
    connections: int
    rate: float | None = None
    count: int = 0


class Entry:
    """A running contender that is asked one workload's requests.

    Attributes:
        contender, workload: who does what.
        requests: with the answers that were checked; a timed run accepts no others.
    """

    def __init__(self, contender: Contender, workload: Workload, target: Target, process: Process) -> None:
        self.contender = contender
        self.workload = workload
        self.target = target
        self.process = process
        self.requests: list[load.Request] = []

    @cached_property
    def raws(self) -> list[bytes]:
        return [self.workload.request(self.target, n) for n in range(self.workload.variants)]

    def check(self, reference: Reference) -> None:
        """Asks everything once and keeps the answers.

        Raises:
            Wrong: an answer differs from the reference, there are too many upstream calls or too few, or a forged
                token is let in.
        """
        raws = self.raws  # before counting: asking for cursors calls the services too
        before = reference.backends.calls()
        answers = load.replay(self.target.port, raws)
        after = reference.backends.calls()
        for raw, answer, right in zip(raws, answers, reference.answers(self.workload), strict=True):
            if answer.status != 200 or not _equal(self.workload, answer.body, right):
                raise Wrong(f"answers {answer.status} {answer.body[:200]!r} to {raw[-200:]!r}")
        calls = sum(after.values()) - sum(before.values())
        if calls != len(raws) * self.workload.calls:
            raise Wrong(f"{calls / len(raws):g} upstream calls a request instead of {self.workload.calls}")
        if self.workload.front == REST and self.contender.checks_tokens:
            self._check_tokens()
        self.requests = [load.Request(raw, answer) for raw, answer in zip(raws, answers, strict=True)]

    def _check_tokens(self) -> None:
        forged, missing = load.replay(
            self.target.port, [self.target.get("/api/users/usr_1", t) for t in (FORGED, None)]
        )
        if forged.status != 401 or missing.status not in (401, 403):
            raise Wrong(f"answers {forged.status} to a forged token and {missing.status} to none")

    def load(self, run: Run) -> load.Result:
        port, connections = self.target.port, run.connections
        if run.rate is None:
            return load.closed(port, self.requests, connections=connections, seconds=run.seconds)
        return load.steady(port, self.requests, connections=connections, rate=run.rate, count=run.count)

    def measure(self, run: Run, backends: Backends, companions: Sequence[Process]) -> dict[str, Any]:
        """A row for the table: a loaded run's counts, times and CPU.

        Args:
            run: what to do.
            backends: where upstream calls are counted.
            companions: processes whose CPU belongs to the run; the rest of the machine's is `foreign`.
        """
        calls = sum(backends.calls().values())
        machine, loader, own = busy_seconds(), time.process_time(), self.process.cpu
        others = [companion.cpu for companion in companions]
        result = self.load(run)
        cpu = self.process.cpu - own
        beside = time.process_time() - loader + sum(c.cpu - o for c, o in zip(companions, others, strict=True))
        foreign = busy_seconds() - machine - cpu - beside
        count = max(result.count, 1)
        return {
            "workload": self.workload.name,
            "contender": self.contender.name,
            "connections": run.connections,
            "at_rate": run.rate,
            "requests": result.count,
            "seconds": round(result.seconds, 4),
            "cpu_ms": round(cpu * 1000 / count, 5),
            "rate": round(result.rate, 2),
            "busy": round(cpu / result.seconds, 3),
            "load_busy": round(beside / result.seconds, 3),
            "memory_mb": round(self.process.memory / 1e6, 1),
            "p50_ms": round(result.quantile(0.5) * 1000, 3),
            "p99_ms": round(result.quantile(0.99) * 1000, 3),
            "calls": round((sum(backends.calls().values()) - calls) / count, 3),
            "errors": result.errors,
            "first_error": result.first_error,
            **({"latencies_us": [round(each * 1e6) for each in result.latencies]} if run.rate else {}),
            "foreign": round(max(foreign, 0.0) / result.seconds, 3),
        }


def _equal(workload: Workload, body: bytes, right: Any) -> bool:
    if workload.front != GRAPHQL:
        return bool(body == right)
    try:
        return bool(json.loads(body) == {"data": right})
    except ValueError:
        return False
