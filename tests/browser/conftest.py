"""The pages as people see them: in Chromium, which may ask this machine for what it wants and nobody else."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, Page, async_playwright

from bff.app import build
from bff.cli.run import example
from bff.config import read
from tests.running import ROOT
from tests.shop import NAMES


@dataclass
class Seen:
    """A page, and what it did so far.

    Attributes:
        page: to look at and to click on.
        requests: the addresses that it asked, of websockets too.
        complaints: errors and warnings in its console, refusals of its policy among them.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("data:", "blob:"))}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(real_services) -> AsyncIterator[str]:
    """Where a gateway is, as `make run` starts it, over the demo's services."""
    identity = real_services.urls["identity"]
    environ = {f"BFF__SERVICES__{name.upper()}__URL": real_services.urls[name] for name in NAMES}
    environ |= {"BFF__AUTH__JWT__0__ISSUER": identity, "BFF__AUTH__JWT__0__JWKS": f"{identity}/.well-known/jwks.json"}
    environ |= {"BFF__OBSERVABILITY__LOGS__LEVEL": "error"}
    config = read(ROOT / "bff.yaml", profile="development", environ=environ)
    async with asyncio.timeout(30):
        server = uvicorn.Server(uvicorn.Config(build(config, example=example(identity)), port=0, log_config=None))
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    server.should_exit = True
    await serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium: `make chromium` installs Debian's")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def visit(chromium, shop) -> AsyncIterator[Callable[..., Any]]:
    """Open a path of the gateway in a window of its own; takes what Playwright's `new_context` takes."""
    contexts = []

    async def opened(path: str, **options: Any) -> Seen:
        options = {"viewport": {"width": 1280, "height": 800}} | options
        context = await chromium.new_context(base_url=shop, **options)
        contexts.append(context)
        seen = Seen(await context.new_page())
        context.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("websocket", lambda socket: seen.requests.append(socket.url))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        context.on(
            "console",
            lambda said: seen.complaints.append(said.text) if said.type in {"error", "warning"} else None,
        )
        await seen.page.goto(path)
        return seen

    yield opened
    for context in contexts:
        await context.close()
