"""The console, as an operator uses it while clients are served."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Page, expect

from bff.app import build
from bff.cli.run import OPERATOR, QUERY
from bff.config import read
from bff.edge.credentials.keys_file import new_key, write
from tests.running import ROOT, token
from tests.shop import NAMES

pytestmark = pytest.mark.asyncio(loop_scope="module")

expect.set_options(timeout=20_000)

ADMIN = "only operators know"
ORDER_PAGE = {"query": f"query OrderPage {QUERY}"}


class Between:
    """Stands between the gateway and a service: it can be late, and it can be gone."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.to = (parts.hostname, parts.port)
        self.delay = 0.0
        self.server: asyncio.Server
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> None:
        self.server = await asyncio.start_server(self._joined, "127.0.0.1", port)

    @property
    def port(self) -> int:
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def end(self) -> None:
        self.server.close()
        for each in self._open:
            each.close()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection(*self.to)
        self._open |= {writer, to}
        await asyncio.gather(self._pass(reader, to, late=True), self._pass(there, writer))
        self._open -= {writer, to}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if late:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class Shop:
    """A gateway of its own, with what stands before its payments."""

    url: str
    admin: str
    key: str
    headers: dict[str, str]
    payments: Between

    async def ask(self, times: int = 1) -> str:
        """The id of the last request for the order page."""
        async with httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=30) as client:
            for _ in range(times):
                asked = await client.post("/graphql", json=ORDER_PAGE)
                await client.get("/api/products/prd_1")
        return asked.headers["x-request-id"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(real_services, tmp_path_factory) -> AsyncIterator[Shop]:
    identity = real_services.urls["identity"]
    payments = Between(real_services.urls["payments"])
    await payments.start()
    keys = tmp_path_factory.mktemp("console") / "keys.yaml"
    key, kept = new_key("acme", ["products:read"], now=0)
    write(keys, [kept])
    environ = {f"BFF__SERVICES__{name.upper()}__URL": real_services.urls[name] for name in NAMES}
    environ |= {"BFF__SERVICES__PAYMENTS__URL": f"http://127.0.0.1:{payments.port}"}
    environ |= {"BFF__AUTH__JWT__0__ISSUER": identity, "BFF__AUTH__JWT__0__JWKS": f"{identity}/.well-known/jwks.json"}
    environ |= {"BFF__OBSERVABILITY__LOGS__LEVEL": "error", "BFF__ADMIN__TOKEN": ADMIN}
    environ |= {"BFF__AUTH__API_KEYS_FILE": str(keys), "BFF__ROUTES__1__CACHE": "true"}
    app = build(read(ROOT / "bff.yaml", profile="development", environ=environ))
    servers = [uvicorn.Server(uvicorn.Config(each, port=0, log_config=None)) for each in (app, app.state.admin)]
    for each in servers:
        each.config.timeout_graceful_shutdown = 1
    serving = [asyncio.create_task(each.serve()) for each in servers]
    async with asyncio.timeout(30):
        while not all(each.started for each in servers):  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(0.01)
    url, admin = (f"http://127.0.0.1:{each.servers[0].sockets[0].getsockname()[1]}" for each in servers)
    bearer = await asyncio.to_thread(token, real_services, scope=OPERATOR)
    yield Shop(url, admin, key, {"authorization": f"Bearer {bearer}"}, payments)
    for each in servers:
        each.should_exit = True
    await asyncio.gather(*serving)
    await payments.end()


@pytest_asyncio.fixture(loop_scope="module")
async def opened(visit, console) -> Any:
    """The console's first page, after the token was entered."""
    seen = await visit(f"{console.admin}/console")
    await seen.page.get_by_label("Token", exact=True).fill(ADMIN)
    await seen.page.get_by_role("button", name="Sign in").click()
    await expect(seen.page.locator("#link")).to_have_text("live")
    seen.complaints.clear()  # that the first question, without the token, was refused
    return seen


def row(page: Page, table: str, name: str) -> Any:
    return page.get_by_role("region", name=table).get_by_role("row", name=name)


async def test_it_asks_for_the_token_and_says_when_it_is_another(visit, console):
    seen = await visit(f"{console.admin}/console")
    page = seen.page
    await page.get_by_label("Token", exact=True).fill("a guess")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not the token in admin.token")
    await page.get_by_label("Token", exact=True).fill(ADMIN)
    await page.keyboard.press("Enter")
    await expect(page.locator("#link")).to_have_text("live")
    await page.reload()
    await expect(page.locator("#link")).to_have_text("live")  # it is kept for the tab


async def test_traffic_appears_as_it_comes_and_nothing_is_asked_of_others(opened, console):
    page = opened.page
    await expect(page.get_by_role("heading", name="Routes")).to_be_visible()
    await console.ask(3)
    await expect(row(page, "Route, a table", "graphql")).to_be_visible()
    await expect(row(page, "Operation, a table", "OrderPage")).to_be_visible()
    for name in NAMES:
        await expect(row(page, "Service, a table", name)).to_be_visible()
    assert opened.hosts == {console.admin.removeprefix("http://")}
    assert opened.complaints == []


async def test_a_key_is_revoked_once_the_question_is_answered(opened, console):
    page = opened.page
    async with httpx.AsyncClient(base_url=console.url, headers={"x-api-key": console.key}) as client:
        assert (await client.get("/api/products/prd_1")).status_code == 200
        await page.get_by_role("link", name="Callers").click()
        await expect(page.get_by_role("row", name="consumer:acme")).to_be_visible()
        await page.get_by_role("button", name="Revoke bff_acme").click()
        await page.get_by_role("button", name="Cancel").click()
        assert (await client.get("/api/products/prd_1")).status_code == 200
        await page.get_by_role("button", name="Revoke bff_acme").click()
        await page.get_by_role("button", name="Revoke", exact=True).click()
        await expect(page.get_by_role("button", name="Revoke bff_acme")).to_have_count(0)
        await expect(page.get_by_role("status")).to_contain_text("is revoked")
        assert (await client.get("/api/products/prd_1")).status_code == 401


async def test_the_cache_is_purged_once_the_question_is_answered(opened, console):
    page = opened.page
    async with httpx.AsyncClient(base_url=console.url, headers=console.headers) as client:
        for _ in range(2):
            answer = await client.get("/api/products/prd_2")
        assert "hit" in answer.headers["cache-status"]
        await expect(page.get_by_role("region", name="Cache")).to_contain_text("did without their service")
        await page.get_by_role("button", name="Purge…", exact=True).click()
        await page.get_by_label("Services with ids").fill("products:prd_2")
        await page.get_by_role("button", name="Purge", exact=True).click()
        await expect(page.get_by_role("status")).to_contain_text("1 answer is purged")
        assert "hit" not in (await client.get("/api/products/prd_2")).headers["cache-status"]
        await page.get_by_role("button", name="Purge everything…").click()
        await page.get_by_role("button", name="Purge everything", exact=True).click()
        await expect(page.get_by_role("status")).to_contain_text("purged")
        assert "hit" not in (await client.get("/api/products/prd_2")).headers["cache-status"]


async def test_the_gateway_is_drained_and_put_back(opened, console):
    page = opened.page
    async with httpx.AsyncClient(base_url=console.admin) as client:
        await page.get_by_role("link", name="Configuration").click()
        await page.get_by_role("button", name="Drain…", exact=True).click()
        await page.get_by_role("button", name="Drain", exact=True).click()
        await expect(page.get_by_role("button", name="End the drain…")).to_be_visible()
        assert (await client.get("/readyz")).status_code == 503
        await page.get_by_role("button", name="End the drain…").click()
        await page.get_by_role("button", name="End the drain", exact=True).click()
        await expect(page.get_by_role("button", name="Drain…", exact=True)).to_be_visible()
        assert (await client.get("/readyz")).status_code == 200


async def test_usage_shows_who_uses_what_and_finds_it_by_its_name(opened, console):
    page = opened.page
    async with httpx.AsyncClient(base_url=console.url) as client:
        await client.post("/graphql", json={"query": '{ product(id: "prd_1") { name } }'})
        await client.get("/api/products/prd_1")
    await page.get_by_role("link", name="Usage").click()
    used = row(page, "Usage", "Query.product(id:)")
    await expect(used).to_contain_text("anonymous")
    await expect(row(page, "Usage", "products route")).to_be_visible()
    await expect(row(page, "Clients", "anonymous")).to_be_visible()
    await page.get_by_label("Filter").fill("product.name")
    await expect(page.get_by_role("region", name="Usage").last.get_by_role("row")).to_have_count(2)
    before = int(await row(page, "Usage", "Product.name").get_by_role("cell").nth(2).inner_text())
    async with httpx.AsyncClient(base_url=console.url) as client:
        await client.post("/graphql", json={"query": '{ product(id: "prd_1") { name } }'})
    await page.get_by_role("button", name="Look again").click()
    await expect(row(page, "Usage", "Product.name").get_by_role("cell").nth(2)).to_have_text(str(before + 1))
    assert opened.complaints == []


async def test_a_value_of_the_configuration_is_found_with_where_it_came_from(visit, opened):
    page = opened.page
    await page.get_by_role("link", name="Configuration").click()
    await page.get_by_label("Filter").fill("tiers.partner.rate")
    await expect(page.get_by_role("region", name="Configuration").get_by_role("row")).to_have_count(2)
    assert opened.complaints == []


@pytest.mark.parametrize("size", [(1920, 1080), (1280, 800), (768, 1024), (390, 844)])
async def test_nothing_is_wider_than_the_window(visit, console, size):
    seen = await visit(f"{console.admin}/console", viewport={"width": size[0], "height": size[1]})
    page = seen.page
    await page.get_by_label("Token", exact=True).fill(ADMIN)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#link")).to_have_text("live")
    await console.ask()
    for name in await page.get_by_role("navigation").get_by_role("link").all_inner_texts():
        await page.get_by_role("link", name=name).click()
        await expect(page.locator("main section").first).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


async def test_it_is_used_by_keyboard_and_its_parts_are_named(opened):
    page = opened.page
    await page.get_by_role("link", name="Traffic").focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page).to_have_title(re.compile("^Requests"))
    await asyncio.sleep(2.5)  # what is drawn anew each second leaves the focus where it is
    assert await page.evaluate("document.activeElement.textContent") == "Requests"
    unnamed = "[...document.querySelectorAll('button, a, input, section, [role=region], [role=img]')].filter(each =>"
    unnamed += "!(each.textContent.trim() || each.ariaLabel || each.labels?.length)).length"
    assert await page.evaluate(unnamed) == 0


async def test_from_the_first_page_to_the_service_that_makes_the_order_page_slow_in_two_clicks(opened, console):
    page = opened.page
    console.payments.delay = 0.7
    try:
        asked = await console.ask()
    finally:
        console.payments.delay = 0.0
    slow = page.get_by_role("region", name="Failed and slow requests")
    # Failed ones would come first: none has failed yet. Others may have been slow, on a busy machine.
    link = slow.get_by_role("row", name="slow").get_by_role("link", name="OrderPage")
    await link.and_(page.locator(f"[href$='{asked}']")).click()
    await expect(page.locator(".verdict")).to_contain_text("were waited for payments")
    found = page.get_by_role("region", name="Waterfall").get_by_role("listitem")
    for name in NAMES:
        await expect(found.filter(has_text=name).first).to_be_visible()
    await expect(page.locator(".slowest-call")).to_contain_text("payments")
    await page.locator(".verdict").get_by_role("link", name="payments").click()
    await expect(page.locator("[data-chosen]")).to_contain_text("payments")
    assert opened.complaints == []


async def test_a_service_that_dies_turns_red_with_its_reason_and_green_again(opened, console):
    page = opened.page
    await page.emulate_media(reduced_motion="reduce")  # colours change at once, or one between two is read
    port = console.payments.port
    await console.ask(2)
    await page.get_by_role("link", name="Services", exact=True).click()
    card = page.get_by_role("region", name="payments", exact=True)
    await expect(card).to_contain_text("up")
    await console.payments.end()
    await console.ask(2)
    await expect(card).to_contain_text("cannot be connected to")
    red = await card.evaluate("each => getComputedStyle(each).borderTopColor")
    await expect(page.get_by_role("status")).to_contain_text("payments is failing")
    await page.get_by_role("link", name="Traffic").click()
    await expect(page.get_by_role("region", name="What is wrong")).to_contain_text("payments")
    await console.payments.start(port)
    await page.get_by_role("link", name="Services", exact=True).click()
    async with asyncio.timeout(40):
        while "bad" in (await card.get_attribute("class") or ""):
            await console.ask()
            await asyncio.sleep(0.5)
    await expect(card).to_contain_text("up")
    assert await card.evaluate("each => getComputedStyle(each).borderTopColor") != red


async def test_an_attempt_is_shown_with_its_target_and_its_phases(opened, console):
    page = opened.page
    await console.ask()
    await page.get_by_role("link", name="Requests", exact=True).click()
    await page.get_by_role("region", name="Requests that are kept").get_by_role("link", name="OrderPage").first.click()
    await page.get_by_text("1 attempt").first.click()
    await asyncio.sleep(2.5)  # what was opened stays open
    await expect(page.get_by_role("region", name="Attempts").first).to_contain_text("first_byte")


async def test_a_request_that_is_not_kept_is_said_to_be_none(visit, opened, console):
    await opened.page.goto(f"{console.admin}/console#/requests/nothing")
    await expect(opened.page.get_by_text("It is not kept")).to_be_visible()
