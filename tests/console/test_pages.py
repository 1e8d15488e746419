"""What is under the console: traffic, callers, keys, weights, the configuration, and all of it live."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest

from bff.app import build
from bff.config import traced
from bff.console.live import Live, snapshot_of_all
from bff.core.store.local import LocalValkey
from bff.core.traffic import SLOT, SLOTS, Traffic, figures
from bff.edge.credentials.keys_file import new_key, write
from tests.harness import FOUR_SERVICES, bearer, customer, gateway, operator, partner
from tests.shop import refused

TOKEN = "only operators know"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_traffic_is_told_by_route_operation_and_service():
    shop = gateway()
    await shop.query(FOUR_SERVICES, headers=operator())
    await shop.client.get("/api/products/prd_1")
    await shop.client.get("/api/orders/ord_1")  # needs a credential
    seen = (await shop.admin.get("/-/traffic")).json()
    assert {name: each["count"] for name, each in seen["routes"].items()} == {"graphql": 1, "products": 1, "orders": 1}
    assert {name: each["count"] for name, each in seen["operations"].items()} == {"Shop": 1}
    assert {name: each["count"] for name, each in seen["services"].items()} == await shop.attempts()
    assert (seen["all"]["count"], seen["all"]["refused"], seen["all"]["failed"]) == (3, 1, 0)
    assert seen["routes"]["graphql"]["p95_ms"] > 0


async def test_a_service_that_fails_is_told_with_how():
    shop = gateway(services={"products": {"retry": {"attempts": 1}}})
    shop.services.products.fail(refused)
    await shop.client.get("/api/products/prd_1")
    seen = (await shop.admin.get("/-/traffic")).json()
    assert seen["services"]["products"]["failed"] == 1
    assert seen["services"]["products"]["last_failure"] == "failed"
    assert seen["all"]["failed"] == 1


def test_latencies_are_within_a_quarter_of_what_they_were():
    seen = Traffic(Clock())
    for number in range(1, 1001):
        seen.request("all", "", 200, number / 1000)
    figures = seen.shown()["all"]
    for share in (50, 95, 99):
        assert figures[f"p{share}_ms"] == pytest.approx(share * 10, rel=0.25)


def test_what_is_older_than_five_minutes_is_forgotten():
    clock = Clock()
    seen = Traffic(clock)
    for _ in range(3 * SLOTS):
        seen.request("orders", "Page", 500, 0.01)
        clock.now += SLOT
    figures = seen.shown()
    assert figures["all"]["count"] == SLOTS - 1  # none in the newest one yet
    assert figures["all"]["failed"] == figures["all"]["count"]
    assert max(len(each.before) for each in (*seen._routes.values(), *seen._operations.values())) < SLOTS
    clock.now += SLOT * SLOTS
    assert seen.shown()["routes"] == {}


def test_names_without_end_take_no_memory_without_end():
    seen = Traffic(Clock())
    for number in range(2000):
        seen.request("graphql", f"Operation{number}", 200, 0.01)
    assert len(seen._routes) + len(seen._operations) <= 500
    assert len(seen.shown()["operations"]) <= 50


async def test_a_snapshot_is_made_once_a_second_whoever_looks():
    clock, made = Clock(), []

    async def make():
        made.append(1)
        await asyncio.sleep(0)
        return {}

    live = Live(make, 20, clock)
    await asyncio.gather(*(live.snapshot() for _ in range(5)))
    assert len(made) == 1
    clock.now += 1
    await live.snapshot()
    assert len(made) == 2


async def test_a_snapshot_has_what_the_console_shows():
    shop = gateway()
    await shop.client.get("/api/products/prd_1", headers=partner())
    answer = await shop.admin.get("/-/live", params={"snapshots": 1})
    assert answer.headers["content-type"].startswith("text/event-stream")
    shown = json.loads(answer.text.removeprefix("data: "))
    assert shown["services"].keys() == shop.app.state.services.keys()
    assert shown["traffic"]["all"]["count"] == 1
    [caller] = shown["callers"]
    assert (caller["caller"], caller["tier"]) == ("consumer:partner", "partner")
    assert [(each["limit"], each["left"]) for each in caller["windows"]] == [(1000, 999)]


def test_what_several_processes_have_seen_is_as_if_one_had():
    clock, random = Clock(), Random(5)  # noqa: S311
    one, other, whole = Traffic(clock), Traffic(clock), Traffic(clock)
    for _ in range(2000):
        seen = (random.choice("ab"), random.choice(["", "Page"]), random.choice([200, 404, 503]), random.random())
        call = (random.choice("xy"), random.choice(["2xx", "connect"]), random.random())
        for each in (random.choice([one, other]), whole):
            each.request(*seen)
            each.call(*call)
        clock.now += random.choice([0, 0.2])
    assert figures([one.state(), other.state()]) == whole.shown()


async def test_the_cache_is_shown_and_purged():
    route = {"name": "products", "path": "/api/products/{rest*}", "service": "products", "rewrite": "/products/{rest}"}
    shop = gateway(admin={"token": TOKEN}, routes=[route | {"public": True, "cache": True}])

    async def shown():
        text = (await shop.admin.get("/-/live", params={"snapshots": 1}, headers=bearer(TOKEN))).text
        return json.loads(text.removeprefix("data: "))["cache"]

    assert (await gateway().admin.get("/-/snapshot")).json()["cache"] is None
    for _ in range(2):
        await shop.client.get("/api/products/prd_1")
    seen = await shown()
    assert sum(seen["requests"].values()) == 2
    assert 0 <= seen["bytes"] < seen["max_bytes"]
    purged = await shop.admin.post("/-/cache/purge", json={"everything": True}, headers=bearer(TOKEN))
    assert purged.json() == {"purged": seen["answers"]}


async def test_viewers_are_bounded():
    shop = gateway(admin={"max_viewers": 1})
    first = asyncio.create_task(shop.admin.get("/-/live", params={"snapshots": 3}))  # two seconds
    await asyncio.sleep(0.1)
    second = await shop.admin.get("/-/live", params={"snapshots": 1})
    assert second.status_code == 503
    assert "admin.max_viewers" in second.json()["detail"]
    assert (await first).status_code == 200
    assert (await shop.admin.get("/-/live", params={"snapshots": 1})).status_code == 200


async def test_viewers_who_come_at_once_are_no_more():
    shop = gateway(admin={"max_viewers": 2})
    asked = [shop.admin.get("/-/live", params={"snapshots": 2}) for _ in range(8)]
    statuses = [each.status_code for each in await asyncio.gather(*asked)]
    assert sorted(statuses) == [200] * 2 + [503] * 6
    assert (await shop.admin.get("/-/live", params={"snapshots": 1})).status_code == 200


async def snapshot_of(shop):
    answer = await shop.admin.get("/-/live", params={"snapshots": 1})
    return json.loads(answer.text.removeprefix("data: "))


async def test_persons_whose_names_begin_alike_are_two_callers():
    shop = gateway()
    for name in ("usr_123456", "usr_123457"):
        await shop.client.get("/api/users/usr_1", headers=customer(name))
    callers = (await snapshot_of(shop))["callers"]
    assert [each["caller"].partition("…")[0] for each in callers] == ["subject:usr_1234"] * 2
    assert len({each["id"] for each in callers}) == 2


async def test_callers_whose_accounts_are_in_a_store_are_shown_with_what_is_left_there():
    with LocalValkey() as valkey:
        shop = gateway(store={"url": valkey.url, "timeout": "1s"})
        async with shop.app.router.lifespan_context(shop.app):
            await shop.client.get("/api/products/prd_1", headers=partner())
            await shop.client.get("/api/products/prd_1", headers=partner())
            [caller] = (await snapshot_of(shop))["callers"]
            assert (caller["caller"], caller["tier"]) == ("consumer:partner", "partner")
            assert [(each["limit"], each["left"]) for each in caller["windows"]] == [(1000, 998)]
            valkey.stop()
            said = (await shop.admin.get("/-/snapshot")).json()
            assert said["callers"] == []  # what they have left is not known


def test_of_several_processes_those_who_asked_last_come_first_and_each_once():
    def said(*names):
        callers = [{"id": name, "caller": name} for name in names]
        return {"at": 0, "traffic": Traffic().state(), "services": {}, "callers": callers, "requests": [],
                "draining": False, "cache": None}  # fmt: skip

    shown = snapshot_of_all([said("a", "b"), said("c", "a", "d"), said()])
    assert [each["caller"] for each in shown["callers"]] == ["a", "c", "b", "d"]


async def test_the_configuration_says_where_each_value_came_from_and_no_secret(tmp_path):
    file = tmp_path / "bff.yaml"
    file.write_text("services: {users: {url: 'http://users.internal'}}\nadmin: {token: 'not to be seen'}\n")
    loaded = traced(file, environ={"BFF__SERVER__PORT": "8123"})
    shop = gateway()
    app = build(loaded.config, network=shop.services, origin=loaded.origin)
    shop.admin._transport.app = app.state.admin
    answer = await shop.admin.get("/-/config", headers=bearer("not to be seen"))
    assert "not to be seen" not in answer.text
    values = {each["key"]: (each["value"], each["from"]) for each in answer.json()}
    assert values["server.port"] == (8123, "BFF__SERVER__PORT")
    assert values["services.users.url"] == ("http://users.internal", f"{file}:1")
    assert values["observability.traces.sample"] == (0.01, "profile")
    assert values["server.host"] == ("127.0.0.1", "default")
    assert {each["key"] for each in answer.json()} == set(loaded.origin)


async def test_the_schema_is_there_to_be_read():
    answer = await gateway().admin.get("/-/schema")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "type Query" in answer.text


async def test_a_key_of_the_file_is_revoked_at_once_and_one_of_the_configuration_is_not(tmp_path):
    key, kept = new_key("acme", ["orders:read"], now=0)
    write(tmp_path / "keys.yaml", [kept])
    shop = gateway(admin={"token": TOKEN}, auth={"api_keys_file": str(tmp_path / "keys.yaml")})
    assert (await shop.client.get("/api/orders/ord_1", headers={"x-api-key": key})).status_code != 401
    listed = (await shop.admin.get("/-/keys", headers=bearer(TOKEN))).json()
    assert [(each["consumer"], each["revocable"]) for each in listed] == [("partner", False), ("acme", True)]
    assert key not in json.dumps(listed)
    assert (await shop.admin.delete(f"/-/keys/{listed[1]['key']}")).status_code == 401
    kept_one = await shop.admin.delete(f"/-/keys/{listed[0]['key']}", headers=bearer(TOKEN))
    assert (kept_one.status_code, "auth.api_keys" in kept_one.text) == (409, True)
    revoked = await shop.admin.delete(f"/-/keys/{listed[1]['key']}", headers=bearer(TOKEN))
    assert revoked.json()["consumer"] == "acme"
    assert (await shop.client.get("/api/orders/ord_1", headers={"x-api-key": key})).status_code == 401
    assert (await shop.client.get("/api/orders/ord_1", headers=partner())).status_code != 401
    again = await shop.admin.delete(f"/-/keys/{listed[1]['key']}", headers=bearer(TOKEN))
    assert again.status_code == 409


async def test_weights_are_set_for_a_while_and_ended():
    arms = {"targets": {"stable": ["http://a.internal"], "canary": ["http://b.internal"]}, "url": None}
    split = [{"weights": {"stable": 95, "canary": 5}}]
    shop = gateway(admin={"token": TOKEN}, services={"products": arms | {"split": split}})

    async def put(service: str, **body):
        return await shop.admin.put(f"/-/upstreams/{service}/weights", json=body, headers=bearer(TOKEN))

    shown = (await put("products", weights={"stable": 0, "canary": 1}, seconds=60)).json()["split"]
    assert shown["weights"] == {"stable": 0, "canary": 1}
    assert shown["set_until"] > 0
    assert (await put("products", weights={}, seconds=0)).json()["split"]["weights"] == {"stable": 95, "canary": 5}
    assert (await put("products", weights={"other": 1}, seconds=60)).status_code == 422
    assert (await put("products", weights={"stable": 0}, seconds=60)).status_code == 422
    assert (await put("products", weights={"stable": 1}, seconds=1e9)).status_code == 422
    assert (await put("users", weights={"stable": 1}, seconds=60)).status_code == 409
    assert (await put("nobody", weights={"stable": 1}, seconds=60)).status_code == 404


async def test_the_page_is_served_whole_under_a_policy_that_lets_nothing_else_in():
    shop = gateway()
    page = await shop.admin.get("/console")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text
    assert "style=" not in page.text
    for name, kind in (("main.js", "text/javascript"), ("console.css", "text/css")):
        file = await shop.admin.get(f"/console/{name}")
        assert file.status_code == 200
        assert file.headers["content-type"].startswith(kind)
        assert "http://" not in file.text.replace("http://www.w3.org/2000/svg", "")
    for name in ("nothing.js", "__init__.py", "..%2f__init__.py"):
        assert (await shop.admin.get(f"/console/{name}")).status_code == 404
