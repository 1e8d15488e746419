"""Requests of any size and shape: hostile JSON, and batches of operations that share what they read."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.harness import FOUR_SERVICES, gateway, operator

JSON = {"content-type": "application/json"}


async def post(shop, operations, **headers):
    return await shop.client.post("/graphql", content=orjson.dumps(operations), headers=JSON | headers)


@pytest.mark.parametrize("profile", ["development", "production"])
@pytest.mark.parametrize(
    "variables",
    [b'{"n": ' + b"9" * 50_000 + b"}", b'{"n": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"n": ' + b"[" * 20_000],
    ids=["digits", "lists", "no end"],
)
async def test_numbers_without_end_and_lists_without_bottom_are_bad_requests(profile, variables):
    shop = gateway(profile=profile)
    body = b'{"query": "query ($n: Int) { __typename }", "variables": ' + variables + b"}"
    response = await shop.client.post("/graphql", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert len(response.content) < 500


async def test_a_hundred_thousand_digits_are_refused_before_they_are_read():
    response = await gateway().client.post(
        "/graphql", content=b'{"query":"{__typename}","variables":{"n":' + b"9" * 100_000 + b"}}", headers=JSON
    )
    assert response.status_code == 413
    shop = gateway(graphql={"limits": {"size": "1MB"}})
    response = await shop.client.post(
        "/graphql", content=b'{"query":"{__typename}","variables":{"n":' + b"9" * 100_000 + b"}}", headers=JSON
    )
    assert response.status_code == 400


@pytest.mark.parametrize("mode", ["off", "measure"])
async def test_variables_that_no_executor_could_read_are_refused_in_every_mode(mode):
    shop = gateway(graphql={"limits": {"mode": mode}})
    nested = []
    for _ in range(500):
        nested = [nested]
    answer = await shop.query("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": nested})
    assert answer.codes == ["MAX_DEPTH_LIMIT"]


async def test_queries_of_a_batch_share_what_they_read():
    shop = gateway()
    response = await post(shop, [{"query": FOUR_SERVICES}] * 3, **operator())
    assert [answer["data"]["users"]["nodes"][0]["name"] for answer in response.json()] == ["User 1"] * 3
    counted = {
        service: sum(call.service == service for call in shop.services.calls) for service in ("users", "payments")
    }
    assert counted["payments"] == 1, "a batched read is made once"
    assert shop.access[-1]["operation"] == "batch"


async def test_what_one_of_a_batch_is_refused_or_fails_is_its_own_affair():
    shop = gateway()
    batch = [
        {"query": '{ product(id: "prd_1") { id } }'},
        {"query": "{ nothing }"},
        {"query": "{"},
        {"query": "{ me { id } }"},
        {"query": "query ($id: ID!) { product(id: $id) { id } }", "variables": {"id": []}},
    ]
    response = await post(shop, batch, accept="application/graphql-response+json")
    assert response.status_code == 200
    first, *others = response.json()
    assert first == {"data": {"product": {"id": "prd_1"}}}
    assert [answer["errors"][0]["extensions"]["code"] for answer in others] == [
        "GRAPHQL_VALIDATION_FAILED",
        "GRAPHQL_PARSE_FAILED",
        "UNAUTHENTICATED",
        "BAD_USER_INPUT",
    ]


async def test_a_mutation_in_a_batch_does_not_see_what_queries_beside_it_have_read():
    shop = gateway()
    batch = [
        {"query": '{ order(id: "ord_1") { status } }'},
        {"query": 'mutation { cancelOrder(id: "ord_1") { status } }'},
    ]
    response = await post(shop, batch, **operator())
    assert [next(iter(answer["data"].values()))["status"] for answer in response.json()][1] == "CANCELLED"


async def test_when_the_client_leaves_a_batch_all_of_it_ends():
    shop = gateway()
    begun, ended = asyncio.Event(), []

    async def slow(*_):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    shop.services.products.fail(slow)
    shop.services.orders.fail(slow)
    asked = asyncio.create_task(
        post(
            shop,
            [{"query": '{ product(id: "prd_1") { id } }'}, {"query": '{ order(id: "ord_1") { id } }'}],
            **operator(),
        )
    )
    await begun.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.sleep(0)
    assert len(ended) == 2


@pytest.mark.parametrize("rule", ["depth", "aliases", "root_fields", "tokens", "directives", "list_size"])
async def test_each_rule_has_a_mode_of_its_own(rule):
    broken = {
        "depth": "{ me { orders { nodes { customer { id } } } } }",
        "aliases": "{ a: __typename b: __typename c: __typename }",
        "root_fields": '{ __typename me { id } product(id: "prd_1") { id } order(id: "ord_1") { id } }',
        "tokens": "{ __typename " + " ".join('n: node(id: "prd_1") { id }' for _ in range(15)) + "}",
        "directives": "{ __typename @skip(if: false) @include(if: true) __typename @skip(if: false) }",
        "list_size": '{ nodes(ids: ["prd_1", "prd_2", "prd_3"]) { id } }',
    }[rule]
    limits = {"depth": 3, "aliases": 2, "root_fields": 3, "tokens": 60, "directives": 2, "list_size": 2}
    alone = {"limits": {rule: limits[rule]}}
    for modes, refused, counted in [
        ({"mode": "enforce"}, True, 1),
        ({"mode": "enforce", "modes": {rule: "measure"}}, False, 1),
        ({"mode": "enforce", "modes": {rule: "off"}}, False, 0),
        ({"mode": "off", "modes": {rule: "enforce"}}, True, 1),
        ({"mode": "measure", "modes": {rule: "off"}}, False, 0),
    ]:
        shop = gateway(graphql={"limits": alone["limits"] | modes})
        answer = await shop.query(broken, headers=operator())
        assert (answer.codes[:1] == [f"MAX_{rule.upper()}_LIMIT"]) is refused, (modes, answer.errors)
        over = await shop.metrics("graphql_documents_over_limit_total")
        assert over[("rule", rule),] == counted, modes
