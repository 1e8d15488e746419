"""Reload: another configuration takes over while requests are answered, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import weakref
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

import bff.app
from bff.config import Config, ConfigError, needs_restart, read
from bff.core.loading.changes import changes
from bff.core.telemetry import JsonLog, Telemetry
from bff.fronts import Gateway
from bff.generations import Generations
from tests.harness import BFF_YAML, bearer, partner, public_keys, signed_token
from tests.reloading import TEXT, Reloading, living, retired, until
from tests.running import ROOT
from tests.shop import refused

QUERY = {"query": '{ product(id: "prd_1") { name } }'}


@pytest.fixture
async def one(tmp_path):
    one = Reloading(tmp_path, environ={"BFF__SERVER__RELOAD": "off"})  # but for what the test itself reloads
    async with living(one.generations):
        yield one


async def test_what_changed_in_the_file_counts_after_a_reload(one):
    assert (await one.client.get("/shop/prd_1")).status_code == 404
    one.write("/api/products/{rest*}", "/shop/{rest*}")
    answer = await one.admin.post("/-/reload")
    assert answer.status_code == 200
    assert answer.json()["outcome"] == "taken"
    assert answer.json()["changed"] == ["routes[1].path"]
    assert (await one.client.get("/shop/prd_1")).status_code == 200
    assert (await one.client.get("/api/products/prd_1")).status_code == 404
    assert one.log[-1]["duration_ms"] > 0


async def test_what_is_taken_over_keeps_what_it_uses(one):
    """A part that nobody asks for again is closed with the generation before."""
    before = one.state.parts.named
    one.write("/api/products/{rest*}", "/shop/{rest*}")
    assert (await one.admin.post("/-/reload")).json()["outcome"] == "taken"
    await retired(one)
    after = one.state.parts.named
    assert set(after) == set(before)
    assert all(each.holders == 1 for each in after.values())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("http://orders.internal", "no address", "services.orders.url: must be an absolute URL"),
        ("services:", "servicez:", "did you mean `services`"),
        ("  users: {url", "  users: {identity: signed, openapi: nowhere.json, url", "nowhere.json"),
        ("auth:", "auth: [", "bff.yaml"),
        ("auth:", "graphql: {documents: {path: nowhere}}\nauth:", "nowhere"),
        ("auth:", "entitlements: {basic: [Nothing.name]}\nauth:", "Nothing"),
        ("auth:", "server: {max_body: {file: secret}}\nauth:", "no such file"),
    ],
)
async def test_a_bad_file_changes_nothing_and_says_why(one, old, new, said):
    before = one.generations.current
    good = one.file.read_text()
    one.write(old, new)
    answer = await one.admin.post("/-/reload")
    assert answer.status_code == 422
    assert said in " ".join(answer.json()["problems"])
    assert one.generations.current is before
    assert (await one.client.post("/graphql", json=QUERY)).json()["data"]["product"]["name"]
    ready = await one.admin.get("/readyz")
    assert ready.status_code == 200
    assert said in " ".join(ready.json()["config"])
    assert said in " ".join(one.log[-1]["problems"])
    assert await one.metric("bff_config_good") == 0
    assert await one.metric("bff_config_reloads_total") == 1

    one.file.write_text(good)
    assert (await one.generations.reload("file")).outcome == "unchanged"
    assert (await one.admin.get("/readyz")).json() == {"status": "ok"}
    assert await one.metric("bff_config_good") == 1


async def test_a_request_ends_on_the_generation_that_admitted_it(one):
    gate = asyncio.Event()
    through = one.services.handle_async_request

    async def slow(request):
        await gate.wait()
        return await through(request)

    one.services.handle_async_request = slow
    under_way = asyncio.create_task(one.client.get("/api/products/prd_1"))
    await until(lambda: one.generations.current.under_way == 1)
    one.write("http://products.internal", "http://elsewhere.internal")
    one.write("/api/products/{rest*}", "/shop/{rest*}")
    assert (await one.generations.reload("file")).outcome == "taken"
    assert await one.metric("bff_config_generations") == 2
    assert not under_way.done()
    gate.set()
    assert (await under_way).status_code == 200
    await retired(one)
    assert await one.metric("bff_config_generations") == 1


async def test_a_change_that_ends_on_the_generation_before_drops_what_the_new_one_has_read(one):
    gate, asked = asyncio.Event(), []

    async def behave(request):
        if request.method == "POST":
            await gate.wait()
        else:
            asked.append(request.extensions["target"])
        return httpx.Response(200, json={"id": "prd_1"}, headers={"cache-control": "max-age=60"})

    one.services.handle_async_request = behave
    products = 'products: {url: "http://products.internal"'
    one.write(products, f"{products}, cache: {{entities: true}}")
    assert (await one.generations.reload("file")).outcome == "taken"
    changing = asyncio.create_task(one.client.post("/api/products/prd_1"))
    await until(lambda: one.generations.current.under_way == 1)
    one.write(products, f"{products}, timeout: 3s")
    assert (await one.generations.reload("file")).outcome == "taken"
    for _ in range(2):
        assert (await one.client.get("/api/products/prd_1")).status_code == 200
    assert len(asked) == 1
    gate.set()
    assert (await changing).status_code == 200
    assert (await one.client.get("/api/products/prd_1")).status_code == 200
    assert len(asked) == 2


async def test_what_is_made_of_the_same_stays_and_the_rest_is_closed(one):
    before = one.state
    schema = before.execution.schema
    closed = []
    for name, service in before.services.items():
        object.__setattr__(service, "transport", _Closing(service.transport, name, closed))
    one.write('orders: {url: "http://orders.internal"}', 'orders: {url: "http://orders.internal", timeout: 3s}')
    assert (await one.generations.reload("file")).outcome == "taken"
    await retired(one)
    after = one.state
    assert [name for name in after.services if after.services[name] is not before.services[name]] == ["orders"]
    assert closed == ["orders"]
    assert after.execution.schema is schema
    assert after.credentials is before.credentials


async def test_what_is_costly_to_make_is_made_again_only_by_a_change_that_concerns_it(tmp_path):
    (tmp_path / "contracts").symlink_to(ROOT / "contracts")
    (tmp_path / "operations").symlink_to(ROOT / "operations")
    text = TEXT.replace('users.internal"', 'users.internal", openapi: contracts/users.yaml')
    text = text.replace("rewrite: /users/{rest}", "rewrite: /users/{rest}\n    validate: request")
    text += "graphql: {documents: {path: operations}}\nentitlements: {some: ['Query.product', 'Product.*']}\n"
    one = Reloading(tmp_path, text)
    costly = {
        "schema", "documents", "views", "contract users", "validation users", "description", "methods", "openapi",
    }  # fmt: skip

    async def remade(old: str, new: str) -> set[str]:
        before = one.state.parts.named
        one.write(old, new)
        assert (await one.generations.reload("file")).outcome == "taken"
        assert (await one.client.post("/graphql", json=QUERY)).status_code == 200
        return {name for name in costly if one.state.parts.named[name] is not before[name]}

    async with living(one.generations):
        assert costly < one.state.parts.named.keys()
        assert await remade("api_keys:", f"api_keys:\n    - {{consumer: new, hash: 'sha256:{'0' * 64}'}}") == set()
        assert await remade("cost: 2", "cost: 3") == set()
        assert await remade('orders.internal"', 'orders.internal", timeout: 3s') == set()
        assert await remade("tiers:", "policies: {turn: '1 > 0'}\ntiers:") == set()
        assert await remade("'Product.*'", "'Product.name'") == {"views", "openapi"}
        assert await remade("path: operations", "path: operations/../operations") == {"documents", "views"}
        assert await remade("/api/users/", "/api/people/") == {"description", "methods", "openapi"}


async def test_nobody_notices_twelve_reloads_of_which_every_fourth_is_bad(one):
    over, answered, wrong = asyncio.Event(), Counter[str](), []

    async def ask(path: str, **sent: Any) -> None:
        while not over.is_set():
            answer = await one.client.request("POST" if sent else "GET", path, **sent)
            answered[path] += 1
            if answer.status_code != 200 or "errors" in answer.json():
                wrong.append((answer.status_code, answer.text))
            await asyncio.sleep(0)  # in memory, nothing else waits

    await _turn(one, 0)
    good, schema = one.file.read_text(), one.state.execution.schema
    tasks, descriptors = len(asyncio.all_tasks()), _descriptors()
    async with asyncio.TaskGroup() as clients:
        for _ in range(2):
            clients.create_task(ask("/graphql", json=QUERY))
            clients.create_task(ask("/api/products/prd_1"))
        outcomes = []
        for number in range(1, 13):
            turned = "'no such expression ('" if number % 4 == 0 else f"'{number} > 0'"
            one.file.write_text(f"{good}\npolicies: {{turn: {turned}}}\n")
            before = answered.copy()
            outcomes.append((await one.generations.reload("operator")).outcome)
            await until(lambda before=before: answered["/graphql"] > before["/graphql"])
            assert one.state.execution.schema is schema
        over.set()
    await retired(one)
    assert wrong == []
    assert outcomes == ["taken", "taken", "taken", "refused"] * 3
    assert (len(asyncio.all_tasks()), _descriptors()) == (tasks, descriptors)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_gauges_of_what_stays_are_shown_on_when_something_beside_it_changes(one):
    lines = (await one.admin.get("/metrics")).text.splitlines()
    shown = [line for line in lines if line.startswith(("http_client_breaker_state{", "http_client_active_requests{"))]
    assert len(shown) == 8
    one.write('orders: {url: "http://orders.internal"}', 'orders: {url: "http://orders.internal", timeout: 3s}')
    assert (await one.generations.reload("file")).outcome == "taken"
    assert set(shown) <= set((await one.admin.get("/metrics")).text.splitlines())


async def test_the_state_of_a_service_or_an_address_that_is_gone_is_not_shown_any_more(one):
    async def states() -> set[str]:
        lines = (await one.admin.get("/metrics")).text.splitlines()
        return {line.rpartition(" ")[0].partition("{")[2] for line in lines if line.startswith("http_client_breaker_s")}

    one.write("services:\n", 'services:\n  more: {url: "http://more.internal"}\n')
    assert (await one.generations.reload("file")).outcome == "taken"
    await retired(one)
    before = await states()
    one.write('  more: {url: "http://more.internal"}\n', "")
    one.write("http://orders.internal", "http://elsewhere.internal")
    assert (await one.generations.reload("file")).outcome == "taken"
    await retired(one)
    more, old, new = (
        f'service="{name}",target="http://{host}.internal"}}'
        for name, host in (("more", "more"), ("orders", "orders"), ("orders", "elsewhere"))
    )
    assert {more, old} <= before
    assert await states() == before - {more, old} | {new}


async def test_twenty_reloads_that_are_refused_late_leave_nothing_at_what_stays(tmp_path, monkeypatch):
    one = Reloading(tmp_path, TEXT.replace('rewrite: "/products/{rest}"', 'rewrite: "/products/{rest}", cache: true'))
    gate = asyncio.Event()

    async def waits(*_: Any) -> None:
        await gate.wait()

    def listeners() -> list[int]:
        return [len(one.state.shelf.on_purge), *(len(each.on_change) for each in one.state.services.values())]

    def refuse(*made: Any) -> None:
        operators(*made)
        raise ConfigError.of("admin", "is looked at last, when all else has been made")

    async with living(one.generations):
        one.services.users.fail(waits)
        under_way = asyncio.create_task(one.client.get("/api/users/usr_1", headers=partner()))
        await until(lambda: len(one.services.users.calls) == 1)
        assert await one.metric("http_client_active_requests", "users") == 1
        before, operators = listeners(), bff.app._admin
        monkeypatch.setattr("bff.app._admin", refuse)
        services = [*one.state.services, "more"]
        one.write("services:\n", 'services:\n  more: {url: "http://more.internal"}\n')
        for turn in range(20):
            one.write(f"cost: {turn + 2}\n", f"cost: {turn + 3}\n")
            one.write(
                *("users.internal", "people.internal") if turn % 2 == 0 else ("people.internal", "users.internal")
            )
            assert (await one.generations.reload("file")).outcome == "refused"
        assert listeners() == before
        shown = [await one.metric("http_client_active_requests", f'"{each}"') for each in services]
        assert shown == [1, 0, 0, 0, 0], "of the services that are running"
        assert 'active_requests{service="more"}' not in (await one.admin.get("/metrics")).text
        monkeypatch.undo()
        assert (await one.generations.reload("file")).outcome == "taken"
        gate.set()
        assert (await under_way).status_code == 200
        await retired(one)
        assert listeners() == [*before, before[-1]]


async def test_tokens_stay_good_over_a_reload_while_the_provider_of_their_keys_is_away(tmp_path):
    one = Reloading(tmp_path, jwks=public_keys())
    async with living(one.generations):
        assert (await one.client.get("/api/users/usr_1", headers=bearer(signed_token()))).status_code == 200
        one.services.login.fail(refused)
        asked = len(one.services.login.calls)
        one.write("api_keys:", f"api_keys:\n    - {{consumer: new, hash: 'sha256:{'0' * 64}'}}")
        assert (await one.generations.reload("file")).outcome == "taken"
        for scope in ("users:read", "users:read orders:read"):  # tokens that are verified anew
            headers = bearer(signed_token(scope=scope))
            assert (await one.client.get("/api/users/usr_1", headers=headers)).status_code == 200
        assert len(one.services.login.calls) == asked


class _Closing(httpx.AsyncBaseTransport):
    def __init__(self, inner, name, closed):
        self.inner, self.name, self.closed = inner, name, closed

    async def handle_async_request(self, request):
        return await self.inner.handle_async_request(request)

    async def aclose(self):
        self.closed.append(self.name)


async def test_accounts_and_counts_go_on(one):
    one.write("partner: {rate: [1000/minute]}", "partner: {rate: [5/minute, 100/day]}")
    await one.generations.reload("file")
    for _ in range(3):
        assert (await one.client.get("/api/products/prd_1", headers=partner())).status_code == 200
    one.write("[5/minute, 100/day]", "[4/minute]")
    await one.generations.reload("file")
    answers = [(await one.client.get("/api/products/prd_1", headers=partner())).status_code for _ in range(3)]
    assert answers == [200, 429, 429]
    assert await one.metric("http_server_request_duration_seconds_count") == 6
    assert await one.metric("http_client_request_duration_seconds_count", "products") == 4


async def test_a_new_tier_key_and_token_count_at_once(one):
    assert (await one.client.get("/api/users/usr_1", headers={"x-api-key": "bff_new"})).status_code == 401
    digest = sha256(b"bff_new").hexdigest()
    one.write(
        "api_keys:", f"api_keys:\n    - {{consumer: new, hash: 'sha256:{digest}', scopes: [users:read, users:admin]}}"
    )
    one.write("token: operators", "token: open sesame")
    assert (await one.generations.reload("file")).outcome == "taken"
    assert (await one.client.get("/api/users/usr_1", headers={"x-api-key": "bff_new"})).status_code == 200
    assert (await one.admin.post("/-/reload")).status_code == 401
    token = {"authorization": "Bearer open sesame"}
    assert (await one.admin.post("/-/reload", headers=token)).json()["outcome"] == "unchanged"


async def test_a_secret_in_a_file_is_followed_and_never_shown(tmp_path):
    (tmp_path / "secret").write_text("first secret, long enough for anybody")
    one = Reloading(tmp_path, "admin: {token: {file: secret}}\n" + BFF_YAML)
    async with living(one.generations):
        (tmp_path / "secret").write_text("other secret, long enough for anybody")
        token = {"authorization": "Bearer first secret, long enough for anybody"}
        answer = await one.admin.post("/-/reload", headers=token)
        assert answer.json()["changed"] == ["admin.token"]
        assert "enough" not in answer.text
        assert (await one.admin.get("/-/reload", headers=token)).status_code == 401


async def test_files_are_watched_by_content_through_the_links_of_a_mounted_config_map(tmp_path):
    """As the kubelet does it: `bff.yaml -> ..data/bff.yaml`, and `..data` is a link that is swapped."""
    for name, path in (("one", "/one/{rest*}"), ("two", "/two/{rest*}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bff.yaml").write_text(BFF_YAML.replace("/api/products/{rest*}", path))
    (tmp_path / "..data").symlink_to("one")
    text = (tmp_path / "one" / "bff.yaml").read_text().replace("auth:", "server: {reload: 100ms}\nauth:", 1)
    (tmp_path / "one" / "bff.yaml").write_text(text)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    one = Reloading(mounted)
    one.file.unlink()
    one.file.symlink_to(tmp_path / "..data" / "bff.yaml")
    one = _again(one)
    async with living(one.generations):
        assert (await one.client.get("/one/prd_1")).status_code == 200
        (tmp_path / "..data_new").symlink_to("two")
        os.replace(tmp_path / "..data_new", tmp_path / "..data")  # noqa: PTH105
        await until(lambda: one.log)
        assert (await one.client.get("/two/prd_1")).status_code == 200


def _again(one: Reloading) -> Reloading:
    """Over the file as it is now."""
    one.generations = Generations(one.read([]).config, one.read, Telemetry(log=JsonLog(one._log)), network=one.services)
    one.client = one._at(one.generations)
    return one


async def test_a_missing_secret_that_comes_later_is_seen(tmp_path):
    one = Reloading(tmp_path, "server: {reload: 100ms}\n" + TEXT)
    async with living(one.generations):
        one.write("token: operators", "token: {file: late}")
        await until(lambda: one.log)
        assert one.log[-1]["outcome"] == "refused"
        (tmp_path / "late").write_text("here it is")
        await until(lambda: one.log[-1]["outcome"] == "taken")


async def test_who_begins_while_the_file_is_bad_goes_on_with_what_was_good(tmp_path):
    one = Reloading(tmp_path, "server: {reload: 100ms}\n" + TEXT)
    good = one.read([]).config
    one.write("services:", "servicez:")
    one.generations = Generations(good, one.read, Telemetry(log=JsonLog(one._log)), network=one.services)
    one.client, admin = one._at(one.generations), one._at(one.generations.operators)
    async with living(one.generations):
        assert (await one.client.get("/api/products/prd_1")).status_code == 200
        assert one.log[-1]["why"] == "start"
        assert "did you mean `services`" in " ".join((await admin.get("/readyz")).json()["config"])
        one.write("servicez:", "services:")
        await until(lambda: one.log[-1]["outcome"] != "refused")
        assert "config" not in (await admin.get("/readyz")).json()


async def test_trusted_documents_are_read_again_when_they_change(tmp_path):
    (tmp_path / "operations").mkdir()
    (tmp_path / "operations" / "one.graphql").write_text('query One { product(id: "prd_1") { name } }')
    text = "graphql: {documents: {path: operations}}\n" + TEXT
    one = Reloading(tmp_path, text)
    async with living(one.generations):
        (tmp_path / "operations" / "two.graphql").write_text('query Two { product(id: "prd_2") { name } }')
        schema = one.state.execution.schema
        assert (await one.generations.reload("file")).outcome == "taken"
        assert one.state.execution.schema is schema
        assert (await one.generations.reload("file")).outcome == "unchanged"
        (tmp_path / "operations" / "two.graphql").write_text("query Two { nonsense }")
        assert (await one.generations.reload("file")).outcome == "refused"


async def test_nothing_is_reloaded_once_the_gateway_ends(one):
    one.generations.leave()
    one.write("/api/products/{rest*}", "/shop/{rest*}")
    assert (await one.generations.reload("signal")).outcome == "refused"
    assert (await one.admin.get("/readyz")).status_code == 503


async def test_twenty_reloads_leave_no_task_and_no_generation_behind(one):
    """Of memory, what is left of a generation is the app: none but the running one is to be found."""
    for turn in range(3):
        await _turn(one, turn)
    tasks = len(asyncio.all_tasks())
    for turn in range(20):
        assert (await one.client.post("/graphql", json=QUERY)).status_code == 200
        await _turn(one, turn)
    gc.collect()
    assert len(asyncio.all_tasks()) == tasks
    mine = [
        each
        for each in gc.get_objects()
        if isinstance(each, Gateway) and each.state.services.get("users") is one.state.services["users"]
    ]
    assert mine == [one.generations.current.app]
    heads = [line for line in (await one.admin.get("/metrics")).text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)), "each metric is registered once"


async def test_what_a_generation_was_made_of_goes_with_it(one):
    """A schema and all that is known of it are the larger part of a generation's memory."""
    one.file.write_text(f"{one.file.read_text()}\ngraphql: {{defer: true}}\n")
    gone = []
    for turn in range(3):
        await one.generations.reload("file")
        assert (await one.client.post("/graphql", json=QUERY)).status_code == 200
        gone.append(weakref.ref(one.state.execution.schema))
        one.write("defer: true", "defer: false") if turn % 2 == 0 else one.write("defer: false", "defer: true")
    assert (await one.generations.reload("file")).outcome == "taken"
    await retired(one)
    await one.state.parts.named["usage"].value.write()  # which looks at the schema until it is written
    gc.collect()
    assert [each() for each in gone] == [None] * 3


async def _turn(one: Reloading, turn: int) -> None:
    good = one.file.read_text()
    if turn % 4 == 3:
        one.file.write_text("services: nonsense")
        assert (await one.generations.reload("file")).outcome == "refused"
        one.file.write_text(good)
        return
    one.write(*("cost: 2\n", "cost: 3\n") if "cost: 2\n" in good else ("cost: 3\n", "cost: 2\n"))
    assert (await one.generations.reload("file")).outcome == "taken"
    await retired(one)


def test_what_a_change_needs_is_known():
    assert needs_restart("server.port")
    assert needs_restart("server.tls.cert")
    assert not needs_restart("server.max_in_flight")
    assert not needs_restart("services.users.timeout")


def test_changes_are_named_key_by_key_and_secrets_stay_hidden(tmp_path):
    def config(text: str) -> Config:
        (tmp_path / "bff.yaml").write_text(text)
        return read(tmp_path / "bff.yaml")

    before = config("admin: {token: one}\nservices: {users: {url: 'http://a.internal', timeout: 2s}}")
    after = config(
        "admin: {token: two}\nservices: {users: {url: 'http://a.internal', timeout: 3s}, more: {url: 'http://b.internal'}}"
    )
    found = {each.key: each for each in changes(before, after)}
    assert list(found) == ["admin.token", "services.users.timeout", "services.more"]
    assert found["services.users.timeout"][1:] == ("2s", "3s")
    assert found["admin.token"].before == found["admin.token"].after == "******"
    assert found["services.more"].before is None
    with pytest.raises(ConfigError):
        config("services: [")


async def test_the_console_goes_on_where_callers_have_accounts_of_a_tier_that_is_gone(one):
    assert (await one.client.get("/api/products/prd_1", headers=partner())).status_code == 200
    shown = (await one.admin.get("/-/live?snapshots=1")).text
    assert '"tier":"partner"' in shown
    one.write("  partner: {", "  vip: {")
    one.write("tier: partner", "tier: vip")
    assert (await one.generations.reload("file")).outcome == "taken"
    assert (await one.client.get("/api/products/prd_1", headers=partner())).status_code == 200
    (caller,) = json.loads((await one.admin.get("/-/live?snapshots=1")).text.removeprefix("data: "))["callers"]
    assert (caller["caller"], caller["tier"]) == ("consumer:partner", "vip")
