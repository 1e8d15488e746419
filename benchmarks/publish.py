"""Results into the documentation: what a run found is kept in a file, and the pages' tables are made of it.

Each run leaves `build/bench/KIND.json`. `publish` takes those into docs/performance.json, which is part of the project,
and rewrites what stands between `<!-- figures: NAME -->` and `<!-- end -->` in the pages. A test holds them together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from benchmarks import lineup, memory, profiles, report, settings
from benchmarks.contenders import ROOT
from benchmarks.workloads import WORKLOADS

FIGURES = ROOT / "docs" / "performance.json"
PAGES = (ROOT / "docs" / "performance.md", ROOT / "docs" / "scale.md", ROOT / "README.md")
KINDS = ("cpu", "latency", "memory", "profile", "settings")
IN_README = ("gateway", "naive", "apollo", "mercurius", "fastify-proxy", "envoy")
MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def keep(kind: str, found: Mapping[str, Any]) -> None:
    """Leave a run's results for `publish`."""
    (lineup.BUILD / f"{kind}.json").write_text(json.dumps(found))


def publish() -> None:
    """The last results of every kind into the figures, and the figures into the pages."""
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for kind in KINDS:
        file = lineup.BUILD / f"{kind}.json"
        if file.exists():
            figures[kind] = json.loads(file.read_text())
    for each in figures["profile"]["profiles"]:
        each["shares"] = {view: each["shares"][view] for view in ("stage", "package")}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    for page in PAGES:
        page.write_text(written(page.read_text(), figures))


def written(text: str, figures: Mapping[str, Any]) -> str:
    """A page with its tables made of the figures."""
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](figures)}\n\n{found[3]}", text)


def _run(kind: str) -> Callable[[Mapping[str, Any]], str]:
    """On what commit, when and how it was run, and how busy the machine was with other things."""

    def line(figures: Mapping[str, Any]) -> str:
        on, how = figures[kind]["machine"], figures[kind].get("run", {})
        said = [f"commit {on['commit']}", on["at"], *[f"{value:g} {name}" for name, value in how.items()]]
        rows = [row for each in figures[kind].get("found", {}).values() for row in each.values()]
        if rows:
            said.append(f"{median(row['foreign'] for row in rows):.1f} cores busy with other programs")
        return f"Measured: {', '.join(said)}."

    return line


def _versions(figures: Mapping[str, Any]) -> str:
    on = figures["cpu"]["machine"]
    names = [name for name in on if name not in ("at", "commit", "cpu", "cores", "peers")]
    versions = {name: on[name] for name in names} | {name: on["peers"][name] for name in PEERS}
    return f"{on['cpu']}, {on['cores']} cores. " + ", ".join(f"{name} {said}" for name, said in versions.items()) + "."


PEERS = (
    "@apollo/server",
    "graphql-yoga",
    "mercurius",
    "graphql-jit",
    "@graphql-hive/gateway",
    "@fastify/http-proxy",
    "fastify",
    "undici",
)


def _memory(figures: Mapping[str, Any]) -> str:
    phases = [memory.Growth(**phase) for phase in figures["memory"]["phases"]]
    lines = [
        f"| {each.about} | {each.requests:,} | {each.megabytes[0]:.0f} | {max(each.megabytes):.0f}"
        f" | {each.megabytes[-1]:.0f} | {each.grown:+.1%} |"
        for each in phases
    ]
    head = "|  | requests | MB at first | most | at the end | grown since it settled |"
    return "\n".join([head, "| --- | --: | --: | --: | --: | --: |", *lines])


def _profile(view: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda figures: profiles.matrix([profiles.Profile(**each) for each in figures["profile"]["profiles"]], view)


def _scale(figures: Mapping[str, Any]) -> str:
    """How many requests a second which number of cores answers, 60 % of each busy."""
    sizes = {"one core": 1, "8 cores": 8, "10 machines of 8": 80, "100 machines of 8": 800}
    lines = [f"| requests a second | CPU ms | {' | '.join(sizes)} |", f"| --- | --: |{' --: |' * len(sizes)}"]
    for name, contenders in figures["cpu"]["found"].items():
        spent = contenders["gateway"]["cpu_ms"]
        rates = [f"{round(600 / spent * cores, -1):,.0f}" for cores in sizes.values()]
        lines.append(f"| {WORKLOADS[name].about} | {spent:.3f} | {' | '.join(rates)} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "cpu": lambda figures: report.cpu_tables(figures["cpu"]["found"]),
    "targets": lambda figures: report.target_table(figures["cpu"]["found"]),
    "versions": _versions,
    "cpu_run": _run("cpu"),
    "latency": lambda figures: report.rate_tables(figures["latency"]["found"]),
    "latency_run": _run("latency"),
    "memory": _memory,
    "memory_run": _run("memory"),
    "stages": _profile("stage"),
    "packages": _profile("package"),
    "profile_run": _run("profile"),
    "settings": lambda figures: settings.table(figures["settings"]["costs"]),
    "settings_run": _run("settings"),
    "scale": _scale,
    "short": lambda figures: report.short_table(figures["cpu"]["found"], IN_README),
}
