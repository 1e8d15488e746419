"""graphql-transport-ws: what a socket is told and how it is closed, for each sequence of messages."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from tests.harness import BFF_YAML, bearer, customer, gateway, operator, partner, token
from tests.live.socket import PROTOCOL, Refused, Socket

INIT = {"type": "connection_init"}
ACK = {"type": "connection_ack"}
TYPENAME = {"query": "{ __typename }"}
ANSWER = {"data": {"__typename": "Query"}}


def subscribe(id: Any = "1", payload: Any = TYPENAME) -> dict[str, Any]:
    return {"type": "subscribe", "id": id, "payload": payload}


def next_(id: str = "1", payload: Any = ANSWER) -> dict[str, Any]:
    return {"id": id, "type": "next", "payload": payload}


def complete(id: str = "1") -> dict[str, Any]:
    return {"id": id, "type": "complete"}


# What a client sends, what it is told, and with which code it is closed; None: it is not.
SEQUENCES: dict[str, tuple[list[Any], list[Any], int | None]] = {
    "init": ([INIT], [ACK], None),
    "init with a null payload": ([INIT | {"payload": None}], [ACK], None),
    "init with an empty payload": ([INIT | {"payload": {}}], [ACK], None),
    "init with a payload that is none": ([INIT | {"payload": []}], [], 4400),
    "init twice": ([INIT, INIT], [ACK], 4429),
    "subscribe first": ([subscribe()], [], 4401),
    "complete first": ([{"type": "complete", "id": "1"}], [], None),
    "ping before init": ([{"type": "ping"}], [{"type": "pong"}], None),
    "ping with a payload": ([{"type": "ping", "payload": {"n": 1}}], [{"type": "pong", "payload": {"n": 1}}], None),
    "ping with a payload that is none": ([{"type": "ping", "payload": 1}], [], 4400),
    "pong": ([{"type": "pong"}, INIT], [ACK], None),
    "a query": ([INIT, subscribe()], [ACK, next_(), complete()], None),
    "an id again once it is free": (
        [INIT, subscribe(), "hear", "hear", "hear", subscribe()],
        [ACK, next_(), complete(), next_(), complete()],
        None,
    ),
    "an id that is taken": ([INIT, subscribe(), subscribe()], [ACK], 4409),
    "completing what there is not": ([INIT, complete("9"), subscribe()], [ACK, next_(), complete()], None),
    "an id that is a number": ([INIT, subscribe(1)], [ACK], 4400),
    "an empty id": ([INIT, subscribe("")], [ACK], 4400),
    "an id that is too long": ([INIT, subscribe("x" * 257)], [ACK], 4400),
    "no id": ([INIT, {"type": "subscribe", "payload": TYPENAME}], [ACK], 4400),
    "no payload": ([INIT, {"type": "subscribe", "id": "1"}], [ACK], 4400),
    "a payload that is text": ([INIT, subscribe(payload="{ __typename }")], [ACK], 4400),
    "a query that is a number": ([INIT, subscribe(payload={"query": 1})], [ACK], 4400),
    "variables that are a list": ([INIT, subscribe(payload=TYPENAME | {"variables": []})], [ACK], 4400),
    "an operation's name that is a list": ([INIT, subscribe(payload=TYPENAME | {"operationName": []})], [ACK], 4400),
    "extensions that are text": ([INIT, subscribe(payload=TYPENAME | {"extensions": "x"})], [ACK], 4400),
    "no JSON": (["{nope"], [], 4400),
    "NaN": (['{"type": "ping", "payload": {"n": NaN}}'], [], 4400),
    "JSON that is a list": (["[]"], [], 4400),
    "JSON that is null": (["null"], [], 4400),
    "JSON that is very deep": (["[" * 5000], [], 4400),
    "bytes": ([b"{}"], [], 4400),
    "no type": (["{}"], [], 4400),
    "a type that there is not": ([{"type": "start", "id": "1"}], [], 4400),
    "a type that is an object": ([{"type": {}}], [], 4400),
    "a server's message": ([INIT, next_()], [ACK], 4400),
    "after the close": ([{"type": "nope"}, INIT, subscribe()], [], 4400),
}


@pytest.mark.parametrize("name", SEQUENCES)
async def test_each_sequence_of_messages_has_its_answers_and_its_code(name):
    sent, expected, code = SEQUENCES[name]
    one = gateway()
    async with Socket(one.app) as socket:
        heard = []
        for each in sent:
            if each == "hear":
                heard.append(await socket.hear())
            else:
                socket.put(each if isinstance(each, str | bytes) else orjson.dumps(each).decode())
        if code is None:
            heard += [await socket.hear() for _ in expected[len(heard) :]]
            assert socket.code is None
        else:
            found, rest = await socket.closed()
            # What was under way when the socket was closed may have been answered, or not.
            heard = [*heard, *rest][: len(expected)]
            assert found == code
            assert len(socket.reason.encode()) <= 123
        assert heard == expected
    assert "unexpected" not in {line["event"] for line in one.log}


async def test_the_subprotocol_is_named_in_the_handshake():
    async with Socket(gateway().app, subprotocols=["graphql-ws", PROTOCOL]) as socket:
        assert socket.subprotocol == PROTOCOL


@pytest.mark.parametrize("offered", [[], ["graphql-ws"]])
async def test_another_subprotocol_is_closed_with_its_own_code(offered):
    async with Socket(gateway().app, subprotocols=offered) as socket:
        assert (await socket.closed())[0] == 4406


async def test_a_socket_that_does_not_begin_is_closed():
    one = gateway(graphql={"subscriptions": {"init_timeout": "100ms"}})
    async with Socket(one.app) as socket:
        await socket.say(type="ping")
        assert await socket.closed() == (4408, [{"type": "pong"}])


async def test_a_socket_that_has_begun_stays():
    one = gateway(graphql={"subscriptions": {"init_timeout": "100ms"}})
    async with Socket(one.app) as socket:
        await socket.init()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.hear(), 0.3)


async def test_mutations_documents_and_errors_are_as_over_http():
    one = gateway(profile="production")
    async with Socket(one.app) as socket:
        await socket.init(authorization=f"Bearer {token()}")
        await socket.subscribe("m", 'mutation { cancelOrder(id: "ord_1") { id status } }')
        assert (await socket.hear())["payload"] == {"data": {"cancelOrder": {"id": "ord_1", "status": "CANCELLED"}}}
        assert await socket.hear() == complete("m")
        for query, code in {
            "{ nope }": "GRAPHQL_VALIDATION_FAILED",
            "{": "GRAPHQL_PARSE_FAILED",
            "{ __schema { types { name } } }": "INTROSPECTION_DISABLED",
            "{ me " + "{ orders { nodes { customer " * 8 + "{ id }" + "}}}" * 8 + "}": "MAX_DEPTH_LIMIT",
            "query A { __typename } query B { __typename }": "OPERATION_RESOLUTION_FAILURE",
            "query($id: ID!) { order(id: $id) { id } }": "BAD_USER_INPUT",
        }.items():
            await socket.subscribe("e", query)
            message = await socket.hear()
            assert (message["type"], message["id"]) == ("error", "e")
            assert message["payload"][0]["extensions"]["code"] == code


async def test_what_goes_wrong_inside_is_masked(monkeypatch):
    one = gateway()

    async def broken(*_: Any) -> None:
        raise RuntimeError("http://10.1.2.3/secret")

    one.services.users.fail(broken)
    async with Socket(one.app) as socket:
        await socket.init(authorization=f"Bearer {token()}")
        await socket.subscribe("1", "{ me { name } }")
        (error,) = (await socket.hear())["payload"]["errors"]
    assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert error["extensions"]["request_id"] in {
        line["request_id"] for line in one.log if line["event"] == "unexpected"
    }
    assert "10.1.2.3" not in str(error)


# Who it is


async def test_the_handshakes_credential_counts_without_one_in_the_payload():
    for headers in (customer("usr_7"), partner()):
        async with Socket(gateway().app, headers=headers) as socket:
            await socket.init()
            await socket.subscribe("1", '{ user(id: "usr_7") { id } }')
            assert (await socket.hear())["payload"] == {"data": {"user": {"id": "usr_7"}}}


async def test_the_payloads_credential_goes_before_the_handshakes():
    async with Socket(gateway().app, headers=customer("usr_7")) as socket:
        await socket.init(Authorization=f"Bearer {token('usr_8')}")
        await socket.subscribe("1", "{ me { id } }")
        assert (await socket.hear())["payload"] == {"data": {"me": {"id": "usr_8"}}}


async def test_a_bad_credential_in_the_handshake_is_refused_there():
    for headers in (bearer("nonsense"), {"x-api-key": "wrong"}, customer() | partner()):
        with pytest.raises(Refused) as refused:
            await Socket(gateway().app, headers=headers).__aenter__()
        assert refused.value.status in {400, 401}
        assert "Send" in str(refused.value.body) or "not" in str(refused.value.body)


@pytest.mark.parametrize(
    "payload",
    [{"authorization": "Bearer x"}, {"X-API-Key": "wrong"}, {"authorization": 1}, {"headers": {"x-api-key": "wrong"}}],
)
async def test_a_bad_credential_in_the_payload_closes_and_never_counts_as_none(payload):
    async with Socket(gateway().app, headers=customer()) as socket:
        await socket.say(type="connection_init", payload=payload)
        assert await socket.closed() == (4403, [])


async def test_the_anonymous_get_what_is_public():
    async with Socket(gateway().app) as socket:
        await socket.init()
        await socket.subscribe("1", '{ product(id: "prd_1") { id } order(id: "ord_1") { id } }')
        payload = (await socket.hear())["payload"]
    assert payload["data"] == {"product": {"id": "prd_1"}, "order": None}
    assert [error["extensions"]["code"] for error in payload["errors"]] == ["UNAUTHENTICATED"]


async def test_a_socket_ends_with_its_credential():
    async with Socket(gateway().app) as socket:
        # Times are whole seconds: this one ends in two to three.
        await socket.init(authorization=f"Bearer {token(exp=int(time.time()) + 3)}")
        await socket.subscribe("1", "{ me { id } }")
        code, heard = await socket.closed()
    assert (code, [each["type"] for each in heard]) == (4403, ["next", "complete"])
    assert "expired" in socket.reason


async def test_a_credential_that_is_past_its_end_opens_no_socket_whatever_its_leeway():
    async with Socket(gateway().app) as socket:
        await socket.say(type="connection_init", payload={"authorization": f"Bearer {token(exp=int(time.time()) - 5)}"})
        assert await socket.closed() == (4403, [])


# Who may


@pytest.mark.parametrize(
    ("origin", "host", "passes"),
    [
        ("http://gateway.example", "gateway.example", True),
        ("https://gateway.example", "gateway.example", True),
        ("https://gateway.example", "gateway.example:443", True),
        ("http://gateway.example:8000", "gateway.example:8000", True),
        ("http://GATEWAY.example", "gateway.example", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://shop.example.com", "gateway.example", True),
        ("https://shop.example.com:8443", "gateway.example", False),
        ("http://shop.example.com", "gateway.example", False),
        ("http://gateway.example:8001", "gateway.example:8000", False),
        ("https://evil.example", "gateway.example", False),
        ("https://gateway.example.evil.example", "gateway.example", False),
        ("null", "gateway.example", False),
        ("", "gateway.example", False),
        ("http://[", "gateway.example", False),
        ("file://", "gateway.example", False),
        ("http://gateway.example:x", "gateway.example", False),
    ],
)
async def test_pages_of_other_origins_may_not_open_a_socket(origin, host, passes):
    one = gateway(graphql={"subscriptions": {"origins": ["https://shop.example.com"]}})
    socket = Socket(one.app, headers={"origin": origin, "host": host})
    if passes:
        async with socket:
            assert await socket.init()
    else:
        with pytest.raises(Refused) as refused:
            await socket.__aenter__()
        assert refused.value.status == 403
        assert refused.value.body["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_operations_over_a_socket_are_on_their_callers_account():
    text = BFF_YAML.replace("default: {rate: [1000/minute]}", "default: {rate: [3/minute]}")
    one = gateway(text)
    async with Socket(one.app) as socket:
        await socket.init(authorization=f"Bearer {token()}")
        kinds = []
        for _ in range(4):
            await socket.subscribe("1", "{ __typename }")
            kinds.append((await socket.hear())["type"])
            if kinds[-1] == "next":
                await socket.hear()
            else:
                break
        assert kinds == ["next"] * 3 + ["error"]
    refused = await one.query("{ __typename }", headers=customer())
    assert refused.status == 429


async def test_an_address_may_not_knock_too_often():
    one = gateway(limits={"per_address": "2/minute"})
    for _ in range(2):
        async with Socket(one.app) as socket:
            await socket.init()
    with pytest.raises(Refused) as refused:
        await Socket(one.app).__aenter__()
    assert refused.value.status == 429


async def test_sockets_are_bounded_and_refused_with_503():
    one = gateway(graphql={"subscriptions": {"max_sockets": 1}})
    async with Socket(one.app):
        with pytest.raises(Refused) as refused:
            await Socket(one.app).__aenter__()
        assert refused.value.status == 503
        assert refused.value.body["errors"][0]["extensions"]["code"] == "OVERLOADED"
    async with Socket(one.app) as socket:
        await socket.init()


async def test_a_caller_may_have_so_many_sockets():
    one = gateway(graphql={"subscriptions": {"max_per_caller": 1}})
    async with Socket(one.app, headers=operator()) as first, Socket(one.app, headers=operator()) as second:
        await first.init()
        await second.say(type="connection_init")
        assert await second.closed() == (4429, [])
        async with Socket(one.app, headers=customer("usr_2")) as third:
            await third.init()
    async with Socket(one.app, headers=operator()) as again:
        await again.init()


async def test_operations_under_way_on_a_socket_are_bounded():
    one = gateway(graphql={"subscriptions": {"max_operations": 2}})
    go = asyncio.Event()

    async def waits(*_: Any) -> None:
        await go.wait()

    one.services.users.fail(waits)
    async with Socket(one.app, headers=customer()) as socket:
        await socket.init()
        for id in "abc":
            await socket.subscribe(id, "{ me { id } }")
        refused = await socket.hear()
        assert (refused["type"], refused["id"]) == ("error", "c")
        assert refused["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        go.set()
        heard = [await socket.hear() for _ in range(4)]
        assert sorted((each["id"], each["type"]) for each in heard) == [
            ("a", "complete"),
            ("a", "next"),
            ("b", "complete"),
            ("b", "next"),
        ]


async def test_a_path_without_websockets_is_refused():
    with pytest.raises(Refused) as refused:
        await Socket(gateway().app, path="/api/users/usr_1", headers=customer()).__aenter__()
    assert refused.value.status == 404
