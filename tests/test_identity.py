"""Who asks decides what is seen: scopes by type here, ownership by the services, and nothing but the gateway's word."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.harness import (
    OPERATOR,
    bearer,
    customer,
    gateway,
    operator,
    partner,
    signed_token,
    token,
)
from tests.shop import refused

READS = {
    "users:read": [
        '{ user(id: "usr_1") { id } }',
        "{ users { nodes { id } } }",
        "{ users { edges { node { id } } } }",
        '{ node(id: "usr_1") { id } }',
        '{ nodes(ids: ["usr_1"]) { id } }',
        "{ me { id } }",
    ],
    "orders:read": [
        '{ order(id: "ord_1") { id } }',
        "{ orders { nodes { id } } }",
        '{ node(id: "ord_1") { id } }',
        '{ nodes(ids: ["ord_1"]) { id } }',
    ],
    "payments:read": [
        '{ payment(id: "pay_1") { id } }',
        '{ node(id: "pay_1") { id } }',
        '{ nodes(ids: ["pay_1"]) { id } }',
    ],
    "orders:write": [
        'mutation { cancelOrder(id: "ord_1") { status } }',
        'mutation { placeOrder(input: {items: [{productId: "prd_1", quantity: 1}], idempotencyKey: "k"}) { status } }',
    ],
    "payments:write": [
        'mutation { payOrder(input: {orderId: "ord_1", method: CARD, idempotencyKey: "k"}) { status } }',
        'mutation { refundPayment(id: "pay_1") { status } }',
    ],
    "users:write": ['mutation { updateUser(input: {id: "usr_1", name: "New"}) { name } }'],
}
NEEDS = [(scope, document) for scope, documents in READS.items() for document in documents]
ALL = set(OPERATOR.split())


@pytest.mark.parametrize(("scope", "document"), NEEDS)
async def test_without_its_scope_a_field_is_forbidden_by_name_and_nothing_is_asked_for(scope, document):
    shop = gateway()
    answer = await shop.query(document, headers=bearer(token("usr_1", " ".join(ALL - {scope}))))
    assert answer.codes == ["FORBIDDEN"]
    assert scope in answer.errors[0]["message"]
    assert shop.services.calls == []


@pytest.mark.parametrize(("scope", "document"), NEEDS)
async def test_for_the_anonymous_it_is_unauthenticated(scope, document):
    shop = gateway()
    answer = await shop.query(document)
    assert answer.codes == ["UNAUTHENTICATED"]
    assert shop.services.calls == []


@pytest.mark.parametrize(("scope", "document"), NEEDS)
async def test_with_its_scope_it_is_answered(scope, document):
    also = {scope.replace("write", "read"), scope.replace("write", "admin").replace("read", "admin")}
    shop = gateway()
    answer = await shop.query(document, headers=bearer(token("usr_1", " ".join({scope} | also))))
    assert answer.errors == []
    assert len(shop.services.calls) == 1


@pytest.mark.parametrize(
    ("document", "missing", "path"),
    [
        ('{ user(id: "usr_1") { name orders { nodes { id } } } }', "orders:read", ["user", "orders"]),
        ('{ order(id: "ord_1") { id customer { name } } }', "users:read", ["order", "customer"]),
        ('{ order(id: "ord_1") { id payment { id } } }', "payments:read", ["order", "payment"]),
        ('{ payment(id: "pay_1") { id order { id } } }', "orders:read", ["payment", "order"]),
    ],
)
async def test_an_edge_needs_the_scope_of_where_it_leads(document, missing, path):
    shop = gateway()
    answer = await shop.query(document, headers=bearer(token("usr_1", " ".join(ALL - {missing}))))
    assert answer.codes == ["FORBIDDEN"]
    assert answer.errors[0]["path"] == path
    assert missing in answer.errors[0]["message"]
    assert len(shop.services.calls) == 1


async def test_products_are_everybodys():
    shop = gateway()
    document = '{ product(id: "prd_1") { id } products(first: 1) { nodes { id } } node(id: "prd_2") { id } }'
    assert (await shop.query(document)).data == {
        "product": {"id": "prd_1"},
        "products": {"nodes": [{"id": "prd_1"}]},
        "node": {"id": "prd_2"},
    }
    assert (await shop.client.get("/api/products/prd_1")).status_code == 200


async def test_one_forbidden_field_leaves_the_others_alone():
    shop = gateway()
    answer = await shop.query('{ product(id: "prd_1") { id } order(id: "ord_1") { id } }')
    assert answer.data == {"product": {"id": "prd_1"}, "order": None}
    assert answer.codes == ["UNAUTHENTICATED"]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/users/usr_1", "users:read"),
        ("PATCH", "/api/users/usr_1", "users:write"),
        ("GET", "/api/orders/ord_1", "orders:read"),
        ("POST", "/api/orders", "orders:write"),
        ("GET", "/api/payments/pay_1", "payments:read"),
        ("POST", "/api/payments", "payments:write"),
    ],
)
async def test_rest_needs_the_same_scopes(method, path, scope):
    shop = gateway()
    without = await shop.client.request(method, path, headers=bearer(token("usr_1", " ".join(ALL - {scope}))))
    assert (without.status_code, without.json()["code"]) == (403, "FORBIDDEN")
    assert scope in without.json()["detail"]
    assert scope in without.headers["www-authenticate"]
    anonymous = await shop.client.request(method, path)
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "UNAUTHENTICATED")
    assert "www-authenticate" in anonymous.headers
    assert shop.services.calls == []


async def test_me_is_the_caller():
    shop = gateway()
    assert (await shop.query("{ me { id } }", headers=customer("usr_9"))).data == {"me": {"id": "usr_9"}}


async def test_only_a_user_places_orders_and_only_its_own():
    shop = gateway()
    document = (
        'mutation { placeOrder(input: {items: [{productId: "prd_1", quantity: 2}], idempotencyKey: "once"}) { id } }'
    )
    await shop.query(document, headers=customer("usr_9"))
    (call,) = shop.services.calls
    assert json.loads(call.body) == {"user_id": "usr_9", "items": [{"product_id": "prd_1", "quantity": 2}]}
    assert call.header("idempotency-key") == "once"
    program = await shop.query(document, headers=bearer(token(None, "orders:write orders:read", client_id="robot")))
    assert program.codes == ["FORBIDDEN"]
    assert len(shop.services.calls) == 1


async def test_services_are_told_who_asks_and_those_that_need_not_know_are_not():
    shop = gateway()
    document = '{ order(id: "ord_7") { items { product { id } } } }'
    await shop.query(document, headers=bearer(token("usr_7", "orders:read users:read", client_id="app")))
    (order,), (product,) = shop.services.orders.calls, shop.services.products.calls
    assert order.caller == ("usr_7", {"orders:read", "users:read"})
    assert order.header("x-auth-consumer") == "app"
    assert not [name for name, _ in product.headers if name.lower().startswith("x-auth")]


FORGED = {
    "x-auth-subject": "usr_2",
    "X-Auth-Scopes": "orders:admin",
    "x-auth-consumer": "root",
    "x_auth_subject": "usr_2",
    "x-user-id": "usr_2",
    "x-internal-admin": "1",
}


@pytest.mark.parametrize("headers", [{}, customer("usr_1")])
async def test_no_client_names_itself_to_a_service(headers):
    shop = gateway()
    await shop.client.get("/api/orders/ord_2", headers=FORGED | headers)
    await shop.client.get("/api/products/prd_1", headers=FORGED | headers)
    await shop.query('{ order(id: "ord_2") { id } }', headers=FORGED | headers)
    await shop.query('{ product(id: "prd_1") { id } }', headers=FORGED | headers)
    assert shop.services.products.calls
    for call in shop.services.calls:
        assert "usr_2" not in [value for _, value in call.headers]
        assert call.caller[0] in {None, "usr_1"}
        assert "orders:admin" not in call.caller[1]
        assert call.header("x-internal-admin") is None


@pytest.mark.parametrize("headers", [customer(), partner()])
async def test_credentials_stay_here(headers):
    shop = gateway()
    await shop.client.get("/api/users/usr_1", headers=headers | {"cookie": "session=1"})
    await shop.query('{ user(id: "usr_1") { id } }', headers=headers)
    assert len(shop.services.calls) == 2
    for call in shop.services.calls:
        assert call.header("authorization") is None
        assert call.header("x-api-key") is None
        secret = next(iter(headers.values())).removeprefix("Bearer ")
        assert not [name for name, value in call.headers if secret in value]


@pytest.mark.parametrize("path", ["/graphql", "/api/users/usr_1", "/api/products/prd_1"])
@pytest.mark.parametrize(
    "headers",
    [
        bearer("nonsense"),
        bearer(token(exp=1_000_000_000)),
        bearer(token(aud="another")),
        bearer(token(iss="https://evil.example")),
        bearer(token()[:-4] + "AAAA"),
        {"x-api-key": "bff_wrong"},
        {"authorization": "Basic dXNlcjpwYXNz"},
    ],
)
async def test_a_bad_credential_is_never_taken_for_none(path, headers):
    shop = gateway()
    body = {"json": {"query": '{ product(id: "prd_1") { id } }'}} if path == "/graphql" else {}
    response = await shop.client.request("POST" if body else "GET", path, headers=headers, **body)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    found = response.json()
    assert (found["errors"][0]["extensions"] if body else found)["code"] == "UNAUTHENTICATED"
    assert shop.services.calls == []
    assert (headers.get("authorization") or headers["x-api-key"]).split(" ")[-1] not in response.text


async def test_two_credentials_at_once_are_refused():
    shop = gateway()
    response = await shop.client.get("/api/users/usr_1", headers=customer() | partner())
    assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")


async def test_a_signed_token_is_checked_with_keys_that_are_fetched_once():
    shop = gateway()
    for _ in range(3):
        answer = await shop.query("{ me { id } }", headers=bearer(signed_token("usr_5")))
        assert answer.data == {"me": {"id": "usr_5"}}
    assert [call.path for call in shop.services.login.calls] == ["/jwks.json"]


async def test_while_no_keys_can_be_had_signed_tokens_are_503_and_others_go_on():
    shop = gateway()
    shop.services.login.fail(refused)
    response = await shop.client.get("/api/users/usr_1", headers=bearer(signed_token()))
    assert (response.status_code, response.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert "retry-after" in response.headers
    assert (await shop.client.get("/api/users/usr_1", headers=customer())).status_code == 200


# With the demo's own services, which judge by themselves what a caller sees.


async def ids_of(shop, owner: str) -> tuple[list[str], list[str]]:
    """The orders and payments of a customer, as it sees them itself."""
    document = "{ me { orders(first: 100) { nodes { id payment { id } } } } }"
    answer = await shop.query(document, headers=customer(owner))
    assert answer.errors == []
    nodes = answer.data["me"]["orders"]["nodes"]
    return [each["id"] for each in nodes], [each["payment"]["id"] for each in nodes if each["payment"]]


async def test_a_customer_never_sees_anothers_order_or_payment_by_any_way(real):
    shop = real
    orders, payments = await ids_of(shop, "usr_2")
    assert len(orders) >= 3
    assert payments
    thief = customer("usr_1")
    listed = json.dumps([*orders, *payments])
    documents = [
        *(f'{{ order(id: "{id}") {{ id }} }}' for id in orders),
        *(f'{{ payment(id: "{id}") {{ id order {{ id }} }} }}' for id in payments),
        *(f'{{ node(id: "{id}") {{ id }} }}' for id in (*orders, *payments)),
        f"{{ nodes(ids: {listed}) {{ id }} }}",
        "{ orders(first: 200) { nodes { id payment { id } } } }",
        '{ user(id: "usr_2") { id name orders { nodes { id } } } }',
        "{ users(first: 200) { nodes { id orders { nodes { id } } } } }",
        f'{{ orders(after: "{orders[0]}") {{ nodes {{ id }} }} }}',
    ]
    for document in documents:
        answer = await shop.query(document, headers=thief)
        assert answer.errors == [], document
        seen = answer.response.text
        assert not [id for id in (*orders, *payments, "usr_2") if f'"{id}"' in seen], document
    for id in orders:
        assert (await shop.client.get(f"/api/orders/{id}", headers=thief)).status_code == 404
        assert (await shop.client.post(f"/api/orders/{id}/cancel", headers=thief)).status_code == 404
        assert (await shop.query(f'mutation {{ cancelOrder(id: "{id}") {{ id }} }}', headers=thief)).codes == [
            "NOT_FOUND"
        ]
    for id in payments:
        assert (await shop.client.get(f"/api/payments/{id}", headers=thief)).status_code == 404
        assert (await shop.client.get(f"/api/payments/{id}/receipt", headers=thief)).status_code == 404
    batches = [
        f"/api/orders?ids={','.join(orders)}",
        "/api/orders?user_ids=usr_2",
        f"/api/payments?ids={','.join(payments)}",
        f"/api/payments?order_ids={','.join(orders)}",
    ]
    for path in batches:
        assert (await shop.client.get(path, headers=thief)).json()["items"] == []


async def test_forged_identity_headers_open_nothing(real):
    orders, _ = await ids_of(real, "usr_2")
    forged = customer("usr_1") | {"x-auth-subject": "usr_2", "x-auth-scopes": "orders:admin"}
    assert (await real.client.get(f"/api/orders/{orders[0]}", headers=forged)).status_code == 404
    assert (await real.query(f'{{ order(id: "{orders[0]}") {{ id }} }}', headers=forged)).data == {"order": None}


async def test_two_callers_at_the_same_time_each_see_their_own(real):
    owned = {subject: await ids_of(real, subject) for subject in ("usr_1", "usr_2", "usr_3")}

    async def look(subject: str) -> None:
        assert await ids_of(real, subject) == owned[subject]

    await asyncio.gather(*(look(subject) for subject in [*owned] * 10))


async def test_an_operator_sees_them_all(real):
    orders, payments = await ids_of(real, "usr_2")
    answer = await real.query(f"{{ nodes(ids: {json.dumps([*orders, *payments])}) {{ id }} }}", headers=operator())
    assert [each["id"] for each in answer.data["nodes"]] == [*orders, *payments]
