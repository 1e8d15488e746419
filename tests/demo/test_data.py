"""The shop's records: as many as promised, the same every time, and shaped so that the four-service query is a test."""

import json
from decimal import Decimal
from hashlib import sha256

from demo import data


def newest(user: int, orders: list[data.Purchase], count: int) -> list[data.Purchase]:
    own = [order for order in orders if order.user == user]
    return sorted(own, key=lambda order: (order.placed_at, order.number))[-count:]


def test_there_are_as_many_records_as_promised():
    assert len(list(data.people())) == 1000
    assert len([a for a in data.catalogue() if a.number not in data.NO_LONGER_SOLD]) == 500
    assert len(list(data.purchases())) == 5000
    assert len(list(data.charges())) == 4500


def test_the_records_are_the_same_on_every_machine():
    everything = [list(data.people()), list(data.catalogue()), list(data.purchases()), list(data.charges())]
    fingerprint = sha256(json.dumps(everything).encode()).hexdigest()
    assert fingerprint[:16] == "d19819e463a803e7"


def test_orders_have_one_to_four_items_and_each_product_once():
    for order in data.purchases():
        assert 1 <= len(order.lines) <= 4
        assert len({line.product for line in order.lines}) == len(order.lines)


def test_ten_users_have_three_orders_each_and_two_hundred_have_more_than_a_batch():
    orders = list(data.purchases())
    assert all(len(newest(user, orders, 3)) == 3 for user in range(1, 11))
    recent = [order for user in range(1, 201) for order in newest(user, orders, 3)]
    assert len(recent) > 500
    assert len({line.product for order in recent for line in order.lines}) <= 500  # one call for the products


def test_the_first_order_is_paid_and_belongs_to_the_first_user():
    first_order, first_charge = next(data.purchases()), next(data.charges())
    assert (first_order.number, first_order.user, first_order.status) == (1, 1, "paid")
    assert (first_charge.order.number, first_charge.status) == (1, "captured")


def test_some_orders_name_what_is_no_longer_sold():
    gone = [o for o in data.purchases() if any(line.product in data.NO_LONGER_SOLD for line in o.lines)]
    assert 10 < len(gone) < 100


def test_newer_orders_have_higher_numbers_and_some_share_a_second():
    stamps = [order.placed_at for order in data.purchases()]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) < len(stamps)


def test_what_was_paid_is_what_was_ordered():
    for charge in data.charges():
        assert charge.order.cents == sum(line.quantity * line.cents for line in charge.order.lines)
        assert (charge.status == "captured") == (charge.order.status in ("paid", "shipped", "delivered"))


def test_prices_in_the_services_are_exact_decimals(products, orders):
    for product in products.get("/products", params={"limit": 200}).json()["items"]:
        assert product["price"]["currency"] == "EUR"
        assert Decimal(product["price"]["amount"]).as_tuple().exponent == -2
    order = orders.get("/orders/ord_1", headers={"x-auth-subject": "usr_1"}).json()
    total = sum(Decimal(item["unit_price"]["amount"]) * item["quantity"] for item in order["items"])
    assert Decimal(order["total"]["amount"]) == total
