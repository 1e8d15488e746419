"""One account a caller, whichever front it spends at, and refusals that say when to come back."""

from __future__ import annotations

import time

import pytest

from bff.edge.limits import Limits
from tests.harness import BFF_YAML, bearer, customer, gateway, partner, token

QUERY = {"query": '{ product(id: "prd_1") { id } }'}
FEW = {"tiers": {"partner": {"rate": ["3/minute"]}, "default": {"rate": ["3/minute"]}}}


async def graphql(shop, headers, client=None):
    return await (client or shop.client).post("/graphql", json=QUERY, headers=headers)


async def rest(shop, headers, client=None):
    return await (client or shop.client).get("/api/products/prd_1", headers=headers)


@pytest.mark.parametrize("credential", [partner, customer])
@pytest.mark.parametrize(("first", "then"), [(graphql, rest), (rest, graphql)])
async def test_one_counter_limits_a_credential_on_graphql_and_rest(credential, first, then):
    shop = gateway(**FEW)
    statuses = [(await each(shop, credential())).status_code for each in (first, then, first)]
    assert statuses == [200, 200, 200]
    for refused in (await first(shop, credential()), await then(shop, credential())):
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        body = refused.json()
        assert (body["errors"][0]["extensions"] if "errors" in body else body)["code"] == "RATE_LIMITED"
    assert len(shop.services.products.calls) == 3, "what is refused costs no upstream call"


async def test_both_refusals_say_the_same():
    shop = gateway(**FEW)
    for _ in range(3):
        await graphql(shop, partner())
    by_graphql, by_rest = await graphql(shop, partner()), await rest(shop, partner())
    for name in ("ratelimit", "ratelimit-policy", "retry-after"):
        assert by_graphql.headers[name] == by_rest.headers[name]
    assert by_rest.headers["ratelimit-policy"] == '"partner-60";q=3;w=60'
    assert by_rest.headers["ratelimit"].startswith('"partner-60";r=0;t=')
    assert by_rest.headers["content-type"] == "application/problem+json"
    assert by_graphql.headers["content-type"].startswith("application/json")
    assert by_graphql.json()["errors"][0]["message"] == by_rest.json()["detail"]
    assert by_rest.json()["violated-policies"] == ["partner-60"]


async def test_what_is_left_is_told_on_every_answer_and_retry_after_on_refusals_alone():
    shop = gateway(**FEW)
    left = []
    for _ in range(3):
        response = await rest(shop, partner())
        left.append(response.headers["ratelimit"].split(";")[1])
        assert "retry-after" not in response.headers
    assert left == ["r=2", "r=1", "r=0"]


async def test_a_route_takes_what_it_costs():
    shop = gateway(tiers={"partner": {"rate": ["4/minute"]}})
    assert (
        (await shop.client.get("/api/orders/ord_1", headers=partner()))
        .headers["ratelimit"]
        .startswith('"partner-60";r=2')
    )


async def test_a_request_that_costs_more_than_is_left_takes_nothing():
    shop = gateway(**FEW)
    assert (await shop.client.get("/api/orders/ord_1", headers=partner())).status_code == 200
    assert (await shop.client.get("/api/orders/ord_1", headers=partner())).status_code == 429
    assert (await rest(shop, partner())).status_code == 200


async def test_accounts_are_of_callers():
    shop = gateway(**FEW)
    for _ in range(4):
        last = await rest(shop, customer("usr_1"))
    assert last.status_code == 429
    assert (await rest(shop, customer("usr_2"))).status_code == 200
    assert (await rest(shop, partner())).status_code == 200
    assert (await rest(shop, {})).status_code == 200


async def test_another_token_of_the_same_person_is_no_new_account():
    shop = gateway(**FEW)
    statuses = [
        (await rest(shop, bearer(token("usr_1", "products:read", jti=str(n), client_id=f"app{n}")))).status_code
        for n in range(4)
    ]
    assert statuses == [200, 200, 200, 429]


async def test_a_tokens_plan_is_its_tier_and_an_unknown_one_is_the_default():
    shop = gateway(tiers={"partner": {"rate": ["100/minute"]}, "default": {"rate": ["2/minute"]}})
    shown = [
        (await rest(shop, bearer(token("usr_1", plan=plan)))).headers["ratelimit-policy"]
        for plan in ("partner", "platinum", None)
    ]
    assert shown == ['"partner-60";q=100;w=60', '"default-60";q=2;w=60', '"default-60";q=2;w=60']


async def test_who_is_anonymous_is_counted_by_address():
    shop = gateway(tiers={"anonymous": {"rate": ["2/minute"]}})
    other = shop.client_at("192.0.2.99")
    assert [(await rest(shop, {})).status_code for _ in range(3)] == [200, 200, 429]
    assert (await rest(shop, {"x-forwarded-for": "198.51.100.7"})).status_code == 429
    assert (await rest(shop, {}, other)).status_code == 200


@pytest.fixture
def clock(monkeypatch):
    """Seconds since 1970 that pass only when a test lets them: the limits' engine has no clock of its own to set."""

    class Clock:
        now = time.time() // 60 * 60 + 17.25

        def __call__(self) -> float:
            return self.now

    monkeypatch.setattr(time, "time", Clock())
    return time.time


def at(clock, shop):
    """The gateway with that clock: its limits took theirs before."""
    (layer,) = (each for each in shop.layers if isinstance(each, Limits))
    layer.clock = clock
    return shop


@pytest.mark.parametrize("rate", ["3/minute", "10/minute", "5/second", "100/hour"])
@pytest.mark.parametrize("earlier", [0, 70])
async def test_who_waits_as_long_as_retry_after_says_is_let_in(clock, rate, earlier):
    shop = at(clock, gateway(tiers={"partner": {"rate": [rate]}}))
    for _ in range(3):
        await rest(shop, partner())
    clock.now += earlier
    while (refused := await rest(shop, partner())).status_code == 200:
        clock.now += 0.125
    clock.now += int(refused.headers["retry-after"])
    assert (await rest(shop, partner())).status_code == 200


@pytest.mark.parametrize("offset", [0, 20, 40, 59])
async def test_no_minute_holds_twice_what_the_rate_allows_wherever_it_begins(clock, offset):
    clock.now += offset
    shop = at(clock, gateway(tiers={"partner": {"rate": ["20/minute"]}}))
    admitted = []
    for _ in range(180):
        if (await rest(shop, partner())).status_code == 200:
            admitted.append(clock.now)
        clock.now += 1
    assert max(sum(start <= each < start + 60 for each in admitted) for start in admitted) < 40
    assert len(admitted) >= 50


async def test_of_several_windows_each_holds():
    shop = gateway(tiers={"partner": {"rate": ["100/minute", "2/hour"]}})
    statuses = [(await rest(shop, partner())).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await rest(shop, partner())
    assert refused.json()["violated-policies"] == ["partner-3600"]
    assert int(refused.headers["retry-after"]) > 60


async def test_one_address_may_knock_only_so_often_whatever_it_shows():
    shop = gateway(limits={"per_address": "5/minute"})
    statuses = [(await rest(shop, bearer(f"forged.{n}.x"))).status_code for n in range(6)]
    assert statuses == [401] * 5 + [429]
    refused = await rest(shop, partner())
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert "retry-after" in refused.headers
    assert (await rest(shop, partner(), shop.client_at("192.0.2.99"))).status_code == 200


@pytest.mark.parametrize("mode", ["measure", "off"])
async def test_where_limits_are_not_enforced_nothing_is_refused(mode):
    shop = gateway(**FEW, limits={"mode": mode, "per_address": "2/minute"})
    statuses = {(await rest(shop, partner())).status_code for _ in range(6)}
    assert statuses == {200}
    decisions = {
        dict(labels)["decision"]: n
        for labels, n in (await shop.metrics("bff_limit_decisions_total")).items()
        if dict(labels)["tier"] == "partner"
    }
    assert decisions == ({"admitted": 3, "refused": 3} if mode == "measure" else {"admitted": 0, "refused": 0})


async def test_decisions_are_measured():
    shop = gateway(**FEW)
    for _ in range(5):
        await rest(shop, partner())
    decisions = await shop.metrics("bff_limit_decisions_total")
    assert decisions[("decision", "refused"), ("tier", "partner")] == 2
    assert decisions[("decision", "admitted"), ("tier", "partner")] == 3


async def test_a_tier_that_is_not_named_has_no_limit():
    text = BFF_YAML.replace("      tier: partner\n", "")
    shop = gateway(text[: text.index("tiers:")] + text[text.index("limits:") :])
    for headers in (partner(), customer(), {}):
        response = await rest(shop, headers)
        assert response.status_code == 200
        assert "ratelimit" not in response.headers
