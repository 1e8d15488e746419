"""Entitlements: what a table leaves of the schema is a schema, and what is visible in it is what is allowed."""

import re

import pytest
from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    build_schema,
    get_named_type,
    is_introspection_type,
    print_schema,
    validate_schema,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.assembly import schema_modules
from bff.core.entitlements import Entitlements
from bff.graphql.compose import compose
from bff.graphql.views import UnknownCoordinate, view
from tests.harness import gateway

SCHEMA = compose(schema_modules(gateway().config))._schema
COMPOSITES = {
    name: type_
    for name, type_ in SCHEMA.type_map.items()
    if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType) and not is_introspection_type(type_)
}
ENTRIES = [f"{name}.{field}" for name, type_ in COMPOSITES.items() for field in (*type_.fields, "*")]

tables = st.lists(
    st.builds(str.__add__, st.sampled_from(["", "", "", "!"]), st.sampled_from(ENTRIES)), min_size=1, max_size=12
)


def coordinates(schema):
    return {
        f"{name}.{field}"
        for name, type_ in (schema.type_map.items() if schema else ())
        if name in COMPOSITES
        for field in type_.fields
    }


def test_a_table_of_products_shows_the_catalogue_without_the_stock():
    left = coordinates(view(SCHEMA, Entitlements(["Product.*", "!Product.stock"])))
    assert {"Query.product", "Query.products", "Query.node", "Product.price", "Money.amount"} <= left
    assert "Product.stock" not in left
    assert not {each for each in left if each.startswith(("User", "Order", "Payment", "Mutation", "Query.me"))}


def test_nothing_leads_to_what_is_denied_also_not_a_page_that_would_count_it():
    left = coordinates(view(SCHEMA, Entitlements(["User.*", "Product.*"])))
    assert "User.name" in left
    assert "User.orders" not in left
    assert "OrderConnection.pageInfo" not in left


def test_writes_are_named_or_denied():
    assert "Mutation.placeOrder" not in coordinates(view(SCHEMA, Entitlements(["Order.*"])))
    assert "Mutation.placeOrder" in coordinates(view(SCHEMA, Entitlements(["Order.*", "Mutation.placeOrder"])))


def test_the_last_entry_that_fits_decides():
    assert "Product.stock" in coordinates(view(SCHEMA, Entitlements(["!Product.stock", "Product.*"])))
    assert view(SCHEMA, Entitlements(["Product.*", "!Product.*"])) is None
    assert view(SCHEMA, Entitlements(["GET /api/**"])) is None


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [("Prodct.name", "did you mean `Product`"), ("Product.prise", "did you mean `price`"), ("Money.x", "no field `x`")],
)
def test_a_coordinate_that_there_is_not_is_named(entry, complaint):
    with pytest.raises(UnknownCoordinate, match=complaint):
        view(SCHEMA, Entitlements([entry]))


@pytest.mark.parametrize("entry", ["Product", "Product.", "FETCH /api", "GET api", " ", "* ", "!"])
def test_an_entry_is_a_coordinate_or_a_request(entry):
    with pytest.raises(ValueError, match=re.escape(entry)):
        Entitlements([entry])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/products", True),
        ("GET", "/api/products/prd_1", True),
        ("GET", "/api/products/prd_1/reviews", True),
        ("HEAD", "/api/products/prd_1", True),
        ("OPTIONS", "/api/products/prd_1", True),
        ("POST", "/api/products", False),
        ("GET", "/api/productsX", False),
        ("GET", "/api/products/secret", False),
        ("GET", "/api/orders/ord_1", True),
        ("DELETE", "/api/orders/ord_1", True),
        ("GET", "/api/orders/ord_1/items", False),
        ("GET", "/api/orders", False),
    ],
)
def test_requests_are_allowed_by_method_and_path(method, path, allowed):
    table = Entitlements(["GET /api/products/**", "!GET /api/products/secret", "* /api/orders/*"])
    assert table.allows_request(method, path) is allowed


@given(tables)
@settings(max_examples=150, deadline=None)
def test_whatever_the_table_what_is_left_is_a_schema_without_what_is_denied(table):
    entitlements = Entitlements(table)
    left = view(SCHEMA, entitlements)
    if left is None:
        return
    assert validate_schema(left) == []
    build_schema(print_schema(left))
    for coordinate in coordinates(left):
        assert entitlements.of_field(*coordinate.split(".")) is not False
    for name, type_ in left.type_map.items():
        if name in COMPOSITES:
            assert type_.fields
            assert all(
                get_named_type(field.type) is left.type_map[get_named_type(field.type).name]
                for field in type_.fields.values()
            )
