"""Columns with values that are still to come, one by one.

Resolvers that are asked parent by parent end at different times. What arrives in the same tick goes on together, as one
wave, so that batches stay together, but nobody waits for the slowest of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import NoneType
from typing import Any, TypeAlias

from bff.engine.columns import Column, scattered
from bff.engine.pending import Pending, cancelled, close, outcome, side_by_side
from bff.engine.places import Place, SomePlace
from bff.engine.run import Run
from bff.engine.values import is_plain

_THERE = (NoneType, BaseException)
"""Not plain, but nothing to wait for either."""

Complete: TypeAlias = Callable[[Run, list[Any], Place], Column | Pending[Column]]


def settled(run: Run, values: list[Any]) -> list[Any] | Pending[list[Any]]:
    """The values when all are there, with errors among them as values: for columns that nothing follows after."""
    late = _late(run, values)
    if not late:
        return values

    async def settle() -> list[Any]:
        there = values.copy()
        found = await side_by_side([outcome(each) for each in late.values()])
        for row, value in zip(late, found, strict=True):
            there[row] = value
        return there

    return Pending(settle, late.values())


def in_waves(run: Run, values: list[Any], place: Place, complete: Complete) -> Column | Pending[Column]:
    """Complete the values wave by wave, each with all that follows from it, as they arrive."""
    if len(values) == 1:
        (only,) = values
        if not (_unsure(type(only)) and run.is_awaitable(only)):
            return complete(run, values, place)
        return Pending(None, values).then(lambda value: complete(run, [value], place))
    late = _late(run, values)
    if not late:
        return complete(run, values, place)
    return Pending(lambda: _waves(run, values, late, place, complete), late.values())


def _late(run: Run, values: list[Any]) -> dict[int, Awaitable[Any]]:
    """The values that are still to come, by their row."""
    unsure = {kind for kind in set(map(type, values)) if _unsure(kind)}
    if not unsure:
        return {}
    is_awaitable = run.is_awaitable
    return {row: value for row, value in enumerate(values) if type(value) in unsure and is_awaitable(value)}


def _unsure(kind: type) -> bool:
    return not (is_plain(kind) or issubclass(kind, _THERE))


async def _waves(
    run: Run, values: list[Any], late: dict[int, Awaitable[Any]], place: Place, complete: Complete
) -> Column:
    rows_by_task: dict[asyncio.Future[Any], list[int]] = {}
    for row, awaitable in late.items():
        # The same future in several rows, such as a loader's for the same key, is one task.
        rows_by_task.setdefault(asyncio.ensure_future(awaitable), []).append(row)
    arrived: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
    for task in rows_by_task:
        task.add_done_callback(arrived.put_nowait)
    parts: list[tuple[list[int], Column | asyncio.Future[Column]]] = []
    started: dict[asyncio.Future[Column], Pending[Column]] = {}

    def go_on(wave: dict[int, Any]) -> None:
        rows = sorted(wave)
        column = complete(run, [wave[row] for row in rows], SomePlace(place, rows))
        if isinstance(column, Pending):
            task = asyncio.ensure_future(column.value())
            started[task] = column
            parts.append((rows, task))
        else:
            parts.append((rows, column))

    try:
        if len(late) < len(values):
            go_on({row: value for row, value in enumerate(values) if row not in late})
        left = len(rows_by_task)
        while left:
            tasks = [await arrived.get()]
            while not arrived.empty():
                tasks.append(arrived.get_nowait())
            left -= len(tasks)
            go_on({row: _result(task) for task in tasks for row in rows_by_task[task]})
        columns = [(rows, part if isinstance(part, Column) else await part) for rows, part in parts]
    finally:
        await cancelled([*rows_by_task, *started])
        close(started.values())
    return scattered(len(values), columns, set())


def _result(task: asyncio.Future[Any]) -> Any:
    """What the task has come to, an error as a value; a cancellation goes on upwards."""
    error = task.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return error or task.result()
