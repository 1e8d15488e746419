"""Programs that are started, pinned to a core, measured with all their children, and ended. Linux only: /proc."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

TICK: int = os.sysconf("SC_CLK_TCK")
PAGE: int = os.sysconf("SC_PAGE_SIZE")
CORES = sorted(os.sched_getaffinity(0))
CONTENDER_CORE, LOAD_CORE = CORES[0], CORES[-1]  # the same one on a machine with a single core
START_TIMEOUT, STOP_TIMEOUT = 40.0, 10.0


class NotReady(Exception):
    """A program that ended, or did not answer in time; says where its output is."""


class Process:
    """A program in a process group of its own, on one core. A context manager: on leaving, the group is ended.

    Args:
        name: for messages and the name of its log.
        argv: the program and its arguments.
        log: where its output goes.
        env: added to this process's environment.
        core: where it and its children run.
        stdin, stdout: as for `subprocess.Popen`; by default none, and the log.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        core: int = CONTENDER_CORE,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output, on_core(core):
            self.popen = subprocess.Popen(
                [*_ends_with_parent(), *argv],
                env={**os.environ, **(env or {})},
                stdin=stdin,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far, user and system, of the program and all that it started."""
        ticks = 0
        for stat in _tree(self.popen.pid):
            ticks += sum(map(int, stat[11:15]))  # its own time and that of children it has waited for
        return ticks / TICK

    @property
    def memory(self) -> int:
        """Bytes that the program and all that it started have in memory now."""
        return sum(int(stat[21]) for stat in _tree(self.popen.pid)) * PAGE

    def wait_until_ready(self, url: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not answers(url):
            if self.popen.poll() is not None:
                raise NotReady(f"ended with {self.popen.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise NotReady(f"not ready after {START_TIMEOUT:.0f} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1][:200] if lines else 'no output'} ({self.log})"

    def stop(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, sign)
                self.popen.wait(STOP_TIMEOUT)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe:
                pipe.close()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside inherits the core; nothing of it ever runs elsewhere."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  our own, on loopback
            return bool(response.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def busy_seconds() -> float:
    """CPU that the whole machine has used so far."""
    with Path("/proc/stat").open() as stat:
        user, nice, system, _, _, *interrupts = map(int, stat.readline().split()[1:8])
    return (user + nice + system + sum(interrupts)) / TICK


def _ends_with_parent() -> list[str]:
    """Even when this process is killed outright, what it started goes with it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _tree(root: int) -> Iterator[list[str]]:
    """The fields of /proc/PID/stat after the name, for `root` and all its descendants."""
    stats: dict[int, list[str]] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it ended meanwhile
            stats[int(entry.name)] = stat
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    pids = [root]
    for pid in pids:
        pids += children.get(pid, [])
        if pid in stats:
            yield stats[pid]
