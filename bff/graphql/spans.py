"""Spans of a recorded operation's plan: one for each node that waits for something, with how many objects it is of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import CoroutineType
from typing import Any, TypeVar

from opentelemetry.trace import Span, StatusCode, Tracer, use_span

from bff.engine import BreadthExecutor, Field, Pending

T = TypeVar("T")
Resolve = Callable[..., Any]


def recording(executor: type[BreadthExecutor], tracer: Tracer) -> type[BreadthExecutor]:
    """The same executor, which makes these spans. What it plans is its own, so others pay nothing for it."""
    return type("Recording", (executor,), {"wrap": staticmethod(partial(_wrap, tracer))})


def _wrap(tracer: Tracer, field: Field, resolve: Resolve) -> Resolve:
    def resolve_within(run: Any, objects: list[Any], place: Any) -> Any:
        values = resolve(run, objects, place)
        node = _Node(tracer, field.full_name, len(objects))
        if isinstance(values, Pending):
            return Pending(lambda: node.column(values.value()), [values])
        late = [row for row, value in enumerate(values) if run.is_awaitable(value)]
        if not late:
            return values
        node.waiting = len(late)
        values = list(values)
        for row in late:
            values[row] = _Within(node, values[row])
        return values

    return resolve_within


class _Node:
    """Its span begins with the first wait and ends with the last."""

    def __init__(self, tracer: Tracer, name: str, objects: int) -> None:
        self._tracer, self._name, self._objects = tracer, name, objects
        self._span: Span | None = None
        self.waiting = 1

    async def column(self, values: Awaitable[list[Any]]) -> list[Any]:
        with self._within() as span:
            found = await values
            if failed := sum(isinstance(each, BaseException) for each in found):
                _failed(span, failed)
        return found

    async def one(self, value: Awaitable[T]) -> T:
        with self._within() as span:
            try:
                return await value
            except BaseException:
                _failed(span, 1)
                raise

    @contextmanager
    def _within(self) -> Generator[Span]:
        if self._span is None:
            self._span = self._tracer.start_span(self._name, attributes={"bff.node.objects": self._objects})
        try:
            # What an error says may be personal; its code is in the answer and the log.
            with use_span(self._span, record_exception=False, set_status_on_exception=False):
                yield self._span
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._span.end()


def _failed(span: Span, objects: int) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute("bff.node.errors", objects)


class _Within:
    """What a resolver gave to be awaited, awaited within the span of its node."""

    def __init__(self, node: _Node, value: Awaitable[Any]) -> None:
        self._node = node
        self._value: Awaitable[Any] | None = value

    def __await__(self) -> Generator[Any, Any, Any]:
        value, self._value = self._value, None
        assert value is not None  # noqa: S101 - a coroutine cannot be awaited twice either
        return self._node.one(value).__await__()

    def __del__(self) -> None:
        if isinstance(self._value, CoroutineType):
            self._value.close()  # nobody wants it any more
