"""One pass over the shape of an operation, with the values of its variables: what it costs, and who asks whom when.

Groups of fields that ask a batched read in the same tick are one call, and a call more for each `max_batch` of their
keys. That is all that is relied on of the engine; a service's answers may come in any order.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bff.graphql.shape import UNKNOWN, Field, Selection
from bff.graphql.sources import Source
from bff.graphql.weights import Bound
from bff.upstream.batch import Batch

_LATE = 2
"""Ticks that a loader waits for others to ask: those who are late by as many may come too late."""


class Known(NamedTuple):
    """What is the same for all operations.

    Attributes:
        max_batch: keys in one call, by service.
        largest: the size of a list, where only a variable without a value tells it.
    """

    max_batch: Mapping[str, int]
    largest: int


@dataclass
class Row:
    """A field in the tree of an operation.

    Attributes:
        depth: how many fields are above it.
        field: what is selected.
        objects: at most as many are there, or as many values.
        cost: of it and all that is below.
        wave: in which its resolver asks for something; 0 if it asks for nothing.
        groups: whom it asks, together with others.
    """

    depth: int
    field: Field
    objects: int = 1
    cost: float = 0.0
    wave: int = 0
    groups: list[Group] = dataclasses.field(default_factory=list)


class At(NamedTuple):
    """Where a selection stands.

    Attributes:
        wave: what has to be answered before it begins; what has the same begins together.
        objects: at most as many are there to select from.
        charged: as many are paid for.
        times: the selection is made at most so often, each time for some of the objects.
        late: ticks that it may begin after others of its wave; -1 before the selection that the whole wave begins with.
        same: the objects of two places are the same if this is.
        page: what the field above says of lists, and of which.
        depth: fields above.
        level: calls one after another that it has to wait for.
    """

    wave: Hashable = "root"
    objects: int = 1
    charged: float = 1
    times: int = 1
    late: int = -1
    same: Hashable = "root"
    page: tuple[Bound | None, frozenset[str]] = (None, frozenset())
    depth: int = 0
    level: int = 0


class Group:
    """Those who ask a batched read for something at the same time, which is one call if the keys are not too many.

    Attributes:
        source: what they ask.
        keys: at most, by who asks; of a call that is no batched read, how often it is made.
    """

    __slots__ = ("_times", "keys", "source")

    def __init__(self, source: Source, times: int) -> None:
        self.source = source
        self.keys: dict[Hashable, int] = {}
        self._times = times

    def calls(self, max_batch: Mapping[str, int]) -> int:
        keys = sum(self.keys.values())
        if not isinstance(self.source, Batch) or keys <= self._times:
            return keys
        # As unevenly as can be: one key each time but the last, and then all others.
        return self._times - 1 + -(-(keys - self._times + 1) // max_batch.get(self.source.service, 1))


class Walk:
    """One pass over the shape of an operation, with the values of its variables."""

    def __init__(self, known: Known, given: Mapping[str, Any], unbounded: dict[str, None], rows: list[Row]) -> None:
        self._known = known
        self._given = given
        self._unbounded = unbounded
        self._rows = rows
        self._groups: dict[Hashable, Group] = {}
        self._more: Counter[str] = Counter()
        self._more_calls = 0
        self.waves = 0

    def counted(self) -> tuple[Counter[str], int]:
        """The calls, by their source and in all."""
        by_source, calls = self._more.copy(), self._more_calls
        for group in self._groups.values():
            count = group.calls(self._known.max_batch)
            by_source[group.source.name] += count
            calls += count
        return by_source, calls

    def serially(self, selection: Selection) -> float:
        """The fields of a mutation: each waits for the one before it."""
        return sum(
            self._field(each, At(wave=index, late=0, same=index, level=self.waves), selection)
            for index, each in enumerate(selection.fields)
        )

    def selection(self, selection: Selection, at: At) -> float:
        """Count what is asked for from all objects; the cost for one of them."""
        if selection.is_crowded:
            at = at._replace(late=at.late + 1)
        return sum(self._field(each, at, selection) for each in selection.fields)

    def _field(self, each: Field, at: At, selection: Selection) -> float:
        row = Row(at.depth, each)
        self._rows.append(row)
        facts = each.facts
        cost = sum(weight for name, weight in facts.arguments.items() if name in each.arguments)
        below = self._asked(each, at, selection, row)._replace(depth=at.depth + 1)
        if facts.entities:
            cost += self._by_ids(each, at, below, row)
        else:
            size = self._size(each, at)
            row.objects = at.objects * size.most
            page = (self._sliced(each), facts.sized) if facts.sized else At().page
            below = below._replace(objects=row.objects, charged=at.charged * size.assumed, page=page)
            cost += size.assumed * (facts.weight + self._selected(each, below))
        row.cost = cost * at.charged
        return cost

    def _selected(self, each: Field, at: At) -> float:
        """What is selected of the field's objects; the cost for one of them."""
        parts = list(each.selections.values())
        if len(parts) == 1:
            return self.selection(parts[0], at)
        return self._apart([(part, None) for part in parts], at)

    def _apart(self, parts: Sequence[tuple[Selection, Source | None]], at: At) -> float:
        """Objects whose types nobody knows yet: at worst they are of the most expensive ones, and share no calls."""
        cost, outcomes = 0.0, list[tuple[Counter[str], int]]()
        for index, (part, read) in enumerate(parts):
            walk = Walk(self._known, self._given, self._unbounded, self._rows)
            here = at._replace(wave=(at.wave, index), same=(at.same, index))
            if read is not None:
                walk._groups["ids"] = group = Group(read, 1)
                group.keys["ids"] = at.objects
            cost = max(cost, walk.selection(part, here))
            outcomes.append(walk.counted())
            self.waves = max(self.waves, walk.waves)
        worst = sorted((calls for _, calls in outcomes), reverse=True)
        self._more_calls += sum(worst[: at.objects])
        for by_source, _ in outcomes:
            # Not all at once, perhaps; but each may be.
            self._more.update(by_source)
        return cost

    def _asked(self, each: Field, at: At, selection: Selection, row: Row) -> At:
        """Count what the field's resolver asks for; where that leaves what is selected of its value."""
        sources = each.facts.sources
        unique = (id(each), at.wave)
        if not each.is_late:
            return at._replace(same=_same(each, at) if sources.is_attribute else unique)
        alone = not sources.is_batched and at.objects > 1
        wave: Hashable = unique
        same: Hashable = unique
        times = at.objects if alone else at.times
        level = at.level
        for index, use in enumerate(sources.uses):
            level += 1
            if sources.is_prompt and isinstance(use.source, Batch):
                times, same = at.times, (at.same, each.coordinate, each.said)
                ask = at._replace(late=at.late + 1) if alone else at
                arguments = each.said if sources.by_arguments else ""
                key, group = self._together(use.source, arguments, ask, selection, same, at.objects * use.keys)
                # Who is asked one by one needs a few ticks more, to go on as one.
                wave = (*unique, key) if alone else ("after", key)
            else:
                group = self._group((*unique, index), use.source, at.objects if use.one_by_one else times)
                is_once = not isinstance(use.source, Batch) and sources.is_batched and not use.one_by_one
                group.keys[unique] = times if is_once and not sources.is_declared else at.objects * use.keys
            row.groups.append(group)
        row.wave = level if row.groups else 0
        self.waves = max(self.waves, level)
        late = -1 if wave == unique else 0
        return at._replace(wave=wave, same=same, times=times, late=late, level=level)

    def _together(
        self, source: Source, arguments: str, at: At, selection: Selection, asker: Hashable, keys: int
    ) -> tuple[Hashable, Group]:
        """Who begins in the same tick, or in the next, asks together; twice for the same objects is once."""
        tick = "first" if at.late < _LATE else id(selection)
        key = (at.wave, tick, at.late if tick != "first" else 0, source.name, arguments)
        group = self._group(key, source, at.times)
        group.keys[asker] = keys
        return key, group

    def _group(self, key: Hashable, source: Source, times: int) -> Group:
        return self._groups.setdefault(key, Group(source, times))

    def _by_ids(self, each: Field, at: At, below: At, row: Row) -> float:
        """The objects of ids that are given, whose types the ids tell; the cost of all of them."""
        entities = each.facts.entities
        ids = next((each.value(name, self._given) for name in each.arguments), None)
        row.wave = below.level + 1
        self.waves = max(self.waves, row.wave)
        below = below._replace(level=row.wave)
        if ids is UNKNOWN or (isinstance(ids, list) and UNKNOWN in ids):
            row.objects = self._known.largest if each.lists else 1
            there = [entity for entity in entities.values() if entity.name in each.selections]  # all, but in a view
            parts = [(each.selections[entity.name], entity.read) for entity in there]
            one = each.facts.weight + self._apart(parts, below._replace(objects=row.objects))
            return row.objects * one
        given = list(map(str, ids if isinstance(ids, list) else [ids]))
        row.objects = len(given)
        kinds = kinds_of(given)
        known = [entity for prefix, entity in entities.items() if prefix in kinds and entity.name in each.selections]
        cost = 0.0
        for entity in known:
            count = kinds[entity.prefix]
            late = at._replace(late=at.late + 1)
            _, group = self._together(entity.read, "", late, _NOWHERE, id(each), count)
            row.groups.append(group)
            here = below._replace(
                objects=count,
                charged=at.charged * count,
                late=0 if len(known) > 1 else -1,
                same=(below.same, entity.prefix),
            )
            cost += count * (each.facts.weight + self.selection(each.selections[entity.name], here))
        return cost

    def _size(self, each: Field, at: At) -> Bound:
        bound, sized = at.page
        if not each.lists:
            return _ONE
        found = bound if each.name in sized else each.facts.bound
        if each.facts.slicing and not each.facts.sized:
            found = self._sliced(each)
        if found is None or each.lists > 1:
            self._unbounded[each.coordinate] = None
            return _ONE
        return found

    def _sliced(self, each: Field) -> Bound | None:
        """What the field's arguments say of a size; if they say nothing, what the schema says."""
        sizes: list[int] = []
        for name, default in each.facts.slicing.items():
            value = each.value(name, self._given)
            value = self._known.largest if value is UNKNOWN else default if value is None else value
            if isinstance(value, int):
                sizes.append(max(0, value))
        return Bound(max(sizes), max(sizes)) if sizes else each.facts.bound


_ONE = Bound(1, 1)
_NOWHERE = Selection([])


def _same(each: Field, at: At) -> Hashable:
    """An attribute of the same objects is the same, and so are a page's nodes and those of its edges."""
    if each.facts.is_edge_node:
        return at.same
    return (at.same, "page" if each.name in at.page[1] else each.name)


def kinds_of(ids: Iterable[str]) -> Counter[str]:
    """How many ids there are of each prefix."""
    return Counter(id.partition("_")[0] for id in ids)
