"""What a change of the schema breaks, and of what operations are written over the ones that it hurts.

The changes are those that graphql-core finds, and those that it takes for harmless and that are not: an argument whose
default is gone is required now. Coordinates are as `bff.graphql.coordinates` has them, of the schema before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from graphql import (
    BreakingChangeType,
    GraphQLArgument,
    GraphQLNamedType,
    GraphQLSchema,
    OperationType,
    find_schema_changes,
    get_named_type,
    is_input_object_type,
    is_required_argument,
    is_required_input_field,
)

_NAME: Final = r"[_A-Za-z][_0-9A-Za-z]*"
# graphql-core names what has changed in a sentence, and nowhere else; a test has it say each of them.
_DIRECTIVE: Final = re.compile(rf"(@{_NAME}(?:\({_NAME}:\))?)")
_CHANGED: Final = re.compile(
    rf"({_NAME}(?:\.{_NAME}(?:\({_NAME}:\))?)?) (?:was (?:added|removed)|has changed|changed|no longer)\b"
)
_UNION: Final = re.compile(rf"was removed from union type ({_NAME})\.$")
_INTERFACE: Final = re.compile(rf"no longer implements interface ({_NAME})\.$")


class Break(NamedTuple):
    """One change.

    Attributes:
        kind: graphql-core's name of it, `FIELD_REMOVED`, or one of ours.
        what: a sentence.
        hurts: operations written over any of these do not go on as they did.
    """

    kind: str
    what: str
    hurts: frozenset[str]


def breaks(before: GraphQLSchema, after: GraphQLSchema) -> list[Break]:
    """All that there are, in the order of their sentences."""
    uses = _Uses(before)
    found = [
        Break(each.type.name, each.description, frozenset(_hurt(each.type, each.description, uses)))
        for each in find_schema_changes(before, after)
        if isinstance(each.type, BreakingChangeType)
    ]
    return sorted([*found, *_roots(before, after), *_now_required(before, after, uses)], key=lambda each: each.what)


class _Uses:
    """What is written over where a type is used."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._types = schema.type_map

    def of(self, name: str) -> Iterator[str]:
        """The type by its name, its fields, what gives one, and what takes one, in whatever it is."""
        yield name
        holders = self.holders(name)
        yield from holders
        for type_ in self._types.values():
            for field, each in _fields(type_).items():
                coordinate, given = f"{type_.name}.{field}", get_named_type(each.type).name
                if name in (type_.name, given) or (type_.name in holders and given in holders):
                    yield coordinate
                for argument, taken in getattr(each, "args", {}).items():
                    if get_named_type(taken.type).name in {name, *holders}:
                        yield f"{coordinate}({argument}:)"

    def holders(self, name: str) -> set[str]:
        """The input types of which a value may have one of that in it; an input type holds itself."""
        inputs = [each for each in self._types.values() if is_input_object_type(each)]
        given = {each.name: {get_named_type(field.type).name for field in each.fields.values()} for each in inputs}
        found = {name} & given.keys()
        while more := {each for each, types in given.items() if types & {name, *found}} - found:
            found |= more
        return found


def _hurt(kind: BreakingChangeType, what: str, uses: _Uses) -> Iterable[str]:
    found = _DIRECTIVE.search(what) or _CHANGED.search(what)
    coordinate = found[1] if found else ""
    owner = coordinate.partition(".")[0]
    match kind:
        case BreakingChangeType.TYPE_REMOVED | BreakingChangeType.TYPE_CHANGED_KIND:
            return uses.of(coordinate)
        case BreakingChangeType.VALUE_REMOVED_FROM_ENUM | BreakingChangeType.REQUIRED_INPUT_FIELD_ADDED:
            return uses.of(owner)
        case BreakingChangeType.TYPE_REMOVED_FROM_UNION if union := _UNION.search(what):
            return {coordinate, *uses.of(union[1])}
        case BreakingChangeType.IMPLEMENTED_INTERFACE_REMOVED if interface := _INTERFACE.search(what):
            return {coordinate, *uses.of(interface[1])}
        case BreakingChangeType.REQUIRED_ARG_ADDED | BreakingChangeType.REQUIRED_DIRECTIVE_ARG_ADDED:
            return {coordinate.partition("(")[0]}
    # Of a variable only the type is known: its value may have the field or not.
    return {coordinate, *uses.holders(owner)}


def _roots(before: GraphQLSchema, after: GraphQLSchema) -> Iterator[Break]:
    for each in OperationType:
        gone = before.get_root_type(each)
        if gone is not None and after.get_root_type(each) is None and gone.name in after.type_map:
            hurts = frozenset(f"{gone.name}.{name}" for name in gone.fields)
            yield Break("ROOT_REMOVED", f"There is no {each.value} any more; {gone.name} was it.", hurts)


def _now_required(before: GraphQLSchema, after: GraphQLSchema, uses: _Uses) -> Iterator[Break]:
    """What had a default, is not null and has none now; and inputs of which exactly one field has to be given now."""
    for name in before.type_map.keys() & after.type_map.keys():
        old, new = before.type_map[name], after.type_map[name]
        if is_input_object_type(old) and is_input_object_type(new) and new.is_one_of and not old.is_one_of:
            yield Break("ONE_OF_ADDED", f"Of {name}, exactly one field has to be given now.", frozenset(uses.of(name)))
        for field in _fields(old).keys() & _fields(new).keys():
            was, now, coordinate = _fields(old)[field], _fields(new)[field], f"{name}.{field}"
            if is_input_object_type(old) and is_input_object_type(new):
                if _lost_default(was, now):
                    yield _defaultless(coordinate, uses.of(name))
                continue
            arguments, now_arguments = getattr(was, "args", {}), getattr(now, "args", {})
            for each in arguments.keys() & now_arguments.keys():
                if _lost_default(arguments[each], now_arguments[each]):
                    yield _defaultless(f"{coordinate}({each}:)", [coordinate])


def _lost_default(was: Any, now: Any) -> bool:
    """Of an argument or a field of an input; that its type has changed is another change."""
    required = is_required_argument if isinstance(now, GraphQLArgument) else is_required_input_field
    return required(now) and not required(was) and str(was.type) == str(now.type)


def _defaultless(coordinate: str, hurts: Iterable[str]) -> Break:
    return Break("DEFAULT_REMOVED", f"{coordinate} has no default any more, and has to be given.", frozenset(hurts))


def _fields(type_: GraphQLNamedType | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(type_, "fields", None) or {}
    return found
