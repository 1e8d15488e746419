"""A gateway as its own process, as people run it, in front of the demo's services."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from demo import Demo
from tests.shop import NAMES

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0
_KEPT: deque[socket.socket] = deque(maxlen=100)


class Running:
    """A gateway's process.

    Attributes:
        url, admin: of its two ports.
        environ: what it was told by variables.
        stdout, stderr: all that it wrote so far, or had written when it ended.
    """

    def __init__(self, arguments: list[str], environ: dict[str, str], url: str, admin: str, folder: Path) -> None:
        self.url, self.admin, self.environ = url, admin, environ
        self._folder = folder
        self._said: dict[str, str] | None = None
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bff", "run", *arguments],
                env=os.environ | environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def stdout(self) -> str:
        return self._said["stdout"] if self._said else (self._folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return self._said["stderr"] if self._said else (self._folder / "stderr").read_text()

    def wait_until_up(self) -> None:
        until(lambda: "is up" in self.stderr or self.process.poll() is not None)
        assert self.process.poll() is None, self.stderr

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._said = {"stdout": self.stdout, "stderr": self.stderr}


def until(holds: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for what another process does in its time; patience is for one that will never do it."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody is given meanwhile: it stays bound here, which keeps no one from listening at it who names it."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind((host, 0))
    _KEPT.append(kept)
    port: int = kept.getsockname()[1]
    return port


@contextmanager
def running(
    config: Path, shop: Demo | None, *arguments: str, host: str = "127.0.0.1", **environ: str
) -> Iterator[Running]:
    """Run a gateway with this configuration on free ports until the block ends.

    Clients find it at `host`. With a shop, its services are the demo's, and it takes the tokens of that one's identity
    provider.
    """
    port, admin = free_port(host), free_port()
    given = {
        "BFF__SERVER__HOST": host,
        "BFF__SERVER__PORT": str(port),
        "BFF__ADMIN__PORT": str(admin),
        **(_of(shop) if shop else {}),
        **environ,
    }
    with TemporaryDirectory(prefix="bff-") as folder:
        url, operators = f"http://{host}:{port}", f"http://127.0.0.1:{admin}"
        gateway = Running(["-c", str(config), *arguments], given, url, operators, Path(folder))
        try:
            gateway.wait_until_up()
            yield gateway
        finally:
            gateway.end()


def _of(shop: Demo) -> dict[str, str]:
    identity = shop.urls["identity"]
    issuer = {"issuer": identity, "audience": "shop", "algorithms": ["RS256", "ES256"]}
    return {
        "BFF__AUTH__JWT": json.dumps([issuer | {"jwks": f"{identity}/.well-known/jwks.json"}]),
        **{f"BFF__SERVICES__{name.upper()}__URL": shop.urls[name] for name in NAMES},
    }


def token(shop: Demo, subject: str = "usr_1", scope: str | None = None, **form: str) -> str:
    """A token of the demo's identity provider."""
    form |= {"grant_type": "urn:demo:subject", "client_id": "demo-cli", "client_secret": "demo-secret"}
    form |= {"subject": subject} | ({"scope": scope} if scope is not None else {})
    answer = httpx.post(f"{shop.urls['identity']}/token", data=form)
    text: str = answer.json()["access_token"]
    return text
