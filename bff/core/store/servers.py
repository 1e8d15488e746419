"""Which server has a key: the one there is, the one that sentinels name, or a node of a cluster."""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from bff.core.store.link import Link, Place, connect
from bff.core.store.settings import StoreSettings
from bff.core.store.wire import Refused, StoreUnavailable, asked, command

_SLOTS = 16384
_COVER = command("CLUSTER", "SLOTS")
_ASKING = command("ASKING")

MakeLink = Callable[[Callable[[], Any]], Link]
"""From what finds out where a server is."""


class Servers(Protocol):
    """Where keys are."""

    def link_of(self, key: bytes, /) -> Link:
        """Raises StoreUnavailable where it is not known yet."""

    def moved(self, error: Refused, /) -> Link | None:
        """The link that an error of a cluster names instead, if it does."""

    def links(self) -> list[Link]: ...

    async def place(self) -> Place:
        """Of one that hears what is published at any. Raises StoreUnavailable where none is known."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Single:
    """One server; behind sentinels, the one that they say it is now."""

    def __init__(self, settings: StoreSettings, link: MakeLink, logging_in: list[bytes], tls: Any) -> None:
        self._settings, self._logging_in, self._tls = settings, logging_in, tls
        url = settings.url
        self.place = self._named if url.kind == "sentinel" else partial(_at, url.path or url.hosts[0])
        self._link = link(self.place)

    def link_of(self, _: bytes) -> Link:
        return self._link

    def moved(self, _: Refused) -> None:
        return None

    def links(self) -> list[Link]:
        return [self._link]

    async def open(self) -> None:
        await self._link.open()

    async def close(self) -> None:
        await self._link.close()

    async def _named(self) -> Place:
        """The first answer counts."""
        url = self._settings.url
        question = command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
        patience = self._settings.connect_timeout / len(url.hosts)
        for each in url.hosts:
            try:
                async with asyncio.timeout(patience):
                    named = await _one_answer(each, question, patience, self._tls, self._logging_in)
            except (OSError, StoreUnavailable):
                continue
            if named:
                return named[0].decode(), int(named[1])
        raise StoreUnavailable("no sentinel names a server")


class Cluster:
    """Nodes, each with the keys whose slots are its own."""

    def __init__(self, settings: StoreSettings, link: MakeLink, logging_in: list[bytes], tls: Any) -> None:
        self._settings, self._make, self._logging_in, self._tls = settings, link, logging_in, tls
        self._links: dict[Place, Link] = {}
        self._owners: list[Link | None] = [None] * _SLOTS
        self._looking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = asyncio.Event()

    def link_of(self, key: bytes) -> Link:
        link = self._owners[slot_of(key)]
        if link is None or not link.up:
            self._again.set()
            if link is None:
                raise StoreUnavailable("no node has this key")
        return link

    def moved(self, error: Refused) -> Link | None:
        kind, _, rest = str(error).partition(" ")
        if kind not in {"MOVED", "ASK"}:
            return None
        host, _, port = rest.partition(" ")[2].rpartition(":")
        link = self._links.get((host, int(port)))
        if kind == "MOVED":
            self._again.set()
        elif link is not None:
            link.tell(_ASKING)  # it is about to have the key, and refuses whoever does not know that
        return link

    def links(self) -> list[Link]:
        return list(self._links.values())

    async def place(self) -> Place:
        for place, link in self._links.items():
            if link.up:
                return place
        raise StoreUnavailable("no node of the cluster answers")

    async def open(self) -> None:
        with suppress(StoreUnavailable):
            await self._look()
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.gather(*(each.close() for each in self._links.values()))

    async def _follow(self) -> None:
        """Look again when a key is not where it was, and not more often than a server is probed."""
        while True:
            await self._again.wait()
            self._again.clear()
            with suppress(StoreUnavailable):
                await self._look()
            await asyncio.sleep(self._settings.probe)

    async def _look(self) -> None:
        hosts = [place for place, link in self._links.items() if link.up] or list(self._settings.url.hosts)
        patience = self._settings.connect_timeout / len(hosts)
        for each in hosts:
            try:
                async with asyncio.timeout(patience):
                    cover = await _one_answer(each, _COVER, patience, self._tls, self._logging_in)
            except (OSError, StoreUnavailable):
                continue
            await self._cover(cover, each[0])
            return
        self._again.set()
        raise StoreUnavailable("no node of the cluster answers")

    async def _cover(self, cover: list[Any], asked_host: Any) -> None:
        owners: list[Link | None] = [None] * _SLOTS
        new = []
        for first, last, master, *_ in cover:
            place: Place = ((master[0] or b"").decode() or asked_host, int(master[1]))
            if place not in self._links:
                self._links[place] = self._make(partial(_at, place))
                new.append(self._links[place])
            owners[first : last + 1] = [self._links[place]] * (last + 1 - first)
        await asyncio.gather(*(each.open() for each in new))
        self._owners = owners
        for place, link in list(self._links.items()):
            if link not in owners:
                del self._links[place]
                await link.close()


def slot_of(key: bytes) -> int:
    """As https://valkey.io/topics/cluster-spec/ has it: of what is in braces, where something is."""
    _, brace, rest = key.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    return crc_hqx(tag if brace and end and tag else key, 0) % _SLOTS


async def _at(place: Place) -> Place:
    return place


async def _one_answer(place: Place, question: bytes, patience: float, tls: Any, logging_in: list[bytes]) -> Any:
    """Ask on a connection of its own. Sentinels may know nothing of the password that servers want."""
    wire = await connect(place, patience, tls, lambda _: None)
    try:
        with suppress(Refused):
            await asked(wire, logging_in)
        (answer,) = await asked(wire, [question])
        return answer
    finally:
        wire.abort()
