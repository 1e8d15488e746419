"""What is known of each field before it is asked for: what it weighs, how many items it gives, and what it reads.

Found out once, when the schema is composed; the sizes that are declared are held to from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)
from strawberry.types.field import StrawberryField

from bff.core.errors import UpstreamBadResponse
from bff.engine import CHECK, Check
from bff.graphql.connections import Connection, Edge, Slice
from bff.graphql.demands import DEMANDS, Demands
from bff.graphql.demands import NOTHING as NO_DEMANDS
from bff.graphql.directives import Cost, ListSize
from bff.graphql.node import ENTITIES, Entity
from bff.graphql.sources import NO_SOURCES, Sources, sources_of

D = TypeVar("D")

FACTS: Final = "bff.facts"
"""The key in `GraphQLField.extensions` of its `Facts`."""

WRITE: Final = 10.0
"""What a field of Mutation weighs besides what it gives, if nothing is said of it."""


class Bound(NamedTuple):
    """How many items a list has: as it is charged for, and at most."""

    assumed: int
    most: int


@dataclass(frozen=True)
class Facts:
    """What is known of a field.

    Attributes:
        weight: of one value, without what is selected of it.
        arguments: what those weigh that are given.
        bound: of the list, where arguments do not say it; None if nothing is known.
        slicing: the arguments that say it, with their defaults.
        sized: the fields below whose lists are of that size; empty if it is this field's own.
        sources: the reads and calls that its resolver makes.
        entities: by prefix, the type that an id leads to and how it is read, where the field takes ids of any type.
        demands: what its caller needs.
        is_edge_node: whether it is the same object as one among the page's `nodes`.
    """

    weight: float = 0.0
    arguments: Mapping[str, float] = field(default_factory=dict)
    bound: Bound | None = None
    slicing: Mapping[str, int | None] = field(default_factory=dict)
    sized: frozenset[str] = frozenset()
    sources: Sources = NO_SOURCES
    entities: Mapping[str, Entity] = field(default_factory=dict)
    demands: Demands = NO_DEMANDS
    is_edge_node: bool = False


NOTHING: Final = Facts()


def facts_of(field: GraphQLField) -> Facts:
    """What `describe` has found out about a field of a schema."""
    facts: Facts = field.extensions.get(FACTS, NOTHING)
    return facts


def sources_in(schema: GraphQLSchema) -> set[str]:
    """The names of all reads and calls that its fields are known to make."""
    known = [facts_of(field) for field in _fields(schema)]
    reads = {entity.read.name for facts in known for entity in facts.entities.values()}
    return reads | {use.source.name for facts in known for use in facts.sources.uses}


def scopes_in(schema: GraphQLSchema) -> frozenset[str]:
    """The scopes that its fields demand, of whatever alternative."""
    demanded = (facts_of(field).demands.scopes for field in _fields(schema))
    return frozenset(scope for each in demanded for alternatives in each for part in alternatives for scope in part)


def policies_in(schema: GraphQLSchema) -> frozenset[str]:
    """The policies that its types and fields demand, of whatever alternative."""
    types = (type_.extensions.get(DEMANDS, NO_DEMANDS) for type_ in schema.type_map.values())
    found = [*types, *(facts_of(field).demands for field in _fields(schema))]
    return frozenset(name for each in found for alternatives in each.policies for part in alternatives for name in part)


def _fields(schema: GraphQLSchema) -> Iterator[GraphQLField]:
    """Those of objects and interfaces."""
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            yield from type_.fields.values()


def describe(output: GraphQLField, parent: GraphQLObjectType, demands: Demands, *, writes: bool) -> None:
    """Put its `Facts` on a field, and see to it that its lists are no longer than they are said to be."""
    definition: StrawberryField = output.extensions["strawberry-definition"]
    facts = _facts(output, definition, parent, demands, WRITE if writes else 0.0)
    output.extensions[FACTS] = facts
    if facts.sized and facts.slicing:
        output.extensions[CHECK] = _pages(facts)
    elif facts.bound and not facts.slicing:
        output.extensions[CHECK] = _lists(facts.bound.most, parent, definition)


def _facts(
    output: GraphQLField, definition: StrawberryField, parent: GraphQLObjectType, demands: Demands, write: float
) -> Facts:
    size = _said(definition, ListSize) or _page_size(output, definition)
    cost = _said(definition, Cost)
    slicing = _given(size, "slicing_arguments") or ()
    return Facts(
        weight=(float(cost.weight) if cost else _weight(get_named_type(output.type))) + write,
        arguments={name: weight for name, argument in output.args.items() if (weight := _argument(argument))},
        bound=_bound(size),
        slicing={name: _default(output.args[name]) for name in slicing},
        sized=frozenset(_given(size, "sized_fields") or ()),
        sources=sources_of(definition),
        entities=definition.metadata.get(ENTITIES, {}),
        demands=demands,
        is_edge_node=_generic(parent) is Edge and definition.python_name == "node",
    )


def _page_size(output: GraphQLField, definition: StrawberryField) -> ListSize | None:
    """What a field that gives a page says by its arguments; it says so in the schema from then on."""
    names: list[str] = [name for name in ("first", "last") if name in output.args]
    if not names or _generic(get_named_type(output.type)) is not Connection:
        return None
    default = next(filter(None, map(_default, map(output.args.__getitem__, names))), strawberry.UNSET)
    size = ListSize(
        assumed_size=default,
        slicing_arguments=names,
        sized_fields=["nodes", "edges"],
        require_one_slicing_argument=False,
    )
    definition.directives = [*definition.directives, size]
    return size


def _bound(size: ListSize | None) -> Bound | None:
    most, assumed = (size.at_most if size else None), _given(size, "assumed_size")
    if most is None:
        # Without arguments an assumption is no bound: nothing holds the list to it.
        return Bound(assumed, assumed) if assumed is not None and _given(size, "slicing_arguments") else None
    return Bound(most if assumed is None else assumed, most)


def _lists(most: int, parent: GraphQLObjectType, definition: StrawberryField) -> Check:
    """Lists are as long as it was said; who has a longer one has an error in its place, and loses nothing unnoticed."""
    origin = getattr(parent.extensions.get("strawberry-definition"), "origin", None)
    service = getattr(origin, "__module__", "").rpartition(".")[2]
    name = f"{parent.name}.{definition.graphql_name or definition.python_name}"

    def length(value: Any) -> int:
        return len(value) if isinstance(value, Sized) and not isinstance(value, BaseException) else 0

    def check(values: list[Any], _: dict[str, Any]) -> list[Any]:
        try:
            longest = max(map(len, values), default=0)
        except TypeError:  # nulls and errors among them have none
            longest = max(map(length, values))
        if longest <= most:
            return values
        return [
            UpstreamBadResponse(service, f"{name} has {len(each)} items, and the gateway takes at most {most}")
            if length(each) > most
            else each
            for each in values
        ]

    return check


def _pages(facts: Facts) -> Check:
    """A page has no more items than were asked for: the rest begins the next one."""

    def check(values: list[Any], arguments: dict[str, Any]) -> list[Any]:
        given = [size for name in facts.slicing if isinstance(size := arguments.get(name), int)]
        most = max(given) if given else facts.bound.most if facts.bound else None
        if most is None or max([len(each.nodes) for each in values if isinstance(each, Slice)], default=0) <= most:
            return values
        return [each.cut(most) if isinstance(each, Slice) and len(each.nodes) > most else each for each in values]

    return check


def _said(described: Any, kind: type[D]) -> D | None:
    return next((each for each in getattr(described, "directives", None) or () if isinstance(each, kind)), None)


def _given(size: ListSize | None, name: str) -> Any:
    value = getattr(size, name, None)
    return None if value is strawberry.UNSET else value


def _weight(type_: GraphQLNamedType) -> float:
    cost = _said(type_.extensions.get("strawberry-definition"), Cost)
    return float(cost.weight) if cost else float(not is_leaf_type(type_))


def _argument(argument: GraphQLArgument) -> float:
    cost = _said(argument.extensions.get("strawberry-definition"), Cost)
    return float(cost.weight) if cost else 0.0


def _default(argument: GraphQLArgument) -> int | None:
    value = argument.default_value
    return value if isinstance(value, int) else None


def _generic(type_: GraphQLNamedType) -> type | None:
    """The generic class that a type has been made of, such as `Connection`."""
    definition: Any = type_.extensions.get("strawberry-definition")
    generic = getattr(definition, "concrete_of", None)
    return generic.origin if generic else None
