"""An API key that is revoked at one gateway is refused by all that share a store, whatever their files say."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
import yaml
from typer.testing import CliRunner

from bff.cli import main
from bff.core.errors import Unauthenticated
from bff.core.store.local import LocalValkey
from bff.core.store.wire import StoreUnavailable, command
from bff.core.telemetry import Telemetry
from bff.edge.credentials.api_keys import ApiKeys
from bff.edge.credentials.keys_file import new_key, read, write
from bff.edge.credentials.revocations import Revocations
from tests.harness import bearer, partner
from tests.reloading import TEXT, Reloading, living, retired
from tests.store.test_shared import PATIENT, gateways

TOKEN = "operators of these tests"
OPERATOR = {"admin": {"token": TOKEN}}


@pytest.fixture
def at(valkey, request):
    return {"url": valkey.url, "prefix": f"test.{abs(hash(request.node.nodeid))}", **PATIENT}


@pytest.fixture
def file(tmp_path):
    """A key of the file, as each machine has one of its own."""

    def made(name: str = "keys.yaml"):
        write(tmp_path / name, [kept])
        return {"auth": {"api_keys_file": str(tmp_path / name), "api_keys_refresh": "1h"}}

    key, kept = new_key("acme", ["orders:read"], now=0)
    made.key, made.name, made.path = key, kept.prefix, tmp_path
    return made


async def status(shop, key=None) -> int:
    headers = {"x-api-key": key} if key else partner()
    return (await shop.client.get("/api/orders/ord_1", headers=headers)).status_code


async def delete(shop, name: str):
    return await shop.admin.delete(f"/-/keys/{name}", headers=bearer(TOKEN))


async def until(holds, within: float = 10) -> None:
    end = time.monotonic() + within
    while not await holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def refused(shop, key=None) -> bool:
    return await status(shop, key) == 401


async def test_a_key_of_the_file_is_revoked_for_all_and_stays_so_for_those_that_come_later(at, file):
    async with gateways(at, **file("a"), **OPERATOR) as (one,):
        async with gateways(at, **file("b")) as (other,):
            assert not await refused(one, file.key)
            assert not await refused(other, file.key)
            answer = await delete(one, file.name)
            assert (answer.status_code, answer.json()["revoked"], answer.json()["revocable"]) == (200, True, False)
            assert await refused(one, file.key)
            await until(lambda: refused(other, file.key))
            assert await status(other) == 200
            audited = [each for each in other.log if each.get("action") == "api_key_revoked"]
            assert [(each["consumer"], each["key"]) for each in audited] == [("acme", file.name)]
        assert read(file.path / "a", ()) == (), "it is taken out of the file of the gateway that was told"
        async with gateways(at, **file("b"), **OPERATOR) as (new,):
            assert await refused(new, file.key)
            listed = (await new.admin.get("/-/keys", headers=bearer(TOKEN))).json()
            assert [(each["revoked"], each["revocable"]) for each in listed] == [(False, True), (True, False)]


async def test_a_key_of_the_configuration_or_of_a_file_that_cannot_be_written_is_revoked_as_well(at, file, monkeypatch):
    async with gateways(at, at, **file(), **OPERATOR) as (one, other):
        (configured, _) = (await one.admin.get("/-/keys", headers=bearer(TOKEN))).json()
        assert (await delete(one, configured["key"])).status_code == 200
        await until(lambda: refused(other))
        monkeypatch.setattr("bff.edge.credentials.keys_file.replace", _read_only)
        assert (await delete(one, file.name)).status_code == 200
        await until(lambda: refused(other, file.key))
        assert await refused(one, file.key)
        assert (await delete(one, "bff_nobody_1234")).status_code == 409


def _read_only(*_, **__):
    raise OSError(30, "Read-only file system")


async def test_while_the_store_is_away_a_key_is_refused_here_and_told_to_others_when_it_is_back(file):
    with LocalValkey() as own:
        at = {"url": own.url, "timeout": "100ms"}
        async with gateways(at, at, **file(), **OPERATOR) as (one, other):
            os.kill(own.pid, signal.SIGSTOP)
            await until(lambda: away(one))
            answer = await delete(one, file.name)
            assert (answer.status_code, answer.json()["revoked"]) == (202, True)
            assert await refused(one, file.key)
            assert not await refused(other, file.key)
            os.kill(own.pid, signal.SIGCONT)
            await until(lambda: refused(other, file.key))


async def test_what_was_revoked_while_the_store_is_away_stays_so_over_reloads_and_is_told_when_it_is_back(tmp_path):
    with LocalValkey() as own:
        at = {"url": own.url, "timeout": "100ms"}
        text = f"store: {{url: '{own.url}', timeout: 100ms}}\n{TEXT}"
        one = Reloading(tmp_path, text)
        async with living(one.generations), gateways(at) as (other,):
            os.kill(own.pid, signal.SIGSTOP)
            await until(lambda: away(one.generations.current))
            (key,) = (await one.admin.get("/-/keys")).json()
            assert (await one.admin.delete(f"/-/keys/{key['key']}")).status_code == 202
            assert await refused(one)
            for old, new in (
                ("cost: 2", "cost: 3"),
                ("api_keys:", f"api_keys:\n    - {{consumer: new, hash: 'sha256:{'0' * 64}'}}"),
                ("timeout: 100ms", "timeout: 120ms"),
            ):
                one.write(old, new)
                assert (await one.generations.reload("file")).outcome == "taken"
                assert await refused(one)
            await retired(one)
            assert not await refused(other)
            os.kill(own.pid, signal.SIGCONT)
            await until(lambda: refused(other))
            assert await refused(one)


async def away(shop) -> bool:
    return not shop.app.state.store.up


async def test_a_store_that_has_forgotten_is_told_again_by_whoever_lists_the_key_still(at, file):
    async with gateways(at, **file("a"), **OPERATOR) as (one,), gateways(at, **file("b")) as (other,):
        await delete(one, file.name)
        await until(lambda: refused(other, file.key))
        store = other.app.state.store
        place = store.key("revoked")
        await store.call(place, command("DEL", place))

        async def told_again() -> bool:
            return await store.call(place, command("SCARD", place)) == 1

        await until(told_again)
        assert await refused(other, file.key)


async def test_the_command_line_tells_all_too(at, file, tmp_path):
    config = tmp_path / "bff.yaml"
    async with gateways(at, **file()) as (shop,):
        config.write_text(
            yaml.safe_dump({"store": at, "auth": file()["auth"], "services": {"users": {"url": "http://a"}}})
        )
        ran = await asyncio.to_thread(CliRunner().invoke, main, ["keys", "revoke", file.name, "-c", str(config)])
        assert (ran.exit_code, ran.stdout) == (0, f"Revoked {file.name} of acme.\n"), ran.output
        await until(lambda: refused(shop, file.key))
        again = await asyncio.to_thread(CliRunner().invoke, main, ["keys", "revoke", file.name, "-c", str(config)])
        assert again.exit_code == 1
        assert "no key is called so" in again.output


async def test_a_store_without_room_says_what_to_do(at, file, monkeypatch):
    monkeypatch.setattr("bff.edge.credentials.revocations.MOST", 1)
    async with gateways(at, **file(), **OPERATOR) as (one,):
        (configured, _) = (await one.admin.get("/-/keys", headers=bearer(TOKEN))).json()
        assert (await delete(one, configured["key"])).status_code == 200
        full = await delete(one, file.name)
        assert (full.status_code, "there are 1 revoked keys" in full.text) == (409, True)
        assert not await refused(one, file.key)


class Forgetful:
    """A store that knows nothing; what it is told first takes a while, and what it is told meanwhile is lost."""

    def __init__(self) -> None:
        self.there: set[bytes] = set()
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    def key(self, name: str) -> bytes:
        return name.encode()

    async def call(self, _: bytes, sent: tuple) -> object:
        name, _, *digests = sent
        if name == "SADD":
            if self.reached.is_set() and not self.go.is_set():
                raise StoreUnavailable("no answer in time")
            self.reached.set()
            await self.go.wait()
            self.there.update(digests)
        return len(self.there) if name == "SCARD" else list(self.there)


async def test_a_key_that_is_revoked_while_the_store_is_read_stays_refused_and_is_told_later(monkeypatch):
    monkeypatch.setattr("bff.edge.credentials.revocations.command", lambda *parts: parts)
    (first, one), (second, other) = (new_key("acme", now=0) for _ in range(2))
    keys, store = ApiKeys([one, other], frozenset(), time.time, 1000), Forgetful()
    revocations = Revocations(store, Telemetry())
    revocations.revoked = frozenset({one.digest})
    revocations.hold(keys)
    reading = asyncio.create_task(revocations.look())
    await store.reached.wait()
    assert not await revocations.revoke(other)
    store.go.set()
    await reading
    for key in (first, second):
        with pytest.raises(Unauthenticated):
            keys.holder(key.encode())
    await revocations.look()
    assert store.there == {one.digest, other.digest}
