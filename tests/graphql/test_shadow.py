"""`graphql.executor`: the engine, graphql-core instead of it, or both for a sample of queries."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from graphql import ExecutionResult, GraphQLError

from bff.engine import kernels
from bff.engine.executor import BreadthFirst
from bff.graphql.shadow import difference
from tests.harness import FOUR_SERVICES, gateway, operator

ALL = {"sample": 1}
CANCEL = 'mutation { cancelOrder(id: "ord_1") { status } }'


async def outcomes(shop) -> dict[str, float]:
    found = await shop.metrics("graphql_shadow_total")
    return {dict(labels)["outcome"]: value for labels, value in found.items() if value}


async def settled(shop, queries: int = 1) -> None:
    for _ in range(200):
        if sum((await outcomes(shop)).values()) == queries:
            return
        await asyncio.sleep(0.01)


async def test_graphql_core_executes_everything_where_it_is_told_to(monkeypatch):
    answers = await gateway().query(FOUR_SERVICES, headers=operator())
    monkeypatch.setattr(BreadthFirst, "execute_operation", None)
    shop = gateway(graphql={"executor": "standard"})
    same = await shop.query(FOUR_SERVICES, headers=operator())
    assert (same.data, same.errors) == (answers.data, [])
    cancelled = await shop.query(CANCEL, headers=operator())
    assert cancelled.errors == [] or cancelled.codes == ["CONFLICT"]


async def test_a_shadow_asks_graphql_core_too_and_finds_the_same():
    shop = gateway(graphql={"executor": "shadow", "shadow": ALL})
    assert (await shop.query(FOUR_SERVICES, headers=operator())).errors == []
    await settled(shop)
    assert await outcomes(shop) == {"same": 1}
    assert Counter(call.service for call in shop.services.calls) >= Counter(users=2, orders=2, products=2, payments=2)


async def test_a_difference_is_counted_and_the_log_says_which_query_and_where(monkeypatch):
    right = kernels.attributes

    def wrong(name):
        return (lambda rows: [str(n) for n, _ in enumerate(rows)]) if name == "name" else right(name)

    monkeypatch.setattr(kernels, "attributes", wrong)
    shop = gateway(graphql={"executor": "shadow", "shadow": ALL})
    await shop.query("query Names { users(first: 2) { nodes { id name } } }", headers=operator())
    await settled(shop)
    assert await outcomes(shop) == {"different": 1}
    (line,) = [line for line in shop.log if line["event"] == "shadow_difference"]
    assert (line["operation"], line["at"]) == ("Names", "data.users.nodes.0.name")
    assert len(line["document"]) == 64
    assert line["request_id"]


async def test_a_mutation_is_never_made_twice():
    shop = gateway(graphql={"executor": "shadow", "shadow": ALL})
    await shop.query(CANCEL, headers=operator())
    await asyncio.sleep(0.05)
    assert shop.services.targets == ["POST /orders/ord_1/cancel"]
    assert await outcomes(shop) == {}


async def test_a_shadow_follows_the_share_that_it_is_told():
    shop = gateway(graphql={"executor": "shadow", "shadow": {"sample": 0}})
    await shop.query('{ product(id: "prd_1") { id } }', headers=operator())
    await asyncio.sleep(0.05)
    assert len(shop.services.calls) == 1
    assert await outcomes(shop) == {}


async def test_more_shadows_than_are_allowed_are_skipped():
    shop = gateway(graphql={"executor": "shadow", "shadow": {"sample": 1, "max_running": 1}})
    text = '{ product(id: "prd_1") { id } }'
    await asyncio.gather(*(shop.query(text, headers=operator()) for _ in range(20)))
    await settled(shop, 20)
    counted = await outcomes(shop)
    assert counted["same"] >= 1
    assert sum(counted.values()) == 20


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        ({"a": [1, 2]}, {"a": [1, 2]}, None),
        ({"a": [1, 2]}, {"a": [1, 3]}, "data.a.1"),
        ({"a": [1, 2]}, {"a": [1]}, "data.a"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "data"),
        ({"a": None}, {"a": {}}, "data.a"),
        (None, {"a": 1}, "data"),
    ],
)
def test_where_two_results_differ(one, other, place):
    assert difference(ExecutionResult(one), ExecutionResult(other)) == place


def test_an_error_that_only_one_has_is_a_difference():
    assert difference(ExecutionResult({"a": None}, [GraphQLError("no")]), ExecutionResult({"a": None})) == "errors"


async def test_nothing_that_the_shipped_schema_can_be_asked_is_left_to_graphql_core():
    shop = gateway()
    for text in (
        FOUR_SERVICES,
        CANCEL,
        '{ me { id } nodes(ids: ["usr_1", "prd_1"]) { id __typename } }',
        "{ __schema { types { name } } }",
    ):
        await shop.query(text, headers=operator())
    assert sum((await shop.metrics("graphql_fallbacks_total")).values()) == 0
