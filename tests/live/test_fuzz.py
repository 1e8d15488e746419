"""Whatever a client sends: codes and answers of the protocol, nothing unexpected in the log, and nothing left."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import token
from tests.live.conftest import live
from tests.live.socket import Socket

CODES = {None, 1001, 4400, 4401, 4403, 4408, 4409, 4429}
TOLD = {"connection_ack", "pong", "next", "error", "complete"}
GOOD = token()

ids = st.sampled_from(["1", "2", "3"])
json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
queries = st.sampled_from(
    [
        "{ __typename }",
        "{ me { id } }",
        "{ nope }",
        "{",
        'mutation { cancelOrder(id: "ord_2") { id } }',
        'subscription { orderStatusChanged(id: "ord_1") { status } }',
        'subscription { orderStatusChanged(id: "ord_999999") { status customer { name } } }',
        "subscription($id: ID!) { orderStatusChanged(id: $id) { id } }",
        'subscription { a: orderStatusChanged(id: "ord_1") { id } b: orderStatusChanged(id: "ord_2") { id } }',
        "subscription { __typename }",
        'subscription { orderStatusChanged(id: "ord_1") @skip(if: true) { id } }',
    ]
)
messages = st.one_of(
    st.just({"type": "connection_init"}),
    st.just({"type": "connection_init", "payload": {"authorization": f"Bearer {GOOD}"}}),
    st.builds(lambda payload: {"type": "connection_init", "payload": payload}, json),
    st.builds(lambda payload: {"type": "ping", "payload": payload}, json),
    st.just({"type": "pong"}),
    st.builds(lambda name, query: {"type": "subscribe", "id": name, "payload": {"query": query}}, ids, queries),
    st.builds(lambda name, payload: {"type": "subscribe", "id": name, "payload": payload}, ids | json, json),
    st.builds(lambda name: {"type": "complete", "id": name}, ids | json),
    st.builds(lambda kind: {"type": kind}, json),
    json,
)
# A sign to let the gateway work, or the services to have news, between messages.
steps = st.lists(st.one_of(messages, st.sampled_from(["tick", "news", "cut"])), max_size=14)
begun = [{"type": "connection_init", "payload": {"authorization": f"Bearer {GOOD}"}}, "tick"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.booleans(), st.integers(0, 20))
async def test_no_sequence_of_messages_does_anything_that_the_protocol_does_not_have(steps, initialised, moment):
    one, before = live(), asyncio.all_tasks()
    async with Socket(one.gateway.app) as socket:
        for step in [*(begun if initialised else []), *steps]:
            await take(one, socket, step)
        for _ in range(moment):
            await asyncio.sleep(0)
        await socket.leave()
        heard = [socket._down.get_nowait() for _ in range(socket._down.qsize())]
    assert socket.code in CODES
    told = [orjson.loads(each["text"]) for each in heard if each]
    assert {each["type"] for each in told} <= TOLD
    for each in told:
        if each["type"] == "error":
            assert all("INTERNAL" not in error["extensions"]["code"] for error in each["payload"])
    assert not [line for line in one.gateway.log if line["event"] == "unexpected"]
    for _ in range(200):
        if asyncio.all_tasks() <= before and not one.events.open:
            break
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before
    assert not one.events.open


async def take(one: Any, socket: Socket, step: Any) -> None:
    if step == "tick":
        await asyncio.sleep(0.001)
    elif step == "news":
        one.events.advance("ord_1")
    elif step == "cut":
        one.events.end()
    else:
        socket.put(orjson.dumps(step).decode())
