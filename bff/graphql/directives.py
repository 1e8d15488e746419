"""What modules say of their types and fields: what these cost, and what a caller needs for them.

`@cost` and `@listSize` are those of https://ibm.github.io/graphql-specs/cost-spec.html ; `@authenticated`,
`@requiresScopes` and `@policy` those of https://www.apollographql.com/docs/graphos/routing/security/authorization .
"""

import strawberry
from strawberry.schema_directive import Location


@strawberry.schema_directive(
    name="cost",
    locations=[
        Location.OBJECT,
        Location.FIELD_DEFINITION,
        Location.ARGUMENT_DEFINITION,
        Location.ENUM,
        Location.SCALAR,
    ],
    description="What a value weighs: of an object 1, of anything else 0, if nothing is said.",
)
class Cost:
    """`@cost`: what one value of a type or field weighs, or an argument where it is given; a number as text.

    price: Money = strawberry.field(directives=[Cost(weight="5")])
    """

    weight: str


@strawberry.schema_directive(
    name="listSize", locations=[Location.FIELD_DEFINITION], description="How long a list gets, or those of a page."
)
class ListSize:
    """`@listSize`: how many items a field gives. A list of which nothing is said has no bound, nor what asks for it.

        items: list[OrderItem] = strawberry.field(directives=[ListSize(at_most=100, assumed_size=10)])

    Fields that give a `Connection` and take `first` or `last` need none.

    Args:
        at_most: items in the list; one with more is an error at its parent, so that the number can be relied on.
        assumed_size: what it costs as, if it usually has fewer; by default `at_most`.
        slicing_arguments: the arguments that say how many items there may be; the default of an argument counts.
        sized_fields: whose lists have that size; by default the field's own.
        require_one_slicing_argument: not looked at, since without one the size is `assumed_size`.
    """

    at_most: strawberry.Private[int | None] = None
    assumed_size: int | None = strawberry.UNSET
    slicing_arguments: list[str] | None = strawberry.UNSET
    sized_fields: list[str] | None = strawberry.UNSET
    require_one_slicing_argument: bool | None = True


_GUARDED = [Location.OBJECT, Location.FIELD_DEFINITION, Location.INTERFACE, Location.SCALAR, Location.ENUM]


@strawberry.schema_directive(
    name="authenticated", locations=_GUARDED, description="Needs a credential, of whatever kind and scopes."
)
class Authenticated:
    """`@authenticated`: nobody has it who has not said who it is.

    secret: str = strawberry.field(directives=[Authenticated()])

    On a type it holds for every field, anywhere, that gives such objects or values; so do the two below.
    """


@strawberry.schema_directive(
    name="requiresScopes", locations=_GUARDED, description="Needs all scopes of one of the lists."
)
class RequiresScopes:
    """`@requiresScopes`: what a credential has to be good for.

        @strawberry.mutation(directives=[RequiresScopes(scopes=[["orders:write"]])])

    `entity(scopes=["orders:read"])` is short for this with one list.

    Args:
        scopes: of one of the lists, all are needed: `[["orders:read", "users:read"], ["admin"]]`.
    """

    scopes: list[list[str]]


@strawberry.schema_directive(
    name="policy", locations=_GUARDED, description="Needs all policies of one of the lists to hold for the caller."
)
class Policy:
    """`@policy`: what has to hold for the caller; `policies` in the configuration says what the names mean.

        discount: Money | None = strawberry.field(directives=[Policy(policies=[["gold"]])])

    A name that is not configured is an error at start, and in `bff check`.

    Args:
        policies: of one of the lists, all have to hold: `[["gold", "adult"], ["staff"]]`.
    """

    policies: list[list[str]]
