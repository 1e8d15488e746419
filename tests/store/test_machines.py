"""Three gateways and one Valkey, each at its own address: one account, revocations and purges for all, cut cables."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

import httpx
import pytest

from bff.edge.credentials.revocations import EVERY
from tests.cable import Cable, cable
from tests.running import ROOT, Running, free_port, running
from tests.store.test_servers import server

RATE = 300
RULES = ("local", "allow", "deny")
OPERATOR = {"authorization": "Bearer operators"}


@dataclass
class Machine:
    gateway: Running
    cable: Cable
    store: tuple[str, int]

    async def ask(self, consumer: str, times: int = 1) -> Counter[int]:
        """The statuses of so many requests with a consumer's key."""
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=30, headers=key(consumer)) as client:
            return Counter([(await client.get("/api/products/prd_1")).status_code for _ in range(times)])

    async def has_kept(self, product: str, consumer: str) -> bool:
        """Whether it answers with what it has; a product that it had to ask for is kept from then on."""
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=30, headers=key(consumer)) as client:
            answer = await client.get(f"/api/products/{product}")
        assert answer.status_code == 200
        return "bff-entities; hit" in answer.headers["cache-status"]

    async def admin(self, method: str, path: str, **options: object) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.gateway.admin, timeout=30, headers=OPERATOR) as client:
            return await client.request(method, path, **options)

    async def sees_the_store(self, *, up: bool) -> None:
        await until(lambda: self._store_is(up=up))

    async def _store_is(self, *, up: bool) -> bool:
        return (await self.admin("GET", "/-/limits")).json()["store"]["up"] is up


def key(consumer: str) -> dict[str, str]:
    return {"x-api-key": f"bff_{consumer}_key"}


def hashed(consumer: str) -> str:
    return "sha256:" + sha256(key(consumer)["x-api-key"].encode()).hexdigest()


@pytest.fixture(scope="module")
def machines(real_services, tmp_path_factory) -> Iterator[list[Machine]]:
    """One for each rule of what to do without the store."""
    port = free_port()
    consumers = ["exact", "revoked", "waits", "reads", *RULES]
    keys = [{"consumer": each, "hash": hashed(each), "tier": "partner"} for each in consumers]
    with ExitStack() as stack:
        stack.enter_context(
            server(
                tmp_path_factory.mktemp("machines") / "valkey", port, "--bind", "127.0.0.5", "--protected-mode", "no"
            )
        )
        made = []
        for at, rule in enumerate(RULES):
            host = f"127.0.0.{2 + at}"
            wire = stack.enter_context(cable(host, ("127.0.0.5", port)))
            told = {
                # Patient, since a busy machine is not what is tested.
                "BFF__STORE": json.dumps({"url": f"redis://{host}:{wire.port}", "timeout": "1s", "heartbeat": "2s"}),
                "BFF__LIMITS__ON_STORE_ERROR": rule,
                "BFF__LIMITS__PER_ADDRESS": "1000000/minute",
                "BFF__TIERS__PARTNER__RATE": json.dumps([f"{RATE}/day"]),
                "BFF__SERVICES__PRODUCTS__CACHE": json.dumps({"entities": True}),
                "BFF__AUTH__API_KEYS": json.dumps(keys),
                "BFF__ADMIN__TOKEN": "operators",
            }
            gateway = stack.enter_context(running(ROOT / "bff.yaml", real_services, host=host, **told))
            made.append(Machine(gateway, wire, ("127.0.0.5", port)))
        end = time.monotonic() + 60
        # By heartbeats, each comes to know how many share the limits.
        while any(store(each.gateway)["instances"] != len(made) for each in made):
            assert time.monotonic() < end
            time.sleep(0.1)
        yield made


def store(gateway: Running) -> dict[str, object]:
    answer = httpx.get(f"{gateway.admin}/-/limits", headers=OPERATOR, timeout=30, trust_env=False)
    found: dict[str, object] = answer.json()["store"]
    return found


async def until(holds) -> None:
    end = time.monotonic() + 60
    while not await holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_a_limit_is_exact_over_all(machines):
    said = sum(await asyncio.gather(*(each.ask("exact", RATE // 2) for each in machines)), Counter())
    assert said == {200: RATE, 429: RATE // 2}


@asynccontextmanager
async def commands(host: str, port: int) -> AsyncIterator[list[tuple[str, str]]]:
    """Whom the store has heard, and what it was asked for, in the order in which it was."""
    heard: list[tuple[str, str]] = []
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"

    async def listen() -> None:
        while line := await reader.readline():
            _, _, rest = line.decode("latin-1").partition("[0 ")
            whom, _, said = rest.partition("] ")
            heard.append((whom, said.split(" ")[0].strip('"')))

    listening = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        listening.cancel()
        writer.close()


async def test_a_key_that_is_revoked_at_one_is_refused_by_all_once_they_look_next(machines):
    """Each looks twice a second, and all it takes is two answers: on a machine that is not busy, a second is enough."""
    one, *others = machines
    assert all([await each.ask("revoked") == {200: 1} for each in machines])
    async with commands(*one.store) as heard:
        assert (await one.admin("DELETE", f"/-/keys/{hashed('revoked')[:19]}")).status_code == 200
        assert await one.ask("revoked") == {401: 1}
        for each in others:
            await until(lambda each=each: refuses(each, "revoked"))
        await until_true(lambda: len(looked(heard)) == len(machines))
    assert all(each == ["SCARD", "SMEMBERS"] for each in looked(heard).values())
    assert EVERY <= 0.5


def looked(heard: list[tuple[str, str]]) -> dict[str, list[str]]:
    """The first two questions of each gateway about revoked keys, after one was revoked."""
    found: dict[str, list[str]] = {}
    told = next(at for at, (_, said) in enumerate(heard) if said == "SADD")
    for whom, said in heard[told + 1 :]:
        if said in {"SCARD", "SMEMBERS"}:
            found.setdefault(whom, []).append(said)
    return {whom: questions[:2] for whom, questions in found.items() if len(questions) > 1}


async def until_true(holds: Callable[[], bool]) -> None:
    async def held() -> bool:
        return holds()

    await until(held)


async def refuses(machine: Machine, consumer: str) -> bool:
    return await machine.ask(consumer) == {401: 1}


async def test_what_is_purged_at_one_is_given_out_by_none(machines):
    """They are told, and do not have to look for it."""
    for each in machines:
        await until(lambda each=each: each.has_kept("prd_2", "reads"))
    one, *others = machines
    async with commands(*one.store) as heard:
        assert (await one.admin("POST", "/-/cache/purge", json={"entities": ["products:prd_2"]})).status_code == 200
        await until_true(lambda: any(said == "PUBLISH" for _, said in heard))
    assert not await one.has_kept("prd_2", "reads")
    for each in others:
        await until(lambda each=each: gone(each, "prd_2"))


async def gone(machine: Machine, product: str) -> bool:
    return not await machine.has_kept(product, "reads")


@pytest.mark.parametrize("rule", RULES)
async def test_who_is_cut_off_follows_its_rule_while_others_go_on_and_comes_back_by_itself(machines, rule):
    cut = machines[RULES.index(rule)]
    other = machines[RULES.index(rule) - 1]
    cut.cable.cut()
    await cut.sees_the_store(up=False)
    said = await cut.ask(rule, RATE // 2)
    assert (
        said
        == {
            "local": {200: RATE // 3, 429: RATE // 2 - RATE // 3},
            "allow": {200: RATE // 2},
            "deny": {503: RATE // 2},
        }[rule]
    )
    assert await other.ask(rule, 10) == {200: 10}
    cut.cable.mend()
    await cut.sees_the_store(up=True)
    # What was let through without the store is not in its account; all else is, whoever is asked.
    assert await cut.ask(rule, RATE) == {200: RATE - 10, 429: 10}
    assert await other.ask(rule) == {429: 1}


async def test_a_key_that_is_revoked_while_one_is_cut_off_is_refused_there_once_it_is_back(machines):
    one, cut, _ = machines
    cut.cable.cut()
    await cut.sees_the_store(up=False)
    assert (await one.admin("DELETE", f"/-/keys/{hashed('waits')[:19]}")).status_code == 200
    assert await cut.ask("waits") == {200: 1}
    cut.cable.mend()
    await until(lambda: refuses(cut, "waits"))
