"""Sockets to a gateway as people run it: a thousand of them, large messages, clients that take nothing, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.running import ROOT, Running, running, token, until

SOCKETS, ORDERS = 1000, 100
MOST_MEMORY = 60_000
IDENTITY = {"x-auth-subject": "usr_1", "x-auth-scopes": "orders:read orders:write orders:admin"}
WATCH = "subscription Watch($id: ID!) { orderStatusChanged(id: $id) { id status } }"


@pytest.fixture(scope="module")
def shop(real_services) -> Any:
    return real_services


@pytest.fixture
def one(shop) -> Iterator[Running]:
    more = {
        "BFF__LIMITS__MODE": "off",
        "BFF__GRAPHQL__SUBSCRIPTIONS__MAX_PER_CALLER": "2000",
        "BFF__GRAPHQL__SUBSCRIPTIONS__SEND_TIMEOUT": "1s",
        "BFF__GRAPHQL__SUBSCRIPTIONS__HEARTBEAT": "1m",
    }
    with running(ROOT / "bff.yaml", shop, **more) as gateway:
        yield gateway


def memory(process: int) -> int:
    """KB of it that are in use."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1])


def busy(process: int) -> float:
    """Seconds of a processor that it has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def metric(gateway: Running, name: str) -> float:
    lines = httpx.get(f"{gateway.admin}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))


async def none_left(gateway: Running, *names: str) -> None:
    await asyncio.to_thread(until, lambda: not sum(metric(gateway, name) for name in names))


async def begun(stack: AsyncExitStack, gateway: Running, text: str, **more: Any) -> ClientConnection:
    url = f"{gateway.url.replace('http', 'ws')}/graphql"
    options: dict[str, Any] = {"subprotocols": ["graphql-transport-ws"], "proxy": None, "compression": None} | more
    client = await stack.enter_async_context(
        connect(url, ping_interval=None, max_size=None, open_timeout=60, **options)
    )
    await client.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {text}"}}))
    assert json.loads(await client.recv()) == {"type": "connection_ack"}
    return client


async def watched(stack: AsyncExitStack, gateway: Running, text: str, order: str) -> ClientConnection:
    client = await begun(stack, gateway, text)
    payload = {"query": WATCH, "variables": {"id": order}}
    await client.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
    assert json.loads(await client.recv())["type"] == "next"
    return client


def operator(shop) -> str:
    return token(shop, scope="orders:read orders:admin users:read users:admin")


@pytest.mark.timeout(120)
async def test_a_thousand_sockets_over_a_hundred_orders(one, shop, capsys):
    text, key = operator(shop), time.time_ns()
    async with httpx.AsyncClient(base_url=shop.urls["orders"], headers=IDENTITY) as service:
        wish = {"user_id": "usr_1", "items": [{"product_id": "prd_1", "quantity": 1}]}
        orders = [
            (await service.post("/orders", json=wish, headers={"idempotency-key": f"{key} {n}"})).json()["id"]
            for n in range(ORDERS)
        ]
        async with AsyncExitStack() as stack:
            await watched(stack, one, text, orders[0])
        before = memory(one.process.pid)
        async with AsyncExitStack() as stack:
            clients: list[ClientConnection] = []
            for start in range(0, SOCKETS, 50):
                some = range(start, start + 50)
                clients += await asyncio.gather(*(watched(stack, one, text, orders[n % ORDERS]) for n in some))
            assert metric(one, "graphql_websockets") == SOCKETS
            assert metric(one, "http_client_event_streams") == ORDERS
            more = memory(one.process.pid) - before
            worked, changed = busy(one.process.pid), time.monotonic()
            await asyncio.gather(*(service.patch(f"/orders/{id}", json={"status": "paid"}) for id in orders))
            told = await asyncio.wait_for(asyncio.gather(*(client.recv() for client in clients)), 10)
            seconds, worked = time.monotonic() - changed, busy(one.process.pid) - worked
            assert all('"PAID"' in text for text in told)
        with capsys.disabled():
            print(  # noqa: T201 - a number to look at, beside the bound
                f"\n{SOCKETS} sockets, {ORDERS} streams: {more} KB more, "
                f"all told in {seconds * 1000:.0f} ms of which it worked {worked * 1000:.0f}"
            )
        assert more < MOST_MEMORY
        assert worked < 1  # of a processor: how long it waits for one is not its own doing
    await none_left(one, "graphql_websockets", "http_client_event_streams")


async def test_a_message_that_is_too_large_closes(one):
    async with AsyncExitStack() as stack:
        url = f"{one.url.replace('http', 'ws')}/graphql"
        client = await stack.enter_async_context(connect(url, subprotocols=["graphql-transport-ws"], proxy=None))
        await client.send(json.dumps({"type": "connection_init", "payload": {"x": "a" * 2_000_000}}))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd.code == 1009


async def test_a_client_that_takes_nothing_is_cut(one, shop):
    async with AsyncExitStack() as stack:
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.connect(("127.0.0.1", int(one.url.rpartition(":")[2])))
        client = await begun(stack, one, operator(shop), sock=end)
        client.transport.pause_reading()
        query = "{ products(first: 200) { nodes { id name description category sku price { amount currency } } } }"
        messages = ({"type": "subscribe", "id": str(n), "payload": {"query": query}} for n in range(300))
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(3):
                for message in messages:
                    await client.send(json.dumps(message))
        await none_left(one, "graphql_websockets")


async def test_a_client_that_vanishes_leaves_nothing(one, shop):
    async with AsyncExitStack() as stack:
        client = await watched(stack, one, operator(shop), "ord_1")
        end: socket.socket = client.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()
    await none_left(one, "graphql_subscriptions", "http_client_event_streams")


async def test_at_the_end_sockets_are_sent_away_and_streams_told_to_come_again(one, shop):
    text = operator(shop)
    headers = {"authorization": f"Bearer {text}", "accept": "text/event-stream"}
    body = {"query": WATCH, "variables": {"id": "ord_1"}}
    async with AsyncExitStack() as stack:
        client = await watched(stack, one, text, "ord_1")
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
        stream = await stack.enter_async_context(http.stream("POST", f"{one.url}/graphql", json=body, headers=headers))
        lines = stream.aiter_lines()
        while not (await anext(lines)).startswith("data:"):
            pass
        one.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd.code == 1001
        rest = [line async for line in lines if line and not line.startswith(":")]
        assert [line.partition(":")[0] for line in rest] == ["retry"]
    assert await asyncio.to_thread(one.process.wait, 15) == 0  # requests would have 20 seconds
    assert "Traceback" not in one.stdout + one.stderr
