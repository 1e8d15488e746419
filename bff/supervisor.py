"""Several processes of one gateway: workers that share the port, one process for operators, and who keeps them there.

Who watches does nothing else: without a loop, a thread or a connection it can fork at any time. All that takes a worker
long to load is loaded before, so a new one takes the place of a dead one within a second. See docs/adr/0017-workers.md.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import uvloop

from bff.assembly import schema_modules
from bff.config import Config, ConfigError, Loaded
from bff.console.workers import Worker, Workers, over_workers
from bff.core.store import StoreUrl, store_settings
from bff.core.store.local import LocalValkey
from bff.core.systemd import NOBODY, ServiceManager
from bff.core.telemetry import JsonLog
from bff.generations import Read
from bff.graphql.compose import SchemaError
from bff.graphql.ide import Example
from bff.serve import Listening, listen, operate, serve, spare_what_stays

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_PASSED_ON: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_HEARD: Final = (*_ENDING, *_PASSED_ON, signal.SIGCHLD)
# How often it is looked whether those who start are up.
_LOOK: Final = 0.05
# Who lives for as long was well; of who does not, the next one waits, and longer each time.
_WELL: Final = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0
# Past the time that requests have to end, and after a second signal.
_GRACE: Final = 5.0


class Board:
    """What the processes know of each other, in memory that they share.

    Attributes:
        pids: of the workers, by their place; 0 where there is none at present.
        up: 1 where one takes connections; the last place is that of the process for operators.
        lost: workers that ended unasked, by their place.
    """

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, 3 * 8 * (workers + 1))
        shared = ctypes.c_int64 * (workers + 1)
        self.pids, self.up, self.lost = (
            shared.from_buffer(self._memory, each * ctypes.sizeof(shared)) for each in range(3)
        )


class Place:
    """What one process does, again and again if it has to."""

    def __init__(self, number: int, name: str, work: Callable[[], None]) -> None:
        self.number, self.name, self.work = number, name, work
        self.pid = 0
        self.began = self.due = self.wait = 0.0

    def ended(self, now: float) -> None:
        """Have the next one start: at once, unless this one died young."""
        young = now - self.began < _WELL
        self.due = now + self.wait if young else now
        self.wait = min(max(2 * self.wait, _FIRST_WAIT), _LONGEST_WAIT) if young else 0.0
        self.pid = 0


class Supervisor:
    """Starts the processes, starts those anew that die, passes signals on, and ends them.

    Args:
        config: the settings; `server.workers` is how many.
        started: called once all are up.
        read: reads the configuration again, for each of them.
        example: what GraphiQL begins with.
        manager: who is told of the end.

    Raises:
        ConfigError: a port cannot be had.
    """

    def __init__(
        self,
        config: Config,
        *,
        started: Callable[[], None],
        read: Read | None = None,
        example: Example | None = None,
        manager: ServiceManager = NOBODY,
    ) -> None:
        schema_modules(config)  # loaded once, for all of them
        self._started: Callable[[], None] | None = started
        self._manager = manager
        self._drain = config.server.drain
        self._log = JsonLog(sys.stdout.buffer, config.observability.logs.level)
        self._clients = listen("server", config.server.host, config.server.port)
        self._for_operators = listen("admin", config.admin.host, config.admin.port)
        self._folder = Path(tempfile.mkdtemp(prefix="bff-"))  # mode 0700
        self._number = config.server.processes
        self.board = Board(self._number)
        self._store = _local_store(config)
        self._read = read
        config = _with_one_account(config, self._store, self._number)
        self._workers = [
            Place(at, f"worker {at}", partial(self._work, at, config, example)) for at in range(self._number)
        ]
        self._operators = Place(self._number, "operators", lambda: self._operate(config))
        self._ends_by = 0.0  # when those that still live are killed; 0 while nothing ends
        self._status = 0

    def run(self) -> int:
        """Stay until all have ended; the status to end with."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        spare_what_stays()
        try:
            self._start(self._operators)
            self._wait_for_store()
            self._start(self._workers[0])
            while not self._ends_by or any(each.pid for each in self._all()):
                self._hear()
                self._reap()
                self._look_after()
        finally:
            for each in self._all():
                self._tell(each, signal.SIGKILL)
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._store is not None:
                self._store.stop()
        return self._status

    def _wait_for_store(self) -> None:
        try:
            if self._store is not None:
                self._store.wait_until_up()
        except OSError as error:
            raise ConfigError.of("store", f"workers need one that they share, and {error}") from error

    def _all(self) -> Iterator[Place]:
        yield from self._workers
        yield self._operators

    # What it hears.

    def _hear(self) -> None:
        heard = signal.sigtimedwait(_HEARD, self._patience())
        if heard is None:
            return
        if heard.si_signo in _ENDING:
            self._end(again=self._ends_by > 0)
        elif heard.si_signo in _PASSED_ON:
            for each in self._workers:
                self._tell(each, heard.si_signo)

    def _patience(self) -> float:
        """Seconds until there may be something to do unasked."""
        now = time.monotonic()
        waits = [each.due - now for each in self._all() if not each.pid]
        if self._ends_by:
            waits = [self._ends_by - now]
        if self._started is not None:
            waits.append(_LOOK)
        return max(0.0, min(waits, default=3600.0))

    def _end(self, *, again: bool) -> None:
        self._manager.stopping()
        self._clients.close()  # else who connects after the last worker has left would wait for nobody
        grace = _GRACE if again else self._drain.delay + self._drain.timeout + _GRACE
        self._ends_by = time.monotonic() + grace
        self._started = None
        for each in self._workers:
            self._tell(each, signal.SIGTERM)

    # Who is there.

    def _reap(self) -> None:
        for each in self._all():
            # By their numbers: whoever runs the gateway may have children of its own.
            ended, status = os.waitpid(each.pid, os.WNOHANG) if each.pid else (0, 0)
            if ended:
                self._ended(each, os.waitstatus_to_exitcode(status))

    def _ended(self, place: Place, status: int) -> None:
        asked, was_up = self._ends_by > 0, self.board.up[place.number]
        with suppress(OSError):
            self._socket(place.pid).unlink()
        self.board.pids[place.number] = self.board.up[place.number] = 0
        place.ended(time.monotonic())
        if asked:
            return
        again_in = round(max(0.0, place.due - time.monotonic()), 3)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        self._log.error("process_lost", process=place.name, ended=how, again_in_s=again_in)
        self.board.lost[place.number] += 1
        if self._started is not None and place is self._workers[0] and not was_up:
            self._status = 1  # it has said why, and the others would say the same
            self._end(again=False)

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._ends_by:
            if not any(each.pid for each in self._workers):
                self._tell(self._operators, signal.SIGTERM)
            if now >= self._ends_by:
                self._kill()
            return
        first = self._workers[0]
        for each in self._all():
            # Until the first one is up, nobody knows whether any can be.
            waits = self._started is not None and each in self._workers and not self.board.up[first.number]
            if not each.pid and now >= each.due and (each is first or not waits):
                self._start(each)
        if self._started is not None and all(self.board.up):
            self._started()
            self._started = None

    def _kill(self) -> None:
        """Who does not end in time."""
        self._ends_by = time.monotonic() + _GRACE
        for each in self._all():
            if each.pid:
                self._log.error("process_killed", process=each.name, why="it did not end in time")
                self._status = 1
                self._tell(each, signal.SIGKILL)

    def _tell(self, place: Place, what: int) -> None:
        if place.pid:
            with suppress(ProcessLookupError):
                os.kill(place.pid, what)

    def _start(self, place: Place) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        place.began = time.monotonic()
        parent = os.getpid()
        place.pid = os.fork()
        if place.pid == 0:
            _be_a_child(parent, place.work)

    # What the others do.

    def _work(self, place: int, config: Config, example: Example | None) -> None:
        self._for_operators.close()
        operators = socket.socket(socket.AF_UNIX)
        operators.bind(str(self._socket(os.getpid())))
        operators.listen()
        self.board.pids[place] = os.getpid()

        def up() -> None:
            self.board.up[place] = 1

        at = Listening(self._clients, operators)
        uvloop.run(serve(config, started=up, read=self._read and self._reread, example=example, at=at))

    def _reread(self, files: list[Path]) -> Loaded[Config]:
        """As a worker has it."""
        assert self._read is not None  # noqa: S101 - for the type checker
        loaded = self._read(files)
        return replace(loaded, config=_with_one_account(loaded.config, self._store, self._number))

    def _operate(self, config: Config) -> None:
        self._clients.close()
        if self._store is not None:
            self._store.start()
        app = over_workers(
            Workers(self._number, self._living, lambda: self.board.lost[: self._number]),
            token=config.admin.token,
            metrics=config.observability.metrics.prometheus,
            viewers=config.admin.max_viewers,
        )

        def up() -> None:
            self.board.up[self._number] = 1

        uvloop.run(operate(app, config, self._for_operators, started=up))

    def _living(self) -> list[Worker]:
        pids = enumerate(self.board.pids[: self._number])
        return [Worker(at, pid, self._socket(pid)) for at, pid in pids if pid and self.board.up[at]]

    def _socket(self, pid: int) -> Path:
        return self._folder / str(pid)


def _be_a_child(parent: int, work: Callable[[], None]) -> NoReturn:
    """Never return to what the parent was about to do."""
    status = 1
    try:
        # Ctrl-C is for the parent, which then tells us.
        os.setpgid(0, 0)
        _die_with(parent)
        for each in _PASSED_ON:
            signal.signal(each, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        work()
        status = 0
    except (ConfigError, SchemaError) as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:
        pass
    except BaseException:  # noqa: BLE001 - whatever it is, it ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _die_with(parent: int) -> None:
    """End as by SIGTERM if the parent ends without a word; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _local_store(config: Config) -> LocalValkey | None:
    """What the processes of this machine share, where there is no store of many machines."""
    if not store_settings(config.store).url.is_memory:
        return None
    return LocalValkey()


def _with_one_account(config: Config, local: LocalValkey | None, number: int) -> Config:
    limits = config.limits.model_copy(update={"instances": max(number, config.limits.instances)})
    changed: dict[str, object] = {"limits": limits}
    settings = store_settings(config.store)
    if local is not None and settings.url.is_memory:
        changed["store"] = settings.model_copy(update={"url": StoreUrl(local.url)})
    return config.model_copy(update=changed)
