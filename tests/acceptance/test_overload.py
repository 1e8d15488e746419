"""Rows O01 to O04: more connections than a gateway can serve, from another process, none of which ever waits.

The figures are shares of what the same gateway does with as many connections as it serves well, by turns with those.
Others use the machine too, and may leave the gateway a quarter of a core. So a load lasts until the gateway has had its
seconds of a processor, answers are counted for each of them, and of the time that an answer took only as much counts as
it would have taken without the others: by what the kernel says that the gateway waited for a processor.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.running import Running, free_port

SERVES_WELL = 32
OBJECTIVE = 1.0
CPU = 1.5
ROUNDS = 3
QUERY = '{ product(id: "prd_1") { id name category stock price { amount currency } } }'
PRODUCT = {"id": "prd_1", "sku": "S", "name": "N", "description": "", "category": "c", "stock": 1}
PAGE = json.dumps({"items": [PRODUCT | {"price": {"amount": "1.00", "currency": "EUR"}}], "next_cursor": None}).encode()
CONFIG = """
services: {{products: {{url: "http://127.0.0.1:{port}", identity: none}}}}
tiers: {{anonymous: {{rate: [100000000/minute]}}}}
limits: {{per_address: 100000000/minute}}
observability: {{logs: {{level: warning}}}}
"""


class Backend(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(PAGE)
        self.transport.write(head + PAGE)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    loop, up = asyncio.new_event_loop(), threading.Event()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1000)

    async def serve() -> None:
        await loop.create_server(Backend, sock=listening)
        up.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(serve()), loop.run_forever()), daemon=True)
    thread.start()
    up.wait()
    folder: Path = tmp_path_factory.mktemp("overload")
    (folder / "bff.yaml").write_text(CONFIG.format(port=listening.getsockname()[1]))
    port, admin = free_port(), free_port()
    environ = {"BFF__SERVER__PORT": str(port), "BFF__ADMIN__PORT": str(admin)}
    url, operators = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
    running = Running(["-c", str(folder / "bff.yaml")], environ, url, operators, folder)
    try:
        running.wait_until_up()
        yield running
    finally:
        running.end()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Seen(NamedTuple):
    """What came of a load.

    Attributes:
        goodput: answers within the objective, for each second of a processor.
        share: of the time that the gateway could have run it did, others did in the rest.
        idle: the share of time in which it had nothing to do.
        late: the 99th percentile of those that were served, in seconds.
        shed, shed_late: the share of answers that refused, and their 95th percentile.
        others: answers that are neither.
        health: the slowest answer of `/healthz`.
    """

    goodput: float
    share: float
    idle: float
    late: float
    shed: float
    shed_late: float
    others: int
    health: float


def press(gateway: Running, connections: int, into: Path) -> Seen:
    port, pid = gateway.url.rpartition(":")[2], str(gateway.process.pid)
    arguments = [port, pid, str(connections), str(CPU), QUERY, str(into)]
    process = subprocess.Popen([sys.executable, "-m", "tests.acceptance.pressure", *arguments])
    healths = []
    while process.poll() is None:
        time.sleep(0.6)
        began = time.perf_counter()
        assert httpx.get(f"{gateway.admin}/healthz", timeout=30).status_code == 200
        healths.append(time.perf_counter() - began)
    told = json.loads(into.read_bytes())
    answers, cpu, waited = told["answers"], told["cpu"], told["waited"]
    share = cpu / (cpu + waited)
    served = sorted(seconds * share for status, seconds in answers if status == 200)
    shed = sorted(seconds * share for status, seconds in answers if status == 503)
    seen = Seen(
        sum(seconds <= OBJECTIVE for seconds in served) / cpu,
        share,
        max(0.0, 1 - (cpu + waited) / told["clock"]),
        served[int(len(served) * 0.99)],
        len(shed) / len(answers),
        shed[int(len(shed) * 0.95)] if shed else 0.0,
        len(answers) - len(served) - len(shed),
        max(healths) * share,
    )
    said = ", ".join(f"{name} {value:.3g}" for name, value in seen._asdict().items())
    sys.stdout.write(f"{connections}: {said}\n")
    return seen


def mean(loads: list[Seen]) -> float:
    return sum(each.goodput for each in loads) / len(loads)


@pytest.mark.timeout(600)
def test_goodput_stays_under_overload_and_is_what_it_was_right_after(gateway: Running, tmp_path: Path) -> None:
    into = tmp_path / "answers.json"
    press(gateway, SERVES_WELL, into)
    rounds = [
        [press(gateway, each, into) for each in (SERVES_WELL, 8 * SERVES_WELL, SERVES_WELL, 1000, SERVES_WELL)]
        for _ in range(ROUNDS)
    ]
    before, eightfold, between, thousand, after = (list(each) for each in zip(*rounds, strict=True))
    capacity = mean(before + between + after)
    figures = [mean(each) / capacity for each in (eightfold, thousand, between + after)]
    sys.stdout.write("of capacity, at 8 times, at 1,000 and right after: {:.2f} {:.2f} {:.2f}\n".format(*figures))
    assert figures[0] >= 0.8
    assert figures[1] >= 0.6
    assert figures[2] >= 0.8
    assert all(each.shed == 0 for each in before + between + after)
    assert max(each.late for each in eightfold + between + after) <= OBJECTIVE
    assert all(each.others == 0 for each in eightfold + thousand)
    assert max(each.health for each in eightfold + thousand) < OBJECTIVE
