"""Reload of a gateway as people run it: under load, by signal, over websockets, with descriptors and memory counted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.running import ROOT, running, until

QUERY = {"query": '{ product(id: "prd_1") { name } }'}
OPERATOR = {"authorization": "Bearer operators"}
RELOADS = 20
APART = 0.5


@pytest.fixture(scope="module")
def shop(real_services):
    return real_services


@pytest.fixture
def file(tmp_path):
    """A configuration of its own, to be changed."""
    for folder in ("contracts", "operations"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    path = tmp_path / "bff.yaml"
    path.write_text((ROOT / "bff.yaml").read_text() + "\npolicies: {turn: 'true'}\n")
    return path


def turn(file: Path, number: int, *, bad: bool = False) -> None:
    good = file.read_text().splitlines()
    good[-1] = "policies: {turn: 'no such expression ('}" if bad else f"policies: {{turn: '{number} > 0'}}"
    file.write_text("\n".join(good) + "\n")


def outcomes(gateway) -> list[str]:
    lines = [json.loads(line) for line in gateway.stdout.splitlines()]
    return [each["outcome"] for each in lines if each["event"] == "config_reload"]


def resources(pid: int) -> tuple[int, int]:
    """Descriptors and kilobytes of memory."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (memory,) = [int(line.split()[1]) for line in status if line.startswith("VmRSS")]
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), memory


async def load(url: str, ends: asyncio.Event) -> list[object]:
    """What went wrong with requests over kept and over new connections, while it lasts."""
    failed: list[object] = []
    count = 0

    async def one(client: httpx.AsyncClient) -> None:
        nonlocal count
        for answer in (await client.post("/graphql", json=QUERY), await client.get("/api/products/prd_1")):
            count += 1
            if answer.status_code != 200 or "errors" in answer.json():
                failed.append((answer.status_code, answer.text))

    async def kept() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while not ends.is_set():
                await one(client)

    async def new() -> None:
        while not ends.is_set():
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                await one(client)

    async with asyncio.TaskGroup() as group:
        for each in (kept, kept, new):
            group.create_task(each())
    assert count > 100
    return failed


async def test_no_request_fails_and_nothing_leaks_while_every_fourth_of_many_reloads_is_bad(shop, file):
    with running(
        file, shop, BFF__LIMITS__MODE="off", BFF__SERVER__RELOAD="off", BFF__ADMIN__TOKEN="operators"
    ) as gateway:
        ends = asyncio.Event()
        loading = asyncio.create_task(load(gateway.url, ends))
        async with httpx.AsyncClient(base_url=gateway.admin, timeout=30, headers=OPERATOR) as admin:
            said, used = [], []
            for number in range(1, RELOADS + 1):
                turn(file, number, bad=number % 4 == 0)
                said.append((await admin.post("/-/reload")).json()["outcome"])
                assert (await admin.get("/readyz")).status_code == 200
                if number in {RELOADS // 2, RELOADS}:
                    used.append(resources(gateway.process.pid))
                await asyncio.sleep(APART)
            ends.set()
            assert await loading == []
            assert said == ["taken", "taken", "taken", "refused"] * (RELOADS // 4)
            (descriptors, memory), (later, more) = used
            assert later <= descriptors + 5
            assert more < memory + 20 * 1024
            text = ""
            async with asyncio.timeout(30):
                while "bff_config_generations 1.0" not in text:
                    text = (await admin.get("/metrics")).text
            assert 'bff_config_reloads_total{outcome="taken"} 15.0' in text


def test_a_signal_and_a_changed_file_have_it_read_again(shop, file):
    with running(file, shop, BFF__SERVER__RELOAD="100ms") as gateway:
        turn(file, 1)
        until(lambda: outcomes(gateway) == ["taken"])
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: outcomes(gateway) == ["taken", "unchanged"])
        turn(file, 2, bad=True)
        until(lambda: outcomes(gateway)[2:] == ["refused"])
        assert "policies.turn" in " ".join(httpx.get(f"{gateway.admin}/readyz").json()["config"])
        assert httpx.post(f"{gateway.url}/graphql", json=QUERY).json()["data"]
    assert gateway.process.returncode == 0


def test_all_workers_take_a_new_configuration_and_one_that_begins_while_it_is_bad_has_the_last_good_one(shop, file):
    more = {"BFF__SERVER__WORKERS": "2", "BFF__SERVER__RELOAD": "off", "BFF__ADMIN__TOKEN": "operators"}
    with running(file, shop, BFF__LIMITS__MODE="off", **more) as gateway:

        def asked(path: str, worker: int) -> str:
            return httpx.get(f"{gateway.admin}{path}?worker={worker}", headers=OPERATOR, timeout=30).text

        def pids() -> set[int]:
            children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
            return {int(each) for each in children.read_text().split()}

        turn(file, 1)
        assert httpx.post(f"{gateway.admin}/-/reload", headers=OPERATOR, timeout=30).status_code == 200
        assert all('outcome="taken"} 1.0' in asked("/metrics", each) for each in range(2))
        turn(file, 2, bad=True)
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: all("bff_config_good 0.0" in asked("/metrics", each) for each in range(2)))
        before = pids()
        os.kill(max(before), signal.SIGKILL)
        until(lambda: len(pids()) == len(before) and pids() != before)
        until(lambda: httpx.get(f"{gateway.admin}/readyz", timeout=30).status_code == 200)
        assert httpx.post(f"{gateway.url}/graphql", json=QUERY).json()["data"]
        text = httpx.get(f"{gateway.admin}/metrics", headers=OPERATOR, timeout=30).text
        assert "bff_config_good 0.0" in text
    assert gateway.process.returncode == 0


def test_websockets_are_sent_to_the_new_configuration(shop, file):
    with running(file, shop, BFF__SERVER__RELOAD="off", BFF__ADMIN__TOKEN="operators") as gateway:
        url = f"{gateway.url.replace('http', 'ws')}/graphql"
        with connect(url, subprotocols=["graphql-transport-ws"], proxy=None) as socket:
            socket.send('{"type": "connection_init"}')
            assert socket.recv(timeout=30) == '{"type":"connection_ack"}'
            turn(file, 1)
            assert httpx.post(f"{gateway.admin}/-/reload", headers=OPERATOR).json()["outcome"] == "taken"
            assert list(socket) == []
            assert socket.close_code == 1001
        with connect(url, subprotocols=["graphql-transport-ws"], proxy=None) as socket:
            socket.send('{"type": "connection_init"}')
            assert socket.recv(timeout=30) == '{"type":"connection_ack"}'


def test_what_would_change_is_said_before_it_does(shop, file):
    with running(file, shop, BFF__SERVER__RELOAD="off", BFF__ADMIN__TOKEN="operators") as gateway:
        file.write_text(
            file.read_text().replace("policies:", "server: {max_in_flight: 100, keep_alive: 30s}\npolicies:")
        )
        said = bff(gateway, "config", "diff", "-c", str(file), "--admin", gateway.admin)
        assert said == 'server.keep_alive: "75s" -> "30s"  (restart)\nserver.max_in_flight: 512 -> 100\n'
        httpx.post(f"{gateway.admin}/-/reload", headers=OPERATOR)
        assert bff(gateway, "config", "diff", "-c", str(file), "--admin", gateway.admin) == "Nothing differs.\n"
        assert "policies: {} -> " in bff(
            gateway, "config", "diff", "-c", str(file), "--against", str(ROOT / "bff.yaml")
        )


def bff(gateway, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "bff", *arguments],
        cwd=ROOT,
        env=os.environ | gateway.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    return ran.stdout
