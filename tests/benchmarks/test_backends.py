from pathlib import Path

import httpx
import pytest
import schemathesis

from benchmarks import data

CONTRACTS = Path(__file__).parents[2] / "contracts"


async def get(urls, service, path):
    async with httpx.AsyncClient(base_url=urls[service]) as client:
        return await client.get(path)


async def ids(urls, service, path):
    return [row["id"] for row in (await get(urls, service, path)).json()["items"]]


@pytest.mark.parametrize(
    ("service", "template", "path"),
    [
        ("users", "/users/{id}", "/users/usr_1"),
        ("users", "/users/{id}", "/users/usr_0"),
        ("users", "/users", "/users"),
        ("users", "/users", "/users?limit=0"),
        ("users", "/users", "/users?ids=usr_1%2Cusr_2"),
        ("products", "/products/{id}", "/products/prd_1"),
        ("products", "/products", "/products?limit=200"),
        ("products", "/products/export", "/products/export"),
        ("orders", "/orders/{id}", "/orders/ord_10"),
        ("orders", "/orders", "/orders?user_ids=usr_1,usr_2&limit=3"),
        ("payments", "/payments/{id}", "/payments/pay_1"),
        ("payments", "/payments", "/payments?order_ids=ord_1,ord_2"),
    ],
)
async def test_every_answer_is_one_of_its_contract(urls, service, template, path):
    contract = schemathesis.openapi.from_path(CONTRACTS / f"{service}.yaml")
    contract[template]["GET"].validate_response(await get(urls, service, path))


async def test_a_batch_leaves_out_what_is_unknown(urls):
    assert await ids(urls, "users", "/users?ids=usr_3,usr_99999,usr_1") == ["usr_3", "usr_1"]


@pytest.mark.parametrize(
    "path", ["/users?ids=", "/users?ids=usr_1&limit=2", "/users?ids=" + ",".join(f"usr_{n}" for n in range(501))]
)
async def test_a_batch_of_none_of_too_many_or_with_a_filter_is_refused(urls, path):
    assert (await get(urls, "users", path)).status_code == 400


async def test_what_no_workload_needs_is_refused_instead_of_ignored(urls):
    assert (await get(urls, "products", "/products?category=audio")).status_code == 400


async def test_pages_follow_each_other_to_the_last_row(urls):
    seen, path = [], "/users?limit=200"
    while path:
        page = (await get(urls, "users", path)).json()
        seen += [row["id"] for row in page["items"]]
        path = page["next_cursor"] and f"/users?limit=200&cursor={page['next_cursor']}"
    assert seen == [f"usr_{n}" for n in range(1, data.USERS + 1)]


async def test_orders_of_several_users_are_the_newest_of_each(urls):
    page = (await get(urls, "orders", "/orders?user_ids=usr_1,usr_2&limit=2")).json()
    assert [row["id"] for row in page["items"]] == ["ord_4001", "ord_3001", "ord_4002", "ord_3002"]
    assert page["next_cursors"] == {"usr_1": "ord_3001", "usr_2": "ord_3002"}


async def test_orders_of_a_user_end_where_there_are_no_more(urls):
    page = (await get(urls, "orders", "/orders?user_ids=usr_1&limit=3&cursor=ord_3001")).json()
    assert [row["id"] for row in page["items"]] == ["ord_2001", "ord_1001", "ord_1"]
    assert page["next_cursors"] == {"usr_1": None}


async def test_an_order_costs_what_its_items_cost(urls):
    for row in (await get(urls, "orders", "/orders?limit=20")).json()["items"]:
        cents = sum(round(float(item["unit_price"]["amount"]) * 100) * item["quantity"] for item in row["items"])
        assert row["total"]["amount"] == f"{cents / 100:.2f}"


async def test_payments_come_by_their_orders(urls):
    page = (await get(urls, "payments", "/payments?order_ids=ord_9,ord_10,ord_11")).json()
    assert [row["order_id"] for row in page["items"]] == ["ord_9", "ord_11"]


async def test_calls_are_counted_by_service_and_health_checks_are_not(urls):
    await get(urls, "users", "/users/usr_1")
    await get(urls, "orders", "/orders/ord_1")
    await get(urls, "orders", "/orders/ord_1")
    await get(urls, "payments", "/healthz")
    calls = (await get(urls, "products", "/-/calls")).json()
    assert calls == {"users": 1, "products": 0, "orders": 2, "payments": 0}
