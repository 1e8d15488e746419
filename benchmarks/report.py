"""From rows to tables. Ratios are taken inside a round, then their median: a machine that drifts favours nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.contenders import CONTENDERS
from benchmarks.workloads import WORKLOADS

Row = dict[str, Any]
Summary = dict[str, dict[str, Row]]  # workload -> contender -> figures

OURS = "gateway"
NODE_GRAPHQL = ("apollo", "apollo-fastify", "yoga", "yoga-jit", "mercurius", "hive")
CPU_HEAD = ("", "CPU ms", "gateway ÷ it", "a core's requests/s", "in the run", "p50 ms", "p99 ms", "MB", "errors")
RATE_HEAD = ("", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "slowest", "samples", "CPU ms", "errors")


def summary(rows: Sequence[Row]) -> Summary:
    """What a run comes to: medians over rounds; quantiles over the samples of all rounds where the rate was fixed."""
    found: Summary = {}
    for workload in WORKLOADS:
        rows_of = {
            name: mine
            for name in CONTENDERS
            if (mine := [row for row in rows if row["workload"] == workload and row["contender"] == name])
        }
        if rows_of:
            ours = rows_of.get(OURS, [])
            found[workload] = {name: _figures(mine, ours) for name, mine in rows_of.items()}
    return found


def _figures(rows: Sequence[Row], ours: Sequence[Row]) -> Row:
    samples = sorted(each for row in rows for each in row.get("latencies_us", ()))
    if samples:
        times = {name: _quantile(samples, q) / 1000 for name, q in QUANTILES.items()}
    else:
        times = {name: round(_median(rows, name), 2) for name in ("p50_ms", "p99_ms")}
    return {
        "cpu_ms": round(_median(rows, "cpu_ms"), 4),
        "ratio": paired(ours, rows),
        "rate": round(_median(rows, "rate")),
        **times,
        "memory_mb": round(max(row["memory_mb"] for row in rows)),
        "foreign": round(_median(rows, "foreign"), 2),
        "samples": sum(row["requests"] for row in rows),
        "errors": sum(row["errors"] for row in rows),
    }


QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999, "slowest_ms": 1.0}


def paired(ours: Iterable[Row], theirs: Iterable[Row]) -> list[float]:
    """Our CPU as a part of theirs in the same round: median, least, most and number of rounds."""
    by_round = {row["round"]: row["cpu_ms"] for row in theirs}
    ratios = [row["cpu_ms"] / by_round[row["round"]] for row in ours if by_round.get(row["round"])]
    return [round(each, 3) for each in (median(ratios), min(ratios), max(ratios))] + [len(ratios)] if ratios else []


def cpu_tables(found: Mapping[str, Mapping[str, Row]]) -> str:
    """Each workload's contenders, the cheapest first."""
    return "\n\n".join(_table(found, name, CPU_HEAD, _cpu_line, "cpu_ms") for name in found)


def rate_tables(found: Mapping[str, Mapping[str, Row]]) -> str:
    """Each workload's contenders, the one with the lowest p99 first."""
    return "\n\n".join(_table(found, name, RATE_HEAD, _rate_line, "p99_ms") for name in found)


class Target(NamedTuple):
    """What the gateway's CPU may be as a part of a peer's: what it must not exceed, and what is aimed at."""

    workload: str
    peer: str
    must: float | None
    aim: float | None


TARGETS = (
    Target("G1", "apollo", 1.0, 0.5),
    Target("G2", "apollo", 0.5, None),
    Target("G2", "naive", 0.05, None),
    Target("G2", "mercurius", None, 1.0),
    Target("G3", "apollo", 0.5, None),
    Target("G3", "mercurius", None, 1.0),
    Target("R1", "fastify-proxy", 1.0, None),
    Target("R1", "naive", 0.1, None),
    Target("R1", "envoy", None, 2.0),
    Target("R2", "fastify-proxy", 1.2, 1.0),
)


def target_table(found: Mapping[str, Mapping[str, Row]]) -> str:
    """What we ask of ourselves, and what was measured."""
    lines = [
        _cells(["", "next to", "bound", "aim", "measured", ""]),
        _cells(["---", "---", "--:", "--:", "--:", "---"]),
    ]
    for workload, peer, must, aim in TARGETS:
        measured = found[workload][peer]["ratio"][0]
        reached = [name for name, bound in (("bound", must), ("aim", aim)) if bound is not None and measured <= bound]
        bounds = [f"{bound:g}" if bound is not None else "" for bound in (must, aim)]
        name = WORKLOADS[workload].about
        lines.append(
            _cells([name, CONTENDERS[peer].title, *bounds, f"{measured:.3f}", " and ".join(reached) or "missed"])
        )
    return "\n".join(lines)


def short_table(found: Mapping[str, Mapping[str, Row]], names: Sequence[str]) -> str:
    """A line for each workload, a column for each contender: CPU, and in brackets our share of it."""
    lines = [_cells(["CPU ms a request", *[CONTENDERS[name].title for name in names]]), _rule(len(names))]
    for workload, rows in found.items():
        cells = [f"{rows[name]['cpu_ms']:.2f}{_share(rows[name], name)}" if name in rows else "" for name in names]
        lines.append(_cells([WORKLOADS[workload].about, *cells]))
    return "\n".join(lines)


def _share(row: Row, name: str) -> str:
    return f" ({row['ratio'][0]:.2f})" if name != OURS and row["ratio"] else ""


def _table(found: Any, workload: str, head: Sequence[str], line: Any, order: str) -> str:
    rows = found[workload]
    names = sorted(rows, key=lambda name: float(rows[name][order]))
    title = f"### {workload} · {WORKLOADS[workload].about}"
    return "\n".join(
        [title, "", _cells(head), _rule(len(head) - 1), *[_cells(line(name, rows[name])) for name in names]]
    )


def _cpu_line(name: str, row: Row) -> list[str]:
    middle, least, most, rounds = row["ratio"] or (0, 0, 0, 0)
    return [
        _named(name),
        f"{row['cpu_ms']:.3f}",
        f"{middle:.2f} ({least:.2f} to {most:.2f}, n={rounds})" if rounds and name != OURS else "",
        f"{1000 / row['cpu_ms']:,.0f}",
        f"{row['rate']:,}",
        f"{row['p50_ms']:.1f}",
        f"{row['p99_ms']:.1f}",
        f"{row['memory_mb']}",
        f"{row['errors']}",
    ]


def _rate_line(name: str, row: Row) -> list[str]:
    times = [f"{row[quantile]:.2f}" for quantile in QUANTILES]
    return [_named(name), *times, f"{row['samples']:,}", f"{row['cpu_ms']:.2f}", f"{row['errors']}"]


def _named(name: str) -> str:
    return f"**{name}** {CONTENDERS[name].about}"


def _quantile(ordered: Sequence[int], q: float) -> int:
    return ordered[round((len(ordered) - 1) * q)]


def _median(rows: Iterable[Row], key: str) -> float:
    return median([float(row[key]) for row in rows])


def _rule(numbers: int) -> str:
    return _cells(["---", *["--:"] * numbers])


def _cells(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
