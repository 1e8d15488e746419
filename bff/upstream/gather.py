"""Batched reads of several requests in one call: while one is under way, ids asked for meanwhile wait a moment.

Without load nothing waits: the first read goes at once, as with Nagle's algorithm. Only reads that the service cannot
tell apart meet: of the same caller, or of anybody where the service says `identity: none`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec.structs import replace

from bff.core.errors import ClientError, DeadlineExceeded, UpstreamBadResponse, UpstreamFailed, called

if TYPE_CHECKING:
    from bff.upstream.client import Origin, Upstream

# Perhaps for an id of somebody else's: each asks again for its own.
_PERHAPS_NOT_OURS: Final = (ClientError, UpstreamFailed, UpstreamBadResponse)
_LONGEST: Final = 86400.0  # a loop's timer takes no infinite time
_RESERVE: Final = 0.02  # for an answer to be made of whatever else has come

Group = tuple[Any, ...]
Found = Mapping[Any, Any]


class Read(Protocol):
    """A batched read, as `@batch` makes it."""

    @property
    def fetch(self) -> Callable[..., Awaitable[Found]]: ...

    @property
    def arguments(self) -> tuple[tuple[str, Any], ...]: ...


class _Round:
    """What will be one call."""

    __slots__ = ("asked", "keys", "read", "task", "timer")

    def __init__(self, read: Read) -> None:
        self.read = read
        self.asked: dict[asyncio.Future[Found | None], tuple[Upstream, list[Any]]] = {}
        self.keys: dict[Any, None] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def call(self) -> tuple[Upstream, list[Any]]:
        """On behalf of who asked first, until the latest deadline, for what is still asked for."""
        asked = list(self.asked.values())
        first = asked[0][0]
        last = max((each.origin for each, _ in asked), key=lambda origin: origin.deadline)
        origin = replace(first.origin, deadline=last.deadline, hurried=last.hurried)
        keys = list(dict.fromkeys(key for _, keys in asked for key in keys))
        read = first.read and replace(first.read, keys=len(keys))
        return type(first)(first.service, origin, read), keys

    def found(self, found: Found | None) -> None:
        for waiter in self.asked:
            if not waiter.done():
                waiter.set_result(found)

    def failed(self, error: Exception) -> None:
        if len(self.asked) > 1 and isinstance(error, _PERHAPS_NOT_OURS):
            self.found(None)
            return
        for waiter in self.asked:
            if not waiter.done():
                waiter.set_exception(error)

    def cancelled(self) -> None:
        for waiter in self.asked:
            waiter.cancel()


class Gathering:
    """The batched reads of one service, over all requests.

    Args:
        wait: seconds that keys may wait for others.
        most: keys in one call.
        arm: which deployments a request's calls go to, where there are several kinds.
    """

    def __init__(self, wait: float, most: int, arm: Callable[[Origin], object] | None = None) -> None:
        self._wait, self._most, self._arm = wait, most, arm
        self._open: dict[Group, _Round] = {}
        self._under_way: Counter[Group] = Counter()

    async def read(self, read: Read, upstream: Upstream, keys: list[Any]) -> Found:
        """What there is under these keys, and perhaps under others; raises what the read raises.

        Raises:
            DeadlineExceeded: of the request that asks.
        """
        origin = upstream.origin
        who = () if upstream.service.for_anybody else (origin.caller, origin.credentials)
        group = (read, self._arm and self._arm(origin), *who)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Found | None] = loop.create_future()
        round_ = self._join(group, read, keys)
        joined = None
        if round_.asked and origin.waterfall and (told := upstream.read):
            joined = origin.waterfall.call(upstream.service.name, told.name, told)
        round_.asked[waiter] = (upstream, keys)
        if len(round_.keys) >= self._most:
            self._begin(group, round_)
        alarm = loop.call_at(
            min(origin.deadline - _RESERVE, loop.time() + _LONGEST), _end, waiter, upstream.service.name
        )
        if origin.waits is not None:
            origin.waits.enter()
        try:
            found = await waiter
        finally:
            if origin.waits is not None:
                origin.waits.leave()
            alarm.cancel()
            if joined:
                joined.joined = True
                joined.fail("" if waiter.done() and not waiter.cancelled() and not waiter.exception() else "cancelled")
            self._leave(group, round_, waiter)
            del round_, waiter  # an error's traceback leads back to here
        if found is None:
            return await read.fetch(upstream, keys, **dict(read.arguments))
        return found

    def _join(self, group: Group, read: Read, keys: list[Any]) -> _Round:
        """The round that these keys are in; it begins when it is full, or else after a moment."""
        open_ = self._open.get(group)
        if open_ is not None and len(open_.keys.keys() | keys) > self._most:
            self._begin(group, open_)
            open_ = None
        if open_ is None:
            open_ = self._open[group] = _Round(read)
            delay = self._wait if self._under_way[group] else 0.0
            open_.timer = asyncio.get_running_loop().call_later(delay, self._begin, group, open_)
        open_.keys.update(dict.fromkeys(keys))
        return open_

    def _begin(self, group: Group, round_: _Round) -> None:
        self._close(group, round_)
        self._under_way[group] += 1
        round_.task = asyncio.get_running_loop().create_task(self._fetch(group, round_))

    async def _fetch(self, group: Group, round_: _Round) -> None:
        try:
            upstream, keys = round_.call()
            found = await round_.read.fetch(upstream, keys, **dict(round_.read.arguments))
        except asyncio.CancelledError:
            round_.cancelled()
            raise
        except Exception as error:  # noqa: BLE001 - it is everybody's who waits
            round_.failed(error)
        else:
            round_.found(found)
        finally:
            self._ended(group)
            round_.task = None
            del round_

    def _ended(self, group: Group) -> None:
        self._under_way[group] -= 1
        if not self._under_way[group]:
            del self._under_way[group]

    def _leave(self, group: Group, round_: _Round, waiter: asyncio.Future[Found | None]) -> None:
        round_.asked.pop(waiter, None)
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # who was cancelled in the same moment does not ask for it
        if round_.asked:
            return
        self._close(group, round_)
        if round_.task is not None:
            round_.task.cancel()

    def _close(self, group: Group, round_: _Round) -> None:
        """Nobody joins it any more."""
        if self._open.get(group) is round_:
            del self._open[group]
        if round_.timer is not None:
            round_.timer.cancel()
            round_.timer = None


def _end(waiter: asyncio.Future[Any], service: str) -> None:
    if not waiter.done():
        members = called(service, "deadline", None, retryable=True)
        waiter.set_exception(DeadlineExceeded(f"The request ended before {service} had answered", members=members))
