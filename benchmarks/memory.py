"""Whether the gateway's memory stays where it should, under documents that are never the same and requests without end.

First come documents that are never the same: the second half may add nothing to what the first has filled, which are
memories of different sizes. Then mixed requests, good ones, bad ones and clients that hang up: again the second half.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks import lineup, load
from benchmarks.contenders import CONTENDERS
from benchmarks.identity import FORGED
from benchmarks.load import Request
from benchmarks.processes import Process
from benchmarks.workloads import WORKLOADS, Target

CONNECTIONS = 16
PARTS = 20  # of a phase, between which memory is looked at
TOLERANCE = 0.03  # of all memory: a collector's tides, not a leak's
HANGING_UP = 10  # clients after each part of the mixed requests
PATIENCE = 600.0


@dataclass(frozen=True)
class Growth:
    """A phase: megabytes in memory after each of its parts, and by how much the end is above what it should stay at."""

    about: str
    requests: int
    megabytes: list[float]
    grown: float

    @property
    def holds(self) -> bool:
        return self.grown <= TOLERANCE

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "GROWS"
        course = " ".join(f"{each:.0f}" for each in self.megabytes)
        return f"{verdict}: {self.about}, {self.requests:,} requests: {self.grown:+.1%}; MB: {course}"


def memory(documents: int, requests: int) -> Iterator[Growth]:
    """Both phases over the shipped gateway, one after the other.

    Args:
        documents: how many distinct ones.
        requests: how many mixed ones.
    """
    with ExitStack() as started:
        backends, _ = lineup.services(started)
        (running,) = lineup.start([CONTENDERS["gateway"]], backends, started)
        target, process = running.target, running.process
        _ask(target, list(itertools.islice(_mixed(target), 2000)))  # what is made once is made
        yield _distinct_documents(target, process, documents)
        yield _mixed_requests(target, process, requests)


def judged(about: str, requests: int, megabytes: Sequence[float]) -> Growth:
    """What memory was in the third quarter, against the fourth; by medians, since one look may meet a collection.

    Args:
        about: for the reader.
        requests: how many there were.
        megabytes: after each part.
    """
    since = len(megabytes) // 2
    width = max(1, (len(megabytes) - since) // 2)
    before, end = median(megabytes[since : since + width]), median(megabytes[-width:])
    return Growth(about, requests, [round(each, 1) for each in megabytes], round(end / before - 1, 4))


def _distinct_documents(target: Target, process: Process, count: int) -> Growth:
    seen = []
    for part in range(PARTS):
        size = count // PARTS
        _ask(target, [Request(_document(target, part * size + n)) for n in range(size)])
        seen.append(process.memory / 1e6)
    return judged("distinct documents", count, seen)


def _document(target: Target, n: int) -> bytes:
    """Every tenth is large: four services, and as many fields as may be repeated."""
    fields = f"field_{n}: name"
    if n % 10 == 0:
        fields += " orders { nodes { id items { product { name } } payment { status } } }" + " id name email" * 12
    return target.query(f'query Distinct{n} {{ user(id: "usr_{n % 1000 + 1}") {{ {fields} }} }}')


def _mixed_requests(target: Target, process: Process, count: int) -> Growth:
    seen, requests = [], _mixed(target)
    for _ in range(PARTS):
        _ask(target, list(itertools.islice(requests, count // PARTS)))
        for _ in range(HANGING_UP):
            _hang_up(target, WORKLOADS["G2"].request(target, 0))
        seen.append(process.memory / 1e6)
    return judged("mixed requests", count, seen)


def _mixed(target: Target) -> Iterator[Request]:
    """Of a hundred: 40 G1, 35 R1, 8 G2, 2 G3, 1 R2, and 14 that are refused in seven ways."""
    graphql = target.query("{ users { nodes { nothing } } }"), target.query("{ users {"), target.query("{ me { id }")
    refused = [
        *graphql,
        target.get("/api/users/usr_1", FORGED),
        target.get("/api/users/usr_0"),
        target.get("/no/such/route"),
        target.query("query ($id: ID!) { user(id: $id) { id } }"),
    ]
    shares = {"G1": 40, "R1": 35, "G2": 8, "G3": 2, "R2": 1}
    right: dict[bytes, load.Answer] = {}
    raws: list[bytes] = []
    for name, share in shares.items():
        workload = WORKLOADS[name]
        asked = [workload.request(target, n) for n in range(workload.variants)]
        right.update(zip(asked, load.replay(target.port, asked), strict=True))
        raws += [asked[n % len(asked)] for n in range(share)]
    hundred = [Request(raw, right[raw]) for raw in raws] + [Request(raw) for raw in refused * 2]
    stride = 37  # prime to 100: kinds take turns
    return itertools.cycle([hundred[n * stride % len(hundred)] for n in range(len(hundred))])


def _ask(target: Target, requests: Sequence[Request]) -> None:
    result = load.closed(target.port, requests, connections=CONNECTIONS, patience=PATIENCE)
    if result.errors:
        raise RuntimeError(f"{result.errors} wrong answers: {result.first_error}")


def _hang_up(target: Target, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", target.port)) as client:
        client.sendall(raw)
