"""GraphiQL, as a person uses it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from playwright.async_api import Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

expect.set_options(timeout=20_000)

QUERY = ".graphiql-query-editor"
RESULT = ".graphiql-response"
OPERATOR = {"x-auth-subject": "usr_1", "x-auth-scopes": "orders:read orders:write orders:admin"}


async def ready(page: Page) -> None:
    """Wait until it knows the schema and what checks documents against it runs, beside the page."""
    await expect(page.locator(QUERY)).to_contain_text("users")
    await page.get_by_role("button", name="Documentation").click()
    await expect(page.get_by_text("Root Types")).to_be_visible()
    await page.get_by_role("button", name="Documentation").click()
    while not any(each.url.endswith("/graphql.worker.js") for each in page.workers):  # noqa: ASYNC110 - not an event
        await asyncio.sleep(0.05)


async def write(page: Page, document: str) -> None:
    await page.locator(f"{QUERY} .monaco-editor").first.click()
    await page.keyboard.press("ControlOrMeta+A")
    await page.keyboard.insert_text(document)


async def editor(page: Page, kind: str) -> str:
    """All that is in an editor; what is on the screen is only the part that is scrolled to."""
    script = """kind => __MONACO.editor.getModels().find(each => each.uri.path.endsWith(kind)).getValue()"""
    text: str = await page.evaluate(script, kind)
    return text


async def test_it_loads_with_nothing_from_elsewhere_and_nothing_that_its_policy_refuses(visit, shop):
    seen = await visit("/graphql")
    await ready(seen.page)
    assert seen.hosts == {shop.removeprefix("http://")}
    assert seen.complaints == []


async def test_the_example_is_run_with_the_token_in_its_header_editor(visit):
    seen = await visit("/graphql")
    await ready(seen.page)
    assert "Bearer ey" in json.loads(await editor(seen.page, "headers.json"))["Authorization"]
    await seen.page.get_by_role("button", name="Execute").click()
    await expect(seen.page.locator(RESULT)).to_contain_text("Ada Lovelace")
    answer = json.loads(await editor(seen.page, "response.json"))
    assert "errors" not in answer
    users = answer["data"]["users"]["nodes"]
    orders = [order for user in users for order in user["orders"]["nodes"]]
    assert len(users) == 10
    assert {order["payment"]["status"] for order in orders if order["payment"]} >= {"CAPTURED"}
    assert any(item["product"]["name"] for order in orders for item in order["items"])


async def test_without_the_token_it_shows_the_refusal_with_its_code(visit):
    seen = await visit("/graphql")
    await ready(seen.page)
    await seen.page.locator(".graphiql-editor-tool .monaco-editor").last.click()
    await seen.page.keyboard.press("ControlOrMeta+A")
    await seen.page.keyboard.press("Delete")
    await seen.page.get_by_role("button", name="Execute").click()
    await expect(seen.page.locator(RESULT)).to_contain_text("UNAUTHENTICATED")


async def test_a_field_is_completed_from_the_schema(visit):
    seen = await visit("/graphql")
    await ready(seen.page)
    await write(seen.page, "{ me { ")
    await seen.page.keyboard.type("emai")
    chosen = seen.page.locator(".suggest-widget .monaco-list-row.focused").filter(has_text="email")
    async with asyncio.timeout(20):
        while not await chosen.count():  # a worker looks for what fits, and may be some letters behind
            await seen.page.keyboard.press("Escape")
            await seen.page.keyboard.press("Control+Space")
            await asyncio.sleep(0.2)
    await seen.page.keyboard.press("Enter")
    assert "{ me { email" in await editor(seen.page, "operation.graphql")


async def test_the_docs_say_what_the_schema_says(visit):
    seen = await visit("/graphql")
    await ready(seen.page)
    docs = seen.page.locator(".graphiql-doc-explorer")
    await seen.page.get_by_role("button", name="Documentation").click()
    await docs.get_by_text("Query", exact=True).click()
    await expect(docs).to_contain_text("The caller, when it is a user.")


@pytest.mark.parametrize(("scheme", "paper"), [("light", 255), ("dark", 59)])
async def test_it_is_light_or_dark_as_the_system_is(visit, scheme, paper):
    seen = await visit("/graphql", color_scheme=scheme)
    await ready(seen.page)
    light = "(each, kind) => Math.max(...getComputedStyle(each)[kind].match(/[0-9]+/g).map(Number))"
    assert await seen.page.locator(".graphiql-container").evaluate(light, "backgroundColor") == paper
    written = await seen.page.locator(f"{QUERY} .view-line span span").last.evaluate(light, "color")
    assert abs(written - paper) >= 50, "what is written can be read"


async def test_on_a_phone_the_result_is_below_the_query_and_nothing_is_cut_off(visit):
    seen = await visit("/graphql", viewport={"width": 400, "height": 800})
    await ready(seen.page)
    query, result = [await seen.page.locator(each).bounding_box() for each in (QUERY, RESULT)]
    assert result["y"] >= query["y"] + query["height"]
    assert min(query["width"], result["width"]) > 250
    assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_subscription_shows_each_event_as_it_comes(visit, shop, real_services):
    async with httpx.AsyncClient(base_url=real_services.urls["orders"], headers=OPERATOR) as orders:
        wish = {"user_id": "usr_1", "items": [{"product_id": "prd_1", "quantity": 1}]}
        order = (await orders.post("/orders", json=wish, headers={"idempotency-key": "graphiql"})).json()["id"]
        seen = await visit("/graphql")
        await ready(seen.page)
        await write(seen.page, f'subscription Watched {{ orderStatusChanged(id: "{order}") {{ status }} }}')
        await expect(seen.page.get_by_role("tab")).to_have_text("Watched")  # it looks at what is written a little later
        await seen.page.get_by_role("button", name="Execute").click()
        await expect(seen.page.locator(RESULT)).to_contain_text("PENDING")
        await orders.patch(f"/orders/{order}", json={"status": "paid"})
        await expect(seen.page.locator(RESULT)).to_contain_text("PAID")
        await seen.page.get_by_role("button", name="Stop").click()
    assert seen.hosts == {shop.removeprefix("http://")}
    assert f"{shop.replace('http', 'ws')}/graphql" in seen.requests
