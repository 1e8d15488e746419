"""The end of a gateway as people run it: a request that was sent to an open port is answered."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.running import ROOT, Running, running, until

REQUEST = b"GET /api/products/prd_1 HTTP/1.1\r\nHost: gateway\r\n\r\n"


@pytest.fixture(scope="module")
def shop(real_services) -> Any:
    return real_services


@pytest.fixture
def one(shop) -> Iterator[Running]:
    with running(ROOT / "bff.yaml", shop, BFF__LIMITS__MODE="off") as gateway:
        yield gateway


def connected(stack: ExitStack, gateway: Running) -> socket.socket:
    port = int(gateway.url.rpartition(":")[2])
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))


def refuses(gateway: Running) -> bool:
    """Nobody is let in any more; who is in has been told by then."""
    with ExitStack() as stack:
        try:
            connected(stack, gateway)
        except ConnectionRefusedError:
            return True
    return False


def answer(client: socket.socket) -> bytes:
    """All that comes until the gateway closes."""
    said = b""
    while more := client.recv(65536):
        said += more
    return said


def test_requests_that_wait_behind_the_port_as_it_closes_are_answered(one):
    with ExitStack() as stack:
        one.process.send_signal(signal.SIGSTOP)
        clients = [connected(stack, one) for _ in range(50)]
        for client in clients:
            client.sendall(REQUEST)
        one.process.send_signal(signal.SIGTERM)
        one.process.send_signal(signal.SIGCONT)
        for client in clients:
            assert answer(client).startswith(b"HTTP/1.1 200 ")
    assert one.process.wait(30) == 0


def test_a_request_sent_as_the_gateway_begins_to_end_is_answered_on_new_and_on_kept_connections(one):
    with ExitStack() as stack:
        new, kept = connected(stack, one), connected(stack, one)
        kept.sendall(REQUEST)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        # Both are under way as it hears of its end, however busy the machine is.
        one.process.send_signal(signal.SIGSTOP)
        one.process.send_signal(signal.SIGTERM)
        for client in (new, kept):
            client.sendall(REQUEST)
        one.process.send_signal(signal.SIGCONT)
        for client in (new, kept):
            assert answer(client).startswith(b"HTTP/1.1 200 ")
    assert one.process.wait(30) == 0


def test_connections_that_rest_hold_the_end_up_for_no_more_than_a_moment(one):
    with ExitStack() as stack:
        clients = [connected(stack, one) for _ in range(3)]
        clients[0].sendall(REQUEST)
        assert clients[0].recv(65536)
        one.process.send_signal(signal.SIGTERM)
        assert [client.recv(1) for client in clients] == [b""] * 3
        assert one.process.wait(15) == 0  # requests would have 20 seconds


def test_requests_under_way_end_their_connections_while_a_websocket_still_works(shop):
    """Who is sent away says so in each answer from then on, and not only once all that lasts has ended."""
    with socket.create_server(("127.0.0.1", 0)) as slow, ExitStack() as stack:
        products = f"http://127.0.0.1:{slow.getsockname()[1]}"
        more = {"BFF__LIMITS__MODE": "off", "BFF__SERVICES__PRODUCTS__URL": products}
        one = stack.enter_context(running(ROOT / "bff.yaml", shop, **more))
        url = f"{one.url.replace('http', 'ws')}/graphql"
        socket_ = stack.enter_context(connect(url, subprotocols=["graphql-transport-ws"], proxy=None))
        socket_.send('{"type": "connection_init"}')
        assert socket_.recv(timeout=30) == '{"type":"connection_ack"}'
        socket_.send('{"id": "1", "type": "subscribe", "payload": {"query": "{ product(id: \\"prd_1\\") { id } }"}}')
        service = stack.enter_context(slow.accept()[0])
        client = connected(stack, one)
        client.sendall(b"GET /nothing HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert b"connection: close" not in client.recv(65536)
        client.sendall(REQUEST)
        asked = stack.enter_context(slow.accept()[0])
        one.process.send_signal(signal.SIGTERM)
        until(lambda: refuses(one))
        asked.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        assert b"connection: close" in answer(client)
        service.close()
        assert socket_.recv(timeout=30)
