"""One account a caller, whichever front it spends at, and refusals that say when to come back."""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import pytest

from tests.harness import BFF_YAML, bearer, customer, gateway, partner, token
from tests.shop import Services

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
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        body = refused.json()
        assert (body["errors"][0]["extensions"] if "errors" in body else body)["code"] == "RATE_LIMITED"
    assert len(shop.services.products.calls) == 3, "what is refused costs no upstream call"


@pytest.mark.usefixtures("clock")  # which a second must not turn on between the two
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
    problem = by_rest.json()
    assert problem["violated-policies"] == ["partner-60"]
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert problem["title"] == "Request cannot be satisfied as assigned quota has been exceeded"


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


@pytest.mark.parametrize("rate", ["3/minute", "10/minute", "5/second", "100/hour"])
@pytest.mark.parametrize("earlier", [0, 70])
async def test_who_waits_as_long_as_retry_after_says_is_let_in(clock, rate, earlier):
    shop = gateway(tiers={"partner": {"rate": [rate]}})
    for _ in range(3):
        await rest(shop, partner())
    clock.now += earlier
    while (refused := await rest(shop, partner())).status_code == 200:
        clock.now += 0.125
    clock.now += int(refused.headers["retry-after"])
    assert (await rest(shop, partner())).status_code == 200


@pytest.mark.parametrize("offset", [0, 20, 40, 59])
async def test_no_minute_holds_more_than_the_rate_allows_wherever_it_begins(clock, offset):
    clock.now += offset
    shop = gateway(tiers={"partner": {"rate": ["20/minute"]}})
    admitted = []
    for burst in range(130):
        answers = [await rest(shop, partner()) for _ in range(1 + burst % 3)]
        admitted += [clock.now for each in answers if each.status_code == 200]
        clock.now += 2.75
    assert max(sum(start <= each < start + 60 for each in admitted) for start in admitted) == 20
    assert len(admitted) >= 20 * 357.5 / 60.6 - 20


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
        (dict(labels)["policy"], dict(labels)["decision"]): n
        for labels, n in (await shop.metrics("bff_limit_decisions_total")).items()
    }
    measured = {("all", "admitted"): 3, ("partner-60", "measured"): 3, ("address", "measured"): 4}
    assert decisions == (measured if mode == "measure" else {})


async def test_decisions_are_measured():
    shop = gateway(**FEW)
    for _ in range(5):
        await rest(shop, partner())
    await graphql(shop, partner())
    decisions = {
        tuple(dict(labels).values()): n for labels, n in (await shop.metrics("bff_limit_decisions_total")).items()
    }
    assert decisions == {
        ("admitted", "rest", "all", "partner"): 3,
        ("refused", "rest", "partner-60", "partner"): 2,
        ("refused", "graphql", "partner-60", "partner"): 1,
    }
    refusals = [line for line in shop.log if line["event"] == "limited"]
    assert len(refusals) == 3
    assert (
        refusals[0].items() >= {"policies": ["partner-60"], "tier": "partner", "route": "products", "cost": 1}.items()
    )
    assert refusals[0]["request_id"] == shop.access[3]["request_id"]


async def test_a_tier_that_is_not_named_has_no_limit():
    text = BFF_YAML.replace("      tier: partner\n", "")
    shop = gateway(text[: text.index("tiers:")] + text[text.index("limits:") :])
    for headers in (partner(), customer(), {}):
        response = await rest(shop, headers)
        assert response.status_code == 200
        assert "ratelimit" not in response.headers


async def test_windows_with_as_much_left_are_told_in_an_order():
    shop = gateway(tiers={"partner": {"rate": ["3/minute", "3/minute", "3/hour"], "quota": "3/day"}})
    for left in ("r=2", "r=1", "r=0", "r=0"):
        told = (await rest(shop, partner())).headers["ratelimit"].split(", ")
        names, lefts = [each.split(";")[0] for each in told], {each.split(";")[1] for each in told}
        assert names == ['"partner-quota"', '"partner-3600"', '"partner-60"', '"partner-60"']
        assert lefts == {left}


# Quotas, concurrency, costs.


async def test_a_quota_is_a_limit_of_its_own_name():
    shop = gateway(tiers={"partner": {"rate": ["100/minute"], "quota": "2/day"}})
    answers = [await rest(shop, partner()) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"partner-60";q=100;w=60, "partner-quota";q=2;w=86400'
    assert [part.split(";")[:2] for part in answers[0].headers["ratelimit"].split(", ")] == [
        ['"partner-quota"', "r=1"],
        ['"partner-60"', "r=99"],
    ]
    assert answers[2].json()["violated-policies"] == ["partner-quota"]
    assert int(answers[2].headers["retry-after"]) > 80_000


async def test_a_calendar_quota_begins_anew_with_the_day(clock):
    shop = gateway(tiers={"partner": {"quota": {"rate": "2/day", "window": "calendar"}}})
    clock.now = clock.now // 86400 * 86400 + 86400 - 10.5
    refused = [await rest(shop, partner()) for _ in range(3)][-1]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "11")
    clock.now += 11
    assert (await rest(shop, partner())).status_code == 200


async def test_each_kind_of_limit_has_a_mode_of_its_own():
    shop = gateway(
        tiers={"partner": {"rate": ["100/minute"], "quota": "2/day"}},
        limits={"mode": "enforce", "modes": {"quota": "measure", "address": "off"}, "per_address": "1/minute"},
    )
    assert {(await rest(shop, partner())).status_code for _ in range(5)} == {200}
    decisions = {dict(labels)["policy"]: n for labels, n in (await shop.metrics("bff_limit_decisions_total")).items()}
    assert decisions == {"all": 2, "partner-quota": 3}


@pytest.mark.parametrize(("headers", "names"), [
    ("draft", {"ratelimit", "ratelimit-policy"}),
    ("legacy", {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}),
    ("both", {"ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}),
    ("none", set()),
])  # fmt: skip
async def test_the_form_of_the_headers_is_configured(headers, names):
    shop = gateway(**FEW, limits={"headers": headers})
    answer = await rest(shop, partner())
    assert {name for name in answer.headers if "ratelimit" in name} == names
    if "x-ratelimit-limit" in names:
        assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("3", "2")
        assert 1 <= int(answer.headers["x-ratelimit-reset"]) <= 61


async def test_a_service_can_say_what_its_answer_costs():
    shop = priced(route={"cost": {"header": "X-Units", "reserve": 5}}, answer={"x-units": "2"}, rate="10/minute")
    assert left(await shop.client.get("/priced")) == 5, "as it was reserved"
    assert left(await shop.client.get("/priced")) == 3, "2 are spent"
    shop.services.said = {"x-units": "nonsense"}
    assert (await shop.client.get("/priced")).status_code == 200
    refused = await shop.client.get("/priced")
    assert refused.status_code == 429
    assert "5 of this caller's units" in refused.json()["detail"]


async def test_what_the_gateway_or_a_service_fails_at_costs_the_floor():
    shop = priced(route={"cost": 4}, answer=httpx.ConnectError("refused"), rate="10/minute")
    assert (await shop.client.get("/priced")).status_code >= 502
    answer = await shop.client.get("/priced")
    assert left(answer) == 5, "one unit is spent, four are reserved"


@pytest.mark.parametrize("where", ["tier", "route"])
async def test_so_many_requests_of_a_caller_are_under_way_and_a_few_wait(where):
    tier, route = ({"concurrency": 2}, {}) if where == "tier" else ({}, {"concurrency": 2})
    shop = priced(route=route, tier=tier, limits={"queue": {"size": 3, "wait": "5s"}}, rate="100/minute")
    shop.services.hold = asyncio.Event()
    running = [asyncio.create_task(shop.client.get("/priced")) for _ in range(6)]
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = (each.result() for each in done)
    name = "anonymous-concurrency" if where == "tier" else "priced-concurrency"
    assert (refused.status_code, refused.json()["violated-policies"]) == (429, [name])
    assert int(refused.headers["retry-after"]) >= 1
    assert shop.services.most == 2
    shop.services.hold.set()
    assert sorted([(await each).status_code for each in running]) == [200] * 5 + [429]
    assert shop.services.most == 2
    assert left(await shop.client.get("/priced")) == 100 - 6, "what is refused takes nothing"


async def test_who_waits_too_long_for_others_to_end_is_refused():
    shop = priced(route={"concurrency": 1}, limits={"queue": {"size": 3, "wait": "50ms"}}, rate="100/minute")
    shop.services.hold = asyncio.Event()
    first = asyncio.create_task(shop.client.get("/priced"))
    await asyncio.sleep(0.01)
    assert (await shop.client.get("/priced")).status_code == 429
    shop.services.hold.set()
    assert (await first).status_code == 200
    assert (await shop.client.get("/priced")).status_code == 200


async def test_a_request_that_dies_gives_its_slot_back():
    shop = priced(route={"concurrency": 1}, limits={"queue": {"size": 0}}, rate="100/minute")
    shop.services.hold = asyncio.Event()
    dying = asyncio.create_task(shop.client.get("/priced"))
    await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.wait([dying])
    shop.services.hold = None
    assert (await shop.client.get("/priced")).status_code == 200


# What operators see.


async def test_operators_see_what_the_limits_are_and_what_a_caller_has_left():
    shop = gateway(tiers={"partner": {"rate": ["3/minute"], "concurrency": 4}}, limits={"modes": {"rate": "measure"}})
    await rest(shop, partner())
    limits = (await shop.admin.get("/-/limits")).json()
    assert limits["accounts"] == 1
    assert limits["tiers"]["partner"] == {
        "partner-60": {"limit": 3, "mode": "measure", "seconds": 60},
        "partner-concurrency": {"limit": 4, "mode": "enforce"},
    }
    account = (await shop.admin.get("/-/limits/consumer:partner")).json()["tiers"]["partner"]
    assert account["under_way"] == {}
    assert account["windows"]["partner-60"].items() >= {"limit": 3, "left": 2}.items()
    assert (await shop.admin.get("/-/limits/consumer:nobody")).json() == {"caller": "consumer:nobody", "tiers": {}}


async def test_where_there_is_an_admin_token_it_is_needed():
    shop = gateway(admin={"token": "only operators know"})
    asked = [
        await shop.admin.get("/-/limits", headers=each)
        for each in ({}, bearer("guessed"), bearer("only operators know"))
    ]
    assert [each.status_code for each in asked] == [401, 401, 200]
    assert (await shop.admin.get("/healthz")).status_code == 200


def left(answer):
    return int(re.search(r"r=(\d+)", answer.headers["ratelimit"])[1])


class Priced(Services):
    """One service whose answers say what they cost."""

    said: object = None
    hold: asyncio.Event | None = None
    running = most = 0

    async def handle_async_request(self, request):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.hold:
                await self.hold.wait()
            if isinstance(self.said, Exception):
                raise self.said
            return httpx.Response(200, headers=self.said or {}, content=b"{}")
        finally:
            self.running -= 1


def priced(*, route, rate, answer=None, tier=None, **sections):
    config = {
        "routes": [{"name": "priced", "path": "/priced", "service": "products", "public": True, **route}],
        "tiers": {"anonymous": {"rate": [rate], **(tier or {})}},
        **sections,
    }
    shop = gateway(network=Priced, **config)
    shop.services.said = answer
    return shop
