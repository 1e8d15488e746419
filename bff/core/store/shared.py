"""A store that several gateways share: its lifetime, what is sent to it, and how many gateways there are."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from pathlib import Path
from random import Random
from ssl import SSLContext, create_default_context
from typing import Any

from prometheus_client import Counter, Gauge

from bff.core.store.link import Link, connect
from bff.core.store.servers import Cluster, Servers, Single
from bff.core.store.settings import StoreSettings
from bff.core.store.wire import Late, Refused, StoreUnavailable, Wire, asked, command
from bff.core.telemetry import Telemetry

BEATS = 6
"""Heartbeats that may be missing before a gateway counts as dead."""


class Script:
    """Lua that the server runs as one step, by the hash of its text."""

    def __init__(self, name: str) -> None:
        self.text = Path(__file__).with_name("scripts").joinpath(f"{name}.lua").read_bytes()
        self.hash = sha1(self.text, usedforsecurity=False).hexdigest().encode()
        self.load = command("SCRIPT", "LOAD", self.text)

    def __call__(self, keys: Sequence[bytes], *arguments: bytes | str | int) -> bytes:
        """The command that runs it."""
        return command("EVALSHA", self.hash, len(keys), *keys, *arguments)


RESERVE, SETTLE, STAY = SCRIPTS = (Script("reserve"), Script("settle"), Script("stay"))


class SharedStore:
    """Redis or Valkey, asked by whatever is shared: keys in, answers out.

    Args:
        settings: where it is, and how long to wait.
        telemetry: what is told of it.
        clock: seconds since 1970; by default the server's own clock, which is the same for all who share it.
        random: spreads the probes of many gateways.

    Attributes:
        me: what this process is called in the store.
        instances: how many processes there were when it was last known.
    """

    def __init__(
        self,
        settings: StoreSettings,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        self.settings = settings
        self.me = secrets.token_hex(6)
        self.instances = 0
        self._clock = clock
        self._log = telemetry.log
        up = Gauge("bff_store_up", "Whether the store answers, all of its servers.", registry=telemetry.registry)
        up.set_function(lambda: self.up)
        self._changes = Counter(
            "bff_store_changes", "How often a server of the store went away or came back.", ["to"],
            registry=telemetry.registry,
        )  # fmt: skip
        for each in ("up", "away"):
            self._changes.labels(each)
        self._tasks: list[asyncio.Task[None]] = []
        self._chores: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        url = settings.url
        self._tls = tls = _tls(settings)
        logging_in = []
        if url.password is not None:
            name = [url.username] if url.username else []
            logging_in = [command("AUTH", *name, url.password.reveal())]
        self._logging_in = logging_in
        greeting = [
            *logging_in,
            *([command("SELECT", url.database)] if url.database else []),
            command("CLIENT", "SETNAME", f"bff-{self.me}"),
            *(each.load for each in SCRIPTS),
        ]
        random = random or Random()  # noqa: S311 - no secret

        def link(place: Callable[[], Awaitable[Any]]) -> Link:
            return Link(place, settings, tls, greeting, self._changed, random)

        kind = Cluster if url.kind == "cluster" else Single
        self._servers: Servers = kind(settings, link, logging_in, tls)

    @property
    def now(self) -> int:
        """Milliseconds since 1970; 0 where the server is to look at its own clock."""
        return int(self._clock() * 1000) if self._clock else 0

    @property
    def lease(self) -> int:
        """Milliseconds after which somebody who said nothing is taken to be dead."""
        return round(self.settings.heartbeat * BEATS * 1000)

    def key(self, *parts: str) -> bytes:
        return ":".join([self.settings.prefix, *parts]).encode()

    @property
    def up(self) -> bool:
        """Whether all of its servers answer."""
        links = self._servers.links()
        return bool(links) and all(each.up for each in links)

    async def call(self, key: bytes, sent: bytes, late: Late | None = None) -> Any:
        """The answer to a command about a key.

        Args:
            key: where it belongs.
            sent: the command.
            late: what is done with an answer that comes after all when this has given up, or was cancelled.

        Raises:
            StoreUnavailable: there is none in time, or none of use.
        """
        link = self._servers.link_of(key)
        began = time.monotonic()
        answer = link.call(sent, late)
        try:
            return await answer
        except Refused as error:
            return await self._once_more(link, error, sent, began, late)
        except asyncio.CancelledError:
            if late and answer.done() and not answer.cancelled() and not answer.exception():
                late(answer.result())
            raise

    async def _once_more(self, link: Link, error: Refused, sent: bytes, began: float, late: Late | None) -> Any:
        """Ask the node that has the key now, or tell a server what it has forgotten; in the same time."""
        if str(error).startswith("NOSCRIPT"):
            for each in SCRIPTS:
                link.tell(each.load)
        elif moved := self._servers.moved(error):
            link = moved
        else:
            link.is_of_no_use(f"refused by the server: {str(error).split(' ', 1)[0]}")
            raise error
        try:
            async with asyncio.timeout(began + self.settings.timeout - time.monotonic()):
                return await link.call(sent, late)
        except TimeoutError:
            raise StoreUnavailable("no answer in time") from None

    def tell(self, key: bytes, sent: bytes) -> None:
        """Send a command that nobody waits for; if the store is away, when it is back."""
        with suppress(StoreUnavailable):
            self._servers.link_of(key).tell(sent)

    def say(self, key: bytes, sent: bytes) -> None:
        """Send a command that nobody waits for, if the store is there now."""
        with suppress(StoreUnavailable):
            link = self._servers.link_of(key)
            if link.up:
                link.tell(sent)

    async def listen(self, channel: bytes, heard: Callable[[bytes], None], lost: Callable[[str], None]) -> Wire:
        """A connection over which all comes that is published there, until it is lost.

        Raises:
            OSError, StoreUnavailable: there is none.
        """
        patience = self.settings.connect_timeout
        async with asyncio.timeout(patience):
            wire = await connect(await self._servers.place(), patience, self._tls, lost)
            wire.heard = heard
            try:
                name = command("CLIENT", "SETNAME", f"bff-{self.me}")
                await asked(wire, [*self._logging_in, name, command("SUBSCRIBE", channel)])
            except BaseException:
                wire.abort()
                raise
        return wire

    # Its lifetime.

    def every(self, seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
        """Do this again and again while it is open."""
        self._chores.append((seconds, chore))

    async def open(self) -> None:
        """Connect, or have tried to, and keep at it until `close`."""
        await self._servers.open()
        await self._beat()
        chores = [(self.settings.heartbeat, self._beat), *self._chores]
        self._tasks = [asyncio.create_task(_again(*each)) for each in chores]

    async def close(self) -> None:
        for each in self._tasks:
            each.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            key = self.key("instances")
            with suppress(StoreUnavailable):
                await self.call(key, command("ZREM", key, self.me))
        await self._servers.close()

    async def _beat(self) -> None:
        key = self.key("instances")
        with suppress(StoreUnavailable):
            self.instances = await self.call(key, STAY([key], self.now, self.lease, self.me))

    def _changed(self, reason: str | None) -> None:
        self._changes.labels("away" if reason else "up").inc()
        said = {"state": "away", "reason": reason} if reason else {"state": "back"}
        self._log.warning("store", **said)


async def _again(seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await chore()


def _tls(settings: StoreSettings) -> SSLContext | None:
    if not settings.url.tls:
        return None
    context = create_default_context(cafile=settings.ca)
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key)
    return context
