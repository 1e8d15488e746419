"""Entitlements, on both fronts: what a partner's table leaves is all that there is for it."""

from hashlib import sha256

import pytest
from graphql import get_named_type, is_leaf_type
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.config import ConfigError
from tests.graphql.test_views import COMPOSITES, coordinates, tables
from tests.harness import customer, gateway, partner

CATALOGUE = ["Product.*", "!Product.stock", "GET /api/products/**", "!GET /api/products/prd_2"]
TIERS = {"partner": {"rate": ["1000/minute"], "entitlements": "catalogue"}}
EVERY_FIELD = {
    "Product": '{ product(id: "prd_1") { %s } }',
    "User": '{ user(id: "usr_1") { %s } }',
    "Order": '{ order(id: "ord_1") { %s } }',
    "Payment": '{ payment(id: "pay_1") { %s } }',
    "OrderItem": '{ order(id: "ord_1") { items { %s } } }',
    "Money": '{ product(id: "prd_1") { price { %s } } }',
}


def limited(*entries: str, **more):
    return gateway(entitlements={"catalogue": list(entries)}, tiers=TIERS, **more)


async def test_a_partner_reads_what_its_table_names_on_both_fronts():
    running = limited(*CATALOGUE)
    answer = await running.query('{ product(id: "prd_1") { name price { amount } } }', headers=partner())
    assert answer.data == {"product": {"name": "Product 1", "price": {"amount": "19.91"}}}
    assert (await running.client.get("/api/products/prd_1", headers=partner())).status_code == 200


@pytest.mark.parametrize(
    "document",
    [
        '{ product(id: "prd_1") { stock } }',
        "{ users { nodes { name } } }",
        '{ node(id: "prd_1") { ... on Order { id } } }',
        'mutation { cancelOrder(id: "ord_1") { id } }',
        "{ me { id } }",
    ],
)
async def test_what_is_denied_is_not_in_the_partners_schema_and_costs_no_call(document):
    running = limited(*CATALOGUE)
    answer = await running.query(document, headers=partner())
    assert answer.codes[0] == "GRAPHQL_VALIDATION_FAILED"
    assert not answer.has_data
    assert not running.services.calls
    # The same text, asked for by somebody who is entitled to everything, before and after.
    assert (await running.query(document, headers=customer())).codes != answer.codes
    assert (await running.query(document, headers=partner())).codes == answer.codes


async def test_an_id_of_what_is_denied_stands_for_nothing_and_no_service_is_asked():
    running = limited(*CATALOGUE)
    answer = await running.query('{ nodes(ids: ["ord_1", "prd_1"]) { __typename id } }', headers=partner())
    assert answer.data == {"nodes": [None, {"__typename": "Product", "id": "prd_1"}]}
    assert [call.service for call in running.services.calls] == ["products"]


async def test_introspection_shows_the_partners_schema():
    running = limited(*CATALOGUE)
    document = '{ __type(name: "Product") { fields { name } } order: __type(name: "Order") { name } }'
    answer = await running.query(document, headers=partner())
    names = {field["name"] for field in answer.data["__type"]["fields"]}
    assert "price" in names
    assert "stock" not in names
    assert answer.data["order"] is None


async def test_a_deferred_part_is_executed_over_the_partners_schema_as_well():
    running = limited(*CATALOGUE, graphql={"defer": True, "introspection": True})
    accept = partner() | {"accept": "multipart/mixed, application/json"}
    document = """{ nodes(ids: ["ord_1", "prd_1"]) { __typename ... @defer { id } }
        order: __type(name: "Order") { name } }"""
    body = (await running.client.post("/graphql", json={"query": document}, headers=accept)).text
    assert '"nodes":[null,{"__typename":"Product"}],"order":null' in body
    assert [call.service for call in running.services.calls] == ["products"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/users/usr_1"),
        ("POST", "/api/products/prd_1"),
        ("GET", "/api/products/prd_2"),
        ("GET", "/api/products/%70rd_2"),
        ("GET", "/api/products/prd_2/"),
        ("GET", "/api/products/prd_2;a=b"),
    ],
)
async def test_requests_that_the_table_does_not_name_are_refused_before_any_call(method, path):
    running = limited(*CATALOGUE)
    answer = await running.client.request(method, path, headers=partner())
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert not running.services.calls


async def test_a_key_may_have_a_table_of_its_own_and_one_without_a_table_has_nothing():
    key = {"consumer": "acme", "hash": "sha256:" + sha256(b"acme_key").hexdigest(), "entitlements": "users"}
    tables = {"users": ["User.name", "GET /api/users/*"], "catalogue": CATALOGUE}
    scoped = key | {"scopes": ["users:read", "users:admin"], "tier": "partner"}
    running = gateway(entitlements=tables, tiers=TIERS, auth={"api_keys": [scoped]})
    acme = {"x-api-key": "acme_key"}
    assert (await running.query('{ user(id: "usr_1") { name } }', headers=acme)).data == {"user": {"name": "User 1"}}
    assert (await running.query('{ product(id: "prd_1") { name } }', headers=acme)).codes == [
        "GRAPHQL_VALIDATION_FAILED"
    ]
    nothing = gateway(entitlements={"rest": ["GET /api/**"]}, tiers={"default": {"entitlements": "rest"}})
    answer = await nothing.query('{ product(id: "prd_1") { name } }', headers=customer())
    assert (answer.status, answer.codes) == (403, ["FORBIDDEN"])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"entitlements": {"a": ["Product"]}}, "entitlements.a"),
        ({"tiers": {"partner": {"entitlements": "bsic"}}, "entitlements": {"basic": []}}, "did you mean `basic`"),
        ({"entitlements": {"a": ["Product.prise"]}}, "did you mean `price`"),
    ],
)
def test_a_table_that_fits_nothing_is_an_error_at_the_start(changed, complaint):
    with pytest.raises(ConfigError, match=complaint):
        gateway(**changed)


async def test_a_trusted_document_is_held_to_the_table_as_well(tmp_path):
    (tmp_path / "stock.graphql").write_text('query Stock { product(id: "prd_1") { stock } }')
    documents = {"graphql": {"documents": {"path": str(tmp_path), "mode": "enforce"}}}
    running = limited(*CATALOGUE, **documents)
    text = 'query Stock { product(id: "prd_1") { stock } }'
    assert (await running.query(text, headers=customer())).data == {"product": {"stock": 1}}
    assert (await running.query(text, headers=partner())).codes == ["GRAPHQL_VALIDATION_FAILED"]


@given(table=tables, data=st.data())
@settings(max_examples=40, deadline=None)
async def test_visible_means_executable_and_what_is_not_is_refused(table, data):
    running = limited(*table)
    execution = running.app.state.execution
    documents = execution._views["catalogue"]
    left = coordinates(documents.schema if documents else None)
    type_ = data.draw(st.sampled_from(sorted(EVERY_FIELD)))
    field = data.draw(st.sampled_from(sorted(COMPOSITES[type_].fields)))
    answer = await running.query(EVERY_FIELD[type_] % selected(type_, field), headers=partner())
    used = way_to(type_) | {f"{type_}.{field}"}
    if used <= left:
        assert not answer.codes, answer.errors
    else:
        assert set(answer.codes) <= {"GRAPHQL_VALIDATION_FAILED", "FORBIDDEN"}
        assert not answer.has_data
        assert not running.services.calls


def selected(type_: str, field: str) -> str:
    named = get_named_type(COMPOSITES[type_].fields[field].type)
    return field if is_leaf_type(named) else f"{field} {{ __typename }}"


def way_to(type_: str) -> set[str]:
    return {
        "Product": {"Query.product"},
        "User": {"Query.user"},
        "Order": {"Query.order"},
        "Payment": {"Query.payment"},
        "OrderItem": {"Query.order", "Order.items"},
        "Money": {"Query.product", "Product.price"},
    }[type_]
