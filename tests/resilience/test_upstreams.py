"""Operators see how each target does, and why it is left alone."""

from __future__ import annotations

import asyncio
import json

import httpx
from typer.testing import CliRunner

from bff.cli import main
from tests import shop as fake
from tests.harness import gateway


async def broken():
    shop = gateway()
    shop.services.products.fail(fake.says(503, {}))
    for _ in range(30):
        await shop.client.get("/api/products/prd_1")
    return shop


async def test_the_admin_port_says_what_is_open_and_why():
    shop = await broken()
    found = (await shop.admin.get("/-/upstreams")).json()
    assert list(found) == ["users", "products", "orders", "payments"]
    (target,) = found["products"]["targets"]
    assert target["url"] == "http://products.internal"
    assert target["breaker"]["state"] == "open"
    assert "status 503" in target["breaker"]["why"]
    assert 0 < target["breaker"]["next_probe_in_s"] <= 5
    assert found["users"]["targets"][0]["breaker"]["state"] == "closed"
    assert found["users"]["in_flight"] == found["users"]["waiting"] == 0
    assert (await shop.admin.get("/-/upstreams/products")).json()["targets"][0]["breaker"]["failed"] == 0
    assert (await shop.admin.get("/-/upstreams/nothing")).status_code == 404


async def test_calls_under_way_are_shown():
    shop = gateway(services={"products": {"max_concurrency": 1}})
    shop.services.products.fail(fake.hangs)
    tasks = [asyncio.create_task(shop.client.get("/api/products/prd_1")) for _ in range(3)]
    await asyncio.sleep(0.02)
    found = (await shop.admin.get("/-/upstreams/products")).json()
    assert (found["in_flight"], found["waiting"]) == (1, 2)
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_they_are_behind_the_admin_token():
    shop = gateway(admin={"token": "a-token"})
    assert (await shop.admin.get("/-/upstreams")).status_code == 401
    allowed = await shop.admin.get("/-/upstreams", headers={"authorization": "Bearer a-token"})
    assert allowed.status_code == 200


async def test_the_command_says_it_in_a_table_and_as_json(monkeypatch, tmp_path):
    shop = await broken()
    said = (await shop.admin.get("/-/upstreams")).json()
    config = tmp_path / "bff.yaml"
    config.write_text("services: {any: {url: 'http://any.internal'}}")

    def get(url, headers):
        assert httpx.URL(url).path == "/-/upstreams"
        return httpx.Response(200, json=said, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    table = CliRunner().invoke(main, ["upstreams", "--config", str(config)])
    assert table.exit_code == 0, table.output
    line = next(line for line in table.output.splitlines() if line.startswith("products"))
    assert "http://products.internal" in line
    assert "open" in line
    assert "20 of 20 calls failed, the last one: status 503; next probe in" in line
    as_json = CliRunner().invoke(main, ["upstreams", "--config", str(config), "--json"])
    assert json.loads(as_json.output) == said
