"""`batched`: a resolver that is given all parents of a level at once and returns one result for each."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import strawberry

T = TypeVar("T")

Parents = Sequence[T]
"""The source objects of one level of a query, such as records of a service."""

Resolver = Callable[..., Awaitable[Sequence[Any]]]


def batched(*, graphql_type: Any, **options: Any) -> Callable[[Resolver], Any]:
    """A field resolved for all parents of its level together; each result may be an exception, for its parent alone.

        @batched(graphql_type=Payment | None)
        async def payment(parents: Parents[orders.Order], info: Info) -> Column[payments.Payment]:
            return await info.context.load_many(payment_by_order, [order.id for order in parents])

    Args:
        graphql_type: of one result.
        options: those of `strawberry.field`.
    """
    return lambda resolve: strawberry.field(_one_by_one(resolve), graphql_type=graphql_type, **options)


def _one_by_one(resolve: Resolver) -> Callable[..., Awaitable[Any]]:
    """The same resolver for an executor that asks parent by parent: those who ask in the same tick share a call."""
    levels: dict[tuple[int, int], _Level] = {}

    async def resolve_one(self: Any, info: Any, **arguments: Any) -> Any:
        # The node of the document stands for the level, and the context for the request; both outlive the tick.
        key = id(info.context), id(info._raw_info.field_nodes[0])  # noqa: SLF001
        if key not in levels:
            levels[key] = _Level(lambda parents: resolve(parents, info, **arguments), lambda: levels.pop(key))
        return await levels[key].result(self)

    signature = inspect.signature(resolve)
    _, *others = signature.parameters.values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    vars(resolve_one).update(
        __signature__=signature.replace(parameters=[own, *others], return_annotation=inspect.Signature.empty),
        __batched__=resolve,
    )
    resolve_one.__module__, resolve_one.__name__ = resolve.__module__, resolve.__name__
    return resolve_one


class _Level:
    """The parents that asked in one tick, and who waits for them."""

    def __init__(self, resolve: Callable[[list[Any]], Awaitable[Sequence[Any]]], close: Callable[[], Any]) -> None:
        self._parents: list[Any] = []
        self._waiting: list[asyncio.Future[Any]] = []
        self._resolve = resolve
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._start)

    def result(self, parent: Any) -> asyncio.Future[Any]:
        waiter = self._loop.create_future()
        self._parents.append(parent)
        self._waiting.append(waiter)
        return waiter

    def _start(self) -> None:
        self._close()
        self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        for waiter, result in zip(self._waiting, await self._results(), strict=True):
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)

    async def _results(self) -> Sequence[Any]:
        everybody = len(self._parents)
        try:
            results = await self._resolve(self._parents)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result of everybody who waits
            return [error] * everybody
        if len(results) != everybody:
            return [ValueError(f"{len(results)} results for {everybody} parents")] * everybody
        return results
