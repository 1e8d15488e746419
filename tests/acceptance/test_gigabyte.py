"""A gigabyte down and a gigabyte up through a gateway as people run it: neither is ever held."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.running import Running, free_port

SIZE = 1024**3
MORE = 20 * 1024 * 1024
"""What memory may grow by."""
CHUNK = bytes(256 * 1024)


def serve(listening: socket.socket) -> None:
    """A service of large things: any GET gets as many bytes as its query says, any PUT how many came."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=converse, args=(connection,), daemon=True).start()


LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
sent = 0
"""Bytes that the service got rid of in the latest answer."""


def converse(connection: socket.socket) -> None:
    global sent
    with connection, connection.makefile("rb") as reading, suppress(ConnectionError):
        while line := reading.readline():
            lengths = [int(found[1]) for each in iter(reading.readline, b"\r\n") if (found := LENGTH.match(each))]
            if line.startswith(b"GET"):
                size = int(re.search(rb"\?(\d+)", line)[1])
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
                for sent in range(0, size, len(CHUNK)):
                    connection.sendall(CHUNK[: size - sent])
            else:
                left = lengths[0]
                while left:
                    left -= len(reading.read1(min(left, len(CHUNK))))
                body = b"%d" % lengths[0]
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        port, admin = free_port(), free_port()
        (tmp_path / "bff.yaml").write_text(
            f"server: {{port: {port}, max_body: 2GB}}\nadmin: {{port: {admin}}}\n"
            f'services: {{large: {{url: "http://127.0.0.1:{listening.getsockname()[1]}", timeout: 5m}}}}\n'
            "routes: [{name: large, path: /large, service: large, public: true, max_body: 2GB, timeout: 5m}]\n"
        )
        running = Running(
            ["-c", str(tmp_path / "bff.yaml")], {}, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", tmp_path
        )
        try:
            running.wait_until_up()
            yield running
        finally:
            running.end()


def most_memory(gateway: Running) -> int:
    """The most that it ever had, in bytes."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def asking(gateway: Running, head: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=60)
    connection.sendall(head + b"\r\nhost: gateway\r\nconnection: close\r\n\r\n")
    return connection


def download(gateway: Running, size: int) -> int:
    """How many bytes came."""
    taken, room = 0, bytearray(len(CHUNK))
    with asking(gateway, b"GET /large?%d HTTP/1.1" % size) as connection, connection.makefile("rb") as reading:
        assert b" 200 " in reading.readline()
        while reading.readline() != b"\r\n":
            pass
        while count := reading.readinto1(room):
            taken += count
    return taken


def upload(gateway: Running, size: int) -> int:
    """How many bytes the service says that it got."""
    with asking(gateway, b"PUT /large HTTP/1.1\r\ncontent-length: %d" % size) as connection:
        for at in range(0, size, len(CHUNK)):
            connection.sendall(CHUNK[: size - at])
        with connection.makefile("rb") as reading:
            head, _, body = reading.read().partition(b"\r\n\r\n")
    assert b" 200 " in head
    return int(body)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("move", [download, upload])
def test_a_gigabyte_passes_in_less_than_twenty_megabytes(gateway, move):
    assert move(gateway, 16 * 1024 * 1024) == 16 * 1024 * 1024
    before = most_memory(gateway)
    assert move(gateway, SIZE) == SIZE
    grown = most_memory(gateway) - before
    assert grown < MORE, f"{grown / 1024**2:.1f} MB more"


@pytest.mark.timeout(120)
def test_a_reader_that_takes_nothing_holds_the_service_back(gateway):
    assert download(gateway, 16 * 1024 * 1024) == 16 * 1024 * 1024
    before = most_memory(gateway)
    with asking(gateway, b"GET /large?%d HTTP/1.1" % SIZE) as connection:
        connection.recv(1)
        threading.Event().wait(3)
        assert sent < 64 * 1024 * 1024
        assert most_memory(gateway) - before < MORE
