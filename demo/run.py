"""Start the whole shop: five processes that wait for nobody's installation and end with the one that started them."""

import http.client
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

HOST = "127.0.0.1"
PORTS = {"users": 8101, "products": 8102, "orders": 8103, "payments": 8104, "identity": 8105}
FREE = dict.fromkeys(PORTS, 0)
PATIENCE = 20.0


class Demo:
    """The running services. `urls` names each, for instance `demo.urls["orders"] == "http://127.0.0.1:8103"`."""

    def __init__(self, ports: Mapping[str, int], data: Path, arguments: tuple[str, ...]) -> None:
        self.ports, self.data, self.arguments = dict(ports), data, arguments
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"http://{HOST}:{port}" for name, port in self.ports.items()}

    def start(self, *names: str) -> None:
        """Start these services, on the ports that they had before, and wait until they answer.

        Raises RuntimeError when one doesn't, OSError when its port is taken.
        """
        with ExitStack() as ours:
            sockets = {name: ours.enter_context(socket.create_server((HOST, self.ports[name]))) for name in names}
            self.ports |= {name: listening.getsockname()[1] for name, listening in sockets.items()}
            for name in names:
                self.children[name] = self.spawn(name, sockets[name])
        for name in names:
            self.await_health(name)

    def spawn(self, name: str, listening: socket.socket) -> subprocess.Popen[bytes]:
        """The socket listens already, so nobody races for a port and a first request waits instead of failing."""
        command = [sys.executable, "-m", f"demo.{name}", "--data", str(self.data), "--fd", str(listening.fileno())]
        command += [*self.arguments, *(["--orders", self.urls["orders"]] if name == "payments" else [])]
        return subprocess.Popen(  # noqa: S603 - our own modules
            command,
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,  # it ends when we do: that is how a child learns of it
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C is for us to hear
        )

    def await_health(self, name: str) -> None:
        connection = http.client.HTTPConnection(HOST, self.ports[name], timeout=PATIENCE)
        try:
            connection.request("GET", "/healthz")
            healthy = connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            healthy = False
        finally:
            connection.close()
        if not healthy:
            raise RuntimeError(f"the demo's {name} service did not start")

    def stop(self, *names: str) -> None:
        """End these services. Their data stays, for `start`."""
        ending = {name: self.children.pop(name) for name in names if name in self.children}
        for child in ending.values():
            if child.stdin:
                child.stdin.close()
        for child in ending.values():
            try:
                child.wait(timeout=3)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def wait(self) -> None:
        """Until one of the services ends, which none does by itself."""
        while all(child.poll() is None for child in self.children.values()):
            time.sleep(0.5)


@contextmanager
def processes(
    ports: Mapping[str, int] = PORTS,
    *,
    data: Path | None = None,
    latency: int = 0,
    heartbeat: float = 15,
    watch: float = 3600,
    issuer: str | None = None,
) -> Iterator[Demo]:
    """Run the four services and the identity provider, each as a process, until the block ends.

    Args:
        ports: port of each of users, products, orders, payments and identity; 0 takes a free one (`FREE` for all).
        data: folder of their SQLite files, filled when empty and kept; a temporary one when not given.
        latency: milliseconds that every answer waits.
        heartbeat: seconds between the comments of an order's event stream.
        watch: seconds after which an event stream ends and its reader has to come again.
        issuer: `iss` of the identity provider's tokens, its own address when not given.

    Raises:
        OSError: a port is taken.
        RuntimeError: a service did not start.

    Example:
        with demo.processes(demo.FREE) as shop:
            httpx.get(shop.urls["products"] + "/products/prd_1")
    """
    arguments = ["--latency", str(latency), "--heartbeat", str(heartbeat), "--watch", str(watch)]
    arguments += ["--issuer", issuer] if issuer else []
    with ExitStack() as cleanup:
        folder = data or Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
        shop = Demo(ports, folder.absolute(), tuple(arguments))
        cleanup.callback(lambda: shop.stop(*shop.children))
        shop.start(*PORTS)
        yield shop
