"""REST endpoints made of trusted documents: from the request's parameters to what is answered, and what is refused."""

import asyncio
import re

import httpx
import pytest

from bff.config import ConfigError
from bff.graphql.trusted import DocumentsError, sha256_of
from tests.harness import bearer, customer, gateway, operator, partner, token
from tests.shop import hangs, refused, says

ORDER = """
query OrderPage($id: ID!) @rest(path: "/api/pages/order/{id}", unwrap: true, cache: "private, max-age=30") {
  order(id: $id) { id status total { amount currency } items { quantity product { name } } payment { status } }
}"""
PRODUCTS = """
query ProductPage($first: Int = 2, $category: String) @rest(path: "/api/pages/products", cache: "public, max-age=60") {
  products(first: $first, category: $category) { nodes { id name } }
}"""
REST_OF_PRODUCTS = '@rest(path: "/api/pages/products", cache: "public, max-age=60")'
NODES = """
query NodesPage($ids: [ID!]!) @rest(path: "/api/pages/nodes") { nodes(ids: $ids) { id } }"""
PARTIAL = """
query PartPage($id: ID!) @rest(path: "/api/pages/part/{id}", partial: true) {
  order(id: $id) { id payment { status } }
}"""
PLACE = """
mutation PlaceOrder($input: PlaceOrderInput!)
@rest(method: POST, path: "/api/actions/orders", body: "input", unwrap: true, status: 201) {
  placeOrder(input: $input) { id status }
}"""
RENAME = """
mutation RenameUser($userId: ID!, $name: String!) @rest(method: PATCH, path: "/api/actions/users/{userId}") {
  renamed: updateUser(input: { id: $userId, name: $name }) { id name }
}"""
CANCEL = """
mutation CancelOrder($id: ID!) @rest(method: DELETE, path: "/api/actions/orders/{id}", status: 204) {
  cancelOrder(id: $id) { id }
}"""
ALL = [ORDER, PRODUCTS, NODES, PARTIAL, PLACE, RENAME, CANCEL]


@pytest.fixture
def shop(tmp_path):
    return shop_of(tmp_path, *ALL)


def shop_of(folder, *texts, mode="enforce", **overrides):
    for number, text in enumerate(texts):
        (folder / f"{number}.graphql").write_text(text)
    documents = {"path": str(folder), "mode": mode}
    return gateway(profile="production", graphql={"documents": documents}, **overrides)


async def test_a_page_is_the_operation_unwrapped_and_costs_one_call_a_service(shop):
    answer = await shop.client.get("/api/pages/order/ord_1", headers=operator())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, max-age=30"
    assert answer.headers["vary"] == "Authorization, X-API-Key"
    page = answer.json()
    assert (page["id"], set(page)) == ("ord_1", {"id", "status", "total", "items", "payment"})
    assert await shop.attempts() == {"orders": 1, "products": 1, "payments": 1}


async def test_what_is_not_there_is_404(shop):
    answer = await shop.client.get("/api/pages/order/ord_999", headers=operator())
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_parameters_are_read_by_the_types_of_the_variables(shop):
    answer = await shop.client.get("/api/pages/products?first=3")
    assert answer.status_code == 200, answer.text
    assert [each["id"] for each in answer.json()["products"]["nodes"]] == ["prd_1", "prd_2", "prd_3"]
    assert len((await shop.client.get("/api/pages/products")).json()["products"]["nodes"]) == 2
    listed = await shop.client.get("/api/pages/nodes?ids=prd_1&ids=prd_2")
    assert listed.json() == {"nodes": [{"id": "prd_1"}, {"id": "prd_2"}]}
    alone = await shop.client.get("/api/pages/nodes?ids=prd_1")
    assert alone.json() == {"nodes": [{"id": "prd_1"}]}


@pytest.mark.parametrize(
    ("target", "parameter", "detail"),
    [
        ("/api/pages/products?first=three", "first", "Int cannot represent non-integer value: 'three'"),
        ("/api/pages/products?first=", "first", "Int cannot represent"),
        ("/api/pages/products?first=99999999999", "first", "Int cannot represent"),
        ("/api/pages/products?first=1&first=2", "first", "comes more than once"),
        ("/api/pages/products?frist=1", "frist", "is no parameter of this; did you mean `first`?"),
        ("/api/pages/nodes", "ids", "is needed"),
        ("/api/pages/order/ord_1?id=ord_2", "id", "is no parameter of this"),
    ],
)
async def test_a_parameter_that_does_not_fit_is_named(shop, target, parameter, detail):
    answer = await shop.client.get(target, headers=operator())
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "BAD_USER_INPUT")
    assert problem["errors"][0]["parameter"] == parameter
    assert problem["errors"][0]["detail"].startswith(detail)
    assert problem["detail"].startswith(parameter)
    assert shop.services.calls == []


async def test_octets_that_are_no_text_are_refused(shop):
    for target in ("/api/pages/products?category=%FF", "/api/pages/order/%FF"):
        answer = await shop.client.get(target, headers=operator())
        assert (answer.status_code, answer.json()["code"]) in {(400, "BAD_USER_INPUT"), (400, "BAD_REQUEST")}


async def test_a_mutation_takes_its_input_as_the_body(shop):
    body = {"items": [{"productId": "prd_1", "quantity": 1}], "idempotencyKey": "one-two-three"}
    answer = await shop.client.post("/api/actions/orders", json=body, headers=customer())
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "PENDING"
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


async def test_members_of_the_body_are_variables_beside_those_of_the_path(shop):
    answer = await shop.client.patch("/api/actions/users/usr_1", json={"name": "Ann"}, headers=customer())
    assert (answer.status_code, answer.json()) == (200, {"renamed": {"id": "usr_1", "name": "Ann"}})


async def test_an_answer_of_204_has_no_body(shop):
    answer = await shop.client.delete("/api/actions/orders/ord_1", headers=operator())
    assert answer.status_code in {204, 409}
    if answer.status_code == 204:
        assert answer.content == b""
        assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"idempotencyKey": "k"}, 422, "#"),
        ({"items": [{"productId": "prd_1", "quantity": "1"}], "idempotencyKey": "k"}, 422, "#/items/0/quantity"),
        ({"items": [], "idempotencyKey": "k", "more": 1}, 422, "#"),
        ([], 422, "#"),
        (None, 422, "#"),
    ],
)
async def test_a_body_that_does_not_fit_says_where(shop, body, status, pointer):
    answer = await shop.client.post(
        "/api/actions/orders",
        content=httpx.Request("POST", "http://x", json=body).content or b"null",
        headers=customer() | {"content-type": "application/json"},
    )
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, "UNPROCESSABLE"), problem
    assert problem["errors"][0]["pointer"] == pointer
    assert shop.services.calls == []


async def test_unknown_and_missing_members_are_named(shop):
    for body, pointer in (({"name": "A", "nam": 1}, "#/nam"), ({}, "#/name")):
        answer = await shop.client.patch("/api/actions/users/usr_1", json=body, headers=customer())
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_body_that_is_no_json_is_refused(shop):
    send = shop.client.post
    target, headers = "/api/actions/orders", customer()
    assert (await send(target, headers=headers)).status_code == 400
    assert (await send(target, content=b"{", headers=headers | {"content-type": "application/json"})).status_code == 400
    assert (await send(target, content=b"{}", headers=headers | {"content-type": "text/plain"})).status_code == 415
    assert (await send(target, json={"a": "x" * 3_000_000}, headers=headers)).status_code == 413


async def test_an_answer_is_revalidated_by_its_etag(shop):
    first = await shop.client.get("/api/pages/products")
    again = await shop.client.get(
        "/api/pages/products", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert (again.headers["etag"], again.headers["cache-control"]) == (first.headers["etag"], "public, max-age=60")
    other = await shop.client.get("/api/pages/products?first=1", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200
    head = await shop.client.head("/api/pages/products")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])
    assert head.headers["content-length"] == first.headers["content-length"]


async def test_methods_are_those_of_the_directive(shop):
    answer = await shop.client.post("/api/pages/products", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_only_json_is_answered(shop):
    answer = await shop.client.get("/api/pages/products", headers={"accept": "text/html"})
    assert (answer.status_code, answer.json()["code"]) == (406, "NOT_ACCEPTABLE")
    fine = await shop.client.get("/api/pages/products", headers={"accept": "text/html, */*;q=0.1"})
    assert fine.status_code == 200


async def test_who_may_not_have_all_of_it_has_none_of_it(shop):
    nobody = await shop.client.get("/api/pages/order/ord_1")
    assert (nobody.status_code, nobody.json()["code"]) == (401, "UNAUTHENTICATED")
    assert "www-authenticate" in nobody.headers
    some = await shop.client.get("/api/pages/order/ord_1", headers=bearer(token(scope="orders:read products:read")))
    assert (some.status_code, some.json()["code"]) == (403, "FORBIDDEN")
    assert "payments:read" in some.json()["detail"]
    assert shop.services.calls == []


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (refused, 503, "UPSTREAM_UNAVAILABLE"),
        (says(500, {}), 502, "UPSTREAM_ERROR"),
        (says(200, {"nonsense": 1}), 502, "UPSTREAM_BAD_RESPONSE"),
        (hangs, 504, "UPSTREAM_TIMEOUT"),
    ],
)
async def test_what_fails_is_a_problem_with_the_failure_s_status(tmp_path, behaviour, status, code):
    quick = {"payments": {"timeout": "500ms", "retry": {"attempts": 1}}}
    shop = shop_of(tmp_path, ORDER, services=quick)
    shop.services.payments.fail(behaviour)
    answer = await shop.client.get("/api/pages/order/ord_1", headers=operator())
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert problem["service"] == "payments"
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("#/order/payment", code)]


async def test_when_to_come_again_is_said_where_it_is_known(tmp_path):
    left_alone = {"breaker": {"minimum": 1, "open": "30s"}, "retry": {"attempts": 1}}
    shop = shop_of(tmp_path, ORDER, services={"payments": left_alone})
    shop.services.payments.fail(refused)
    assert "retry-after" not in (await shop.client.get("/api/pages/order/ord_1", headers=operator())).headers
    answer = await shop.client.get("/api/pages/order/ord_1", headers=operator())
    assert (answer.status_code, answer.json()["phase"]) == (503, "breaker")
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert "retry_after" not in answer.json()
    shop = shop_of(tmp_path, ORDER, mode="off")
    shop.services.payments.fail(says(429, {}, **{"retry-after": "7"}))
    answer = await shop.client.get("/api/pages/order/ord_1", headers=operator())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    partial = await shop.query('{ order(id: "ord_1") { id payment { status } } }', headers=operator())
    assert partial.errors[0]["extensions"]["retry_after"] == 7


async def test_where_parts_will_do_the_rest_is_answered_and_says_what_is_missing(shop):
    shop.services.payments.fail(refused)
    answer = await shop.client.get("/api/pages/part/ord_1", headers=operator())
    assert (answer.status_code, answer.json()) == (200, {"order": {"id": "ord_1", "payment": None}})
    assert answer.headers["x-incomplete"] == "order.payment;code=UPSTREAM_UNAVAILABLE"
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    denied = await shop.client.get("/api/pages/part/ord_1", headers=bearer(token(scope="orders:read orders:admin")))
    assert denied.headers["x-incomplete"] == "order.payment;code=FORBIDDEN"
    shop.services.orders.fail(refused)
    nothing = await shop.client.get("/api/pages/part/ord_1", headers=operator())
    assert (nothing.status_code, nothing.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")


async def test_a_client_that_leaves_ends_the_calls(tmp_path):
    shop = shop_of(tmp_path, PRODUCTS)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(*_):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def receive():
        await begun.wait()
        return {"type": "http.disconnect"}

    shop.services.products.fail(slow)
    path = "/api/pages/products"
    scope = {"type": "http", "method": "GET", "http_version": "1.1", "scheme": "http", "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"gateway")]}
    async with asyncio.timeout(20):
        await shop.app(scope, receive, None)
        await ended.wait()
    assert [line["status"] for line in shop.access] == [499]


async def test_a_partner_needs_both_the_path_and_the_fields(tmp_path):
    both = ["GET /api/pages/**", "Order.*", "!Order.payment", "Payment.*", "Product.*", "Query.*"]
    shop = shop_of(
        tmp_path,
        ORDER,
        PRODUCTS,
        entitlements={"some": both, "fields": ["Product.*", "Query.products"]},
        tiers={"partner": {"rate": ["1000/minute"], "entitlements": "some"}},
    )
    assert (await shop.client.get("/api/pages/products", headers=partner())).status_code == 200
    refused = await shop.client.get("/api/pages/order/ord_1", headers=partner())
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    shop = shop_of(
        tmp_path,
        entitlements={"fields": ["Product.*", "Query.products"]},
        tiers={"partner": {"rate": ["1000/minute"], "entitlements": "fields"}},
    )
    assert (await shop.client.get("/api/pages/products", headers=partner())).status_code == 403


async def test_it_costs_what_the_operation_costs_on_the_same_account(tmp_path):
    shop = shop_of(tmp_path, PRODUCTS, tiers={"anonymous": {"rate": ["1000/minute"]}}, mode="off")
    left = []
    for first in (1, 100):
        answer = await shop.client.get(f"/api/pages/products?first={first}")
        left.append(int(re.search(r";r=(\d+);", answer.headers["ratelimit"])[1]))
    graphql = await shop.query(PRODUCTS.replace(REST_OF_PRODUCTS, ""), {"first": 100})
    left.append(int(re.search(r";r=(\d+);", graphql.headers["ratelimit"])[1]))
    # 100 products are two units at worst, of which one is given back since there are fewer.
    assert left == [999, 999 - 2, 999 - 1 - 2]
    refused = shop_of(tmp_path, tiers={"anonymous": {"rate": ["1/minute"]}})
    answer = await refused.client.get("/api/pages/products?first=100")
    assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
    assert "retry-after" in answer.headers


async def test_logs_and_metrics_call_it_by_its_name(shop):
    await shop.client.get("/api/pages/products")
    line = shop.access[-1]
    assert (line["route"], line["operation"], line["path"]) == ("ProductPage", "ProductPage", "/api/pages/products")


async def test_the_document_is_still_one_that_can_be_sent_by_its_id(shop):
    answer = await shop.client.post("/graphql", json={"id": sha256_of(PRODUCTS)}, headers=operator())
    assert answer.json()["data"]["products"]["nodes"]


async def test_a_stranger_s_document_with_rest_is_no_document():
    answer = await gateway().query(PRODUCTS)
    assert answer.codes == ["GRAPHQL_VALIDATION_FAILED"]


BAD = {
    "needs a path": ("query A @rest { me { id } }", "@rest needs a path"),
    "no such argument": ('query A @rest(paht: "/a") { me { id } }', "no argument `paht`; did you mean `path`?"),
    "no name": ('query @rest(path: "/a") { me { id } }', "needs a name"),
    "no variable": ('query A @rest(path: "/a/{id}") { me { id } }', "`path` captures {id}, and there is no $id"),
    "method": ('query A @rest(method: PUT, path: "/a") { me { id } }', "a query is asked for by GET or POST"),
    "mutation by GET": (
        'mutation A($id: ID!) @rest(method: GET, path: "/a/{id}") { cancelOrder(id: $id) { id } }',
        "a mutation is asked for by DELETE or PATCH or POST or PUT",
    ),
    "subscription": (
        'subscription A($id: ID!) @rest(path: "/a/{id}") { orderStatusChanged(id: $id) { id } }',
        "a subscription cannot be answered",
    ),
    "path": ('query A @rest(path: "a") { me { id } }', "`path` must begin with /"),
    "cache": ('query A @rest(path: "/a", cache: "for ever") { me { id } }', "`cache` has 'for ever'"),
    "cache of all": (
        'query A($id: ID!) @rest(path: "/a/{id}", cache: "public") { order(id: $id) { id } }',
        "`cache` is for anybody, and",
    ),
    "status": ('query A @rest(path: "/a", status: 500) { me { id } }', "`status` must be"),
    "flag": ('query A @rest(path: "/a", unwrap: 1) { me { id } }', "`unwrap` must be true or false"),
    "unwrap": (
        'query A @rest(path: "/a", unwrap: true) { me { id } other: me { id } }',
        "`unwrap` is for an operation",
    ),
    "twice": ('query A @rest(path: "/a") @rest(path: "/b") { me { id } }', "@rest may be there once"),
    "body of GET": ('query A($b: ID!) @rest(path: "/a", body: "b") { node(id: $b) { id } }', "`body` is for"),
    "body that is none": (
        'mutation A($id: ID!) @rest(path: "/a/{id}", body: "id") { cancelOrder(id: $id) { id } }',
        "`body` names $id",
    ),
    "object in the query": (
        'mutation A($i: PlaceOrderInput!) @rest(method: DELETE, path: "/a") { placeOrder(input: $i) { id } }',
        "$i cannot be written in the query",
    ),
    "list in the path": ('query A($i: [ID!]!) @rest(path: "/a/{i}") { nodes(ids: $i) { id } }', "$i is a list"),
    "two of a name": ('query A @rest(path: "/a") { me { id } }\nquery A @rest(path: "/b") { me { id } }', "A"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_directive_that_makes_no_sense_is_an_error_at_the_start(tmp_path, text, message):
    with pytest.raises(DocumentsError) as error:
        shop_of(tmp_path, text)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_routes_that_take_each_other_s_requests_are_an_error_at_the_start(tmp_path):
    page = 'query A($id: ID!) @rest(path: "/api/pages/{id}") { product(id: $id) { id } }'
    same = page.replace("query A", "query B")
    with pytest.raises(ConfigError, match="A and B could both match"):
        shop_of(tmp_path, page, same)
    with pytest.raises(ConfigError, match="a route has this name already"):
        shop_of(tmp_path, page.replace("query A", "query users"), "query B { me { id } }")
