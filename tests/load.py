"""Clients that go on asking, each request on a connection of its own, and what became of every one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.running import Running, until

REQUEST = b"GET /api/products/prd_1 HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"


class Load:
    """What has become of the requests so far.

    Attributes:
        answered: with 200, wholly.
        refused: whose connection was never made.
        lost: all others, as what came of them.
    """

    def __init__(self, gateway: Running, request: bytes = REQUEST) -> None:
        self.answered = self.refused = 0
        self.lost: list[str] = []
        self._port = int(gateway.url.rpartition(":")[2])
        self._request = request
        self._over = threading.Event()

    def ask(self) -> None:
        while not self._over.is_set():
            try:
                client = socket.create_connection(("127.0.0.1", self._port), timeout=15)
            except ConnectionRefusedError:
                self.refused += 1
                return
            with client:
                self._judge(client)

    def _judge(self, client: socket.socket) -> None:
        said, problem = b"", ""
        try:
            client.sendall(self._request)
            while more := client.recv(65536):
                said += more
        except OSError as error:
            problem = repr(error)
        head, _, body = said.partition(b"\r\n\r\n")
        if not problem and head.startswith(b"HTTP/1.1 200 ") and b"content-length: %d" % len(body) in head.lower():
            self.answered += 1
        else:
            self.lost.append(f"{problem} {said[:200]!r}")

    def go_on(self, answers: int) -> None:
        """Until so many more are answered."""
        enough = self.answered + answers
        until(lambda: self.answered >= enough)

    def end(self) -> None:
        self._over.set()


@contextmanager
def load(gateway: Running, clients: int = 8) -> Iterator[Load]:
    """So many clients go on asking until the block ends, or their connections are refused."""
    going_on = Load(gateway)
    threads = [threading.Thread(target=going_on.ask, daemon=True) for _ in range(clients)]
    for each in threads:
        each.start()
    try:
        yield going_on
    finally:
        going_on.end()
        for each in threads:
            with suppress(RuntimeError):
                each.join(20)
