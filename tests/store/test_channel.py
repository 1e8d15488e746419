"""What gateways tell each other over a real Valkey: all of it, in order; whoever may have missed something knows."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from bff.core.store import EVERYTHING, Channel, SharedStore, StoreSettings, StoreUrl
from bff.core.store.local import LocalValkey
from bff.core.telemetry import Telemetry

PATIENCE = 30.0


class Party:
    """One who takes part; `log` is what it was told, in order."""

    def __init__(self, url: str) -> None:
        settings = StoreSettings(url=StoreUrl(url), timeout=1.0, probe=0.05)
        self.store = SharedStore(settings, Telemetry())
        self.log: list[str] = []
        self.channel = Channel(
            self.store,
            "subject",
            hear=lambda message: self.log.append(message.decode() or "everything"),
            connected=lambda: self.log.append("connected"),
            cut_off=lambda: self.log.append("cut off"),
        )

    async def logs(self, *expected: str) -> None:
        """Return when this is what it was told first."""
        await until(lambda: len(self.log) >= len(expected))
        assert self.log[: len(expected)] == list(expected)


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - a state of something that knows nothing of tests
            await asyncio.sleep(0.005)


@asynccontextmanager
async def parties(url: str, number: int):
    made = [Party(url) for _ in range(number)]
    for each in made:
        await each.store.open()
    following = [asyncio.create_task(each.channel.follow()) for each in made]
    for each in made:
        await each.channel.open()
    try:
        yield made
    finally:
        for each in following:
            each.cancel()
        await asyncio.wait(following)
        for each in made:
            await each.store.close()


async def test_all_others_hear_all_in_order(valkey):
    async with parties(valkey.url, 3) as (one, two, three):
        for number in range(200):
            one.channel.tell(b"%d" % number)
        said = [str(number) for number in range(200)]
        await two.logs("connected", *said)
        await three.logs("connected", *said)
        assert one.log == ["connected"]
        assert (one.channel.told, two.channel.heard, three.channel.heard) == (200, 200, 200)


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_who_is_cut_off_knows_and_says_later_what_it_could_not(how):
    with LocalValkey() as local:
        async with parties(local.url, 2) as (one, two):
            if how == "killed":  # and started again
                local._process.kill()
            else:
                local._process.send_signal(19)
            await one.logs("connected", "cut off")
            await two.logs("connected", "cut off")
            one.channel.tell(b"meanwhile")
            if how == "stopped":
                local._process.send_signal(18)
            # Who is connected later than that is said is told so, which means as much.
            await two.logs("connected", "cut off", "connected")
            await until(lambda: one.channel.is_connected and not one.channel._unheard)
            one.channel.tell(b"after")
            await until(lambda: "after" in two.log)


async def test_what_does_not_come_back_is_said_again(valkey, monkeypatch):
    async with parties(valkey.url, 2) as (one, two):
        monkeypatch.setattr(one.store, "say", lambda *_: None)
        one.channel.tell(b"lost")
        await one.logs("connected", "cut off")
        monkeypatch.undo()
        await two.logs("connected", "lost")
        await until(lambda: one.log[-1] == "connected")


async def test_more_than_can_be_kept_is_everything():
    one = Party("redis://nowhere.internal")
    two = len(one.channel._unheard)
    for number in range(1500):
        one.channel.tell(b"%d" % number)
    kept = [message for message, _ in one.channel._unheard.values()]
    assert two == 0
    assert len(kept) == 500
    assert kept[0] == EVERYTHING


async def test_where_the_store_does_not_let_us_listen_nothing_is_heard():
    with LocalValkey() as local:
        party = Party(local.url)
        await party.store.open()
        try:
            await party.store.call(b"k", _command("ACL", "SETUSER", "default", "resetchannels"))
            following = asyncio.create_task(party.channel.follow())
            async with asyncio.timeout(PATIENCE):
                await party.channel.open()
            assert (party.log, party.channel.is_connected) == ([], False)
            following.cancel()
        finally:
            await party.store.close()


def _command(*parts: str) -> bytes:
    from bff.core.store.wire import command  # noqa: PLC0415

    return command(*parts)
