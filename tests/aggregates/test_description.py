"""What the OpenAPI document says of aggregates is what they take and give."""

import jsonschema_rs
import pytest

from tests.aggregates.test_aggregates import ALL, shop_of
from tests.harness import operator

SEARCH = """
query Things($ids: [ID!]!, $names: Boolean! = true, $status: OrderStatus) @rest(path: "/api/pages/things") {
  nodes(ids: $ids) { __typename id ... on User { name @include(if: $names) } ...Paid }
  orders(first: 1, status: $status) { nodes { id } }
}
fragment Paid on Payment { status amount { amount } }"""


@pytest.fixture
async def document(tmp_path):
    shop = shop_of(tmp_path, *ALL, SEARCH, openapi={"enabled": True})
    return shop, (await shop.client.get("/openapi.json")).json()


def validator(document, path, method="get", status="200"):
    said = document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
    return jsonschema_rs.Draft202012Validator({**said, "components": document["components"]}, validate_formats=True)


async def test_answers_are_as_described_and_nothing_else_is(document):
    shop, said = document
    targets = {
        "/api/pages/order/{id}": "/api/pages/order/ord_1",
        "/api/pages/products": "/api/pages/products?first=3",
        "/api/pages/things": "/api/pages/things?ids=usr_1&ids=pay_1&ids=prd_999",
    }
    for path, target in targets.items():
        answer = await shop.client.get(target, headers=operator())
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert [each.message for each in validator(said, path).iter_errors(body)] == []
        assert not validator(said, path).is_valid({**body, "more": 1})
        assert not validator(said, path).is_valid({})


async def test_parameters_have_the_types_of_the_variables(document):
    _, said = document
    parameters = {each["name"]: each for each in said["paths"]["/api/pages/things"]["get"]["parameters"]}
    assert parameters["ids"]["schema"] == {"type": "array", "items": {"type": "string"}}
    assert parameters["ids"]["required"]
    assert parameters["names"] == {"name": "names", "in": "query", "required": False, "schema": {"type": "boolean"}}
    assert "PAID" in parameters["status"]["schema"]["enum"]


async def test_bodies_are_described_by_the_input_types_and_refused_where_these_are_broken(document):
    shop, said = document
    operation = said["paths"]["/api/actions/orders"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    whole = jsonschema_rs.Draft202012Validator({**schema, "components": said["components"]})
    item = {"productId": "prd_1", "quantity": 1}
    for at, body in enumerate(
        [
            {"items": [item], "idempotencyKey": "one"},
            {"items": item, "idempotencyKey": "two"},
            {"items": [{**item, "quantity": "1"}], "idempotencyKey": "k"},
            {"items": [{**item, "more": 1}], "idempotencyKey": "k"},
            {"items": None, "idempotencyKey": "k"},
            {"items": [item]},
        ]
    ):
        answer = await shop.client.post("/api/actions/orders", json=body, headers=operator())
        assert whole.is_valid(body) is (answer.status_code == 201) is (at < 2), answer.text
    assert {"201", "401", "403", "404", "413", "415", "422"} <= operation["responses"].keys()


async def test_security_is_what_the_fields_need(document):
    _, said = document
    ways = said["paths"]["/api/pages/order/{id}"]["get"]["security"]
    assert {} not in ways
    assert {"orders:read", "payments:read"} <= set(next(iter(ways[0].values())))
    assert {} in said["paths"]["/api/pages/products"]["get"]["security"]


async def test_who_may_not_call_it_does_not_see_it(tmp_path):
    shop = shop_of(
        tmp_path,
        *ALL,
        openapi={"enabled": True},
        entitlements={"some": ["GET /api/pages/products", "Query.*", "Product.*"]},
        tiers={"anonymous": {"rate": ["1000/minute"], "entitlements": "some"}},
    )
    said = (await shop.client.get("/openapi.json")).json()
    assert list(said["paths"]) == ["/api/pages/products"]
    assert "graphql.PlaceOrderInput" not in said["components"]["schemas"]
