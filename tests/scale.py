"""What docs/scale.md says of one process: what it asks of the store, and what its clients and its metrics take.

    python -m tests.scale

Counts are exact, and memory nearly so, on a busy machine too; no time is measured but the store's own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

import demo
from bff.core.store import Window
from bff.core.store.link import connect
from bff.core.store.local import LocalValkey
from bff.core.store.wire import asked, command
from tests.harness import FOUR_SERVICES
from tests.running import ROOT, Running, running
from tests.store.conftest import ledger

KEY = {"x-api-key": "bff_demo_key_for_this_machine_only"}
CONNECTIONS = 1000
REQUESTS = 200
_HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
_INIT = b'{"type":"connection_init"}'
_FRAME = b"\x81" + bytes([0x80 | len(_INIT)]) + b"\0\0\0\0" + _INIT  # masked by nothing


def said(what: str, figure: str) -> None:
    sys.stdout.write(f"{what:<60} {figure}\n")
    sys.stdout.flush()


def info(local: LocalValkey) -> list[str]:
    async def answer() -> bytes:
        wire = await connect(str(local._socket), 5, None, lambda _: None)
        (answer,) = await asked(wire, [command("INFO", "everything")])
        wire.abort()
        text: bytes = answer
        return text

    return asyncio.run(answer()).decode().splitlines()


def calls(local: LocalValkey) -> Counter[str]:
    """How often each command has been called, also by scripts."""
    stats = [line.removeprefix("cmdstat_").split(":calls=") for line in info(local) if line.startswith("cmdstat_")]
    return Counter({name: int(rest.partition(",")[0]) for name, rest in stats if name != "info"})


def cpu(local: LocalValkey) -> float:
    """Seconds that the store has used."""
    found = dict(line.split(":") for line in info(local) if line.startswith("used_cpu_"))
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def kilobytes(gateway: Running) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@contextmanager
def open_connections(gateway: Running, number: int, sent: bytes, answers: bytes, then: bytes = b"") -> Iterator[None]:
    port = int(gateway.url.rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            client.sendall(sent)
            said = b""
            while answers not in said:
                said += client.recv(65536)
            if then:
                client.sendall(then)
                client.recv(65536)
        yield


def store(gateway: Running, local: LocalValkey) -> None:
    before = calls(local)
    time.sleep(10)
    said("commands to the store in 10 s without a request", json.dumps(calls(local) - before))
    with httpx.Client(base_url=gateway.url, headers=KEY, timeout=30) as client:
        query = {"query": FOUR_SERVICES, "variables": {"first": 10}}
        ask = {
            "REST": lambda: client.get("/api/products/prd_1"),
            "GraphQL, one field": lambda: client.post("/graphql", json={"query": '{ product(id: "prd_1") { name } }'}),
            "GraphQL, four services": lambda: client.post("/graphql", json=query),
        }
        for name, once in ask.items():
            once().raise_for_status()
            before = calls(local)
            for _ in range(REQUESTS):
                once().raise_for_status()
            said(f"scripts a request, {name}", f"{(calls(local) - before)['evalsha'] / REQUESTS:.1f}")


def decisions(local: LocalValkey) -> None:
    """As a busy gateway asks: many at a time, in one write."""
    number, windows = 20_000, (Window("s", 10**9, 1), Window("m", 10**9, 60), Window("d", 10**9, 86400))

    async def ask() -> None:
        shared = ledger(local.url)
        await shared.store.open()

        async def some(caller: int) -> None:
            for _ in range(number // 32):
                await shared.reserve(f"scale/{caller}", windows, 1)

        await asyncio.gather(*map(some, range(32)))
        await shared.store.close()

    used = cpu(local)
    asyncio.run(ask())
    used = cpu(local) - used
    said("a decision with three windows, 32 at a time", f"{used / number * 1e6:.0f} us of the store's CPU")


def memory(gateway: Running) -> None:
    rest = b"GET /api/products/prd_1 HTTP/1.1\r\nHost: gateway\r\n\r\n"
    kinds = {"kept HTTP connections": (rest, b"prd_1", b""), "websockets": (_HANDSHAKE, b"\r\n\r\n", _FRAME)}
    for name, asking in kinds.items():
        with open_connections(gateway, 50, *asking):
            pass
        before = kilobytes(gateway)
        with open_connections(gateway, CONNECTIONS, *asking):
            grown = kilobytes(gateway) - before
        said(f"{CONNECTIONS} {name} that rest", f"{grown / CONNECTIONS:.1f} KB each")


def series(gateway: Running) -> None:
    text = httpx.get(f"{gateway.admin}/metrics", timeout=30).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    said("series of metrics, four services and their routes in use", f"{len(lines)}, {len(text) // 1024} KB a scrape")


def main() -> None:
    with demo.processes(demo.FREE) as shop, LocalValkey() as local:
        told = {
            "BFF__STORE": json.dumps({"url": local.url, "timeout": "1s"}),
            "BFF__LIMITS__PER_ADDRESS": "1000000/minute",
            "BFF__TIERS__ANONYMOUS__RATE": '["1000000/minute"]',
            "BFF__TIERS__PARTNER__RATE": '["100000/second", "1000000/minute", "10000000/day"]',
        }
        with running(ROOT / "bff.yaml", shop, **told) as gateway:
            said("memory at rest", f"{kilobytes(gateway) / 1024:.0f} MB")
            store(gateway, local)
            decisions(local)
            memory(gateway)
            series(gateway)


if __name__ == "__main__":
    main()
