"""Batch reads and pages, which all services share: limits, cursors, nothing twice, nothing missed."""

import pytest

from tests.demo.conftest import CUSTOMER, OPERATOR, assert_problem, ids

COLLECTIONS = [("users", "/users", "usr_"), ("products", "/products", "prd_"), ("orders", "/orders", "ord_")]
BATCHES = [
    ("users", "/users?ids=", "usr_"),
    ("products", "/products?ids=", "prd_"),
    ("orders", "/orders?ids=", "ord_"),
    ("orders", "/orders?limit=1&user_ids=", "usr_"),
    ("payments", "/payments?ids=", "pay_"),
    ("payments", "/payments?order_ids=", "ord_"),
]


def number(record_id: str) -> int:
    return int(record_id[4:])


def all_pages(client, path: str, headers=OPERATOR, **parameters) -> list[dict]:
    found, cursor = [], None
    for _ in range(200):
        page = client.get(path, params={**parameters, **({"cursor": cursor} if cursor else {})}, headers=headers).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
        assert cursor == page["items"][-1]["id"]
    pytest.fail("the pages never end")


@pytest.mark.parametrize(("service", "path", "prefix"), BATCHES)
def test_a_batch_takes_one_to_five_hundred_ids(request, service, path, prefix):
    client = request.getfixturevalue(service)
    wanted = [f"{prefix}{n}" for n in range(1, 502)]
    assert len(ids(client.get(path + ",".join(wanted[:500]), headers=OPERATOR))) > 400
    assert_problem(client.get(path + ",".join(wanted), headers=OPERATOR), 400)
    assert_problem(client.get(path, headers=OPERATOR), 400)
    assert_problem(client.get(f"{path},{wanted[0]}", headers=OPERATOR), 400)


@pytest.mark.parametrize(("service", "path", "prefix"), BATCHES)
def test_a_batch_leaves_out_what_is_unknown_and_repeats_nothing(request, service, path, prefix):
    client = request.getfixturevalue(service)
    known = ids(client.get(f"{path}{prefix}1", headers=OPERATOR))
    assert len(known) == 1
    odd = [
        f"{prefix}0",
        f"{prefix}01",
        f"{prefix}999999999999999999999",
        "nonsense",
        "xyz_1",
        f"{prefix}1 ",
        f"{prefix}1",
    ]
    assert ids(client.get(path + ",".join([*odd, f"{prefix}1"]), headers=OPERATOR)) == known


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("users", "/users?ids=usr_1&q=a"),
        ("users", "/users?ids=usr_1&limit=5"),
        ("users", "/users?ids=usr_1&cursor=usr_1"),
        ("products", "/products?ids=prd_1&category=books"),
        ("orders", "/orders?ids=ord_1&user_ids=usr_1"),
        ("orders", "/orders?ids=ord_1&status=paid"),
        ("payments", "/payments?ids=pay_1&order_ids=ord_1"),
        ("payments", "/payments"),
    ],
)
def test_ids_go_without_another_filter(request, service, path):
    assert_problem(request.getfixturevalue(service).get(path, headers=OPERATOR), 400)


@pytest.mark.parametrize(("service", "path", "prefix"), COLLECTIONS)
@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "1.0", "+1", "٣", "99999999999999999999"])
def test_a_page_has_one_to_two_hundred_items(request, service, path, prefix, limit):
    client = request.getfixturevalue(service)
    assert_problem(client.get(path, params={"limit": limit}, headers=OPERATOR), 400)


@pytest.mark.parametrize(("service", "path", "prefix"), COLLECTIONS)
def test_a_page_has_twenty_items_unless_asked_otherwise(request, service, path, prefix):
    client = request.getfixturevalue(service)
    assert len(ids(client.get(path, headers=OPERATOR))) == 20
    assert len(ids(client.get(path, params={"limit": 200}, headers=OPERATOR))) == 200


@pytest.mark.parametrize(("service", "path", "prefix"), COLLECTIONS)
@pytest.mark.parametrize("cursor", ["", "1", "{prefix}0", "{prefix}x", "{prefix}1'", "pay_1", "{prefix}1,{prefix}2"])
def test_a_cursor_is_an_id_of_its_kind(request, service, path, prefix, cursor):
    client = request.getfixturevalue(service)
    assert_problem(client.get(path, params={"cursor": cursor.format(prefix=prefix)}, headers=OPERATOR), 400)


@pytest.mark.parametrize(("service", "path", "prefix"), COLLECTIONS)
def test_a_parameter_sent_twice_is_refused_and_an_unknown_one_ignored(request, service, path, prefix):
    client = request.getfixturevalue(service)
    assert_problem(client.get(f"{path}?limit=1&limit=2", headers=OPERATOR), 400)
    assert len(ids(client.get(f"{path}?limit=1&utm_source=letter", headers=OPERATOR))) == 1


def test_all_pages_together_are_all_users_in_the_order_of_their_numbers(users):
    numbers = [number(user["id"]) for user in all_pages(users, "/users", limit=130)]
    assert numbers == list(range(1, 1001))


def test_all_pages_together_are_all_products_in_the_order_of_their_numbers(products):
    numbers = [number(product["id"]) for product in all_pages(products, "/products", limit=200)]
    assert numbers == list(range(1, 501))


def test_all_pages_together_are_all_orders_newest_first(orders):
    found = all_pages(orders, "/orders", limit=200)
    places = [(order["placed_at"], number(order["id"])) for order in found]
    assert places == sorted(places, reverse=True)
    assert set(range(1, 5001)) <= {n for _, n in places}
    assert len(set(places)) == len(places)


def test_pages_of_a_filter_hold_what_matches_and_nothing_else(orders, products, users):
    shipped = all_pages(orders, "/orders", limit=150, status="shipped")
    assert {order["status"] for order in shipped} == {"shipped"}
    assert len(shipped) > 150
    books = all_pages(products, "/products", limit=7, category="books")
    assert len(books) == 100
    assert {book["category"] for book in books} == {"books"}
    zoes = all_pages(users, "/users", limit=3, q="ZOË")
    assert len(zoes) == 25
    assert all("Zoë" in user["name"] for user in zoes)


def test_a_page_that_ends_with_the_last_item_is_the_last_page(users):
    page = users.get("/users?limit=200&cursor=usr_800", headers=OPERATOR).json()
    assert (len(page["items"]), page["next_cursor"]) == (200, None)
    beyond = users.get("/users?cursor=usr_1000", headers=OPERATOR).json()
    assert beyond == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("text", ["100%", "_", "' OR 1=1 --", "\\", "%00", "a" * 4000])
def test_a_search_takes_its_text_literally(users, products, text):
    assert ids(users.get("/users", params={"q": text, "limit": 200}, headers=OPERATOR)) == []
    assert ids(products.get("/products", params={"q": text, "limit": 200})) == []
    assert ids(products.get("/products", params={"category": text})) == []


def test_a_search_finds_parts_of_names_addresses_and_descriptions(users, products):
    assert ids(users.get("/users?q=LOVELACE1@", headers=OPERATOR)) == ["usr_1"]
    assert "usr_1" in ids(users.get("/users?q=a lovel", headers=OPERATOR))
    assert len(ids(products.get("/products?q=OUR KITCHEN range&limit=200"))) == 100


def test_the_orders_of_users_are_the_newest_of_each(orders):
    answer = orders.get("/orders?user_ids=usr_5,usr_1,usr_5&limit=3", headers=OPERATOR).json()
    assert set(answer["next_cursors"]) == {"usr_1", "usr_5"}
    assert "next_cursor" not in answer
    for user in ("usr_1", "usr_5"):
        found = [order["id"] for order in answer["items"] if order["user_id"] == user]
        own = ids(orders.get("/orders?limit=3", headers={"x-auth-subject": user}))
        assert found == own
        assert answer["next_cursors"][user] == own[-1]


def test_two_hundred_users_with_three_orders_each_are_one_call(orders):
    wanted = [f"usr_{n}" for n in range(1, 201)]
    answer = orders.get("/orders", params={"user_ids": ",".join(wanted), "limit": 3}, headers=OPERATOR).json()
    assert len(answer["items"]) == 600
    assert list(answer["next_cursors"]) == wanted


def test_a_cursor_is_a_position_whoever_its_order_belongs_to(orders):
    everything = all_pages(orders, "/orders", limit=200)
    foreign = next(i for i, order in enumerate(everything) if i > 300 and order["user_id"] not in ("usr_1", "usr_3"))
    cursor, after = everything[foreign]["id"], everything[foreign + 1 :]
    answer = orders.get(f"/orders?user_ids=usr_1,usr_3&limit=2&cursor={cursor}", headers=OPERATOR).json()
    for user in ("usr_1", "usr_3"):
        expected = [order["id"] for order in after if order["user_id"] == user][:2]
        assert [order["id"] for order in answer["items"] if order["user_id"] == user] == expected
    own = orders.get(f"/orders?limit=2&cursor={cursor}", headers=CUSTOMER).json()["items"]
    assert own == [order for order in after if order["user_id"] == "usr_1"][:2]


def test_a_users_pages_end_with_null_and_hold_each_order_once(orders):
    found, cursor = [], None
    for _ in range(100):
        more = {"cursor": cursor} if cursor else {}
        answer = orders.get("/orders", params={"user_ids": "usr_7", "limit": 2, **more}, headers=OPERATOR).json()
        found += [order["id"] for order in answer["items"]]
        cursor = answer["next_cursors"]["usr_7"]
        if cursor is None:
            break
    assert found == [order["id"] for order in all_pages(orders, "/orders", {"x-auth-subject": "usr_7"})]


def test_a_cursor_that_names_no_order_is_refused(orders):
    assert_problem(orders.get("/orders?cursor=ord_999999", headers=OPERATOR), 400)


def test_a_status_that_does_not_exist_is_refused(orders):
    assert_problem(orders.get("/orders?status=lost", headers=OPERATOR), 400)
