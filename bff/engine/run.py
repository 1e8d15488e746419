"""One execution of one operation: what all nodes of its plan share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec
from graphql import GraphQLResolveInfo, GraphQLSchema

from bff.engine.failures import Failure
from bff.engine.places import Place

if TYPE_CHECKING:
    from bff.engine.executor import BreadthFirst
    from bff.engine.plan import Field

Guard: TypeAlias = Callable[[GraphQLResolveInfo[Any]], None]
"""Asked before a field is resolved; what it raises is the error of the field for every parent. See `GUARD`."""

GUARD = "engine.guard"
"""The key of a `Guard` in `GraphQLField.extensions`, or in `GraphQLObjectType.extensions` for the objects of that type
that an interface or union turns out to stand for. The breadth-first executor asks it once for each node of the plan,
with the `info` of the first parent; the standard executor asks it for each parent or object."""


_UNASKED: Final = Exception()


class Run(msgspec.Struct, eq=False):
    """What is shared by all nodes of the plan.

    Args:
        _executor: of the operation, whose class says what is planned on the way.
        _make: the executor of this execution, where it is not the same.

    Attributes:
        context: what resolvers are given.
        variables: their values.
        failures: so far, as they were found.
        weight: of all objects so far, those included that are lost later on.
    """

    _executor: BreadthFirst
    context: Any
    variables: Mapping[str, Any]
    _make: Callable[[], BreadthFirst] | None = None
    failures: list[Failure] = []
    weight: float = 0.0
    _verdicts: dict[tuple[Field, Guard], Exception | None] = {}

    @property
    def executor(self) -> BreadthFirst:
        """Graphql-core's, which most executions do without."""
        if self._make:
            self._executor, self._make = self._make(), None
        return self._executor

    @property
    def kind(self) -> type[BreadthFirst]:
        return type(self._executor)

    @property
    def schema(self) -> GraphQLSchema:
        return self._executor.schema

    @property
    def is_awaitable(self) -> Callable[[Any], bool]:
        return self._executor.is_awaitable

    @property
    def is_async_iterable(self) -> Callable[[Any], bool]:
        return self._executor.is_async_iterable

    def end(self) -> None:
        """Nobody asks for the executor any more."""
        if not self._make:
            # It holds on to itself by this: whatever the request has read would wait for the collector.
            vars(self._executor).pop("async_helpers", None)

    def infos(self, field: Field, place: Place) -> Callable[[int], GraphQLResolveInfo[Any]]:
        """The `info` of each row of a column, which differ in their path alone."""
        executor = self.executor
        info = executor.build_resolve_info(field.definition, field.nodes, field.parent_type, None)  # type: ignore[arg-type]
        own: Any = type(info)
        kind, index = _with_late_path(own)
        before, after = tuple(info[:index]), tuple(info[index + 1 :])
        return lambda row: tuple.__new__(kind, (*before, _Late(place, row), *after))

    def refusal(self, field: Field, guard: Guard, place: Place) -> Exception | None:
        """What the guard says about the node; it is asked once, also if the node's parents come one after the other."""
        key = field, guard
        refusal = self._verdicts.get(key, _UNASKED)
        if refusal is _UNASKED:
            refusal = None
            try:
                info: Any = LateInfo(self.context, self, field, place, 0)
                guard(info)
            except Exception as error:  # noqa: BLE001 - a guard refuses by whatever error it wants to be reported
                refusal = error
            self._verdicts[key] = refusal
        return refusal


class LateInfo(msgspec.Struct, eq=False):
    """The `info` of one row, made when somebody asks for more of it than the context, which most do not."""

    context: Any
    _run: Run
    _field: Field
    _place: Place
    _row: int
    _whole: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._whole is None:
            self._whole = self._run.infos(self._field, self._place)(self._row)
        return getattr(self._whole, name)


class _Late(NamedTuple):
    """A path, before anybody has asked for it."""

    place: Place
    row: int


@lru_cache(maxsize=16)
def _with_late_path(kind: type[Any]) -> tuple[type[Any], int]:
    """A subclass of a `GraphQLResolveInfo` that makes its path when it is read, and where it keeps what it needs."""
    index: int = kind._fields.index("path")

    def path(self: Any) -> Any:
        held = tuple.__getitem__(self, index)
        return held.place.path(held.row) if isinstance(held, _Late) else held

    def equals(self: Any, other: object) -> bool:
        return bool(tuple.__eq__((*self[:index], self.path, *self[index + 1 :]), other))

    members = {"__slots__": (), "__eq__": equals, "__hash__": None, "path": property(path)}
    return type(kind.__name__, (kind,), members), index
