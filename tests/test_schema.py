"""The schema that clients were promised, and what its fields do with what they are given."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
)

from bff.assembly import schema_modules
from bff.graphql.compose import compose
from tests.harness import customer, gateway, operator
from tests.shop import ORDERS_OF_EACH, USERS, product, says

CONTRACT = Path(__file__).parent.parent / "contracts" / "schema.graphql"


def members(schema: GraphQLSchema) -> dict[str, str]:
    """Every type, field, argument with its type and default, enum value and interface, each on its own."""
    found: dict[str, str] = {}
    for name, type_ in schema.type_map.items():
        if name.startswith("__"):
            continue
        found[name] = type(type_).__name__
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            found |= {f"{name} implements {each.name}": "yes" for each in type_.interfaces}
            for field_name, field in type_.fields.items():
                found[f"{name}.{field_name}"] = str(field.type)
                for argument_name, argument in field.args.items():
                    found[f"{name}.{field_name}({argument_name})"] = f"{argument.type} = {argument.default_value!r}"
        if isinstance(type_, GraphQLInputObjectType):
            for field_name, given in type_.fields.items():
                found[f"{name}.{field_name}"] = f"{given.type} = {given.default_value!r}"
        if isinstance(type_, GraphQLEnumType):
            found |= {f"{name}.{value}": "value" for value in type_.values}
    return found


def exported() -> GraphQLSchema:
    return build_schema(compose(schema_modules(gateway().config)).as_str())


def test_the_sdl_contains_the_contract():
    promised = members(build_schema(CONTRACT.read_text()))
    ours = members(exported())
    assert {name: ours.get(name) for name in promised} == promised
    assert len(promised) > 100


def test_what_the_contract_says_in_words_the_schema_says_too():
    promised, ours = build_schema(CONTRACT.read_text()), exported()
    for name, type_ in promised.type_map.items():
        if name.startswith("__") or name in {"String", "Boolean", "ID", "Int"}:
            continue
        if type_.description and name != "Decimal":
            assert ours.type_map[name].description == type_.description
        for field_name, field in getattr(type_, "fields", {}).items():
            if field.description:
                assert ours.type_map[name].fields[field_name].description == field.description, field_name


def test_nothing_in_the_schema_tells_of_the_inside():
    sdl = compose(schema_modules(gateway().config)).as_str()
    assert "Slice" not in sdl
    assert "Struct" not in sdl


async def test_introspection_shows_what_is_exported():
    shop = gateway()
    answer = await shop.query("{ __schema { types { name } } }")
    shown = {each["name"] for each in answer.data["__schema"]["types"]}
    assert shown == set(exported().type_map)


# Connections


async def pages(shop, field: str, size: int, **headers):
    """All pages of a root connection, following its cursors."""
    after, found = None, []
    for _ in range(1000):
        document = f"""query ($after: String) {{ {field}(first: {size}, after: $after) {{
            nodes {{ id }} edges {{ cursor node {{ id }} }}
            pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"""
        answer = await shop.query(document, {"after": after}, **headers)
        assert answer.errors == []
        connection = answer.data[field]
        found.append(connection)
        if not connection["pageInfo"]["hasNextPage"]:
            return found
        after = connection["pageInfo"]["endCursor"]
    raise AssertionError("the pages never end")


@pytest.mark.parametrize(
    ("field", "size", "total"),
    [("users", 33, USERS), ("products", 7, 60), ("orders", 200, USERS * ORDERS_OF_EACH), ("users", 125, USERS)],
)
async def test_cursors_lead_through_everything_once(field, size, total):
    found = await pages(gateway(), field, size, headers=operator())
    ids = [node["id"] for page in found for node in page["nodes"]]
    assert len(ids) == total
    assert len(set(ids)) == total
    assert [len(page["nodes"]) for page in found[:-1]] == [size] * (len(found) - 1)


async def test_a_page_says_where_it_stands():
    found = await pages(gateway(), "orders", 300 - 100, headers=operator())
    assert [page["pageInfo"]["hasPreviousPage"] for page in found] == [False, True, True, True]
    assert [page["pageInfo"]["hasNextPage"] for page in found] == [True, True, True, False]
    for page in found:
        assert [edge["node"] for edge in page["edges"]] == page["nodes"]
        assert page["pageInfo"]["startCursor"] == page["edges"][0]["cursor"]
        assert page["pageInfo"]["endCursor"] == page["edges"][-1]["cursor"]


async def test_an_edges_own_cursor_is_where_the_next_page_begins():
    shop = gateway()
    first = await shop.query("{ users(first: 5) { edges { cursor node { id } } } }", headers=operator())
    cursor = first.data["users"]["edges"][2]["cursor"]
    rest = await shop.query(f'{{ users(first: 2, after: "{cursor}") {{ nodes {{ id }} }} }}', headers=operator())
    assert rest.data["users"]["nodes"] == [edge["node"] for edge in first.data["users"]["edges"][3:]]


async def test_a_users_orders_page_and_filter():
    shop = gateway()
    document = """query ($after: String, $status: OrderStatus) { user(id: "usr_7") {
        orders(first: 2, after: $after, status: $status) {
            nodes { id status } pageInfo { hasNextPage endCursor } } } }"""
    first = (await shop.query(document, headers=operator())).data["user"]["orders"]
    assert [each["id"] for each in first["nodes"]] == ["ord_507", "ord_257"]
    assert first["pageInfo"] == {"hasNextPage": True, "endCursor": "ord_257"}
    last = (await shop.query(document, {"after": "ord_257"}, headers=operator())).data["user"]["orders"]
    assert [each["id"] for each in last["nodes"]] == ["ord_7"]
    assert last["pageInfo"]["hasNextPage"] is False
    paid = (await shop.query(document, {"status": "PAID"}, headers=operator())).data["user"]["orders"]
    assert [each["status"] for each in paid["nodes"]] == ["PAID"]
    assert shop.services.orders.calls[-1].query["status"] == "paid"


async def test_an_empty_page_is_a_page():
    shop = gateway()
    document = (
        '{ users(search: "nobody") { nodes { id } edges { cursor } pageInfo { hasNextPage startCursor endCursor } } }'
    )
    answer = await shop.query(document, headers=operator())
    empty = {"hasNextPage": False, "startCursor": None, "endCursor": None}
    assert answer.data["users"] == {"nodes": [], "edges": [], "pageInfo": empty}


async def test_arguments_reach_the_service_and_cannot_become_others():
    shop = gateway()
    search = "a&limit=200#x/%2e ü"
    document = "query ($s: String) { products(first: 3, search: $s, category: $s) { nodes { id } } }"
    await shop.query(document, {"s": search})
    (call,) = shop.services.products.calls
    assert call.query == {"limit": "3", "category": search, "q": search}


@pytest.mark.parametrize(
    "id", ["../orders", "ord_1/cancel", "ord_1?x=1", "ord_1#", "ord_1%2fcancel", "..", "", "ord_1\r\nx: y", "ø" * 300]
)
async def test_an_id_can_never_become_a_path(id):
    shop = gateway()
    await shop.query("mutation ($id: ID!) { cancelOrder(id: $id) { id } }", {"id": id}, headers=operator())
    for call in shop.services.calls:
        assert call.path == f"/orders/{id}/cancel", "unquoted by the service it is the id, whole"
        assert call.raw_path.count("/") == 3
        assert call.query == {}


@pytest.mark.parametrize("field", ["users", "products", "orders"])
@pytest.mark.parametrize("first", [0, -1, 201, 2**31 - 1])
async def test_a_size_that_no_service_serves_is_bad_input_whatever_documents_may_ask_for(field, first):
    shop = gateway(graphql={"limits": {"mode": "off"}})
    answer = await shop.query(f"{{ {field}(first: {first}) {{ nodes {{ id }} }} }}", headers=operator())
    assert answer.codes == ["BAD_USER_INPUT"]
    assert "1 to 200" in answer.errors[0]["message"]
    assert shop.services.calls == []


async def test_a_size_on_an_edge_is_judged_too():
    shop = gateway(graphql={"limits": {"mode": "off"}})
    answer = await shop.query('{ user(id: "usr_1") { name orders(first: 201) { nodes { id } } } }', headers=operator())
    assert answer.codes == ["BAD_USER_INPUT"]
    assert [call.target for call in shop.services.calls] == ["GET /users?ids"]


# node and nodes


async def test_node_finds_each_type_by_its_id():
    shop = gateway()
    document = """query ($id: ID!) { node(id: $id) { __typename id ... on User { name } ... on Product { sku }
        ... on Order { status } ... on Payment { method } } }"""
    expected = {
        "usr_1": {"__typename": "User", "name": "User 1"},
        "prd_1": {"__typename": "Product", "sku": "SKU-1"},
        "ord_1": {"__typename": "Order", "status": "PAID"},
        "pay_1": {"__typename": "Payment", "method": "CARD"},
    }
    for id, rest in expected.items():
        answer = await shop.query(document, {"id": id}, headers=operator())
        assert answer.errors == []
        assert answer.data["node"] == {"id": id} | rest


@pytest.mark.parametrize("id", ["usr_99999", "xyz_1", "", "_", "usr", "usr_", "ord_1,ord_2", "\x00", "prd_1&ids=prd_2"])
async def test_an_id_of_nothing_is_null(id):
    answer = await gateway().query("query ($id: ID!) { node(id: $id) { id } }", {"id": id}, headers=operator())
    assert answer.data == {"node": None}
    assert answer.errors == []


async def test_nodes_keeps_order_duplicates_and_gaps_and_asks_each_service_once():
    shop = gateway()
    ids = ["prd_2", "usr_1", "ord_1", "nothing", "prd_1", "prd_2", "pay_99999", "usr_2"]
    answer = await shop.query("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ids}, headers=operator())
    found = [each and each["id"] for each in answer.data["nodes"]]
    assert found == ["prd_2", "usr_1", "ord_1", None, "prd_1", "prd_2", None, "usr_2"]
    assert len(shop.services.calls) == 4
    assert [call.ids for call in shop.services.products.calls] == [["prd_2", "prd_1"]]


async def test_nodes_that_may_not_be_seen_are_null_each_with_its_error():
    shop = gateway()
    answer = await shop.query('{ nodes(ids: ["prd_1", "ord_1", "prd_2", "pay_1"]) { id } }')
    assert answer.data == {"nodes": [{"id": "prd_1"}, None, {"id": "prd_2"}, None]}
    assert [error["path"] for error in answer.errors] == [["nodes", 1], ["nodes", 3]]
    assert answer.codes == ["UNAUTHENTICATED"] * 2


async def test_more_nodes_than_a_page_are_bad_input():
    ids = [f"prd_{n}" for n in range(201)]
    shop = gateway(graphql={"limits": {"mode": "off"}})
    answer = await shop.query("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ids})
    assert answer.codes == ["BAD_USER_INPUT"]


async def test_edges_lead_back_and_forth():
    shop = gateway()
    document = '{ payment(id: "pay_1") { order { id customer { id } payment { id } items { product { id } } } } }'
    answer = await shop.query(document, headers=operator())
    assert answer.data["payment"]["order"] == {
        "id": "ord_1",
        "customer": {"id": "usr_1"},
        "payment": {"id": "pay_1"},
        "items": [{"product": None}, {"product": {"id": "prd_9"}}],
    }


# Mutations


async def test_what_a_mutation_changed_is_read_anew_after_it():
    shop = gateway()
    document = """mutation { a: payOrder(input: {orderId: "ord_1", method: SEPA, idempotencyKey: "k"}) {
        id status order { status } } b: refundPayment(id: "pay_1") { status order { status } } }"""
    answer = await shop.query(document, headers=operator())
    assert answer.errors == []
    assert answer.data["a"]["status"] == "CAPTURED"
    assert answer.data["b"]["status"] == "REFUNDED"
    assert [call.target for call in shop.services.payments.calls] == ["POST /payments", "POST /payments/pay_1/refund"]
    assert len(shop.services.orders.calls) == 2


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ('name: "New"', {"name": "New"}),
        ('email: "a@b.example"', {"email": "a@b.example"}),
        ('name: "New", email: null', {"name": "New"}),
        ('name: "New", email: "a@b.example"', {"name": "New", "email": "a@b.example"}),
    ],
)
async def test_an_update_sends_what_was_given_and_nothing_else(given, sent):
    shop = gateway()
    answer = await shop.query(
        f'mutation {{ updateUser(input: {{id: "usr_1", {given}}}) {{ name email }} }}', headers=customer()
    )
    assert answer.errors == []
    (call,) = shop.services.users.calls
    assert (call.method, call.path, orjson.loads(call.body)) == ("PATCH", "/users/usr_1", sent)


@pytest.mark.parametrize("key", ["plain", "ünï", "with\r\nx-auth-subject: usr_2", "\x00", "%41"])
async def test_an_idempotency_key_arrives_as_one_header_whatever_it_holds(key):
    shop = gateway()
    document = """mutation ($key: String!) { payOrder(input: {orderId: "ord_1", method: CARD, idempotencyKey: $key}) {
        id } }"""
    await shop.query(document, {"key": key}, headers=operator())
    (call,) = shop.services.payments.calls
    sent = call.header("idempotency-key") or ""
    assert sent.isascii()
    assert sent.isprintable()
    assert call.caller[0] == "usr_1"


# Values


@pytest.mark.parametrize("amount", ["19.90", "0.00", "-5.10", "100", "1E+2", "0.1", "12345678901234567890.123456789"])
async def test_a_decimal_is_never_rounded_nor_a_float(amount):
    shop = gateway()
    shop.services.products.fail(says(200, {"items": [product(1) | {"price": {"amount": amount, "currency": "EUR"}}]}))
    answer = await shop.query('{ product(id: "prd_1") { price { amount } } }')
    shown = answer.data["product"]["price"]["amount"]
    assert isinstance(shown, str)
    assert Decimal(shown) == Decimal(amount)
    assert f'"{shown}"' in answer.response.text


async def test_times_are_rfc_3339_in_utc():
    answer = await gateway().query('{ user(id: "usr_1") { createdAt } }', headers=customer())
    assert answer.data["user"]["createdAt"] in {"2024-01-01T08:00:00Z", "2024-01-01T08:00:00+00:00"}


async def test_every_field_of_every_type_is_answered():
    document = """{ user(id: "usr_1") { id name email createdAt orders(first: 1) { edges { cursor node {
        id status placedAt customer { id } items { quantity unitPrice { amount currency } product { id sku name
        description category price { amount currency } stock } } total { amount currency }
        payment { id status method amount { amount currency } createdAt order { id } } } } pageInfo { hasNextPage
        hasPreviousPage startCursor endCursor } } } }"""
    answer = await gateway().query(document, headers=customer())
    assert answer.errors == []
    order = answer.data["user"]["orders"]["edges"][0]["node"]
    assert order["id"] == "ord_501"
    assert all(value is not None for value in itertools.chain(order.values(), order["payment"].values()))
