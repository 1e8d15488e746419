"""The page of the REST routes, as a person uses it."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

import demo

pytestmark = pytest.mark.asyncio(loop_scope="module")

expect.set_options(timeout=20_000)


async def test_it_loads_with_nothing_from_elsewhere_and_nothing_that_its_policy_refuses(visit, shop):
    seen = await visit("/docs")
    await expect(seen.page.locator(".opblock-summary-path").first).to_be_visible()
    await expect(seen.page.get_by_role("heading", name="Shop")).to_be_visible()
    assert seen.hosts == {shop.removeprefix("http://")}
    assert seen.complaints == []


async def test_a_route_is_tried_out_with_the_key_that_was_entered(visit):
    seen = await visit("/docs")
    page = seen.page
    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator("#api_key_value").fill(demo.API_KEY)
    async with page.expect_response("**/openapi.json") as again:
        await page.get_by_role("button", name="Apply credentials").first.click()
    assert (await again.value).request.headers["x-api-key"] == demo.API_KEY
    await page.get_by_role("button", name="Close", exact=True).last.click()
    await page.locator("#operations-products-getProduct").click()
    await page.get_by_placeholder("id").fill("prd_1")
    await page.get_by_role("button", name="Execute").click()
    await expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    assert seen.complaints == []
