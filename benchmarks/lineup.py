"""The services and the contenders: started together, checked, and ended together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks.contenders import ROOT, Contender, Place
from benchmarks.measure import Entry, Reference, Wrong
from benchmarks.processes import LOAD_CORE, NotReady, Process, free_port
from benchmarks.workloads import Backends, Target, Workload

BUILD = ROOT / "build" / "bench"


class Running(NamedTuple):
    contender: Contender
    target: Target
    process: Process
    place: Place


def services(started: ExitStack) -> tuple[Backends, Process]:
    """The four services, on the load's core."""
    process = started.enter_context(
        Process(
            "backends",
            [sys.executable, "-m", "benchmarks.backends"],
            log=BUILD / "backends.log",
            core=LOAD_CORE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    )
    assert process.popen.stdout
    return Backends(json.loads(process.popen.stdout.readline())), process


def start(contenders: Iterable[Contender], backends: Backends, started: ExitStack) -> Iterator[Running]:
    """Those that are installed and come up; why the others are left out is printed."""
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
            yield Running(contender, Target(place.port, contender.dialect), process, place)


def entries(running: Sequence[Running], workloads: Iterable[Workload], backends: Backends) -> Iterator[Entry]:
    """Every contender with every workload that it gets right, workload by workload."""
    reference = Reference(backends)
    for workload in workloads:
        for contender, target, process, _ in running:
            if workload.front in contender.fronts:
                entry = Entry(contender, workload, target, process)
                try:
                    entry.check(reference)
                except (Wrong, OSError, KeyError, ValueError) as error:
                    print(f"left out: {contender.name} on {workload.name}: {error!r}", flush=True)
                else:
                    yield entry
