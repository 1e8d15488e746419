"""One call for all who miss the same answer at the same time, and who may have what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import httpx

from bff.core.errors import DeadlineExceeded
from bff.rest.cache.stored import Stored

Which = tuple[Any, ...]
"""A key, and what the request says of the headers that its answers vary by."""


class Fetched(NamedTuple):
    """What came of a call.

    Attributes:
        kept: the answer, for everybody whom it is for.
        response: the answer where it could not be kept: for who asked first, and nobody else.
        status: the service's.
        told: what else `Cache-Status` says of it.
    """

    kept: Stored | None
    response: httpx.Response | None
    status: int
    told: str


class Fetch:
    """A call under way.

    Attributes:
        void: whether something has changed since it began: whoever waits may have its answer, and nobody after them.
    """

    __slots__ = ("leader_left", "task", "void", "waiting")

    def __init__(self) -> None:
        self.void = self.leader_left = False
        self.waiting = 0
        self.task: asyncio.Task[Fetched]


class Fetches:
    """Those under way. Each goes on for as long as anybody waits, and each waits until its own deadline."""

    def __init__(self) -> None:
        self._by_key: dict[Which, Fetch] = {}
        self._all: set[Fetch] = set()
        self.unattended: set[Fetch] = set()

    def __len__(self) -> int:
        return len(self._all)

    def is_under_way(self, key: Which) -> bool:
        return key in self._by_key

    async def join(
        self, key: Which, deadline: float, make: Callable[[Fetch], Coroutine[Any, Any, Fetched]]
    ) -> tuple[Fetched, bool]:
        """What comes of the call, and whether this was who asked first.

        Raises:
            GatewayError: the call failed; DeadlineExceeded for each at its own deadline.
        """
        fetch = self._by_key.get(key)
        leads = fetch is None
        if fetch is None:
            fetch = self.begin(key, make)
        fetch.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(fetch.task), leads
        except TimeoutError:
            raise DeadlineExceeded("The request ended before the service had answered") from None
        finally:
            fetch.waiting -= 1
            fetch.leader_left |= leads
            if not fetch.waiting and not fetch.task.done() and fetch not in self.unattended:
                self._forget(key, fetch)
                fetch.task.cancel()
            del fetch  # an error's traceback leads back to here

    def begin(
        self, key: Which, make: Callable[[Fetch], Coroutine[Any, Any, Fetched]], *, attended: bool = True
    ) -> Fetch:
        """A call that nobody waits for yet, or at all."""
        fetch = self._by_key[key] = Fetch()
        self._all.add(fetch)
        if not attended:
            self.unattended.add(fetch)
            fetch.leader_left = True
        fetch.task = asyncio.get_running_loop().create_task(make(fetch))
        fetch.task.add_done_callback(lambda task: self._done(key, fetch, task))
        return fetch

    def void(self, concerned: Callable[[Which], bool] = lambda _: True) -> None:
        """Something has changed: whoever asks from now on does so anew."""
        for key, fetch in list(self._by_key.items()):
            if concerned(key):
                fetch.void = True
                del self._by_key[key]

    async def close(self) -> None:
        tasks = [fetch.task for fetch in self._all]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, key: Which, fetch: Fetch) -> None:
        if self._by_key.get(key) is fetch:
            del self._by_key[key]

    def _done(self, key: Which, fetch: Fetch, task: asyncio.Task[Fetched]) -> None:
        self._forget(key, fetch)
        self._all.discard(fetch)
        self.unattended.discard(fetch)
        if task.cancelled() or task.exception() is not None:
            return
        response = task.result().response
        if response is not None and fetch.leader_left:
            closing = asyncio.get_running_loop().create_task(response.aclose())
            closing.add_done_callback(lambda _: None)
