"""What the GraphQL endpoint promises beyond single requests: clients that leave, documents remembered, hostile ones."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from bff.graphql import documents
from bff.upstream.batch import Call
from tests import shop as fake
from tests.harness import FOUR_SERVICES, customer, gateway, operator

NEWER = {"accept": "application/graphql-response+json"}


def scope(app, headers=(), version="1.1"):
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": version,
        "method": "POST",
        "scheme": "http",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "query_string": b"",
        "headers": [(b"host", b"shop"), (b"content-type", b"application/json"), *headers],
        "client": ("192.0.2.1", 4000),
        "server": ("shop", 80),
        "state": {},
        "app": app,
    }


async def test_when_the_client_leaves_the_upstream_calls_are_cancelled():
    shop = gateway()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(*_):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    shop.services.products.fail(slow)
    messages = [{"type": "http.request", "body": orjson.dumps({"query": '{ product(id: "prd_1") { id } }'})}]
    sent = []

    async def receive():
        if messages:
            return messages.pop()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    async with asyncio.timeout(20):
        await shop.app(scope(shop.app), receive, send)
        await ended.wait()
    assert sent == []
    assert [line["status"] for line in shop.access] == [499]
    assert await shop.attempts() == {"products": 1}
    assert {dict(labels)["outcome"] for labels in await shop.metrics("http_client_request_duration_seconds_count")} == {
        "cancelled"
    }


async def test_when_the_client_leaves_while_it_sends_nothing_is_done():
    shop = gateway()
    messages = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"query": "{ __ty', "more_body": True},
    ]
    sent = []

    async def receive():
        return messages.pop()

    async def send(message):
        sent.append(message)

    async with asyncio.timeout(20):
        await shop.app(scope(shop.app), receive, send)
    assert sent == []


@pytest.mark.parametrize("cookie", [None, {"name": "token", "origins": []}])
@pytest.mark.parametrize(("version", "announced"), [("1.1", [(b"transfer-encoding", b"chunked")]), ("2", [])])
async def test_a_body_in_pieces_is_read_whole_and_no_further_than_its_bound(version, announced, cookie):
    shop = gateway(graphql={"limits": {"size": 200}}, auth={"cookie": cookie})
    given = []

    async def ask(pieces):
        given[:] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        given.append({"type": "http.request", "body": b"", "more_body": False})
        sent = []

        async def receive():
            while not given:  # noqa: ASYNC110 - the client stays, and says nothing more
                await asyncio.sleep(1)
            return given.pop(0)

        async def send(message):
            sent.append(message)

        await shop.app(scope(shop.app, announced, version), receive, send)
        return sent[0]["status"], orjson.loads(sent[1]["body"])

    body = orjson.dumps({"query": "{ __typename }"})
    assert await ask([body[:5], b"", body[5:]]) == (200, {"data": {"__typename": "Query"}})
    status, answer = await ask([b" " * 150] * 10)
    assert (status, answer["errors"][0]["extensions"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert len(given) > 5, "what comes after is not read"


async def test_a_document_is_parsed_and_validated_once_however_often_it_is_sent(monkeypatch):
    parsed = []
    original = documents.parse
    monkeypatch.setattr(documents, "parse", lambda text, **options: parsed.append(text) or original(text, **options))
    shop = gateway()
    for n in range(5):
        await shop.query("query ($id: ID!) { product(id: $id) { id } }", {"id": f"prd_{n}"})
        await shop.query("{ nonsense }")
        await shop.query("{")
    assert len(parsed) == 3


async def test_documents_are_forgotten_the_longest_unused_first(monkeypatch):
    parsed = []
    original = documents.parse
    monkeypatch.setattr(documents, "parse", lambda text, **options: parsed.append(text) or original(text, **options))
    shop = gateway(graphql={"memory": {"max_documents": 2}})
    for name in "abacab":
        await shop.query(f"{{ {name}: __typename }}")
    assert [text[2] for text in parsed] == ["a", "b", "c", "b"]


async def test_documents_take_no_more_memory_than_they_may():
    shop = gateway(graphql={"ide": False, "memory": {"max_size": "4KB"}})
    endpoint = next(layer for layer in shop.layers if hasattr(layer, "fronts")).fronts["graphql"]
    remembered = endpoint.execution._documents
    for n in range(50):
        await shop.query(f"{{ a{n}: __typename }} #{'x' * 500}")
    assert sum(len(text) for text in remembered._known) <= 4096
    assert len(remembered._known) >= 5


async def test_callers_share_documents_and_nothing_else():
    shop = gateway()
    document = "{ me { id orders { nodes { id } } } }"
    answers = await asyncio.gather(*(shop.query(document, headers=customer(f"usr_{n}")) for n in range(1, 21)))
    for n, answer in enumerate(answers, 1):
        assert answer.data["me"]["id"] == f"usr_{n}"
        assert [each["id"] for each in answer.data["me"]["orders"]["nodes"]] == [
            f"ord_{n + 500}",
            f"ord_{n + 250}",
            f"ord_{n}",
        ]
    assert len(shop.services.calls) == 40, "and no call serves two callers"


HOSTILE = {
    "braces nested deeply": "{" + "a{" * 2000,
    "lists nested deeply": "{ nodes(ids: " + "[" * 2000 + "]" * 2000 + ") { id } }",
    "fields nested deeply": "{ me { orders { nodes { customer " * 40 + "{ id } " + "} } } }" * 40,
    "fragments in a circle": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
    "a fragment in itself": "{ ...A } fragment A on Query { ...A }",
    "a fragment of nothing": "{ ...A }",
    "unused fragments": "{ __typename } fragment A on Query { __typename }",
    "a null byte": "{ __typename \x00 }",
    "a lone surrogate": '{ product(id: "\\ud800") { id } }',
    "a directive that is none": "{ __typename @nothing }",
    "a directive over and over": "{ __typename " + "@skip(if: false) " * 500 + "}",
    "conflicting names": "{ a: __typename a: me { id } }",
    "a large number": "{ products(first: 99999999999999999999) { nodes { id } } }",
    "a number for an id": "{ product(id: 1) { id } }",
    "a variable that is not there": "{ product(id: $id) { id } }",
    "a subscription": "subscription { __typename }",
    "two anonymous operations": "{ __typename } { __typename }",
    "nothing but a comment": "# nothing",
    "an extension of the schema": "extend type Query { x: Int } { __typename }",
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_document_gets_a_clear_error_and_costs_no_upstream_call(document):
    shop = gateway()
    async with asyncio.timeout(20):
        body = orjson.dumps({"query": document})
        headers = {"content-type": "application/json"} | NEWER
        response = await shop.client.post("/graphql", content=body, headers=headers)
    if response.status_code == 200:
        assert shop.services.calls == [] or "id" in document
        assert not [line for line in shop.log if line["level"] == "error"]
        return
    assert response.status_code == 400
    codes = {error["extensions"]["code"] for error in response.json()["errors"]}
    assert codes <= {
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "OPERATION_RESOLUTION_FAILURE",
        "MAX_LIST_SIZE_LIMIT",
        "BAD_REQUEST",
        "BAD_USER_INPUT",
        "MAX_DEPTH_LIMIT",
        "MAX_TOKENS_LIMIT",
        "MAX_DIRECTIVES_LIMIT",
    }
    assert len(response.content) < 20_000, "an error is not larger than what it is about"
    assert shop.services.calls == []


VARIABLES = {
    "a number for text": {"id": 1.5},
    "null where something is needed": {"id": None},
    "an object for text": {"id": {"a": 1}},
    "true for an id": {"id": True},
    "a list for an id": {"id": ["prd_1"]},
    "a very large integer": {"id": 10**15},
}


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES)
async def test_a_variable_that_does_not_fit_is_the_callers_error(variables):
    shop = gateway()
    answer = await shop.query("query ($id: ID!) { product(id: $id) { id } }", variables, headers=NEWER)
    if answer.errors:
        assert answer.status == 400
        assert answer.codes == ["BAD_USER_INPUT"]
        assert not answer.has_data
        assert shop.services.calls == []
    else:
        assert answer.data == {"product": None}


async def test_a_large_id_in_a_variable_is_no_crash():
    shop = gateway()
    document = "query ($id: ID!) { node(id: $id) { id } a: product(id: $id) { id } }"
    answer = await shop.query(document, {"id": "prd_" + "9" * 5000}, headers=operator())
    assert answer.data == {"node": None, "a": None}


async def test_skip_and_include_decide_what_is_asked_for():
    shop = gateway()
    document = """query ($with: Boolean!) { order(id: "ord_7") { id payment @include(if: $with) { id }
        customer @skip(if: true) { id } } }"""
    answer = await shop.query(document, {"with": False}, headers=operator())
    assert answer.data == {"order": {"id": "ord_7"}}
    assert shop.services.targets == ["GET /orders?ids"]
    answer = await shop.query(document, {"with": True}, headers=operator())
    assert answer.data == {"order": {"id": "ord_7", "payment": {"id": "pay_7"}}}


async def test_aliases_and_fragments_are_answered_where_they_stand():
    document = """query { a: order(id: "ord_7") { ...O } b: order(id: "ord_8") { ...O again: id } }
        fragment O on Order { id ... on Node { id } payment { ...P } } fragment P on Payment { id status }"""
    answer = await gateway().query(document, headers=operator())
    assert answer.errors == []
    assert answer.data == {
        "a": {"id": "ord_7", "payment": {"id": "pay_7", "status": "CAPTURED"}},
        "b": {"id": "ord_8", "payment": {"id": "pay_8", "status": "CAPTURED"}, "again": "ord_8"},
    }


async def test_the_same_field_with_other_arguments_is_another_read():
    shop = gateway()
    document = """{ user(id: "usr_7") { a: orders(first: 1) { nodes { id } } b: orders(first: 2) { nodes { id } }
        c: orders(first: 1) { nodes { id } } } }"""
    answer = await shop.query(document, headers=operator())
    assert answer.data["user"] == {
        "a": {"nodes": [{"id": "ord_507"}]},
        "b": {"nodes": [{"id": "ord_507"}, {"id": "ord_257"}]},
        "c": {"nodes": [{"id": "ord_507"}]},
    }
    assert sorted(call.query["limit"] for call in shop.services.orders.calls) == ["1", "2"]


async def test_mutations_run_one_after_the_other_in_their_order():
    shop = gateway()
    document = """mutation { a: cancelOrder(id: "ord_1") { id } b: cancelOrder(id: "ord_4") { id }
        c: cancelOrder(id: "ord_5") { id } }"""
    answer = await shop.query(document, headers=operator())
    assert answer.errors == []
    assert [call.path for call in shop.services.orders.calls] == [f"/orders/ord_{n}/cancel" for n in (1, 4, 5)]


async def test_of_mutations_one_that_fails_leaves_those_before_it_done():
    shop = gateway()
    document = 'mutation { a: cancelOrder(id: "ord_1") { id } b: cancelOrder(id: "ord_2") { id } }'
    answer = await shop.query(document, headers=operator())
    assert answer.data is None
    assert answer.codes == ["CONFLICT"]
    assert answer.errors[0]["path"] == ["b"]
    assert len(shop.services.orders.calls) == 2


async def test_the_order_of_keys_is_that_of_the_document():
    answer = await gateway().query('{ product(id: "prd_1") { stock sku id name } __typename }')
    assert list(answer.data) == ["product", "__typename"]
    assert list(answer.data["product"]) == ["stock", "sku", "id", "name"]


async def test_an_error_says_where_in_the_document_and_in_the_data_it_is():
    shop = gateway()
    shop.services.products.fail(fake.refused)
    answer = await shop.query('{\n  order(id: "ord_7") {\n    items { product { id } }\n  }\n}', headers=operator())
    assert [error["path"] for error in answer.errors] == [["order", "items", n, "product"] for n in range(2)]
    assert answer.errors[0]["locations"] == [{"line": 3, "column": 13}]
    assert answer.errors[0]["extensions"]["retryable"] is True


async def test_a_resolver_that_raises_anything_costs_its_field_alone(monkeypatch):
    async def broken(*_):
        raise RecursionError("deep inside")

    monkeypatch.setattr("schema.products.list_products", Call("products", broken))
    shop = gateway()
    answer = await shop.query('{ product(id: "prd_1") { id } order(id: "ord_1") { id } }', headers=operator())
    assert answer.errors == []
    answer = await shop.query("{ products { nodes { id } } }")
    assert answer.codes == ["INTERNAL_SERVER_ERROR"]
    assert "deep inside" not in answer.response.text


async def test_while_a_slow_operation_runs_others_are_answered():
    shop = gateway()
    hold = asyncio.Event()

    async def held(*_):
        await hold.wait()

    shop.services.payments.fail(held)
    slow = asyncio.create_task(shop.query(FOUR_SERVICES, headers=operator()))
    for _ in range(5):
        assert (await shop.query('{ product(id: "prd_1") { id } }')).errors == []
    assert not slow.done()
    assert list((await shop.metrics("http_server_active_requests")).values()) == [1]
    hold.set()
    assert (await slow).errors == []


async def test_parts_alone_are_refused_with_what_goes_with_them():
    answer = await gateway().client.post(
        "/graphql", json={"query": "{ __typename }"}, headers={"accept": "multipart/mixed"}
    )
    assert answer.status_code == 406
    assert "multipart/mixed" in answer.json()["errors"][0]["message"]
