"""Several deployments of a service: arms and their shares, sticky callers, turns, and targets that fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random

import httpx
import orjson
import pytest

from bff.core.telemetry import Telemetry
from bff.upstream.bodies import outlive
from bff.upstream.deployments import Deployments, DeploymentSettings
from tests.harness import OPERATOR, bearer, customer, gateway, operator, partner, token
from tests.resilience.chain import Clock, Target, request
from tests.shop import says

STABLE = ["http://orders-a.internal", "http://orders-b.internal"]
CANARY = ["http://orders-next.internal"]
ONCE = {"attempts": 1}
ORDER = '{ order(id: "ord_1") { id } }'


def shop(*split, stable=STABLE, canary=CANARY, sample=1.0, **more):
    orders = {"url": None, "targets": {"stable": stable, "canary": canary}, "split": list(split), "retry": ONCE, **more}
    observability = {"arm_header": "X-Arm", "traces": {"sample": sample}}
    return gateway(services={"orders": orders}, limits={"mode": "off"}, observability=observability)


def hosts(running):
    return Counter(call.host for call in running.services.orders.calls)


def shares(running):
    return Counter("canary" if call.host == "orders-next" else "stable" for call in running.services.orders.calls)


async def failing(request, call):
    return await says(503, {})(request, call) if call.host == "orders-next" else None


async def rest(running, **options):
    options.setdefault("headers", operator())
    response = await running.client.get("/api/orders/ord_1", **options)
    assert response.status_code == 200, response.text
    return response


async def graphql(running, headers=None):
    answer = await running.query(ORDER, headers=operator() if headers is None else headers)
    assert answer.errors == []
    return answer.response


async def test_without_rules_all_calls_go_to_the_first_arm_in_turn():
    running = gateway(services={"orders": {"url": None, "targets": {"stable": STABLE}}})
    for _ in range(4):
        await rest(running)
        await graphql(running)
    assert hosts(running) == {"orders-a": 4, "orders-b": 4}


@pytest.mark.parametrize("ask", [rest, graphql])
async def test_the_first_rule_that_is_meant_decides(ask):
    running = shop({"when": "headers['x-beta'] == '1'", "to": "canary"}, {"weights": {"stable": 1, "canary": 0}})
    await ask(running, headers=operator() | {"x-beta": "1"})
    assert hosts(running) == {"orders-next": 1}
    running.forget()
    await ask(running, headers=operator() | {"x-beta": "2"})
    assert shares(running) == {"stable": 1}


@pytest.mark.parametrize(
    ("when", "headers"),
    [
        ("caller.consumer == 'partner'", partner()),
        ("caller.subject == 'usr_1'", customer("usr_1")),
        ("method == 'GET' && path.startsWith('/api/')", operator()),
        ("query['preview'] == 'yes'", operator()),
        ("cookies.arm == 'next'", operator() | {"cookie": "a=b; arm=next"}),
    ],
)
async def test_rules_are_over_request_and_caller(when, headers):
    running = shop({"when": when, "to": "canary"}, {"weights": {"stable": 1, "canary": 0}})
    await rest(running, headers=headers, params={"preview": "yes"})
    assert hosts(running) == {"orders-next": 1}
    running.forget()
    await graphql(running, headers=bearer(token("usr_9", OPERATOR)))
    assert shares(running) == {"stable": 1}


async def test_all_calls_of_one_request_go_to_one_arm():
    running = shop({"weights": {"stable": 1, "canary": 1}})
    seen = Counter()
    for _ in range(30):
        running.forget()
        document = (
            '{ a: order(id: "ord_1") { customer { orders { nodes { id } } } } b: me { orders { nodes { id } } } }'
        )
        assert (await running.query(document, headers=operator())).errors == []
        assert len(running.services.orders.calls) > 1
        assert len(shares(running)) == 1
        seen.update(set(shares(running)))
    assert len(seen) == 2


async def test_the_arm_is_in_log_span_metrics_and_header():
    running = shop({"weights": {"stable": 0, "canary": 1}})
    recorded = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    for ask in (rest, graphql):
        running.forget()
        response = await ask(running, headers=operator() | recorded)
        assert response.headers["x-arm"] == "orders=canary"
        assert running.access[-1]["arms"] == {"orders": "canary"}
        spans = {span.name: dict(span.attributes or {}) for span in running.spans}
        assert spans["GET"]["bff.arm"] == "canary"
        assert spans["GET"]["url.full"] == "http://orders-next.internal"
        served = next(each for name, each in spans.items() if name.startswith(("GET /", "POST /")))
        assert served["bff.arm.orders"] == "canary"
    counted = await running.metrics("http_client_request_duration_seconds_count")
    assert {dict(labels)["arm"] for labels in counted if dict(labels)["service"] == "orders"} == {"canary"}


async def test_an_answer_without_a_balanced_call_has_no_arm():
    running = shop({"weights": {"stable": 1, "canary": 1}})
    response = await running.client.get("/api/products/prd_1")
    assert "x-arm" not in response.headers
    assert "arms" not in running.access[-1]


async def _bare(app, scope, body):
    """A request without a client library, which would cost ten times as much."""
    sent, coming = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return coming.pop() if coming else await asyncio.get_running_loop().create_future()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent


async def test_a_canary_of_five_percent_has_five_percent_of_mixed_requests():
    running = shop({"weights": {"stable": 95, "canary": 5}}, sample=0.0)
    common = {"type": "http", "http_version": "1.1", "scheme": "http", "query_string": b"", "client": ("192.0.2.1", 1)}
    headers = [(b"host", b"g"), (b"authorization", operator()["authorization"].encode())]
    body = orjson.dumps({"query": ORDER})
    posted = [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    asked = [
        ({**common, "method": "GET", "path": "/api/orders/ord_1", "raw_path": b"/api/orders/ord_1"}, headers, b""),
        ({**common, "method": "POST", "path": "/graphql", "raw_path": b"/graphql"}, posted, body),
    ]
    shared: Counter[tuple[str, str]] = Counter()
    for at in range(20_000):
        scope, sent, content = asked[at % 2]
        await _bare(running.app, scope | {"headers": sent}, content)
        (call,) = running.services.orders.calls
        running.services.orders.calls.clear()
        shared[scope["method"], call.host] += 1
    of_all = sum(n for (_, host), n in shared.items() if host == "orders-next")
    assert 0.04 <= of_all / 20_000 <= 0.06
    assert all(0.035 <= shared[method, "orders-next"] / 10_000 <= 0.065 for method in ("GET", "POST"))
    assert abs(shared["GET", "orders-a"] - shared["GET", "orders-b"]) < 500


@pytest.mark.parametrize(
    ("sticky", "of"),
    [
        ("subject", lambda n: customer(f"usr_{n}")),
        ("consumer", lambda n: bearer(token("usr_1", client_id=f"app-{n}", azp=f"app-{n}"))),
        ("header:X-Device", lambda n: operator() | {"x-device": f"d{n}"}),
    ],
)
async def test_a_sticky_caller_has_the_same_arm_on_both_fronts_and_in_every_process(sticky, of):
    one, other = (shop({"weights": {"stable": 50, "canary": 50}, "sticky": sticky}) for _ in range(2))
    arms = []
    for n in range(1, 21):
        for running in (one, other):
            running.forget()
            headers = of(n)
            for _ in range(2):
                await running.client.get("/api/orders/ord_1", headers=headers)
                await running.query(ORDER, headers=headers)
            assert len(running.services.orders.calls) == 4
        assert len(set(shares(one)) | set(shares(other))) == 1
        arms += shares(one)
    assert set(arms) == {"stable", "canary"}


async def test_sticky_by_address():
    running = shop({"weights": {"stable": 50, "canary": 50}, "sticky": "address"})
    arms = []
    for n in range(20):
        running.forget()
        client = running.client_at(f"192.0.2.{n}")
        for _ in range(3):
            await client.get("/api/orders/ord_1", headers=operator())
        assert len(shares(running)) == 1
        arms += shares(running)
    assert set(arms) == {"stable", "canary"}


async def test_who_has_nothing_to_stick_to_has_a_choice_for_each_request():
    running = shop({"weights": {"stable": 50, "canary": 50}, "sticky": "header:x-device"})
    for _ in range(40):
        await rest(running)
    assert set(shares(running)) == {"stable", "canary"}


async def test_a_canary_that_fails_is_ejected_and_its_share_falls_back():
    running = shop({"weights": {"stable": 50, "canary": 50}}, outliers={"consecutive_errors": 3, "eject": "30s"})
    running.services.orders.fail(failing)
    for _ in range(40):
        await running.client.get("/api/orders/ord_1", headers=operator())
        await running.query(ORDER, headers=operator())
    assert shares(running)["canary"] == 3
    (line,) = [line for line in running.log if line["event"] == "target_ejected"]
    assert (line["service"], line["arm"], line["target"]) == ("orders", "canary", CANARY[0])
    up = await running.metrics("http_client_target_up")
    assert {dict(labels)["target"]: value for labels, value in up.items() if dict(labels)["arm"]} == {
        **dict.fromkeys(STABLE, 1.0),
        CANARY[0]: 0.0,
    }
    ejections = await running.metrics("http_client_target_ejections_total")
    assert sum(ejections.values()) == 1
    running.forget()
    response = await rest(running)
    assert response.headers["x-arm"] == "orders=stable", "it says where the answer came from"


async def test_after_its_time_an_ejected_target_has_calls_again():
    running = shop({"when": "true", "to": "canary"}, outliers={"consecutive_errors": 1, "eject": "100ms"})
    running.services.orders.fail(failing)
    await running.client.get("/api/orders/ord_1", headers=operator())
    await rest(running)
    running.services.orders.fail(None)
    await asyncio.sleep(0.12)
    running.forget()
    await rest(running)
    assert shares(running) == {"canary": 1}


async def test_the_callers_of_an_arm_that_is_down_are_for_the_rules_that_follow():
    running = shop(
        {"when": "headers['x-beta'] == '1'", "to": "canary"},
        {"weights": {"stable": 1, "canary": 1}, "sticky": "subject"},
        outliers={"consecutive_errors": 1},
    )
    running.services.orders.fail(failing)
    beta = operator() | {"x-beta": "1"}
    await running.client.get("/api/orders/ord_1", headers=beta)
    await rest(running, headers=beta)
    assert shares(running) == {"canary": 1, "stable": 1}


async def test_where_every_target_would_be_left_out_none_is():
    targets = {"stable": STABLE}
    orders = {"url": None, "targets": targets, "outliers": {"consecutive_errors": 1, "max_ejected": "100%"}}
    orders["retry"] = ONCE
    running = gateway(services={"orders": orders})
    running.services.orders.fail(says(503, {}))
    for _ in range(6):
        assert (await running.client.get("/api/orders/ord_1", headers=operator())).status_code == 502
    assert hosts(running) == {"orders-a": 3, "orders-b": 3}
    running.services.orders.fail(None)
    await rest(running)


async def test_no_more_are_ejected_than_the_configuration_allows():
    stable = [f"http://orders-{each}.internal" for each in "abcd"]
    running = shop(
        {"weights": {"stable": 1, "canary": 0}}, stable=stable, outliers={"consecutive_errors": 1, "max_ejected": "40%"}
    )
    running.services.orders.fail(says(500, {}))
    for _ in range(12):
        await running.client.get("/api/orders/ord_1", headers=operator())
    assert sum((await running.metrics("http_client_target_ejections_total")).values()) == 2


async def test_what_clients_do_wrong_ejects_nobody():
    running = shop({"weights": {"stable": 0, "canary": 1}}, outliers={"consecutive_errors": 1})
    running.services.orders.fail(says(404, {}))
    for _ in range(3):
        await running.client.get("/api/orders/ord_1", headers=operator())
    running.services.orders.fail(None)
    running.forget()
    await rest(running)
    assert shares(running) == {"canary": 1}


async def test_another_attempt_goes_to_another_target_of_the_same_arm():
    running = shop({"weights": {"stable": 1, "canary": 1}}, retry={"attempts": 2, "wait": 0, "floor": 100})

    async def one_fails(request, call):
        return await says(503, {})(request, call) if call.host == "orders-a" else None

    running.services.orders.fail(one_fails)
    for _ in range(6):
        running.forget()
        await rest(running)
        assert len(shares(running)) == 1


async def test_least_connections_goes_where_there_is_least_to_do():
    orders = {"url": None, "targets": {"stable": STABLE}, "balance": "least_connections"}
    running = gateway(services={"orders": orders})
    free = asyncio.Event()

    async def busy(_, call):
        if call.host == "orders-a":
            await free.wait()

    running.services.orders.fail(busy)
    asking = [asyncio.create_task(running.client.get("/api/orders/ord_1", headers=operator())) for _ in range(8)]
    await asyncio.sleep(0.05)
    assert hosts(running)["orders-a"] == 1
    free.set()
    assert {each.status_code for each in await asyncio.gather(*asking)} == {200}


async def test_a_hash_gives_each_key_a_target_of_its_own():
    stable = [f"http://orders-{each}.internal" for each in "abcd"]
    orders = {"url": None, "targets": {"stable": stable}, "balance": "hash:header:x-tenant"}
    running = gateway(services={"orders": orders}, limits={"mode": "off"})
    found = Counter()
    for tenant in range(40):
        running.forget()
        for _ in range(3):
            await rest(running, headers=operator() | {"x-tenant": str(tenant)})
        assert len(hosts(running)) == 1
        found.update(set(hosts(running)))
    assert len(found) == 4


async def test_a_body_under_way_counts_as_something_to_do():
    orders = {"url": None, "targets": {"stable": STABLE}, "balance": "least_connections"}
    running = gateway(services={"orders": orders})
    (service,) = [each for each in running.app.state.services.values() if each.name == "orders"]
    await rest(running)
    await graphql(running)
    running.services.orders.fail(says(500, {}))
    await running.client.get("/api/orders/ord_1", headers=operator())
    assert [each["in_flight"] for each in service.deployments.state()] == [0, 0]


class Breaking(httpx.AsyncByteStream):
    def __init__(self, error):
        self.error = error

    async def __aiter__(self):
        yield b"[1,"
        if self.error is not None:
            raise self.error


async def read(response):
    async for _ in response.stream:
        pass


async def given_up(response):
    async for _ in response.stream:
        break


@pytest.mark.parametrize(
    ("error", "kind", "take", "ejected"),
    [
        (httpx.ReadError("reset"), "application/json", read, True),
        (httpx.RemoteProtocolError("cut"), "application/json", read, True),
        (httpx.ReadError("reset"), "application/json", given_up, False),
        (httpx.ReadTimeout("slow"), "application/json", read, False),
        (httpx.ReadError("reset"), "Text/Event-Stream; charset=utf-8", read, False),
        (None, "application/json", read, False),
    ],
)
async def test_a_body_that_breaks_off_is_a_failure_as_long_as_it_is_the_services(error, kind, take, ejected):
    settings = DeploymentSettings(targets={"stable": STABLE}, outliers={"consecutive_errors": 2})
    deployments = Deployments("orders", settings, Telemetry(), Random(7), Clock())  # noqa: S311
    behave = Target(lambda _: httpx.Response(200, headers={"content-type": kind}, stream=Breaking(error)))
    balance = deployments.balanced(lambda _: behave)
    for _ in range(4):  # two of each
        response = await balance.handle_async_request(request())
        with suppress(httpx.TransportError):
            await take(response)
        await response.stream.aclose()
    assert any(each.times_ejected for each in deployments.targets) is ejected
    assert [each.in_flight for each in deployments.targets] == [0, 0]


async def test_what_lasts_over_several_targets_has_no_deadline_either():
    class Lasting(Breaking):
        silence = 0.0

        def outlive(self, silence):
            self.silence = silence

    deployments = Deployments("orders", DeploymentSettings(targets={"stable": STABLE}), Telemetry(), Random(7), Clock())  # noqa: S311
    body = Lasting(None)
    balance = deployments.balanced(lambda _: Target(lambda _: httpx.Response(200, stream=body)))
    response = await balance.handle_async_request(request())
    outlive(response, 60.0)
    assert body.silence == 60.0
    assert sum(each.in_flight for each in deployments.targets) == 1, "until it ends"
    await response.stream.aclose()
    assert sum(each.in_flight for each in deployments.targets) == 0
