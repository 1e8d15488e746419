"""Where the directives may stand, and that none is put where it would not be looked at."""

from enum import Enum
from types import ModuleType
from typing import Annotated, Any

import pytest
import strawberry
from graphql import GraphQLObjectType

from bff.graphql.compose import SchemaError, compose
from bff.graphql.weights import facts_of
from bff.sdk import Authenticated, Policy, RequiresScopes

SECRET = [RequiresScopes(scopes=[["secret"]])]


def composed(**members: Any) -> Any:
    module = ModuleType("schema.made")
    for name, each in members.items():
        if isinstance(each, type):
            each.__module__ = module.__name__
        setattr(module, name, each)
    return compose([module])._schema


def demanded(schema: Any, field: str) -> str:
    type_ = schema.type_map["Query"]
    assert isinstance(type_, GraphQLObjectType)
    return str(facts_of(type_.fields[field]).demands)


def test_interfaces_of_interfaces_and_scalars_are_types_too():
    @strawberry.interface(directives=SECRET)
    class Upper:
        a: str

    @strawberry.interface(directives=[Authenticated()])
    class Lower(Upper):
        b: str

    @strawberry.type
    class Thing(Lower):
        c: str

    class Plain(str):
        __slots__ = ()

    with pytest.warns(DeprecationWarning, match="Passing a class"):
        code = strawberry.scalar(Plain, name="Code", serialize=str, parse_value=str, directives=SECRET)

    @strawberry.type
    class Query:
        thing: Thing | None = strawberry.field(resolver=lambda: None)
        lower: Lower | None = strawberry.field(resolver=lambda: None)
        coded: code = strawberry.field(resolver=lambda: None)

    schema = composed(Query=Query)
    assert demanded(schema, "thing") == demanded(schema, "lower") == "a credential, secret"
    assert demanded(schema, "coded") == "secret"


@strawberry.input(directives=SECRET)
class Guarded:
    text: str


@strawberry.input
class Given:
    text: str = strawberry.field(directives=SECRET)


@strawberry.type
class One:
    a: str


class Colour(Enum):
    RED = strawberry.enum_value("red", directives=SECRET)


def of(annotation: Any) -> Any:
    def field(given: Any = None) -> str | None:
        return None

    field.__annotations__ = {"given": annotation, "return": str | None}
    return field


MISPLACED = {
    "an argument": (of(Annotated[str | None, strawberry.argument(directives=SECRET)]), r"Query.field\(given:\)"),
    "an input": (of(Guarded | None), "Guarded"),
    "a field of an input": (of(Given | None), r"Given.text"),
}


@pytest.mark.parametrize("where", MISPLACED)
def test_a_directive_that_nobody_would_look_at_is_an_error_with_its_place(where):
    resolver, place = MISPLACED[where]

    @strawberry.type
    class Query:
        field: str | None = strawberry.field(resolver=resolver)

    with pytest.raises(SchemaError, match=f"{place}: put what is demanded on a field or on the type"):
        composed(Query=Query)


def test_on_a_union_an_enums_value_or_a_root_it_is_an_error_too():
    @strawberry.type
    class OfUnion:
        field: Annotated[One, strawberry.union("Some", directives=SECRET)] | None = strawberry.field(
            resolver=lambda: None
        )

    OfUnion.__name__ = "Query"
    with pytest.raises(SchemaError, match="Some: put what"):
        composed(Query=OfUnion)

    strawberry.enum(Colour)

    @strawberry.type
    class OfEnum:
        field: Colour | None = strawberry.field(resolver=lambda: None)

    with pytest.raises(SchemaError, match=r"Colour\.RED: put what"):
        composed(Query=OfEnum)

    @strawberry.type(directives=SECRET)
    class OfRoot:
        field: str | None = strawberry.field(resolver=lambda: None)

    with pytest.raises(SchemaError, match="Query is made of several classes: put directives on its fields"):
        composed(Query=OfRoot)


@pytest.mark.parametrize(
    "directive",
    [
        RequiresScopes(scopes=[]),
        RequiresScopes(scopes=[[]]),
        RequiresScopes(scopes=["secret"]),  # type: ignore[list-item]
        RequiresScopes(scopes=[["two words"]]),
        RequiresScopes(scopes=[['quo"ted']]),
        Policy(policies=[[""]]),
    ],
)
def test_lists_that_make_no_sense_are_an_error_that_shows_how_they_are_written(directive):
    @strawberry.type
    class Query:
        field: str | None = strawberry.field(resolver=lambda: None, directives=[directive])

    with pytest.raises(SchemaError, match=r"Query.field: @.* has to be lists in a list, none of them empty"):
        composed(Query=Query)
