import asyncio
import time
from pathlib import Path

import pytest

from benchmarks.contenders import REST, Contender
from benchmarks.measure import Entry, Reference, Run, Wrong
from benchmarks.processes import Process
from benchmarks.workloads import Backends, Target, Workload


def read(backends, n):
    return backends.read("users", f"/users/usr_{n + 1}")


def users(*, calls=1, reference=read):
    """A workload that the user service itself can be asked, as if it were a contender."""
    return Workload("users", "", REST, calls, 3, lambda target, n: target.get(f"/users/usr_{n + 1}"), reference)


async def check(urls, workload, *, checks_tokens=False):
    backends = Backends(urls)
    contender = Contender("users", "", "", frozenset({REST}), None, checks_tokens=checks_tokens)
    with Process("idle", ["sleep", "60"], log=Path("/dev/null")) as process:
        entry = Entry(contender, workload, Target(int(urls["users"].rpartition(":")[2])), process)
        await asyncio.to_thread(entry.check, Reference(backends))
        return await asyncio.to_thread(entry.measure, Run(0.05, 2), backends, [])


async def test_a_right_contender_is_measured(urls):
    row = await check(urls, users())
    assert row["requests"] > 0
    assert (row["errors"], row["calls"]) == (0, 1)


async def test_a_wrong_answer_is_refused(urls):
    with pytest.raises(Wrong, match="answers 200"):
        await check(urls, users(reference=lambda backends, n: read(backends, n + 1)))


async def test_too_few_upstream_calls_are_refused(urls):
    with pytest.raises(Wrong, match="1 upstream calls a request instead of 2"):
        await check(urls, users(calls=2))


async def test_a_contender_that_lets_a_forged_token_in_is_refused(urls):
    with pytest.raises(Wrong, match="forged"):
        await check(urls, users(), checks_tokens=True)


def test_cpu_is_that_of_the_whole_process_tree(tmp_path):
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    with Process("tree", ["sh", "-c", f"python3 -c '{burn}'; echo done; sleep 60"], log=tmp_path / "log") as process:
        wait_for(lambda: "done" in process.log.read_text())
        assert process.cpu >= 0.2


def test_memory_is_that_of_the_whole_process_tree(tmp_path):
    hold = "import time; held = b'x' * 50_000_000; print('done', flush=True); time.sleep(60)"
    with Process("tree", ["sh", "-c", f'python3 -c "{hold}"; true'], log=tmp_path / "log") as process:
        wait_for(lambda: "done" in process.log.read_text())
        assert process.memory > 50_000_000


def test_what_was_started_ends_with_all_its_children(tmp_path):
    with Process("tree", ["sh", "-c", "sleep 60 & echo $!; wait"], log=tmp_path / "log") as process:
        wait_for(lambda: process.log.read_text().strip())
        child = Path("/proc") / process.log.read_text().strip()
        assert child.exists()
    wait_for(lambda: not child.exists())
    assert process.popen.returncode is not None


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not happen within 30 s")
