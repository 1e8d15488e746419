"""What a request did at services is taken down as the services saw it, kept if it is worth a look, and told to few."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import httpx
import orjson
from graphql import parse, validate
from hypothesis import given
from hypothesis import strategies as st

from bff.cli.requests import drawn
from bff.core.waterfall import Waterfall, critical_path
from tests.engine.operations import written
from tests.harness import FOUR_SERVICES, customer, gateway, operator, partner
from tests.shop import NAMES

PREFIXES = ("usr_", "usr_", "ord_", "prd_", "pay_", "")


async def listed(gate, **query):
    return (await gate.admin.get("/-/requests", params=query)).json()["requests"]


async def kept(gate, id):
    return (await gate.admin.get(f"/-/requests/{id}")).json()


def attempts(shown):
    return sum(len(row["attempts"]) for row in shown["waterfall"])


async def test_a_query_is_explained_to_who_asks_for_it():
    gate = gateway()
    answer = await gate.query(FOUR_SERVICES, headers=operator() | {"x-explain": "1"})
    told = answer.response.json()["extensions"]["explain"]
    assert {row["service"] for row in told["waterfall"]} == {"users", "orders", "products", "payments"}
    by_service = {row["service"]: row for row in told["waterfall"]}
    assert by_service["orders"]["keys"] == 10
    assert by_service["orders"]["read"] == "orders.orders_by_user"
    assert by_service["users"]["wave"] < by_service["orders"]["wave"] < by_service["products"]["wave"]
    assert told["waves"] == 3
    assert told["critical_path"]["ms"] <= told["ms"]
    assert told["route"] == {"name": "graphql", "path": "/graphql", "service": None}
    assert told["limits"]["decision"] == "admitted"
    assert told["operation"] == "Shop"


async def test_a_batch_is_explained_in_its_first_result_since_its_operations_share_calls():
    gate = gateway()
    asked = [{"query": '{ product(id: "prd_1") { name } }'}, {"query": '{ product(id: "prd_2") { name } }'}]
    first, second = (await gate.client.post("/graphql", json=asked, headers={"x-explain": "1"})).json()
    (row,) = first["extensions"]["explain"]["waterfall"]
    assert (row["service"], row["keys"]) == ("products", 2)
    assert "extensions" not in second


async def test_what_the_cache_of_a_route_had_is_told_with_its_reason():
    route = {"name": "products", "path": "/api/products/{rest*}", "service": "products", "rewrite": "/products/{rest}"}
    gate = gateway(routes=[route | {"public": True, "cache": True}])
    told = []
    for _ in range(2):
        answer = await gate.client.get("/api/products/prd_1")
        told.append(await kept(gate, answer.headers["x-request-id"]))
    assert told[0]["cache"].startswith("fwd=uri-miss")
    assert len(told[0]["waterfall"]) == 1
    assert any(line.startswith("cache     fwd=uri-miss") for line in drawn(told[0]))
    assert (await kept(gate, (await gate.query("{ me { name } }", headers=customer())).headers["x-request-id"]))[
        "cache"
    ] is None


async def test_a_client_is_told_no_address_and_no_id_of_what_it_asked_for():
    gate = gateway()
    answer = await gate.query(
        '{ user(id: "usr_7") { name orders { nodes { id } } } }', headers=operator() | {"x-explain": "1"}
    )
    told = str(answer.response.json()["extensions"]["explain"])
    assert ".internal" not in told
    assert "usr_7" not in told
    assert "usr_" not in str((await kept(gate, answer.headers["x-request-id"]))["waterfall"])


async def test_nobody_else_is_told():
    gate = gateway(observability={"requests": {"explain": "'users:admin' in caller.scopes"}})
    asked = {"x-explain": "1"}
    assert "extensions" not in (await gate.query("{ me { name } }", headers=customer() | asked)).response.json()
    assert "extensions" not in (await gate.query("{ me { name } }", headers=operator())).response.json()
    assert "explain" in (await gate.query("{ me { name } }", headers=operator() | asked)).response.json()["extensions"]
    assert "server-timing" not in (await gate.client.get("/api/products/prd_1")).headers
    assert "server-timing" in (await gate.client.get("/api/products/prd_1", headers=operator())).headers


async def test_operators_see_where_a_call_went_and_what_the_request_was():
    gate = gateway()
    answer = await gate.client.get("/api/orders/ord_1", headers=partner())
    shown = await kept(gate, answer.headers["x-request-id"])
    (row,) = shown["waterfall"]
    assert (row["service"], row["call"], row["status"]) == ("orders", "GET /orders/{rest}", 200)
    assert row["attempts"][0]["target"] == "http://orders.internal"
    assert shown["route"] == {"name": "orders", "path": "/api/orders/{rest*}", "service": "orders"}
    assert shown["caller"] == {"credential": "api_key", "consumer": "partner", "tier": "partner"}
    assert shown["limits"] == {
        "tier": "partner", "decision": "admitted", "refused_by": [], "taken": 2, "left": 998,
    }  # fmt: skip


async def test_a_browsers_own_tools_show_what_took_its_time():
    gate = gateway()
    answer = await gate.query(FOUR_SERVICES, headers=operator())
    said = answer.headers["server-timing"]
    for service in ("users", "orders", "products", "payments"):
        assert f"{service};dur=" in said
    assert 'desc="1 call"' in said
    assert "gateway;dur=" in said


async def test_failed_ones_come_first_and_slow_ones_next():
    gate = gateway(
        observability={"requests": {"slow": "1s", "explain": False}},
        services={"payments": {"retry": {"attempts": 1}}},
    )

    async def late(request, call):
        await asyncio.sleep(1.1)

    async def broken(request, call):
        return httpx.Response(500)

    gate.services.payments.fail(broken)
    await gate.client.get("/api/payments/pay_1", headers=customer())
    gate.services.payments.fail(late)
    await gate.client.get("/api/payments/pay_1", headers=customer())
    await gate.client.get("/api/products/prd_1")
    found = await listed(gate)
    assert [each["kind"] for each in found] == ["failed", "slow", "sampled"]
    assert [each["slowest_service"] for each in found] == ["payments", "payments", "products"]
    assert found[0]["status"] == 502
    assert found[0]["code"] == "UPSTREAM_ERROR"
    assert [each["kind"] for each in await listed(gate, kind="slow")] == ["slow"]


async def test_a_query_that_lost_a_part_has_failed_although_it_was_answered():
    gate = gateway(services={"payments": {"retry": {"attempts": 1}}})

    async def broken(request, call):
        return httpx.Response(500)

    gate.services.payments.fail(broken)
    answer = await gate.query(FOUR_SERVICES, headers=operator())
    assert answer.status == 200
    (found,) = await listed(gate, kind="failed")
    assert found["request_id"] == answer.headers["x-request-id"]


async def test_each_attempt_is_a_row_of_its_own_below_its_call():
    gate = gateway(services={"orders": {"retry": {"attempts": 2, "wait": "1ms"}}})
    answers = iter([httpx.Response(503)])

    async def once(request, call):
        return next(answers, None)

    gate.services.orders.fail(once)
    answer = await gate.client.get("/api/orders/ord_1", headers=partner())
    assert answer.status_code == 200
    (row,) = (await kept(gate, answer.headers["x-request-id"]))["waterfall"]
    assert [each["status"] for each in row["attempts"]] == [503, 200]
    assert row["status"] == 200


async def test_a_refused_request_tells_by_which_limit():
    gate = gateway(tiers={"anonymous": {"rate": ["1/minute"]}})
    await gate.client.get("/api/products/prd_1")
    answer = await gate.client.get("/api/products/prd_1")
    shown = await kept(gate, answer.headers["x-request-id"])
    assert (shown["status"], shown["code"], shown["waterfall"]) == (429, "RATE_LIMITED", [])
    assert shown["limits"]["decision"] == "refused"
    assert shown["limits"]["refused_by"]


async def test_of_each_kind_only_the_last_are_kept():
    gate = gateway(observability={"requests": {"keep": 3}})
    for _ in range(5):
        await gate.client.get("/api/products/prd_1")
    assert len(await listed(gate)) == 3


async def test_of_a_request_with_very_many_calls_only_the_first_are_taken_down():
    gate = gateway(observability={"requests": {"max_calls": 2}})
    answer = await gate.query(FOUR_SERVICES, headers=operator())
    shown = await kept(gate, answer.headers["x-request-id"])
    assert (shown["calls"], len(shown["waterfall"]), shown["left_out"]) == (4, 2, 2)


async def test_nothing_is_taken_down_where_nothing_is_kept():
    gate = gateway(observability={"requests": {"keep": 0, "explain": False}})
    await gate.client.get("/api/products/prd_1")
    assert await listed(gate) == []


async def test_an_id_that_is_not_kept_is_said_to_be_none():
    gate = gateway()
    answer = await gate.admin.get("/-/requests/nobody")
    assert answer.status_code == 404
    assert "neither slow nor failed" in answer.json()["detail"]


async def test_the_command_draws_what_a_request_did():
    gate = gateway()
    answer = await gate.query(FOUR_SERVICES, headers=operator())
    shown = await kept(gate, answer.headers["x-request-id"])
    shown["ms"] = 10 * len(shown["waterfall"])  # as where none takes so long that the others cannot be told apart
    for at, row in enumerate(shown["waterfall"]):
        for each in (row, *row["attempts"]):
            each["start_ms"], each["ms"] = 10 * at, 10
    lines = list(drawn(shown))
    assert lines[0] == "POST /graphql  200"
    calls = [line.replace("*", " ").split()[:2] for line in lines if "=" in line]
    assert [service for service, _ in calls] == ["users", "orders", "products", "payments"]
    assert ["orders", "orders.orders_by_user"] in calls
    bars = [line[line.index("|") :] for line in lines if "|" in line]
    assert {len(bar) for bar in bars} == {42}
    assert bars[0].index("=") < bars[2].index("=") < bars[4].index("=")


async def test_the_command_draws_a_request_that_called_nobody_and_one_that_was_refused():
    gate = gateway(tiers={"anonymous": {"rate": ["1/minute"]}})
    await gate.client.get("/api/products/prd_1")
    for answer in (await gate.client.get("/api/products/prd_1"), await gate.client.get("/nowhere")):
        text = "\n".join(drawn(await kept(gate, answer.headers["x-request-id"])))
        assert str(answer.status_code) in text
        assert answer.json()["code"] in text


async def test_identical_reads_that_share_a_call_say_so():
    gate = gateway(services={"products": {"coalesce": True}})

    async def late(request, call):
        await asyncio.sleep(0.02)

    gate.services.products.fail(late)
    answers = await asyncio.gather(*(gate.client.get("/api/products/prd_1") for _ in range(3)))
    shown = [await kept(gate, each.headers["x-request-id"]) for each in answers]
    assert sorted(each["waterfall"][0]["joined"] for each in shown) == [False, True, True]
    assert sum(map(attempts, shown)) == len(gate.services.products.calls) == 1


async def test_its_rows_are_the_calls_that_the_services_counted_whatever_is_asked():
    gate = gateway(graphql={"limits": {"cost": 10**6, "depth": 50}}, limits={"mode": "off"})
    schema = gate.app.state.execution.schema
    random = Random(9)  # noqa: S311
    done = 0
    while done < 60:
        text = written(schema, random, schema.query_type, lambda _name: True, PREFIXES)
        if validate(schema, parse(text)):
            continue
        gate.services.forget()
        answer = await gate.client.post("/graphql", json={"query": text}, headers=operator() | {"x-explain": "1"})
        shown = await kept(gate, answer.headers["x-request-id"])
        counted = {each: len(getattr(gate.services, each).calls) for each in NAMES}
        told = dict.fromkeys(counted, 0)
        for row in shown["waterfall"]:
            told[row["service"]] += len(row["attempts"])
        assert told == counted, text
        assert shown["critical_path"]["ms"] <= shown["ms"] + 0.001
        done += bool(sum(counted.values()))


async def test_over_a_real_connection_each_attempt_has_its_phases():
    async def serve(reader, writer):
        for seconds in (0.3, 0.02):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(seconds)
            writer.write(b"{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gate = gateway(real_network=True, services={"products": {"url": url}})
    answers = [await gate.client.get("/api/products/prd_1") for _ in range(2)]
    first, second = [await kept(gate, each.headers["x-request-id"]) for each in answers]
    (fresh,), (again,) = first["waterfall"][0]["attempts"], second["waterfall"][0]["attempts"]
    assert list(fresh["phases"]) == ["pool", "dns", "connect", "send", "first_byte", "body"]
    assert list(again["phases"]) == ["pool", "send", "first_byte", "body"]
    assert (fresh["reused"], again["reused"]) == (False, True)
    assert fresh["target"] == url
    assert fresh["phases"]["body"] >= 15, "the body streams, and its time is the attempt's"
    assert first["waterfall"][0]["ms"] >= fresh["ms"]
    assert orjson.dumps(gate.app.state.requests.find(answers[0].headers["x-request-id"]).told())
    server.close()


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda pair: tuple(sorted(pair))), max_size=30))
def test_the_critical_path_takes_no_longer_than_the_request(spans):
    path = critical_path(spans, [start for start, _ in spans])
    assert len(path) == len(set(path))
    assert all(spans[a][1] <= spans[b][0] for a, b in pairwise(path))
    if spans:
        whole = max(end for _, end in spans) - min(start for start, _ in spans)
        assert sum(spans[at][1] - spans[at][0] for at in path) <= whole + 1e-9


def test_phases_follow_each_other():
    waterfall = Waterfall(10)
    call = waterfall.call("a", "GET /")
    timing = call.attempt("http://a", "")
    for phase in ("pool", "dns", "connect", "send", "first_byte", "body"):
        timing.enter(phase)
    timing.end()
    assert list(timing.phases()) == ["pool", "dns", "connect", "send", "first_byte", "body"]
    assert sum(timing.phases().values()) <= timing.ended - timing.started + 1e-9
