"""What operators see in numbers: each is what happened, its series are few, and a slow one leads to its trace."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bff.core.waits import Waits
from tests import shop as fake
from tests.harness import FOUR_SERVICES, customer, gateway, operator

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def slow(seconds):
    async def wait(*_):
        await asyncio.sleep(seconds)

    return wait


async def labelled(shop, name, label):
    """The samples of a metric by one of its labels."""
    found = {}
    for labels, value in (await shop.metrics(name)).items():
        key = dict(labels)[label]
        found[key] = found.get(key, 0) + value
    return found


async def test_four_hundred_distinct_paths_add_at_most_twenty_series():
    shop = gateway()
    for path in ("/api/products/prd_1", "/api/products/prd_0", "/nowhere"):
        await shop.client.get(path)
    before = (await shop.admin.get("/metrics")).text.splitlines()
    for n in range(200):
        await shop.client.get(f"/api/products/prd_{n}")
        await shop.client.get(f"/nowhere/{n}")
    after = (await shop.admin.get("/metrics")).text.splitlines()
    new = {line.split(" ")[0] for line in after} - {line.split(" ")[0] for line in before}
    assert len(new) <= 20
    assert not [each for each in new if "prd_" in each or "nowhere" in each]


async def test_calls_are_counted_by_service_target_and_outcome():
    shop = gateway()
    shop.services.payments.fail(fake.refused)
    await shop.client.get("/api/payments/pay_1", headers=customer())
    await shop.client.get("/api/products/prd_1")
    counts = await shop.metrics("http_client_request_duration_seconds_count")
    assert {
        tuple(dict(labels)[each] for each in ("service", "target", "outcome")): n for labels, n in counts.items()
    } == {
        ("payments", "http://payments.internal", "failed"): 2,
        ("products", "http://products.internal", "2xx"): 1,
    }


async def test_batches_are_measured_by_their_keys():
    shop = gateway()
    await shop.query(FOUR_SERVICES, headers=operator())
    counts = await labelled(shop, "bff_batch_keys_count", "batch")
    assert counts == {"orders.orders_by_user": 1, "products.product_by_id": 1, "payments.payment_by_order": 1}


async def test_what_a_request_has_read_already_is_counted():
    shop = gateway()
    await shop.query(
        '{ product(id: "prd_9") { id } order(id: "ord_1") { items { product { id } } } }', headers=customer()
    )
    assert await labelled(shop, "bff_batch_known_keys_total", "batch") == {"products.product_by_id": 1}


async def test_documents_are_counted_by_where_they_were_had():
    shop = gateway()
    for _ in range(3):
        await shop.query("{ __typename }")
    assert await labelled(shop, "graphql_documents_total", "source") == {"parsed": 1, "memory": 2, "trusted": 0}


async def test_errors_within_answers_and_refusals_of_requests_are_counted_by_code():
    shop = gateway()
    shop.services.products.fail(fake.refused)
    await shop.query('{ product(id: "prd_1") { id } }')
    await shop.client.get("/api/users/usr_1")
    assert await labelled(shop, "graphql_errors_total", "code") == {"UPSTREAM_UNAVAILABLE": 1}
    assert await labelled(shop, "http_server_refusals_total", "code") == {"UNAUTHENTICATED": 1}


@pytest.mark.parametrize("ask", ["graphql", "rest"])
async def test_overhead_is_the_time_that_no_service_was_waited_for(ask):
    shop = gateway()
    shop.services.products.fail(slow(0.1))
    if ask == "graphql":
        await shop.query('{ product(id: "prd_1") { id } }')
    else:
        await shop.client.get("/api/products/prd_1")
    (took,) = (await shop.metrics("http_server_request_duration_seconds_sum")).values()
    (overhead,) = (await shop.metrics("bff_overhead_seconds_sum")).values()
    assert took >= 0.1
    assert 0 < overhead < took - 0.09


def test_waits_side_by_side_count_once_and_none_after_the_answer_began():
    now = 0.0
    waits = Waits(lambda: now)
    waits.enter()
    now = 1.0
    waits.enter()
    now = 3.0
    waits.leave()
    now = 4.0
    waits.leave()
    now = 10.0
    waits.enter()
    now = 11.0
    waits.end()
    now = 20.0
    waits.leave()
    assert waits.total == 5.0
    assert waits.begun == 11.0


async def test_whoever_asks_for_openmetrics_finds_a_recorded_trace_in_each_bucket():
    shop = gateway(observability={"traces": {"sample": 0.0}})
    await shop.client.get("/api/products/prd_1", headers=SAMPLED)
    await shop.client.get("/api/products/prd_2")
    answer = await shop.admin.get("/metrics", headers={"accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    exemplars = {
        family.name: sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars == dict.fromkeys(
        ["http_server_request_duration_seconds", "http_client_request_duration_seconds", "bff_overhead_seconds"], TRACE
    )


async def test_who_asks_for_plain_text_gets_no_exemplars():
    shop = gateway()
    await shop.client.get("/api/products/prd_1", headers=SAMPLED)
    answer = await shop.admin.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert TRACE not in answer.text


async def test_a_request_that_its_client_leaves_is_counted_and_not_in_flight_any_more():
    shop = gateway()
    shop.services.products.fail(slow(5))
    task = asyncio.create_task(shop.client.get("/api/products/prd_1"))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert list((await shop.metrics("http_server_active_requests")).values()) == [0]
    assert await labelled(shop, "bff_overhead_seconds_count", "http_route") == {}
