"""Lists: all items of all lists of a level are one column."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError
from graphql.pyutils import is_iterable

from bff.engine.columns import Column, cut, nulled, regrouped, scattered
from bff.engine.completion import Completion
from bff.engine.pending import Pending, all_of, close, then, together
from bff.engine.places import ItemPlace, ItemsPlace, Place, SomePlace
from bff.engine.run import Run
from bff.engine.waves import in_waves

if TYPE_CHECKING:
    from bff.engine.plan import Field


class Lists(Completion):
    """Lists of what `items` completes."""

    __slots__ = ("_items",)

    def __init__(self, items: Completion, field: Field, *, required: bool) -> None:
        super().__init__(field, required=required)
        self._items = items

    def straight(self, run: Run, values: list[Any]) -> list[Any] | None:
        if set(map(type, values)) != {list}:
            return None
        items = self._items.straight(run, list(chain.from_iterable(values)))
        return None if items is None else cut(items, list(map(len, values)))

    def complete(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        if set(map(type, values)) == {list}:
            return self._flattened(run, values, place)
        return in_waves(run, values, place, self._arrived)

    def _arrived(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        if set(map(type, values)) == {list}:
            return self._flattened(run, values, place)
        return self._sorted_out(run, values, place)

    def _flattened(self, run: Run, lists: list[list[Any]], place: Place) -> Column | Pending[Column]:
        lengths = list(map(len, lists))
        at = ItemsPlace(place, lengths, nullable=not self._items.required)
        items = self._items.complete(run, list(chain.from_iterable(lists)), at)
        return then(items, lambda items: self._allowed(regrouped(items, lengths)))

    def _allowed(self, lists: Column) -> Column:
        return lists if self.required else nulled(lists)

    def _sorted_out(self, run: Run, values: list[Any], place: Place) -> Column | Pending[Column]:
        rows, lost = self.usable(run, values, place)
        lists: dict[int, list[Any]] = {}
        streams: list[int] = []
        for row in rows:
            if run.is_async_iterable(values[row]):
                streams.append(row)
                continue
            try:
                lists[row] = self._listed(values[row])
            except Exception as error:  # noqa: BLE001 - whatever iterating over it raises is the error of the list
                self.fail(run, place, row, error, lost)
        parts = [[row] for row in streams]
        columns: list[Column | Pending[Column]] = [self._streamed(run, values[row], place, row) for row in streams]
        if lists:
            parts.append(list(lists))
            columns.append(self._flattened(run, list(lists.values()), SomePlace(place, parts[-1])))
        return then(
            all_of(columns),
            lambda columns: scattered(len(values), zip(parts, columns or (), strict=True), lost),
        )

    def _listed(self, value: Any) -> list[Any]:
        if not is_iterable(value):
            raise GraphQLError(f"Expected Iterable, but did not find one for field '{self.field.full_name}'.")
        return list(value)

    def _streamed(self, run: Run, source: AsyncIterable[Any], place: Place, row: int) -> Pending[Column]:
        """The list in one row, alone."""
        items: list[Column | Pending[Column]] = []
        return Pending(lambda: self._item_by_item(run, source, place, row, items), items)

    async def _item_by_item(
        self, run: Run, source: AsyncIterable[Any], place: Place, row: int, items: list[Column | Pending[Column]]
    ) -> Column:
        """Items are completed as they come: who never ends can be ended by an error."""
        iterator = aiter(source)
        ended_early = False
        try:
            async for each in iterator:
                at = ItemPlace(place, row, len(items), nullable=not self._items.required)
                item = self._items.complete(run, [each], at)
                items.append(item)
                if isinstance(item, Column) and item.lost:
                    ended_early = True
                    break
        except Exception as error:  # noqa: BLE001 - whatever iterating over it raises is the error of the list
            self.fail(run, place, row, error, set())
            ended_early = True
        if ended_early:
            close(items)
            with suppress(Exception):
                await iterator.aclose()  # type: ignore[attr-defined] # only generators have it
            return self._lost_alone()
        done = await together(items, enough=lambda item: bool(item.lost))
        return self._lost_alone() if done is None else Column([[item.values[0] for item in done]])

    def _lost_alone(self) -> Column:
        return self._allowed(Column([None], {0}))
