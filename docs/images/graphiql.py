# ruff: noqa: INP001 - it is no module of anything
"""Draws docs/images/graphiql.png: `python docs/images/graphiql.py`, while `make run` is up on its usual ports."""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto("http://127.0.0.1:8000/graphql")
    page.get_by_role("button", name="Documentation").click()
    page.locator(".graphiql-doc-explorer").get_by_text("Query", exact=True).click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".graphiql-response")).to_contain_text("Ada Lovelace")
    page.mouse.move(640, 700)
    page.wait_for_timeout(3000)  # until tooltips and scrollbars have faded
    page.screenshot(path=Path(__file__).with_suffix(".png"))
    browser.close()
