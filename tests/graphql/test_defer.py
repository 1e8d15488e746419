"""@defer: what is there is answered at once, the rest in parts, and every part under the rules of the first."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.graphql.test_endpoint import scope
from tests.harness import customer, gateway, operator
from tests.shop import hangs, says

NEW = {"accept": "multipart/mixed;incrementalSpec=v0.2, application/json"}
OLD = {"accept": "multipart/mixed;deferSpec=20220824,application/graphql-response+json,application/json;q=0.9"}
PAYMENT = """query Slow { order(id: "ord_1") { id ...Late @defer(label: "late") } }
    fragment Late on Order { payment { status } }"""
FOUR_SERVICES = """{ users(first: 10) { nodes { name ... @defer { orders(first: 3) { nodes {
    id items { quantity product { name } } ... @defer { payment { status } } } } } } } }"""
ASKED = {"x-explain": "1"}
WHOLE = {"order": {"id": "ord_1", "payment": {"status": "CAPTURED"}}}


def parts(response) -> list[dict]:
    """The parts of a multipart answer, taken apart strictly (RFC 2046)."""
    kind = response.headers["content-type"]
    assert kind.startswith('multipart/mixed; boundary="-"; ')
    preamble, *middle, end = response.content.split(b"\r\n---")
    assert (preamble, end) == (b"", b"--\r\n")
    found = []
    for each in middle:
        head, _, body = each.partition(b"\r\n\r\n")
        assert head == b"\r\ncontent-type: application/json; charset=utf-8"
        found.append(orjson.loads(body))
    assert [each["hasNext"] for each in found] == [*[True] * (len(found) - 1), False]
    return found


def merged(received: list[dict]) -> dict:
    """What a client makes of parts in the form of 2022."""
    data = received[0]["data"]
    for part in received[1:]:
        for late in part.get("incremental", ()):
            at = data
            for step in late["path"]:
                at = at[step]
            merge(at, late["data"] or {})
    return data


def merge(into, late):
    for name, value in late.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


async def test_the_last_part_explains_all_of_it():
    gate = deferring()
    for accept in (NEW, OLD):
        response = await gate.client.post("/graphql", json={"query": PAYMENT}, headers=operator() | accept | ASKED)
        *before, last = parts(response)
        assert all("extensions" not in each for each in before)
        told = last["extensions"]["explain"]
        assert [row["service"] for row in told["waterfall"]] == ["orders", "payments"]


def deferring(**overrides):
    return gateway(graphql={"defer": True, **overrides.pop("graphql", {})}, **overrides)


async def ask(shop, document, headers, variables=None):
    body = {"query": document, "variables": variables or {}}
    return await shop.client.post("/graphql", json=body, headers={**operator(), **headers})


async def test_what_is_deferred_comes_in_a_part_of_its_own():
    first, last = parts(await ask(deferring(), PAYMENT, NEW))
    assert first == {
        "data": {"order": {"id": "ord_1"}},
        "pending": [{"id": "0", "path": ["order"], "label": "late"}],
        "hasNext": True,
    }
    assert last == {
        "incremental": [{"id": "0", "data": {"payment": {"status": "CAPTURED"}}}],
        "completed": [{"id": "0"}],
        "hasNext": False,
    }


async def test_clients_of_the_earlier_form_get_that():
    answer = await ask(deferring(), PAYMENT, OLD)
    assert answer.headers["content-type"].endswith("; deferSpec=20220824")
    assert parts(answer) == [
        {"data": {"order": {"id": "ord_1"}}, "hasNext": True},
        {
            "incremental": [{"path": ["order"], "label": "late", "data": {"payment": {"status": "CAPTURED"}}}],
            "hasNext": False,
        },
    ]


async def test_the_first_part_is_sent_before_the_slow_service_has_answered():
    shop = deferring()
    answered, arrived = asyncio.Event(), []

    async def slow(*_):
        await answered.wait()

    shop.services.payments.fail(slow)
    messages = [{"type": "http.request", "body": orjson.dumps({"query": PAYMENT})}]

    async def receive():
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message):
        arrived.append(message)
        if message.get("more_body") and not answered.is_set():
            assert b"ord_1" in message["body"]
            assert message["body"].endswith(b"\r\n---"), "clients read no part whose end they have not seen"
            answered.set()

    headers = [(name.encode(), value.encode()) for name, value in (operator() | NEW).items()]
    async with asyncio.timeout(20):
        await shop.app(scope(shop.app, headers), receive, send)
    assert arrived[-1] == {"type": "http.response.body", "body": b"--\r\n"}


async def test_deferred_lists_cost_as_many_calls_as_if_nothing_were_deferred():
    shop = deferring()
    received = parts(await ask(shop, FOUR_SERVICES, OLD))
    assert await shop.attempts() == {"users": 1, "products": 1, "orders": 1, "payments": 1}
    whole = (await deferring().query(FOUR_SERVICES, headers=operator())).data
    assert merged(received) == whole


@pytest.mark.parametrize(
    "accept",
    ["application/json", "application/graphql-response+json", "*/*", "multipart/mixed;subscriptionSpec=1.0, */*"],
)
async def test_who_does_not_take_parts_gets_the_whole_from_the_usual_engine(accept):
    shop = deferring()
    answer = await ask(shop, PAYMENT, {"accept": accept})
    assert answer.json() == {"data": WHOLE}
    assert sum((await shop.metrics("graphql_fallbacks_total")).values()) == 0


async def test_an_operation_that_defers_nothing_is_answered_whole_also_to_those_who_take_parts():
    shop = deferring()
    for condition in ("false", "$late"):
        document = f'query Q($late: Boolean = false) {{ order(id: "ord_1") {{ id ... @defer(if: {condition}) '
        document += "{ payment { status } } } a: __typename @include(if: $late) }"
        answer = await ask(shop, document, NEW)
        assert answer.json() == {"data": WHOLE}
    assert (await ask(shop, '{ order(id: "ord_1") { id } }', NEW)).json() == {"data": {"order": {"id": "ord_1"}}}


async def test_who_takes_parts_alone_is_told_what_else_to_accept():
    answer = await ask(deferring(), PAYMENT, {"accept": "multipart/mixed"})
    assert answer.status_code == 406


async def test_operations_in_a_batch_are_answered_whole():
    shop = deferring()
    answer = await shop.client.post("/graphql", json=[{"query": PAYMENT}] * 2, headers={**operator(), **NEW})
    assert answer.json() == [{"data": WHOLE}] * 2


async def test_graphql_core_executes_what_defers_and_that_is_counted():
    shop = deferring()
    parts(await ask(shop, PAYMENT, NEW))
    assert (await shop.metrics("graphql_fallbacks_total"))[("reason", "defer or stream"),] == 1
    assert [line["operation"] for line in shop.access] == ["Slow"]


@pytest.mark.parametrize("profile", ["production", "development"])
async def test_it_is_off_and_then_a_directive_like_any_that_is_not_known(profile):
    shop = gateway(profile=profile)
    answer = await ask(shop, PAYMENT, NEW)
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert "@defer" in error["message"]
    assert shop.services.calls == []


async def test_stream_is_not_known_and_subscriptions_defer_nothing():
    answer = await ask(deferring(), "{ users { nodes @stream { id } } }", NEW)
    assert "@stream" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("accept", [NEW, OLD], ids=["new", "old"])
async def test_errors_in_a_part_have_their_code_and_service_or_are_masked(accept):
    shop = deferring()
    shop.services.payments.fail(says(503, {}))
    _, last = parts(await ask(shop, PAYMENT, accept))
    (late,) = last["incremental"]
    assert late["data"] == {"payment": None}
    (error,) = late["errors"]
    assert error["path"] == ["order", "payment"]
    assert error["extensions"].items() >= {"code": "UPSTREAM_ERROR", "service": "payments"}.items()

    async def broken(*_):
        raise RuntimeError("a secret address: 10.0.0.1")

    shop.services.payments.fail(broken)
    answer = await ask(shop, PAYMENT, accept)
    (error,) = parts(answer)[-1]["incremental"][0]["errors"]
    assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert error["extensions"]["request_id"] == answer.headers["x-request-id"]
    assert "10.0.0.1" not in answer.text


async def test_a_part_that_cannot_be_null_fails_as_a_whole_with_its_errors_placed():
    shop = deferring()
    shop.services.products.fail(says(500, {}))
    document = "{ __typename ... @defer { products { nodes { id } } } }"
    _, last = parts(await ask(shop, document, NEW))
    (completed,) = last["completed"]
    assert completed["errors"][0]["extensions"]["code"] == "UPSTREAM_ERROR"
    shop.services.products.fail(says(500, {}))
    _, last = parts(await ask(shop, document, OLD))
    (late,) = last["incremental"]
    assert (late["path"], late["data"]) == ([], None)
    assert late["errors"][0]["extensions"]["code"] == "UPSTREAM_ERROR"


async def test_who_may_not_see_a_field_may_not_see_it_later_either():
    shop = deferring()
    document = '{ __typename ... @defer { order(id: "ord_1") { id } } }'
    answer = await shop.client.post("/graphql", json={"query": document}, headers=NEW)
    (late,) = parts(answer)[-1]["incremental"]
    assert late["data"] == {"order": None}
    assert late["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    answer = await shop.client.post("/graphql", json={"query": PAYMENT}, headers={**customer("usr_99"), **NEW})
    assert b"CAPTURED" not in answer.content


async def test_what_is_deferred_counts_under_the_limits():
    shop = deferring(graphql={"limits": {"depth": 3}})
    answer = await ask(shop, FOUR_SERVICES, NEW)
    assert answer.json()["errors"][0]["extensions"]["code"] == "MAX_DEPTH_LIMIT"
    shop = deferring(graphql={"limits": {"directives": 1}})
    answer = await ask(shop, FOUR_SERVICES, NEW)
    assert answer.json()["errors"][0]["extensions"]["code"] == "MAX_DIRECTIVES_LIMIT"


async def test_the_deadline_of_the_operation_holds_for_its_parts():
    shop = deferring(graphql={"timeout": "1s"})
    shop.services.payments.fail(hangs)
    async with asyncio.timeout(20):
        _, last = parts(await ask(shop, PAYMENT, NEW))
    (error,) = last["incremental"][0]["errors"]
    assert error["extensions"]["code"] == "DEADLINE_EXCEEDED"


async def test_when_the_client_leaves_between_parts_the_calls_are_cancelled():
    shop = deferring()
    begun, ended, first = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(*_):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    shop.services.payments.fail(slow)
    messages = [{"type": "http.request", "body": orjson.dumps({"query": PAYMENT})}]

    async def receive():
        if messages:
            return messages.pop()
        await first.wait()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            first.set()

    headers = [(name.encode(), value.encode()) for name, value in (operator() | NEW).items()]
    async with asyncio.timeout(20):
        await shop.app(scope(shop.app, headers), receive, send)
        await ended.wait()
    assert [line["status"] for line in shop.access] == [499]


async def test_variables_that_do_not_fit_are_one_answer():
    document = "query Q($id: ID!) { order(id: $id) { id ... @defer { payment { status } } } }"
    answer = await ask(deferring(), document, NEW, {"id": None})
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
