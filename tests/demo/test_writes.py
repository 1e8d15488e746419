"""Writes: idempotency keys, bodies, the life of an order and of its payment."""

import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest

import demo
from tests.demo.conftest import CUSTOMER, OPERATOR, STRANGER, assert_problem

ITEMS = [{"product_id": "prd_1", "quantity": 2}, {"product_id": "prd_2", "quantity": 1}]
ORDER = {"user_id": "usr_1", "items": ITEMS}


def keyed(key: str, caller=CUSTOMER) -> dict[str, str]:
    return {**caller, "idempotency-key": key}


def status_of(orders, order: str) -> str:
    return orders.get(f"/orders/{order}", headers=OPERATOR).json()["status"]


def test_an_order_costs_what_the_catalogue_says(orders, products):
    placed = orders.post("/orders", json=ORDER, headers=keyed("costs"))
    assert placed.status_code == 201
    order = placed.json()
    prices = [products.get(f"/products/{item['product_id']}").json()["price"] for item in ITEMS]
    assert [item["unit_price"] for item in order["items"]] == prices
    assert Decimal(order["total"]["amount"]) == 2 * Decimal(prices[0]["amount"]) + Decimal(prices[1]["amount"])
    assert order["status"] == "pending"
    assert orders.get(f"/orders/{order['id']}", headers=CUSTOMER).json() == order
    assert orders.get("/orders?limit=1", headers=CUSTOMER).json()["items"] == [order]


def test_the_same_key_and_body_give_the_first_answer_again(orders):
    first = orders.post("/orders", json=ORDER, headers=keyed("again"))
    reordered = {"items": ITEMS, "user_id": "usr_1"}
    second = orders.post("/orders", json=reordered, headers=keyed("again"))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    orders.post(f"/orders/{first.json()['id']}/cancel", headers=CUSTOMER)
    assert orders.post("/orders", json=ORDER, headers=keyed("again")).content == first.content


def test_the_same_key_with_another_body_is_refused(orders):
    orders.post("/orders", json=ORDER, headers=keyed("other body"))
    other = {"user_id": "usr_1", "items": ITEMS[:1]}
    assert_problem(orders.post("/orders", json=other, headers=keyed("other body")), 422)


def test_keys_belong_to_their_caller(orders):
    mine = orders.post("/orders", json=ORDER, headers=keyed("shared")).json()
    theirs = orders.post("/orders", json={**ORDER, "user_id": "usr_2"}, headers=keyed("shared", STRANGER)).json()
    assert mine["id"] != theirs["id"]
    admin = {"x-auth-consumer": "usr_1", "x-auth-scopes": "orders:admin"}  # a consumer is no subject of that name
    consumers = orders.post("/orders", json=ORDER, headers=keyed("shared", admin)).json()
    assert consumers["id"] not in (mine["id"], theirs["id"])


@pytest.mark.parametrize(("service", "path"), [("orders", "/orders"), ("payments", "/payments")])
@pytest.mark.parametrize("key", [None, "", "x" * 256])
def test_a_write_needs_a_key_of_bounded_length(request, service, path, key):
    headers = CUSTOMER if key is None else keyed(key)
    assert_problem(request.getfixturevalue(service).post(path, json=ORDER, headers=headers), 400)


def test_a_refused_write_leaves_its_key_free(orders):
    wrong = {"user_id": "usr_1", "items": [{"product_id": "prd_501", "quantity": 1}]}
    assert_problem(orders.post("/orders", json=wrong, headers=keyed("second try")), 422)
    assert orders.post("/orders", json=ORDER, headers=keyed("second try")).status_code == 201


def test_one_key_sent_many_times_at_once_writes_once(orders, payments, place):
    with ThreadPoolExecutor(8) as pool:
        placed = list(pool.map(lambda _: orders.post("/orders", json=ORDER, headers=keyed("race")), range(8)))
    assert len({answer.content for answer in placed}) == 1
    wish = {"order_id": place(), "method": "card"}
    with ThreadPoolExecutor(8) as pool:
        paid = list(pool.map(lambda _: payments.post("/payments", json=wish, headers=keyed("pay race")), range(8)))
    assert {answer.status_code for answer in paid} == {201}
    assert len({answer.content for answer in paid}) == 1


def test_one_order_paid_many_times_at_once_is_paid_once(payments, place):
    wish = {"order_id": place(), "method": "card"}
    with ThreadPoolExecutor(8) as pool:
        paid = list(pool.map(lambda n: payments.post("/payments", json=wish, headers=keyed(f"rival {n}")), range(8)))
    assert sorted(answer.status_code for answer in paid) == [201] + [409] * 7


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        {"user_id": "usr_1"},
        {"user_id": "usr_1", "items": []},
        {"user_id": "usr_1", "items": [{"product_id": "prd_1", "quantity": 1}] * 101},
        {"user_id": 1, "items": ITEMS},
        {"user_id": "usr_0", "items": ITEMS},
        {"user_id": "usr_1\n", "items": ITEMS},
        *(
            {"user_id": "usr_1", "items": [{"product_id": "prd_1", "quantity": quantity}]}
            for quantity in (0, -1, 1001, 1.5, "1", True, None, 10**30)
        ),
        {"user_id": "usr_1", "items": [{"product_id": "prd_x", "quantity": 1}]},
        {"user_id": "usr_1", "items": [{"quantity": 1}]},
    ],
)
def test_an_order_of_another_shape_is_refused(orders, body):
    assert_problem(orders.post("/orders", json=body, headers=keyed("shape")), 422)


BODIES = [
    ("users", "PATCH", "/users/usr_1"),
    ("orders", "POST", "/orders"),
    ("orders", "PATCH", "/orders/ord_1"),
    ("payments", "POST", "/payments"),
]


@pytest.mark.parametrize(("service", "method", "path"), BODIES)
@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"name": "\\ud800x"}', "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (b"[" * 500_000, "application/json", 400),
        (b'{"a":' * 100_000, "application/json", 400),
        (b" " * 1_100_000, "application/json", 413),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", None, 415),
    ],
)
def test_a_body_that_cannot_be_read_says_why(request, service, method, path, content, media_type, status):
    client = request.getfixturevalue(service)
    headers = {**OPERATOR, "x-auth-subject": "usr_1", "idempotency-key": "unread"}
    if media_type:
        headers["content-type"] = media_type
    answer = client.request(method, path, content=content, headers=headers)
    assert_problem(answer, status)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": None},
        {"name": 5},
        {"email": "nobody"},
        {"email": "a@b@c"},
        {"email": "a b@example.com"},
        {"email": "a@example.com\n"},
        {"email": f"{'a' * 250}@example.com"},
        {"id": "usr_2"},
        [],
    ],
)
def test_changes_of_another_shape_are_refused_and_change_nothing(users, changes):
    before = users.get("/users/usr_1", headers=CUSTOMER).json()
    assert_problem(users.patch("/users/usr_1", json=changes, headers=CUSTOMER), 422)
    assert users.get("/users/usr_1", headers=CUSTOMER).json() == before


def test_a_customer_changes_what_it_names_and_nothing_else(users):
    caller = {"x-auth-subject": "usr_902"}
    before = users.get("/users/usr_902", headers=caller).json()
    renamed = users.patch("/users/usr_902", json={"name": "Ærøskøbing 李"}, headers=caller).json()
    assert renamed == {**before, "name": "Ærøskøbing 李"}
    assert users.patch("/users/usr_902", json={}, headers=caller).json() == renamed
    assert users.get("/users/usr_902", headers=caller).json() == renamed


def test_an_order_goes_forward_only(orders, place):
    def move(order, status):
        return orders.patch(f"/orders/{order}", json={"status": status}, headers=OPERATOR)

    order = place()
    for status in ("paid", "shipped", "delivered"):
        assert move(order, status).json()["status"] == status
        assert status_of(orders, order) == status
        for before in ("pending", "paid", status, "cancelled"):
            assert_problem(move(order, before), 409)
    assert_problem(move(order, "lost"), 422)
    assert_problem(move("ord_999999", "paid"), 404)


def test_an_order_is_cancelled_before_it_is_shipped_and_once(orders, place):
    pending, paid, shipped = place(), place(), place()
    orders.patch(f"/orders/{paid}", json={"status": "paid"}, headers=OPERATOR)
    orders.patch(f"/orders/{shipped}", json={"status": "shipped"}, headers=OPERATOR)
    for order in (pending, paid):
        assert orders.post(f"/orders/{order}/cancel", headers=CUSTOMER).json()["status"] == "cancelled"
        assert_problem(orders.post(f"/orders/{order}/cancel", headers=CUSTOMER), 409)
        assert_problem(orders.patch(f"/orders/{order}", json={"status": "shipped"}, headers=OPERATOR), 409)
    assert_problem(orders.post(f"/orders/{shipped}/cancel", headers=CUSTOMER), 409)


def test_a_payment_charges_the_order_and_reports_it_paid(orders, payments, place):
    order = place()
    answer = payments.post("/payments", json={"order_id": order, "method": "sepa"}, headers=keyed(f"pay {order}"))
    assert answer.status_code == 201
    payment = answer.json()
    assert payment["amount"] == orders.get(f"/orders/{order}", headers=CUSTOMER).json()["total"]
    assert {k: payment[k] for k in ("order_id", "user_id", "status", "method")} == {
        "order_id": order,
        "user_id": "usr_1",
        "status": "captured",
        "method": "sepa",
    }
    assert status_of(orders, order) == "paid"
    assert payments.get(f"/payments?order_ids={order}", headers=CUSTOMER).json()["items"] == [payment]
    again = payments.post("/payments", json={"order_id": order, "method": "sepa"}, headers=keyed(f"pay {order}"))
    assert again.content == answer.content
    other = payments.post("/payments", json={"order_id": order, "method": "sepa"}, headers=keyed(f"pay {order} twice"))
    assert_problem(other, 409)
    changed = payments.post("/payments", json={"order_id": order, "method": "card"}, headers=keyed(f"pay {order}"))
    assert_problem(changed, 422)


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"order_id": "ord_999999", "method": "card"}, 404),
        ({"order_id": "../users/usr_1", "method": "card"}, 404),
        ({"order_id": "", "method": "card"}, 404),
        ({"order_id": "ord_1", "method": "card"}, 409),
        ({"order_id": "ord_1", "method": "cash"}, 422),
        ({"order_id": "ord_1"}, 422),
        ({"order_id": 1, "method": "card"}, 422),
    ],
)
def test_what_cannot_be_paid_is_refused(payments, wish, status):
    assert_problem(payments.post("/payments", json=wish, headers=keyed(f"refused {wish}")), status)


def test_a_payment_that_failed_can_be_tried_again(orders, payments):
    failed = next(
        payment
        for page in range(9)
        for payment in payments.get(
            "/payments",
            params={"ids": ",".join(f"pay_{n}" for n in range(page * 500 + 1, page * 500 + 501))},
            headers=OPERATOR,
        ).json()["items"]
        if payment["status"] == "failed"
    )
    caller = {"x-auth-subject": failed["user_id"]}
    wish = {"order_id": failed["order_id"], "method": "paypal"}
    paid = payments.post("/payments", json=wish, headers=keyed("try again", caller)).json()
    assert (paid["id"], paid["status"], paid["method"]) == (failed["id"], "captured", "paypal")
    assert status_of(orders, failed["order_id"]) == "paid"


def test_a_refund_happens_once(payments, place):
    order = place()
    payment = payments.post("/payments", json={"order_id": order, "method": "card"}, headers=keyed(f"r {order}")).json()
    refunded = payments.post(f"/payments/{payment['id']}/refund", headers=OPERATOR)
    assert refunded.json() == {**payment, "status": "refunded"}
    assert_problem(payments.post(f"/payments/{payment['id']}/refund", headers=OPERATOR), 409)
    assert_problem(payments.post("/payments/pay_999999/refund", headers=OPERATOR), 404)


def test_a_receipt_is_xml_and_its_lines_add_up(payments, products, orders, place):
    placed = orders.post("/orders", json=ORDER, headers=keyed("receipt order")).json()
    wish = {"order_id": placed["id"], "method": "card"}
    new = payments.post("/payments", json=wish, headers=keyed("receipt")).json()
    for payment in (new, payments.get("/payments/pay_1", headers=CUSTOMER).json()):
        answer = payments.get(f"/payments/{payment['id']}/receipt", headers=CUSTOMER)
        assert answer.headers["content-type"] == "application/xml"
        receipt = ET.fromstring(answer.text)  # noqa: S314 - our own
        assert (receipt.tag, receipt.get("id")) == ("receipt", payment["id"])
        assert receipt.findtext("order") == payment["order_id"]
        amount = receipt.find("amount")
        assert (amount.get("currency"), amount.text) == ("EUR", payment["amount"]["amount"])
        lines = receipt.findall("lines/line")
        assert sum(Decimal(line.text) for line in lines) == Decimal(amount.text)
        items = orders.get(f"/orders/{payment['order_id']}", headers=CUSTOMER).json()["items"]
        skus = [products.get(f"/products/{item['product_id']}").json()["sku"] for item in items]
        assert [(line.get("sku"), int(line.get("quantity"))) for line in lines] == [
            (sku, item["quantity"]) for sku, item in zip(skus, items, strict=True)
        ]


def test_without_the_order_service_nothing_is_charged_and_the_same_request_works_later():
    with demo.processes(demo.FREE) as shop, httpx.Client(timeout=30) as client:
        wish, url = {"order_id": "ord_3960", "method": "card"}, f"{shop.urls['payments']}/payments"
        shop.stop("orders")
        refused = client.post(url, json=wish, headers=keyed("later"))
        assert_problem(refused, 503)
        assert refused.headers["retry-after"]
        assert client.get(f"{url}?order_ids=ord_3960", headers=CUSTOMER).json()["items"] == []
        shop.start("orders")
        assert client.post(url, json=wish, headers=keyed("later")).status_code == 201


def test_a_change_that_came_slowly_is_judged_by_what_is_true_at_its_end(orders, users, place):
    order = place()

    def while_the_order_is_cancelled():
        yield b'{"status":'
        orders.post(f"/orders/{order}/cancel", headers=CUSTOMER)
        yield b'"paid"}'

    json = {**OPERATOR, "content-type": "application/json"}
    assert_problem(orders.patch(f"/orders/{order}", content=while_the_order_is_cancelled(), headers=json), 409)
    assert status_of(orders, order) == "cancelled"

    def while_the_address_changes():
        yield b'{"name":'
        users.patch("/users/usr_903", json={"email": "new@example.com"}, headers=OPERATOR)
        yield b'"New"}'

    changed = users.patch("/users/usr_903", content=while_the_address_changes(), headers=json).json()
    assert (changed["name"], changed["email"]) == ("New", "new@example.com")
