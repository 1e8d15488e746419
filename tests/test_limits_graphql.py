"""GraphQL pays what an operation costs into the account that REST pays into."""

from __future__ import annotations

import re

import pytest

from bff.core.identity import ANONYMOUS
from bff.graphql.charges import Charges
from bff.graphql.request import from_parameters
from tests.harness import FOUR_SERVICES, gateway, operator, partner
from tests.live.conftest import live
from tests.live.socket import Socket
from tests.live.test_subscriptions import status, watch

WIDE = "{ products(first: 100) { nodes { id } } }"
DEEP = "{ users(first: 20) { nodes { orders(first: 20) { nodes { id } } } } }"


def left(response):
    return int(re.search(r"r=(\d+)", response.headers["ratelimit"])[1])


async def ask(shop, document, headers=None, **more):
    return await shop.client.post(
        "/graphql", json={"query": document, **more}, headers={**partner(), **(headers or {})}
    )


async def test_an_operation_takes_its_estimate_before_any_call_and_is_given_back_what_it_did_not_use():
    shop = gateway()
    answer = await ask(shop, DEEP, {"x-cost": "1"})
    told = answer.json()["extensions"]["cost"]
    assert told["estimated"] > 400 > told["actual"] > 0
    reserved = -(-told["estimated"] // 100)
    assert left(answer) == 1000 - reserved, "headers say what is left at the decision"
    assert told["units"] == max(1, -(-told["actual"] // 100))
    assert told["remaining"] == 1000 - told["units"]
    rest = await shop.client.get("/api/products/prd_1", headers=partner())
    assert left(rest) == 1000 - told["units"] - 1, "and REST pays from what was settled"


async def test_who_spends_half_by_graphql_has_half_left_on_rest():
    shop = gateway(tiers={"partner": {"rate": ["10/minute"]}})
    for _ in range(5):
        await ask(shop, "{ __typename }")
    assert [(await shop.client.get("/api/products/prd_1", headers=partner())).status_code for _ in range(6)] == [
        *[200] * 5,
        429,
    ]


async def test_an_operation_that_cannot_be_paid_makes_no_call_and_costs_the_floor():
    shop = gateway(tiers={"partner": {"rate": ["6/minute"]}})
    await ask(shop, "{ __typename }")
    await ask(shop, "{ __typename }")
    refused = await ask(shop, DEEP, {"accept": "application/graphql-response+json"})
    assert refused.status_code == 429
    (error,) = refused.json()["errors"]
    assert error["extensions"] == {
        "code": "RATE_LIMITED",
        "violated-policies": ["partner-60"],
        "retry_after": int(refused.headers["retry-after"]),
    }
    assert refused.headers.get_list("ratelimit") == [refused.headers["ratelimit"]]
    assert left(refused) == 3
    assert shop.services.calls == []


@pytest.mark.parametrize(
    ("document", "code"),
    [("{", "GRAPHQL_PARSE_FAILED"), ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"), (DEEP, "COST_LIMIT_EXCEEDED")],
)
async def test_what_is_refused_before_it_is_executed_costs_the_floor(document, code):
    shop = gateway(graphql={"limits": {"cost": 300}})
    answer = await ask(shop, document)
    assert answer.json()["errors"][0]["extensions"]["code"] == code
    assert left(answer) == 999
    assert shop.services.calls == []


async def test_what_is_past_the_cost_limit_where_that_is_measured_costs_as_much_as_the_limit():
    shop = gateway(graphql={"limits": {"cost": 300, "modes": {"cost": "measure"}}})
    assert left(await ask(shop, DEEP)) == 997


async def test_a_batch_costs_the_sum_of_its_operations():
    shop = gateway()
    asked = [{"query": WIDE}, {"query": "{ __typename }"}, {"query": "{"}, {"query": DEEP}]
    costs = []
    for document in (WIDE, DEEP):
        alone = gateway()
        costs.append(1000 - left(await ask(alone, document)))
    answer = await shop.client.post("/graphql", json=asked, headers=partner())
    assert answer.status_code == 200
    assert left(answer) == 1000 - sum(costs) - 2, "what is refused in it costs the floor"


async def test_actual_cost_is_never_more_than_the_estimate_and_is_that_of_what_is_there():
    shop = gateway()
    answer = (
        await shop.client.post("/graphql", json={"query": FOUR_SERVICES}, headers={**operator(), "x-cost": "1"})
    ).json()
    told, users = answer["extensions"]["cost"], answer["data"]["users"]["nodes"]
    orders = [order for user in users for order in user["orders"]["nodes"]]
    items = [item for order in orders for item in order["items"]]
    assert len(users) + len(orders) + 2 * len(items) <= told["actual"] <= told["estimated"]
    assert "extensions" not in (await ask(shop, FOUR_SERVICES)).json()


async def test_what_an_answer_came_to_is_never_more_than_the_estimate_whatever_types_it_is_of():
    shop = gateway()
    document = """{ nodes(ids: ["prd_1", "prd_2"]) {
      ... on Product { id } ... on User { orders(first: 100) { nodes { id } } } } }"""
    told = (await ask(shop, document, {"x-cost": "1"})).json()["extensions"]["cost"]
    assert told["actual"] <= told["estimated"]


class Paid:
    """A tab."""

    def __init__(self, taken):
        self.taken = taken

    def settle(self, cost):
        self.taken = cost


async def test_of_an_operation_that_was_executed_and_came_to_nothing_nothing_is_given_back():
    shop = gateway()
    graphql = next(layer for layer in shop.layers if hasattr(layer, "fronts")).fronts["graphql"]
    execution = getattr(graphql, "app", graphql).execution
    prepared = execution.prepare(from_parameters({"query": DEEP}), ANONYMOUS)
    for result, units in (({"data": None}, 5), ({"data": {"users": {"nodes": []}}}, 1), ({"errors": []}, 1)):
        tab = Paid(5)
        Charges(20_000).settle(tab, [prepared], [result])
        assert tab.taken == units, result


async def test_the_page_and_assets_of_graphiql_and_refused_requests_cost_no_more_than_the_floor():
    shop = gateway()
    assert (
        left(
            await shop.client.post("/graphql", content=b"{", headers={**partner(), "content-type": "application/json"})
        )
        == 999
    )
    assert left(await shop.client.get("/graphql", headers={**partner(), "accept": "text/html"})) == 998


async def test_an_exhausted_account_is_refused_before_its_document_is_looked_at():
    shop = gateway(tiers={"partner": {"rate": ["1/minute"]}})
    await ask(shop, "{ __typename }")
    assert (await ask(shop, "{")).status_code == 429


# Over connections that stay.


async def test_a_subscription_pays_for_its_beginning_and_for_each_event_and_ends_when_it_cannot():
    one = live(tiers={"default": {"rate": ["4/minute"]}})
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        await watch(socket)  # 1, and 1 for the first event
        assert await status(socket) == "PENDING"
        one.events.advance("ord_1")
        assert await status(socket) == "PAID"
        one.events.advance("ord_1")
        assert await status(socket) == "SHIPPED"
        one.events.advance("ord_1")
        message = await socket.hear()
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "RATE_LIMITED")
        await socket.subscribe("2", "{ __typename }")
        assert (await socket.hear())["payload"][0]["extensions"]["violated-policies"] == ["default-60"]
    (refused, _) = [line for line in one.gateway.log if line["event"] == "limited"]
    assert refused["policies"] == ["default-60"]


async def test_a_subscription_that_cannot_be_paid_is_429_as_an_event_stream():
    shop = gateway(tiers={"default": {"rate": ["1/minute"]}})
    body = {"query": 'subscription { orderStatusChanged(id: "ord_1") { id } }'}
    headers = {**operator(), "accept": "text/event-stream"}
    await shop.client.post("/graphql", json={"query": "{ __typename }"}, headers=operator())
    refused = await shop.client.post("/graphql", json=body, headers=headers)
    assert refused.status_code == 429
    assert refused.json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_a_refused_document_over_a_socket_costs_the_floor():
    one = live(tiers={"default": {"rate": ["2/minute"]}})
    async with Socket(one.gateway.app, headers=operator()) as socket:
        await socket.init()
        codes = []
        for id in ("1", "2", "3"):
            await socket.subscribe(id, "{ nothing }")
            codes.append((await socket.hear())["payload"][0]["extensions"]["code"])
        assert codes == ["GRAPHQL_VALIDATION_FAILED", "GRAPHQL_VALIDATION_FAILED", "RATE_LIMITED"]
