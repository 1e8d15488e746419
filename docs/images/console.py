# ruff: noqa: INP001 - it is no module of anything
"""Draws docs/images/console*.png: `python docs/images/console.py`, while `make run` is up on its usual ports.

What is slow on a quiet machine takes less than the default: BFF__OBSERVABILITY__REQUESTS__SLOW=8ms make run
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
from playwright.sync_api import expect, sync_playwright

from bff.cli.run import IDENTITY, OPERATOR, QUERY, _token

CONSOLE = "http://127.0.0.1:9000/console"
HERE = Path(__file__)

bearer = {"Authorization": f"Bearer {_token('usr_1', OPERATOR, IDENTITY)}"}
with httpx.Client(base_url="http://127.0.0.1:8000", headers=bearer) as client:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        client.post("/graphql", json={"query": f"query OrderPage {QUERY}"})
        for at in range(int(time.monotonic()) % 7):
            client.get(f"/api/products/prd_{at + 1}")
        client.get("/api/orders/ord_1")
        time.sleep(0.9)

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
    for scheme, name in (("light", "console"), ("dark", "waterfall")):
        page = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme=scheme)
        page.goto(CONSOLE)
        expect(page.locator("#link")).to_have_text("live")
        if name == "waterfall":
            page.get_by_role("link", name="OrderPage").first.click()
            expect(page.locator(".verdict")).to_be_visible()
        page.screenshot(path=HERE.with_name(f"{name}.png"))
    browser.close()
