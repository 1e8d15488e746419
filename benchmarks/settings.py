"""What settings cost: the shipped gateway next to itself with one thing switched off or on, in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks import lineup
from benchmarks.contenders import CONTENDERS, Contender, Place, Start, gateway
from benchmarks.measure import Run
from benchmarks.workloads import Workload

AS_SHIPPED = "as shipped"
UNTRACED = {"traces": {"sample": 0}}
SWITCHES: Mapping[str, Mapping[str, Any]] = {
    AS_SHIPPED: {},
    "without limits": {"limits": {"mode": "off"}},
    "without access log": {"observability": {**UNTRACED, "logs": {"level": "error"}}},
    "every trace recorded": {"observability": {"traces": {"sample": 1.0}}},
    "firewall in block": {"firewall": {"mode": "block"}},
}

Costs = dict[str, dict[str, float]]  # workload -> switch -> milliseconds of CPU a request, of the first one all of it


def costs(workloads: Sequence[Workload], rounds: int, run: Run) -> Costs:
    """Each workload's CPU as shipped, and what each switch adds to it: medians of the differences inside a round."""
    with ExitStack() as started:
        backends, services = lineup.services(started)
        running = list(lineup.start([_switched(name) for name in SWITCHES], backends, started))
        entries = list(lineup.entries(running, workloads, backends))
        for entry in entries:
            entry.load(run)
        rows = []
        for number in range(rounds):
            for entry in entries if number % 2 == 0 else reversed(entries):
                rows.append({"round": number, **entry.measure(run, backends, [services])})
                print(
                    f"{rows[-1]['workload']}  {rows[-1]['contender']:<25}{rows[-1]['cpu_ms']:9.3f} ms CPU", flush=True
                )
    return added(rows)


def added(rows: Sequence[Mapping[str, Any]]) -> Costs:
    cpu = {(row["workload"], row["contender"], row["round"]): row["cpu_ms"] for row in rows}
    found: Costs = {}
    for workload in dict.fromkeys(row["workload"] for row in rows):
        rounds = {number for name, _, number in cpu if name == workload}
        shipped = {number: cpu[workload, AS_SHIPPED, number] for number in rounds}
        found[workload] = {AS_SHIPPED: median(shipped.values())} | {
            switch: round(median([cpu[workload, switch, number] - shipped[number] for number in rounds]), 4)
            for switch in SWITCHES
            if switch != AS_SHIPPED and (workload, switch, 0) in cpu
        }
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["| ms CPU a request | " + " | ".join(found) + " |", "| --- |" + " --: |" * len(found)]
    for switch in SWITCHES:
        form = "{:.3f}" if switch == AS_SHIPPED else "{:+.3f}"
        cells = [form.format(each[switch]) if switch in each else "" for each in found.values()]
        lines.append(f"| {switch} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _switched(name: str) -> Contender:
    return replace(CONTENDERS["gateway"], name=name, start=_started(SWITCHES[name]))


def _started(sections: Mapping[str, Any]) -> Callable[[Place], Start]:
    return lambda place: gateway(place, **sections)
