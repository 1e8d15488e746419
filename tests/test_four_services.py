"""The main job: one query over four services costs one call a service, and five where a batch overflows."""

from __future__ import annotations

import pytest

from tests.harness import FOUR_SERVICES, customer, gateway, operator
from tests.shop import GONE, order, payment, product, says


async def test_ten_users_cost_exactly_one_call_a_service():
    shop = gateway()
    answer = await shop.query(FOUR_SERVICES, headers=operator())
    assert answer.errors == []
    assert shop.services.targets == [
        "GET /users",
        "GET /products?ids",
        "GET /orders?user_ids",
        "GET /payments?order_ids",
    ]
    assert len(answer.data["users"]["nodes"]) == 10
    assert await shop.attempts() == {"users": 1, "products": 1, "orders": 1, "payments": 1}


async def test_two_hundred_users_cost_five_calls_since_their_payments_take_two():
    shop = gateway()
    answer = await shop.query(FOUR_SERVICES, {"first": 200}, headers=operator())
    assert answer.errors == []
    assert await shop.attempts() == {"users": 1, "products": 1, "orders": 1, "payments": 2}
    assert sorted(len(call.ids) for call in shop.services.payments.calls) == [100, 500]
    assert [len(each.calls) for each in shop.services.four] == [1, 1, 1, 2]


async def test_every_value_is_the_one_of_its_record():
    shop = gateway()
    answer = await shop.query(FOUR_SERVICES, {"first": 12}, headers=operator())
    for n, user in enumerate(answer.data["users"]["nodes"], 1):
        assert user["name"] == f"User {n}"
        assert [each["id"] for each in user["orders"]["nodes"]] == [f"ord_{n + 500}", f"ord_{n + 250}", f"ord_{n}"]
        for each in user["orders"]["nodes"]:
            number = int(each["id"][4:])
            record = order(number)
            assert each["total"]["amount"] == record["total"]["amount"]
            assert each["payment"] == ({"status": payment(number)["status"].upper()} if number % 10 else None)
            for item, line in zip(each["items"], record["items"], strict=True):
                assert item["quantity"] == line["quantity"]
                sold = product(int(line["product_id"][4:]))
                expected = {"name": sold["name"], "price": {"amount": sold["price"]["amount"]}}
                assert item["product"] == (expected if line["product_id"] != GONE else None)


async def test_what_one_request_has_read_already_is_not_read_again():
    shop = gateway()
    document = """{ user(id: "usr_1") { orders { nodes { customer { name orders { nodes { id } } } } } } }"""
    answer = await shop.query(document, headers=operator())
    assert answer.errors == []
    assert shop.services.targets == ["GET /users?ids", "GET /orders?user_ids"]


async def test_requests_share_nothing_that_they_read():
    shop = gateway()
    for _ in range(2):
        await shop.query('{ order(id: "ord_1") { id } }', headers=operator())
    assert shop.services.targets == ["GET /orders?ids"] * 2


async def test_fields_side_by_side_share_a_call():
    shop = gateway()
    document = '{ a: product(id: "prd_1") { id } b: product(id: "prd_2") { id } c: product(id: "prd_1") { id } }'
    answer = await shop.query(document)
    assert answer.data == {"a": {"id": "prd_1"}, "b": {"id": "prd_2"}, "c": {"id": "prd_1"}}
    assert [call.ids for call in shop.services.products.calls] == [["prd_1", "prd_2"]]


@pytest.mark.parametrize(("size", "calls"), [(1, 3), (2, 2), (500, 1)])
async def test_a_batch_is_never_larger_than_the_service_takes(size, calls):
    shop = gateway(services={"products": {"max_batch": size}})
    await shop.query('{ nodes(ids: ["prd_1", "prd_2", "prd_3"]) { id } }')
    assert len(shop.services.products.calls) == calls
    assert max(len(call.ids) for call in shop.services.products.calls) <= size


async def test_a_customer_sees_through_the_same_query_only_itself():
    shop = gateway()
    answer = await shop.query(FOUR_SERVICES, headers=customer("usr_7"))
    assert answer.errors == []
    (user,) = answer.data["users"]["nodes"]
    assert user["name"] == "User 7"
    assert [each["id"] for each in user["orders"]["nodes"]] == ["ord_507", "ord_257", "ord_7"]
    assert len(shop.services.calls) == 4


async def test_amounts_are_exact_decimals_as_text():
    shop = gateway()
    price = {"amount": "0.10000000000000000000000000000000000001", "currency": "EUR"}
    shop.services.products.fail(says(200, {"items": [product(1) | {"price": price}]}))
    answer = await shop.query('{ product(id: "prd_1") { price { amount currency } } }')
    assert answer.data["product"]["price"] == price
