"""Who may see the admin port's pages, and who may change something there."""

from __future__ import annotations

import re

import httpx
import pytest
from starlette.requests import Request

from bff.console.access import local
from bff.console.workers import Workers, over_workers
from bff.core.settings import Secret
from tests.harness import bearer, gateway

TOKEN = "only operators know"
OPEN = {"/healthz", "/readyz", "/console", "/console/{name}"}


def admin_at(shop, address: str, host: str = "127.0.0.1:9000") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(shop.app.state.admin, client=(address, 40000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


def routes(shop) -> list[tuple[str, str]]:
    paths = shop.app.state.admin.openapi()["paths"]
    return [(method, path) for path, methods in paths.items() if path not in OPEN for method in methods]


async def statuses(shop, client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> set[int]:
    found = routes(shop)
    assert len(found) > 10
    asked = [(method, re.sub("{.*?}", "x", path)) for method, path in found]
    return {(await client.request(method, path, headers=headers)).status_code for method, path in asked}


async def test_off_this_machine_nothing_but_the_probes_answers_without_the_token():
    shop = gateway(admin={"token": TOKEN})
    client = admin_at(shop, "192.0.2.7", "gateway.internal:9000")
    assert await statuses(shop, client) == {401}
    assert await statuses(shop, client, bearer("another")) == {401}
    assert {(await client.get(path)).status_code for path in ("/healthz", "/readyz")} == {200}


async def test_where_no_token_is_configured_other_machines_see_the_probes_alone_and_are_told_what_to_do():
    shop = gateway()
    client = admin_at(shop, "192.0.2.7", "gateway.internal:9000")
    assert await statuses(shop, client) == {403}
    assert "admin.token" in (await client.get("/-/upstreams")).json()["detail"]
    assert (await client.get("/readyz")).status_code == 200


async def test_a_page_whose_name_was_made_to_lead_here_reads_nothing():
    client = admin_at(gateway(), "127.0.0.1", "rebound.example:9000")
    assert (await client.get("/-/config")).status_code == 403
    assert (await client.get("/metrics")).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000", "localhost", "[::1]:9000", "127.0.0.2"])
async def test_this_machine_reads_without_a_token_where_none_is_configured(host):
    assert (await admin_at(gateway(), "127.0.0.1", host).get("/-/config")).status_code == 200


@pytest.mark.parametrize("host", ["", "localhost.example", "127.0.0.1.example", "[::1", "[2001:db8::1]:9000", "127"])
def test_what_only_looks_like_a_name_of_this_machine_is_none(host):
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"host", host.encode())]}
    assert not local(Request(scope))


async def test_nothing_is_changed_without_a_token_not_even_from_this_machine():
    shop = gateway()
    answer = await shop.admin.put("/-/drain")
    assert answer.status_code == 403
    assert "admin.token" in answer.json()["detail"]
    assert (await shop.admin.get("/readyz")).status_code == 200


async def test_a_drain_is_seen_at_readyz_until_it_is_ended():
    shop = gateway(admin={"token": TOKEN})
    assert (await shop.admin.put("/-/drain")).status_code == 401
    assert (await shop.admin.put("/-/drain", headers=bearer(TOKEN))).json() == {"draining": True}
    assert (await shop.admin.get("/readyz")).json()["problems"] == {"gateway": "an operator drains it"}
    assert (await shop.client.get("/api/products/prd_1")).status_code == 200
    await shop.admin.delete("/-/drain", headers=bearer(TOKEN))
    assert (await shop.admin.get("/readyz")).status_code == 200
    assert [line["action"] for line in shop.log if line["event"] == "audit"] == ["drain", "drain_ended"]


@pytest.mark.parametrize(("token", "refused"), [(None, 403), (TOKEN, 401)])
async def test_where_there_are_several_workers_the_process_for_operators_judges_the_same(token, refused):
    app = over_workers(Workers(1, list, list), token=Secret(token) if token else None, metrics=True, viewers=20)
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.internal:9000") as client:
        for path in ("/-/config", "/-/upstreams/x", "/metrics", "/-/live"):
            assert (await client.get(path)).status_code == refused
        assert (await client.put("/-/drain")).status_code == refused
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/console")).status_code == 503  # from no worker, since there is none
