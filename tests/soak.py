"""A gateway under mixed load for as long as one likes, and whether its memory and its descriptors stay as they are.

    python -m tests.soak --seconds 600 --workers 1      (make soak)

Side by side: GraphQL over all services, REST, websockets, event streams, clients that go away in the middle, a service
whose connections are cut and end, and a reload every two seconds, every fourth of a file that is bad.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

import demo
from demo import Demo
from tests.cable import Cable, cable
from tests.harness import FOUR_SERVICES
from tests.running import ROOT, Running, running

KEY = {"x-api-key": "bff_demo_key_for_this_machine_only"}
OPERATOR = {"authorization": "Bearer operators"}
PRODUCT = '{ product(id: "prd_1") { name } }'
WATCH = 'subscription { orderStatusChanged(id: "ord_1") { id status } }'
RELOAD_EVERY = 2.0
SAMPLE_EVERY = 1.0
_SSE = {"accept": "text/event-stream"}


@dataclass
class Used:
    """What all processes of a gateway have together, again and again."""

    descriptors: list[int] = field(default_factory=list)
    kilobytes: list[int] = field(default_factory=list)

    def look(self, gateway: Running) -> None:
        descriptors = kilobytes = 0
        for pid in (gateway.process.pid, *_children(gateway.process.pid)):
            with suppress(FileNotFoundError, ProcessLookupError):
                descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
                status = Path(f"/proc/{pid}/status").read_text()
                kilobytes += int(status.partition("VmRSS:")[2].split()[0])
        self.descriptors.append(descriptors)
        self.kilobytes.append(kilobytes)


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass
class Soak:
    """What has become of it all.

    Attributes:
        done: how often each kind of client came to its end.
        wrong: what no client is to see.
        reloads: what came of each.
        used: while it went on.
        rest: descriptors before the first client came, and after the last one had gone.
    """

    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    reloads: list[str] = field(default_factory=list)
    used: Used = field(default_factory=Used)
    rest: tuple[int, int] = (0, 0)

    def judge(self, kind: str, answer: httpx.Response, *, statuses: frozenset[int] = frozenset({200})) -> None:
        if answer.status_code not in statuses or "INTERNAL_SERVER_ERROR" in answer.text:
            self.wrong.append(f"{kind}: {answer.status_code} {answer.text[:300]}")

    @property
    def grown(self) -> tuple[float, float]:
        """Descriptors and kilobytes, from the second fifth of the time to the last one."""
        fifth = max(1, len(self.used.descriptors) // 5)

        def growth(values: list[int]) -> float:
            return median(values[-fifth:]) - median(values[fifth : 2 * fifth])

        return growth(self.used.descriptors), growth(self.used.kilobytes)


class Clients:
    """Each kind as one method that is called again and again, until the time is over."""

    def __init__(self, gateway: Running, soak: Soak, chance: random.Random) -> None:
        self._gateway, self._soak, self._chance = gateway, soak, chance
        self._http = httpx.AsyncClient(base_url=gateway.url, headers=KEY, timeout=30)

    async def graphql(self) -> None:
        answer = await self._http.post("/graphql", json={"query": FOUR_SERVICES, "variables": {"first": 5}})
        self._soak.judge("graphql", answer)

    async def rest(self) -> None:
        self._soak.judge("rest", await self._http.get("/api/products/prd_1"))

    async def new_connection(self) -> None:
        async with httpx.AsyncClient(base_url=self._gateway.url, headers=KEY, timeout=30) as client:
            self._soak.judge("new connection", await client.post("/graphql", json={"query": PRODUCT}))

    async def faulty(self) -> None:
        answer = await self._http.get("/api/payments/pay_1")
        self._soak.judge("faulty", answer, statuses=frozenset({200, 404, 502, 503, 504}))

    async def leaver(self) -> None:
        """Goes away while it waits for the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._chance.uniform(0.001, 0.03)):
                async with httpx.AsyncClient(base_url=self._gateway.url, headers=KEY, timeout=30) as client:
                    await client.post("/graphql", json={"query": FOUR_SERVICES, "variables": {"first": 20}})

    async def event_stream(self) -> None:
        asked = self._http.stream("POST", "/graphql", json={"query": WATCH}, headers=_SSE)
        async with asked as stream:
            if stream.status_code != 200:
                self._soak.wrong.append(f"event stream: {stream.status_code}")
            with suppress(TimeoutError, httpx.RemoteProtocolError):
                async with asyncio.timeout(self._chance.uniform(0.1, 3)):
                    async for _ in stream.aiter_bytes():
                        pass

    async def websocket(self) -> None:
        url = f"{self._gateway.url.replace('http', 'ws')}/graphql"
        with suppress(TimeoutError, WebSocketException):  # a reload sends it away
            async with connect(
                url, subprotocols=["graphql-transport-ws"], additional_headers=KEY, proxy=None
            ) as socket:  # type: ignore[list-item]
                await socket.send('{"type": "connection_init"}')
                if json.loads(await socket.recv())["type"] != "connection_ack":
                    self._soak.wrong.append("websocket: no connection_ack")
                for id, query in (("1", WATCH), ("2", PRODUCT)):
                    await socket.send(json.dumps({"id": id, "type": "subscribe", "payload": {"query": query}}))
                async with asyncio.timeout(self._chance.uniform(0.1, 3)):
                    async for _ in socket:
                        pass
                if self._chance.random() < 0.5:
                    socket.transport.abort()

    async def end(self) -> None:
        await self._http.aclose()


async def soak(
    gateway: Running,
    file: Path,
    faulty: Cable,
    seconds: float,
    *,
    reload_every: float = RELOAD_EVERY,
    reloads: int = 0,
    spare: int = 0,
) -> Soak:
    """Have all kinds of clients ask, over a service whose connection is `faulty`.

    Args:
        gateway, file, faulty: as `subject` gives them.
        seconds: for how long.
        reload_every: seconds from the beginning of a reload to that of the next.
        reloads: and until there were so many.
        spare: descriptors that may be left when nobody asks any more; by default that is awaited to be none.
    """
    found, over = Soak(), asyncio.Event()
    clients = Clients(gateway, found, random.Random(1))  # noqa: S311 - the same each time
    before = await _at_rest(gateway)

    async def again(kind: Callable[[], Awaitable[None]], pause: float) -> None:
        while not over.is_set():
            try:
                await kind()
            except (httpx.HTTPError, OSError) as error:
                found.wrong.append(f"{kind.__name__}: {error!r}")
            found.done[kind.__name__] += 1
            await asyncio.sleep(pause)

    many = [
        *[(clients.graphql, 0.01)] * 2,
        *[(clients.rest, 0.01)] * 2,
        (clients.new_connection, 0.01),
        *[(clients.faulty, 0.05)] * 2,
        *[(clients.leaver, 0.01)] * 2,
        *[(clients.event_stream, 0)] * 2,
        *[(clients.websocket, 0)] * 4,
    ]
    async with asyncio.TaskGroup() as group:
        for kind, pause in many:
            group.create_task(again(kind, pause))
        group.create_task(_faults(faulty, over))
        group.create_task(_reloads(gateway, file, found, over, reload_every))
        group.create_task(_looks(gateway, found.used, over))
        await asyncio.sleep(seconds)
        while len(found.reloads) < reloads:  # noqa: ASYNC110 - what is waited for is the gateway's own
            await asyncio.sleep(0.1)
        over.set()
    await clients.end()
    found.rest = before, await _at_rest(gateway, most=before + spare)
    return found


async def _faults(faulty: Cable, over: asyncio.Event) -> None:
    for at in range(sys.maxsize):
        if await _waited(over, 1.0):
            return
        if at % 3 == 0:
            faulty.snap()
            continue
        faulty.cut()
        await _waited(over, 0.5)
        faulty.mend()


async def _reloads(gateway: Running, file: Path, found: Soak, over: asyncio.Event, every: float) -> None:
    text = await asyncio.to_thread(file.read_text)
    async with httpx.AsyncClient(base_url=gateway.admin, timeout=60, headers=OPERATOR) as admin:
        now, number = asyncio.get_running_loop().time, 0
        begun = now()
        while not await _waited(over, begun + (number + 1) * every - now()):
            number += 1
            turned = "'no such expression ('" if number % 4 == 0 else f"'{number} > 0'"
            await asyncio.to_thread(file.write_text, f"{text}\npolicies: {{turn: {turned}}}\n")
            found.reloads.append((await admin.post("/-/reload")).json()["outcome"])


async def _looks(gateway: Running, used: Used, over: asyncio.Event) -> None:
    while not await _waited(over, SAMPLE_EVERY):
        used.look(gateway)


async def _waited(over: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await over.wait()
    return over.is_set()


async def _at_rest(gateway: Running, most: int | None = None) -> int:
    """Descriptors once nobody is served any more; connections to services rest for a minute, and are counted."""
    used = Used()
    for _ in range(150):
        used.look(gateway)
        if most is None or used.descriptors[-1] <= most:
            break
        await asyncio.sleep(0.5)
    return used.descriptors[-1]


@contextmanager
def subject(shop: Demo, folder: Path, workers: int = 1) -> Iterator[tuple[Running, Path, Cable]]:
    """A gateway with a configuration of its own, and the connection to one of its services."""
    for each in ("contracts", "operations"):
        (folder / each).symlink_to(ROOT / each)
    file = folder / "bff.yaml"
    file.write_text((ROOT / "bff.yaml").read_text())
    payments = urlsplit(shop.urls["payments"])
    assert payments.hostname
    assert payments.port
    with cable("127.0.0.1", (payments.hostname, payments.port)) as faulty:
        told: Mapping[str, str] = {
            "BFF__LIMITS__MODE": "off",
            "BFF__SERVER__WORKERS": str(workers),
            "BFF__SERVER__RELOAD": "off",
            "BFF__ADMIN__TOKEN": "operators",
            "BFF__OBSERVABILITY__LOGS__LEVEL": "warning",
            "BFF__SERVICES__PAYMENTS__URL": f"http://127.0.0.1:{faulty.port}",
            "BFF__SERVICES__PAYMENTS__TIMEOUT": "400ms",
        }
        with running(file, shop, **told) as gateway:
            yield gateway, file, faulty


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--reload-every", type=float, default=RELOAD_EVERY, help="seconds from one to the next")
    asked = parser.parse_args()
    with demo.processes(demo.FREE) as shop, TemporaryDirectory(prefix="soak-") as folder:
        with subject(shop, Path(folder), asked.workers) as (gateway, file, faulty):
            found = asyncio.run(soak(gateway, file, faulty, asked.seconds, reload_every=asked.reload_every))
        descriptors, kilobytes = found.grown
        sys.stdout.write(
            f"{asked.seconds:.0f} s, {asked.workers} workers: {dict(found.done)}\n"
            f"reloads {dict(Counter(found.reloads))}\n"
            f"descriptors {min(found.used.descriptors)} to {max(found.used.descriptors)}, grown by {descriptors:.0f}; "
            f"at rest {found.rest[0]} before and {found.rest[1]} after\n"
            f"memory {median(found.used.kilobytes) / 1024:.0f} MB, grown by {kilobytes / 1024:.1f} MB\n"
        )
        unexpected = [line for line in gateway.stdout.splitlines() if '"unexpected"' in line]
        for each in (*found.wrong[:20], *unexpected[:20]):
            sys.stdout.write(f"WRONG {each}\n")
    return int(bool(found.wrong or unexpected or descriptors > 10 or kilobytes > 10 * 1024))


if __name__ == "__main__":
    sys.exit(main())
