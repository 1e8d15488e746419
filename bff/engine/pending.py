"""Results that are not there yet, and what is to be done with them then.

A level is resolved by plain calls as long as its values are at hand. What has to be awaited becomes a `Pending`, on
which the rest of the work is put by `then`: no coroutine exists for it before somebody awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Iterable, Sequence
from types import CoroutineType
from typing import Any, Generic, TypeVar, cast

import msgspec

T = TypeVar("T")
U = TypeVar("U")


class Pending(msgspec.Struct, Generic[T], eq=False):
    """A result to come.

    Args:
        start: what to await for it; None where it is what the only one of `awaitables` comes to, an error as a value.
        awaitables: what resolvers have returned and `start` is going to await: to be closed if nobody wants it.
    """

    _start: Callable[[], Awaitable[Any]] | None
    _awaitables: Collection[Any] = ()
    _steps: list[Callable[[Any], Any]] = []

    def then(self, step: Callable[[T], U | Pending[U]]) -> Pending[U]:
        """Do `step` with the result; what it returns is the result from then on."""
        self._steps.append(step)
        return self  # type: ignore[return-value]

    async def value(self) -> T:
        """The result. It can be asked for only once."""
        pending: Pending[Any] = self
        steps: list[Callable[[Any], Any]] = []  # the next one last
        while True:
            steps += reversed(pending._steps)
            try:
                value: Any = await (pending._start() if pending._start else next(iter(pending._awaitables)))
            except BaseException as error:
                if pending._start or not isinstance(error, Exception):
                    pending.drop()
                    raise
                value = error
            while steps:
                value = steps.pop()(value)
                if type(value) is Pending:
                    pending = value
                    break
            else:
                return value  # type: ignore[no-any-return]

    def drop(self) -> None:
        """Nobody wants the result any more: what has not been started never will be."""
        close(self._awaitables)


def then(value: T | Pending[T], step: Callable[[T], U | Pending[U]]) -> U | Pending[U]:
    """Do `step` with the value, now if it is there."""
    return value.then(step) if isinstance(value, Pending) else step(value)


def close(awaitables: Iterable[Any]) -> None:
    """End coroutines that nobody is going to await. Futures are left alone: others may wait for the same ones."""
    for each in awaitables:
        if isinstance(each, CoroutineType | Pending):
            each.drop() if isinstance(each, Pending) else each.close()


async def outcome(awaitable: Awaitable[T]) -> T | Exception:
    """Its result, or the error that it ends with, as a value."""
    try:
        return await awaitable
    except Exception as error:  # noqa: BLE001 - errors are values here; they become null with an error in the response
        return error


def all_of(
    results: Sequence[T | Pending[T]], *, enough: Callable[[T], bool] | None = None
) -> list[T] | Pending[list[T] | None] | None:
    """All results, those to come awaited side by side; None as soon as one is `enough`, which ends the others."""
    waiting = [at for at, each in enumerate(results) if type(each) is Pending]
    if len(waiting) > 1:
        return Pending(lambda: together(results, enough=enough), results)
    if not waiting:
        return results  # type: ignore[return-value]
    (at,) = waiting
    pending: Any = results[at]
    found: list[Any] = list(results)

    def whole(value: T) -> list[T] | None:
        found[at] = value
        return None if enough and enough(value) else found

    return pending.then(whole)  # type: ignore[no-any-return]


class _Enough(Exception):
    """Not an error: it ends a gather early."""


async def together(results: Sequence[T | Pending[T]], *, enough: Callable[[T], bool] | None = None) -> list[T] | None:
    def watched(value: T) -> T:
        if enough and enough(value):
            raise _Enough
        return value

    waiting = [each.then(watched) for each in results if isinstance(each, Pending)]
    try:
        values = iter(await side_by_side([each.value() for each in waiting]))
    except _Enough:
        return None
    finally:
        close(waiting)
    return [next(values) if isinstance(each, Pending) else each for each in results]


async def side_by_side(coroutines: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Their results; when one has failed, or nobody waits any more, all have ended."""
    if len(coroutines) < 2:  # a task costs more than awaiting it here
        return [await each for each in coroutines]
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(each) for each in coroutines]
    over: asyncio.Future[asyncio.Task[T]] = loop.create_future()  # with the first that has failed, or the last
    left = len(tasks)

    def ended(task: asyncio.Task[T]) -> None:
        nonlocal left
        left -= 1
        if not over.done() and (not left or task.cancelled() or task.exception()):
            over.set_result(task)

    for each in tasks:
        each.add_done_callback(ended)
    try:
        (await over).result()
        return [each.result() for each in tasks]
    finally:
        await cancelled(tasks)


async def cancelled(tasks: Collection[asyncio.Future[Any]]) -> None:
    """End those that still run, and wait until they have ended."""
    running = [each for each in tasks if not each.done()]
    for each in running:
        each.cancel()
    if running:
        await asyncio.wait(running)
    for each in tasks:
        if not each.cancelled():
            each.exception()  # or asyncio would complain that nobody has looked at it


def stepwise(steps: Generator[Pending[Any], Any, T]) -> T | Pending[T]:
    """What a generator returns that yields whatever it has to wait for, and gets its result back."""
    try:
        first = next(steps)
    except StopIteration as end:
        return cast("T", end.value)
    return Pending(lambda: _resumed(steps, first))


async def _resumed(steps: Generator[Pending[Any], Any, T], pending: Pending[Any]) -> T:
    while True:
        value = await pending.value()
        try:
            pending = steps.send(value)
        except StopIteration as end:
            return cast("T", end.value)
