"""Where the gateway's CPU goes under a workload: four views of the same samples.

*Package*: whose code was running. *Owner*: the innermost module of the project that was on the stack, so that a
library's time belongs to the policy that called it. *Stage*: the owners, summed up. *Function*: what was running.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import lineup
from benchmarks.contenders import CONTENDERS, ROOT, Place, Start, run
from benchmarks.measure import Entry, Run
from benchmarks.processes import Process
from benchmarks.workloads import WORKLOADS, Backends, Workload

Stack = tuple[str, ...]

SAMPLES = "samples.jsonl"
LEAST = 0.005  # the share below which a line is not worth its place
INSTALLED = re.compile(r"/site-packages/([^/:]+?)(?:\.py)?[/:]")
LOOP = "event loop"
RUNNERS = re.compile(r"bff/(__main__|cli|serve)(/|$)")  # what they wait for is the loop


@dataclass(frozen=True)
class Profile:
    """One workload's CPU and who had it.

    Attributes:
        cpu_ms: a request, while it was sampled.
        samples: how many there were.
        shares: for each view the parts of it, the largest first.
    """

    workload: str
    cpu_ms: float
    samples: int
    shares: dict[str, list[tuple[str, float]]]

    def __str__(self) -> str:
        about = WORKLOADS[self.workload].about
        lines = [f"{self.workload} · {about}: {self.cpu_ms:.3f} ms CPU a request, {self.samples} samples"]
        for view, parts in self.shares.items():
            lines += ["", f"| by {view} | share | ms a request |", "| --- | --: | --: |"]
            lines += [f"| {name} | {share:.1%} | {share * self.cpu_ms:.3f} |" for name, share in parts]
        return "\n".join(lines)


def profile(workloads: Sequence[Workload], seconds: float, connections: int) -> list[Profile]:
    """The shipped gateway under one workload after the other."""
    with ExitStack() as started:
        backends, services = lineup.services(started)
        sampled = replace(CONTENDERS["gateway"], start=_sampled)
        running = list(lineup.start([sampled], backends, started))
        return [
            _profile(entry, running[0], seconds, connections, backends, services)
            for entry in lineup.entries(running, workloads, backends)
        ]


def _profile(
    entry: Entry, running: lineup.Running, seconds: float, connections: int, backends: Backends, services: Process
) -> Profile:
    file = running.place.folder / SAMPLES
    entry.load(Run(seconds / 4, connections))
    file.unlink(missing_ok=True)
    running.process.popen.send_signal(signal.SIGUSR1)
    row = entry.measure(Run(seconds, connections), backends, [services])
    running.process.popen.send_signal(signal.SIGUSR2)
    return judged(entry.workload.name, row["cpu_ms"], list(_read(file)))


def judged(workload: str, cpu_ms: float, stacks: Sequence[tuple[int, Stack]]) -> Profile:
    views: dict[str, Callable[[Stack], str]] = {
        "package": lambda stack: package(stack[-1]),
        "stage": lambda stack: stage(owner(stack)),
        "owner": owner,
        "function": lambda stack: short(stack[-1]),
    }
    found = {name: shares(stacks, view) for name, view in views.items()}
    return Profile(workload, cpu_ms, sum(count for count, _ in stacks), found)


def matrix(profiles: Sequence[Profile], view: str) -> str:
    """A line for each part of a view, a column for each workload, in milliseconds of CPU a request."""
    names = {name: 0.0 for each in profiles for name, _ in each.shares[view]}
    cells = {(each.workload, name): share * each.cpu_ms for each in profiles for name, share in each.shares[view]}
    for (_, name), ms in cells.items():
        names[name] += ms
    order = sorted((name for name in names if name != "other"), key=lambda name: -names[name])
    lines = [
        "| ms CPU a request | " + " | ".join(each.workload for each in profiles) + " |",
        "| --- |" + " --: |" * len(profiles),
    ]
    for name in [*order, *(["other"] if "other" in names else [])]:
        row = [f"{cells[each.workload, name]:.3f}" if (each.workload, name) in cells else "" for each in profiles]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines.append("| **all** | " + " | ".join(f"**{each.cpu_ms:.3f}**" for each in profiles) + " |")
    return "\n".join(lines)


def shares(stacks: Iterable[tuple[int, Stack]], view: Callable[[Stack], str]) -> list[tuple[str, float]]:
    """Each name's part of all samples, the largest first; what is too small for a line is `other`."""
    counts: Counter[str] = Counter()
    for count, stack in stacks:
        counts[view(stack)] += count
    total = counts.total()
    large = [(name, count / total) for name, count in counts.most_common() if count / total >= LEAST]
    rest = 1 - sum(share for _, share in large)
    return [*large, ("other", rest)] if rest > LEAST / 10 else large


def package(frame: str) -> str:
    """Whose code a frame is: a stage of the project, a library, or Python's own."""
    file, _, function = frame.rpartition(":")
    if (inside := _inside(file)) is not None:
        return "/".join(inside.parts[:-1]) or inside.stem
    if installed := INSTALLED.search(file + "/"):
        return installed[1]
    if file.endswith("asyncio/runners.py") or function == "run_forever":
        return LOOP
    return "Python's library" if file.startswith("/") else "generated code"


def owner(stack: Stack) -> str:
    """The innermost module of the project on a stack; without one the library at its top, or the loop."""
    for frame in reversed(stack):
        inside = _inside(frame.rpartition(":")[0])
        if inside is not None and not RUNNERS.match(module := str(inside.with_suffix(""))):
            return module
    return LOOP if _inside(stack[-1].rpartition(":")[0]) else package(stack[-1])


def stage(owned: str) -> str:
    """A module of core or of the edge stands for itself, any other for its folder; the rest is the event loop's."""
    parts = owned.split("/")
    if parts[0] in ("schema", "services"):
        return "schema and services"
    if parts[0] != "bff":
        return LOOP
    return "/".join(parts[1:3] if parts[1] in ("core", "edge") else parts[1:2])


def short(frame: str) -> str:
    file, _, function = frame.rpartition(":")
    inside = _inside(file)
    return f"{inside or '/'.join(Path(file).parts[-2:])} {function}"


def _inside(file: str) -> Path | None:
    """A file of the gateway, its schema or its services, from the project's root; None for all others."""
    path = Path(file)
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in ("bff", "schema", "services"):
        return None
    return path.relative_to(ROOT)


def _sampled(place: Place) -> Start:
    argv = [sys.executable, "-m", "benchmarks.sampler", str(place.folder / SAMPLES), "bff", *run(place)]
    return Start(argv, f"http://127.0.0.1:{place.admin_port}/readyz")


def _read(file: Path) -> Iterator[tuple[int, Stack]]:
    deadline = time.monotonic() + 10
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the gateway wrote no samples")
        time.sleep(0.05)
    for line in file.read_text().splitlines():
        count, stack = json.loads(line)
        yield count, tuple(stack)
