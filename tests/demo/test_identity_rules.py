"""Who sees what, asked of each service directly: no gateway stands in between."""

import httpx
import pytest

from tests.demo.conftest import CUSTOMER, OPERATOR, PARTNER, STRANGER, assert_problem, ids

PRIVATE = [
    ("users", "GET", "/users"),
    ("users", "GET", "/users/usr_1"),
    ("users", "PATCH", "/users/usr_1"),
    ("users", "GET", "/users/usr_1/avatar"),
    ("orders", "GET", "/orders"),
    ("orders", "POST", "/orders"),
    ("orders", "GET", "/orders/ord_1"),
    ("orders", "PATCH", "/orders/ord_1"),
    ("orders", "POST", "/orders/ord_1/cancel"),
    ("orders", "GET", "/orders/ord_1/events"),
    ("payments", "GET", "/payments?ids=pay_1"),
    ("payments", "POST", "/payments"),
    ("payments", "GET", "/payments/pay_1"),
    ("payments", "POST", "/payments/pay_1/refund"),
    ("payments", "GET", "/payments/pay_1/receipt"),
]
OF_THE_FIRST_USER = [call for call in PRIVATE if "_1" in call[2] and "?" not in call[2]]
SINGLE = [call for call in OF_THE_FIRST_USER if call[1] == "GET" and not call[2].endswith("/events")]


@pytest.mark.parametrize(("service", "method", "path"), PRIVATE)
def test_without_identity_nothing_private_answers(request, service, method, path):
    client = request.getfixturevalue(service)
    assert_problem(client.request(method, path), 401)
    assert_problem(client.request(method, path, headers={"x-auth-scopes": OPERATOR["x-auth-scopes"]}), 401)
    assert_problem(client.request(method, path, headers={"x-auth-subject": "", "x-auth-consumer": ""}), 401)


@pytest.mark.parametrize(("service", "method", "path"), OF_THE_FIRST_USER)
@pytest.mark.parametrize("caller", [STRANGER, PARTNER, {"x-auth-subject": "somebody"}, {"x-auth-subject": "usr_01"}])
def test_others_see_no_trace_of_what_belongs_to_the_first_user(request, service, method, path, caller):
    client = request.getfixturevalue(service)
    assert_problem(client.request(method, path, headers=caller), 404)


@pytest.mark.parametrize(("service", "method", "path"), SINGLE)
def test_the_first_user_and_an_operator_see_it(request, service, method, path):
    client = request.getfixturevalue(service)
    for caller in (CUSTOMER, OPERATOR):
        assert client.request(method, path, headers=caller).status_code == 200


@pytest.mark.parametrize(("service", "path"), [(service, path) for service, _, path in SINGLE])
def test_each_admin_scope_opens_its_own_service_alone(request, service, path):
    client = request.getfixturevalue(service)
    for scope in ("users:admin", "orders:admin", "payments:admin"):
        caller = {"x-auth-consumer": "acme", "x-auth-scopes": f"products:read {scope}"}
        expected = 200 if scope.startswith(service) else 404
        assert client.get(path, headers=caller).status_code == expected
        lookalike = {"x-auth-consumer": "acme", "x-auth-scopes": f"x{scope} {scope}s"}
        assert client.get(path, headers=lookalike).status_code == 404


@pytest.mark.parametrize(
    "path", ["/users", "/users?ids=usr_1,usr_2,usr_3", "/users?q=a&limit=200", "/users?cursor=usr_1&limit=200"]
)
def test_a_customer_finds_nobody_but_itself(users, path):
    assert set(ids(users.get(path, headers=STRANGER))) <= {"usr_2"}
    assert ids(users.get(path, headers=PARTNER)) == []


@pytest.mark.parametrize(
    "path",
    [
        "/orders?limit=200",
        "/orders?ids=" + ",".join(f"ord_{n}" for n in range(1, 500)),
        "/orders?limit=200&user_ids=usr_1,usr_2,usr_3",
        "/orders?limit=200&status=paid",
        "/orders?limit=200&cursor=ord_4927",
    ],
)
def test_a_customer_finds_its_own_orders_alone(orders, path):
    found = orders.get(path, headers=CUSTOMER).json()["items"]
    assert found
    assert {order["user_id"] for order in found} == {"usr_1"}
    assert ids(orders.get(path, headers=PARTNER)) == []


@pytest.mark.parametrize("parameter", ["ids=" + ",".join(f"pay_{n}" for n in range(1, 500)), "order_ids=ord_1,ord_2"])
def test_a_customer_finds_its_own_payments_alone(payments, parameter):
    found = payments.get(f"/payments?{parameter}", headers=CUSTOMER).json()["items"]
    assert found
    assert {payment["user_id"] for payment in found} == {"usr_1"}
    assert ids(payments.get(f"/payments?{parameter}", headers=PARTNER)) == []


def test_users_that_the_caller_may_not_see_have_no_next_cursor(orders):
    answer = orders.get("/orders?user_ids=usr_1,usr_2&limit=1", headers=STRANGER).json()
    assert answer["next_cursors"]["usr_1"] is None
    assert answer["next_cursors"]["usr_2"] is not None


def test_products_are_public(products):
    assert products.get("/products/prd_1").status_code == 200
    assert len(ids(products.get("/products"))) == 20


def test_an_identity_that_was_sent_twice_is_none(shop):
    twice = [("x-auth-subject", "usr_1"), ("x-auth-subject", "usr_2")]
    assert_problem(httpx.get(f"{shop.urls['users']}/users/usr_1", headers=twice), 401)
    scopes = [("x-auth-consumer", "acme"), ("x-auth-scopes", "users:admin"), ("x-auth-scopes", "users:read")]
    assert_problem(httpx.get(f"{shop.urls['users']}/users/usr_1", headers=scopes), 404)


def test_only_an_operator_moves_orders_on_and_refunds_payments(orders, payments, place):
    order = place()
    assert_problem(orders.patch(f"/orders/{order}", json={"status": "paid"}, headers=CUSTOMER), 403)
    assert_problem(payments.post("/payments/pay_1/refund", headers=CUSTOMER), 403)


def test_a_customer_orders_for_itself_alone_and_an_operator_for_anybody(orders, place):
    body = {"user_id": "usr_2", "items": [{"product_id": "prd_1", "quantity": 1}]}
    assert_problem(orders.post("/orders", json=body, headers={**CUSTOMER, "idempotency-key": "for-another"}), 403)
    assert_problem(orders.post("/orders", json=body, headers={**PARTNER, "idempotency-key": "for-another"}), 403)
    order = place(OPERATOR, owner="usr_2")
    assert orders.get(f"/orders/{order}", headers=STRANGER).json()["user_id"] == "usr_2"


def test_a_customer_changes_itself_alone(users):
    assert_problem(users.patch("/users/usr_2", json={"name": "Mallory"}, headers=CUSTOMER), 404)
    assert users.get("/users/usr_2", headers=STRANGER).json()["name"] != "Mallory"
    assert users.patch("/users/usr_900", json={"name": "New"}, headers=OPERATOR).json()["name"] == "New"


def test_a_payment_is_made_with_the_identity_of_the_caller(payments, orders, place):
    order = place()
    wish, key = {"order_id": order, "method": "card"}, {"idempotency-key": f"theft {order}"}
    assert_problem(payments.post("/payments", json=wish, headers={**STRANGER, **key}), 404)
    # payments:admin opens payments, not orders
    admin = {"x-auth-consumer": "acme", "x-auth-scopes": "payments:admin"}
    assert_problem(payments.post("/payments", json=wish, headers={**admin, **key}), 404)
    assert orders.get(f"/orders/{order}", headers=CUSTOMER).json()["status"] == "pending"
