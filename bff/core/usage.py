"""Who uses what: requests by GraphQL coordinate or REST route, client and day, so that a change knows whom it hurts.

A client is a program, never a person: the holder of an API key or the OAuth client, else the token's issuer, else
`anonymous`. Nothing else of a request is kept, and days are UTC's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from pydantic import Field

from bff.core.files import locked, replace
from bff.core.identity import Caller
from bff.core.settings import Duration, File, Settings
from bff.core.telemetry import OTHER, JsonLog

Kind = Literal["graphql", "rest"]
Days = dict[str, dict[Kind, dict[str, dict[str, int]]]]
"""How often: by day (`2026-11-25`), kind, coordinate or route, and client."""

_MAX_UNSETTLED: Final = 256  # operations and routes with their clients that are not broken down yet, by time or number
_MAX_NAME: Final = 100


class UsageSettings(Settings):
    enabled: bool = True
    """Whether it is counted."""
    path: File | None = None
    """Where counts are kept, for all workers; without it they are in memory, and end with the process."""
    days: Annotated[int, Field(ge=1, le=400)] = 30
    """How long."""
    max_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Counts that are kept; past it, clients that are new to a coordinate or a route count as `other`."""
    flush: Annotated[Duration, Field(ge=0.1)] = 15.0
    """Between two writes of the file."""


class Asked(Protocol):
    """What an operation asks for. Its own hash is its identity."""

    @property
    def coordinates(self) -> Collection[str]: ...


class UsageUnreadable(ValueError):
    """A file, or an answer, that holds no usage; the message says why."""


@dataclass(frozen=True, order=True)
class Use:
    """What one client makes of one thing.

    Attributes:
        count: requests, over all days that are kept.
        last: the last day with one.
    """

    thing: str
    client: str
    count: int
    last: str


class Counts:
    """Days, within a number of entries."""

    def __init__(self, days: Days | None = None) -> None:
        self.days: Days = days or {}
        self._entries = sum(1 for _ in self.entries())

    def __len__(self) -> int:
        return self._entries

    def add(self, day: str, kind: Kind, thing: str, client: str, count: int, most: float = inf) -> None:
        clients = self.days.setdefault(day, {}).setdefault(kind, {}).setdefault(thing, {})
        if client not in clients and self._entries >= most:
            client = OTHER
        if client not in clients:
            self._entries += 1
        clients[client] = clients.get(client, 0) + count

    def merge(self, other: Counts, most: int) -> None:
        for day, kind, thing, client, count in other.entries():
            self.add(day, kind, thing, client, count, most)

    def forget(self, before: str) -> None:
        """All days before this one."""
        if old := [day for day in self.days if day < before]:
            for day in old:
                del self.days[day]
            self._entries = sum(1 for _ in self.entries())

    def uses(self, kind: Kind) -> list[Use]:
        """By thing and client, in the order of their names."""
        found: dict[tuple[str, str], Use] = {}
        for day, of, thing, client, count in self.entries():
            if of == kind:
                before = found.get((thing, client), Use(thing, client, 0, ""))
                found[thing, client] = Use(thing, client, before.count + count, max(before.last, day))
        return sorted(found.values())

    def entries(self) -> Iterator[tuple[str, Kind, str, str, int]]:
        for day, kinds in self.days.items():
            for kind, things in kinds.items():
                for thing, clients in things.items():
                    for client, count in clients.items():
                        yield day, kind, thing, client, count

    def encoded(self, *, shared: bool = False) -> bytes:
        """As JSON; `shared` says that other processes add to the same."""
        return msgspec.json.encode(_Kept(1, shared, self.days))

    @classmethod
    def decoded(cls, text: bytes) -> Counts:
        """What `encoded` gave.

        Raises:
            UsageUnreadable: it is something else.
        """
        try:
            return cls(_DECODER.decode(text).days)
        except msgspec.DecodeError as error:
            raise UsageUnreadable(f"holds no usage: {error}") from None

    @classmethod
    def read(cls, path: Path) -> Counts:
        """Of a file; raises UsageUnreadable."""
        try:
            return cls.decoded(path.read_bytes())
        except OSError as error:
            raise UsageUnreadable(f"{path}: {error.strerror}") from error
        except UsageUnreadable as error:
            raise UsageUnreadable(f"{path} {error}") from error


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    shared: bool
    days: Days


_DECODER: Final = msgspec.json.Decoder(_Kept)


class Usage:
    """Counts as requests come, and keeps the counts in a file where there is one.

    On the way of a request only `count` is called: a number for the operation as a whole goes up. What it consists of
    is looked at when the numbers are written.

    Args:
        settings: where, how long and how many.
        log: is told of a file that cannot be written.
        clock: seconds since 1970.
        before: the one that it takes the place of, which hands over what it has in memory alone.

    Raises:
        UsageUnreadable: there is a file, which holds something else.
    """

    def __init__(
        self,
        settings: UsageSettings,
        log: JsonLog,
        clock: Callable[[], float] = time.time,
        before: Usage | None = None,
    ) -> None:
        self.before = before
        self.after: Usage | None = None
        self.settings, self._log, self._clock = settings, log, clock
        self._enabled = settings.enabled
        self._unsettled: dict[tuple[Asked | str, str], int] = {}
        self._counts = Counts()  # where there is a file, what is not in it yet
        self._writing = asyncio.Lock()
        if settings.path is not None:
            _read(settings.path)

    def count(self, what: Asked | str, caller: Caller) -> None:
        """One operation, or one request of the route of this name."""
        if self._enabled:
            unsettled = self._unsettled
            key = what, caller.consumer or caller.issuer or caller.credential
            unsettled[key] = unsettled.get(key, 0) + 1
            if len(unsettled) >= _MAX_UNSETTLED:
                self._settle()

    async def follow(self) -> None:
        """Write every now and then, until cancelled."""
        while True:
            await asyncio.sleep(self.settings.flush)
            await self.write()

    async def write(self) -> None:
        """Add what was counted to the file; what cannot be written is kept for the next time."""
        self._settle()
        async with self._writing:
            if (path := self.settings.path) is None or not len(self._counts):
                return
            counted, self._counts = self._counts, Counts()
            try:
                await asyncio.to_thread(self._add_to, path, counted)
            except (OSError, UsageUnreadable) as error:
                counted.merge(self._counts, self.settings.max_entries)
                self._counts = counted
                why = (isinstance(error, OSError) and error.strerror) or str(error)
                self._log.error("usage_not_written", path=str(path), why=why)

    async def begin(self) -> None:
        if self.before is not None:
            self.before.after = self

    async def close(self) -> None:
        """Write what is left, or hand it over: to the next one, as those before it do from now on."""
        await self.write()
        before, after = self.before, self.after
        if before is not None:
            before.after = after
        if after is not None:
            after.before = before
            if self.settings.path is None:
                after.take(self._counts)

    def take(self, counts: Counts) -> None:
        """Go on from these."""
        self._counts.merge(counts, self.settings.max_entries)

    async def kept(self) -> Counts:
        """All that is, of other processes with the same file too. What is given is not to be changed."""
        await self.write()
        path = self.settings.path
        if path is None:
            return self._counts
        try:
            return await asyncio.to_thread(_read, path)
        except UsageUnreadable:
            return self._counts  # which the log has told of

    def _settle(self) -> None:
        """Break what was counted down."""
        unsettled, self._unsettled = self._unsettled, {}
        day, most = self._today(), self.settings.max_entries
        for (what, client), count in unsettled.items():
            named = client[:_MAX_NAME]
            if isinstance(what, str):
                self._counts.add(day, "rest", what, named, count, most)
            else:
                for each in what.coordinates:
                    self._counts.add(day, "graphql", each, named, count, most)
        self._counts.forget(self._first())

    def _add_to(self, path: Path, counted: Counts) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            all_of_it = _read(path)
            all_of_it.forget(self._first())
            all_of_it.merge(counted, self.settings.max_entries)
            replace(path, all_of_it.encoded(shared=True))

    def _today(self, back: int = 0) -> str:
        return (datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=back)).date().isoformat()

    def _first(self) -> str:
        """The oldest day that is kept."""
        return self._today(self.settings.days - 1)


def _read(path: Path) -> Counts:
    try:
        return Counts.read(path)
    except UsageUnreadable as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return Counts()
        raise


def of_all(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several processes say, as one: of the same file the most that any of them has read, else the sum."""
    shared, total = said[0]["shared"], Counts()
    for each in said:
        for day, kind, thing, client, count in Counts(each["days"]).entries():
            known = total.days.get(day, {}).get(kind, {}).get(thing, {}).get(client, 0) if shared else 0
            total.add(day, kind, thing, client, max(0, count - known))
    return {**said[0], "days": total.days}
