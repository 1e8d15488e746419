"""From rows to tables. Ratios are taken inside a round, then their median: a machine that drifts favours nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.workloads import WORKLOADS

Row = dict[str, Any]

OURS = "gateway"
HEAD = (
    "",
    "CPU ms a request",
    "gateway's CPU ÷ its",
    "requests/s",
    "core busy",
    "p50 ms",
    "p99 ms",
    "calls",
    "errors",
)


def tables(rows: Sequence[Row]) -> str:
    return "\n\n".join(table(rows, name) for name in WORKLOADS if any(row["workload"] == name for row in rows))


def table(rows: Sequence[Row], workload: str) -> str:
    """One workload's contenders, the cheapest first."""
    rows_of = {
        name: mine
        for name in CONTENDERS
        if (mine := [row for row in rows if row["workload"] == workload and row["contender"] == name])
    }
    cheapest_first = sorted(rows_of, key=lambda name: _median(rows_of[name], "cpu_ms"))
    lines = [_line(name, rows_of[name], rows_of.get(OURS, [])) for name in cheapest_first]
    title = f"### {workload} · {WORKLOADS[workload].about}"
    return "\n".join([title, "", _cells(HEAD), _cells(["---"] + ["--:"] * (len(HEAD) - 1)), *lines])


def _line(name: str, rows: Sequence[Row], ours: Sequence[Row]) -> str:
    return _cells(
        [
            f"**{name}** {CONTENDERS[name].about}",
            f"{_median(rows, 'cpu_ms'):.3f}",
            "" if name == OURS else paired(ours, rows),
            f"{_median(rows, 'rate'):,.0f}",
            f"{_median(rows, 'busy'):.0%}",
            f"{_median(rows, 'p50_ms'):.2f}",
            f"{_median(rows, 'p99_ms'):.2f}",
            f"{_median(rows, 'calls'):g}",
            str(sum(row["errors"] for row in rows)),
        ]
    )


def paired(ours: Iterable[Row], theirs: Iterable[Row]) -> str:
    """Our CPU as a part of theirs in the same round: median, range and number of rounds."""
    by_round = {row["round"]: row["cpu_ms"] for row in theirs}
    ratios = [row["cpu_ms"] / by_round[row["round"]] for row in ours if by_round.get(row["round"])]
    if not ratios:
        return ""
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, n={len(ratios)})"


def _median(rows: Iterable[Row], key: str) -> float:
    return median([float(row[key]) for row in rows])


def _cells(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
