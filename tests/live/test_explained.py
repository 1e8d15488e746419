"""What each event of a subscription did at services is told with it, to a client that asks and may know."""

from __future__ import annotations

import pytest

from tests.harness import customer, operator
from tests.live.conftest import live
from tests.live.socket import Socket
from tests.live.sse import EventStream

QUERY = (
    'subscription Follow { orderStatusChanged(id: "ord_1") { status customer { name } items { product { name } } } }'
)
ASKED = {"x-explain": "1"}


def calls(told):
    return sorted(row["service"] for row in told["waterfall"] if row["service"] != "orders")


async def over_sse(gate, headers):
    async with EventStream(gate.app, QUERY, headers=headers) as stream:
        while True:
            yield (await stream.event()).data


async def over_websocket(gate, headers):
    asked = {name: value for name, value in headers.items() if name == "x-explain"}
    async with Socket(gate.app, headers={name: headers[name] for name in headers.keys() - asked.keys()}) as socket:
        await socket.init(**asked)
        await socket.subscribe("1", QUERY)
        while True:
            yield (await socket.hear())["payload"]


@pytest.mark.parametrize("transport", [over_sse, over_websocket])
async def test_each_event_is_told_with_its_own_calls(transport):
    one = live()
    results = transport(one.gateway, operator() | ASKED)
    for _ in range(3):
        one.gateway.services.forget()
        result = await anext(results)
        assert result["data"]["orderStatusChanged"]["customer"]
        told = result["extensions"]["explain"]
        assert calls(told) == ["products", "users"]
        assert told["operation"] == "Follow"
        assert told["critical_path"]["ms"] <= told["ms"]
        assert ".internal" not in str(told)
        one.events.advance("ord_1")
    await results.aclose()


@pytest.mark.parametrize("transport", [over_sse, over_websocket])
async def test_nobody_else_is_told(transport):
    one = live(observability={"requests": {"explain": "'users:admin' in caller.scopes"}})
    for headers in (customer() | ASKED, operator()):
        results = transport(one.gateway, headers)
        assert "extensions" not in await anext(results)
        await results.aclose()


async def test_queries_over_a_websocket_are_told_as_well():
    one = live()
    async with Socket(one.gateway.app, headers=operator() | ASKED) as socket:
        await socket.init()
        await socket.subscribe("1", "{ users(first: 2) { nodes { orders { nodes { id } } } } }")
        told = (await socket.hear())["payload"]["extensions"]["explain"]
        assert [row["service"] for row in told["waterfall"]] == ["users", "orders"]
        assert told["request_id"].endswith(".1")
