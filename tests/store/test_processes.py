"""Several processes and one Valkey under load: never more than the definition says, and nobody is refused before 99 %
of it were taken."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from bff.core.store import SLICES
from bff.core.store.local import LocalValkey
from tests.running import ROOT, running

KEY = {"x-api-key": "bff_demo_key_for_this_machine_only"}


def spent(url, seconds, amount, period):
    """What four processes took, by slice, and when they asked in vain."""
    asked = [sys.executable, "-m", "tests.store.spender", url, str(seconds), str(amount), str(period)]
    processes = [subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    return [json.loads(each.communicate()[0]) for each in processes]


def judge(said, amount):
    """The least of what the definition allows that was taken where one more was refused; it was never more than that.

    The shares are those of processes. Times are those of the machine: of a refusal it is not known when the server
    decided, only that it did between question and answer.
    """
    taken = sum((Counter(each) for each, *_ in said), Counter())
    assert max(sum(taken[at - back] for back in range(SLICES + 1)) for at in taken) <= amount
    refusals = {tuple(each) for _, refused, *_ in said for each in refused}
    least = min(sum(taken[at] for at in range(asked - SLICES, heard + 1)) for asked, heard in refusals)
    return least / amount


@pytest.mark.timeout(120)  # most of it is starting processes
def test_four_processes_take_from_one_account_what_it_allows_and_no_more(valkey):
    said = spent(valkey.url, 8, 200, 1)
    assert judge(said, 200) >= 0.99
    assert all(taken for taken, *_ in said), "each had some of it"
    assert sum(late for *_, late in said) <= 0.01 * sum(asks for *_, asks, _ in said), "the store answers"


@pytest.mark.timeout(120)
async def test_four_gateways_without_a_server_of_their_own_admit_as_much_as_one(real_services):
    with LocalValkey() as local, ExitStack() as stack:
        told = {
            "BFF__STORE__URL": local.url,
            "BFF__STORE__TIMEOUT": "1s",
            "BFF__TIERS__PARTNER__RATE": '["50/second"]',
            "BFF__LIMITS__PER_ADDRESS": "1000000/minute",
        }
        gateways = [stack.enter_context(running(ROOT / "bff.yaml", real_services, **told)) for _ in range(4)]
        answers: list[tuple[float, float, int]] = []
        clients = [httpx.AsyncClient(base_url=each.url, timeout=30) for each in gateways]
        began = time.monotonic()

        async def load(client):
            while time.monotonic() < began + 6:
                asked = time.monotonic()
                status = (await client.get("/api/products/prd_1", headers=KEY)).status_code
                answers.append((asked, time.monotonic(), status))
                await asyncio.sleep(0.01)

        await asyncio.gather(*(load(client) for client in clients for _ in range(2)))
        for each in clients:
            await each.aclose()
    assert {status for *_, status in answers} == {200, 429}
    admitted = [(asked, heard) for asked, heard, status in answers if status == 200]
    for asked, heard, status in answers:
        if status == 200:
            assert sum(asked <= one and other < asked + 1 for one, other in admitted) <= 50, "in a second"
        else:
            assert sum(other >= asked - 1 - 1 / SLICES and one <= heard for one, other in admitted) >= 0.99 * 50


def test_a_valkey_of_our_own_is_nobody_elses_and_ends_with_whoever_started_it():
    program = (
        "import sys, time\nfrom bff.core.store.local import LocalValkey\nlocal = LocalValkey()\nlocal.start()\n"
        "print(local.pid, local.url, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        pid, url = parent.stdout.readline().split()
        folder = Path(url.removeprefix("unix://")).parent
        try:
            assert folder.stat().st_mode & 0o777 == 0o700
            assert b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes()
        finally:
            parent.kill()
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes():
            assert time.monotonic() < until, "it outlives us"
            time.sleep(0.02)
        shutil.rmtree(folder)


def test_whoever_takes_the_place_of_one_that_died_is_reached_however_late_the_old_valkey_ends():
    program = (
        "import os, signal, sys, time\nfrom bff.core.store.local import LocalValkey\nlocal = LocalValkey()\n"
        "def begin():\n    pid = os.fork()\n    if not pid:\n        local.start()\n"
        "        print(local.pid, local.url, flush=True)\n        time.sleep(60)\n    return pid\n"
        "first = begin()\nsys.stdin.readline()\nos.kill(first, signal.SIGKILL)\nos.waitpid(first, 0)\n"
        "second = begin()\nsys.stdin.readline()\nos.kill(second, signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        old, url = parent.stdout.readline().split()
        path = url.removeprefix("unix://")
        os.kill(int(old), signal.SIGSTOP)  # it is late
        parent.stdin.write("\n")
        parent.stdin.flush()
        new, _ = parent.stdout.readline().split()
        with suppress(ProcessLookupError):
            os.kill(int(old), signal.SIGCONT)
        until = time.monotonic() + 10
        while Path(f"/proc/{old}").exists() and b"valkey" in Path(f"/proc/{old}/cmdline").read_bytes():
            assert time.monotonic() < until, "the old one does not end"
            time.sleep(0.02)
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(path)
            asking.sendall(b"INFO server\r\n")
            assert b"process_id:%d\r" % int(new) in asking.recv(8192)
        parent.communicate("\n")
    shutil.rmtree(Path(path).parent, ignore_errors=True)
