"""What an operation demands of its caller: known from its shape and its variables, before anything is executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import GraphQLSchema, is_abstract_type

from bff.graphql.demands import DEMANDS, NOTHING, Demands
from bff.graphql.shape import UNKNOWN, Field, Selection
from bff.graphql.worst import kinds_of


def needs_of(schema: GraphQLSchema, selection: Selection, given: Mapping[str, Any]) -> dict[str, Demands]:
    """What each field demands that demands something, by its coordinate.

    Of what an interface or union stands for, the types count of which a field is selected; of ids that are given, the
    types that they tell.

    Args:
        schema: of the operation.
        selection: its shape.
        given: the values of its variables.
    """
    found: dict[str, Demands] = {}
    pending = [selection]
    while pending:
        for each in pending.pop().fields:
            types = dict(_objects(schema, each, given))
            demands = each.facts.demands
            for type_ in types.values():
                demands &= type_
            if demands:
                found[each.coordinate] = found.get(each.coordinate, NOTHING) & demands
            pending += [each.selections[name] for name in types]
    return found


def depends_on_ids(selection: Selection) -> bool:
    """Whether it is the values of ids that say what it demands."""
    pending = [selection]
    while pending:
        for each in pending.pop().fields:
            if each.facts.entities:
                return True
            pending += each.selections.values()
    return False


def _objects(schema: GraphQLSchema, each: Field, given: Mapping[str, Any]) -> Iterator[tuple[str, Demands]]:
    """The types of the objects that fields are selected of, with what is to be demanded for that they are of it."""
    known = _types_by_ids(each, given)
    for name, part in each.selections.items():
        if part.fields and (known is None or name in known):
            is_told = is_abstract_type(schema.type_map[each.type])
            yield name, schema.type_map[name].extensions.get(DEMANDS, NOTHING) if is_told else NOTHING


def _types_by_ids(each: Field, given: Mapping[str, Any]) -> set[str] | None:
    """The types that ids tell; None where no ids are given, or any may be."""
    if not each.facts.entities:
        return None
    ids = next((each.value(name, given) for name in each.arguments), None)
    ids = ids if isinstance(ids, list) else [ids]
    if UNKNOWN in ids:
        return None
    kinds = kinds_of(map(str, ids))
    return {entity.name for prefix, entity in each.facts.entities.items() if prefix in kinds}
