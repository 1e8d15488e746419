"""An answered request is gone at once: there is nothing left of it that only the garbage collector could free.

What waits for the collector is everything that the request has read, and looking through it took a third of all CPU.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from graphql import DocumentNode

from bff.engine import Operation
from bff.engine.plans import Variants
from tests.harness import FOUR_SERVICES, Gateway, gateway, operator

ONE_USER = '{ user(id: "usr_1") { id name } }'
NOBODY = '{ user(id: "usr_999") { id name } }'
REQUESTS = {
    "four services": ("/graphql", {"query": FOUR_SERVICES}),
    "one user": ("/graphql", {"query": ONE_USER}),
    "nobody": ("/graphql", {"query": NOBODY}),
    "no such field": ("/graphql", {"query": "{ nobody }"}),
    "a route": ("/api/products/prd_1", None),
}


async def ask(shop: Gateway, path: str, json: Any) -> int:
    """The status of the answer. As the server asks: an HTTP client makes garbage of its own."""
    body = orjson.dumps(json) if json else b""
    headers = {"host": "gateway.example", **operator()} | ({"content-type": "application/json"} if json else {})
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST" if json else "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("192.0.2.1", 40000),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    messages = iter([{"type": "http.request", "body": body}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await shop.app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_answered_request_leaves_nothing_behind(name: str) -> None:
    shop = gateway(profile="production")
    for _ in range(3):  # some things are made once
        assert await ask(shop, *REQUESTS[name]) == 200
    await asyncio.sleep(0)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await ask(shop, *REQUESTS[name])
        await asyncio.sleep(0)
        gc.collect()
        left = Counter(type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not left


async def ask_for_each(shop: Gateway, numbers: range) -> None:
    """Documents that are all different, each asked for twice, with a variable that decides what is planned."""
    for number in numbers:
        text = (
            f'query Q{number}($n: Boolean!) {{ product(id: "prd_{number % 50 + 1}") {{ id name @include(if: $n) }} }}'
        )
        for variable in (True, False):
            assert await ask(shop, "/graphql", {"query": text, "variables": {"n": variable}}) == 200
        shop.services.forget()  # what the harness remembers is none of the gateway's
        shop._log.seek(0)


async def test_documents_go_with_their_plans_and_operations_when_others_take_their_place() -> None:
    gc.collect()
    kinds = (DocumentNode, Operation, Variants)
    before = Counter(type(each) for each in gc.get_objects() if isinstance(each, kinds))
    shop = gateway(profile="production", graphql={"memory": {"max_documents": 20}})
    await ask_for_each(shop, range(200))
    gc.collect()
    kept = Counter(type(each) for each in gc.get_objects() if isinstance(each, kinds)) - before
    assert max(kept.values()) <= 20 + 1  # one may be what was asked for last


@pytest.mark.fuzz
@pytest.mark.timeout(600)
async def test_ten_thousand_documents_leave_the_process_within_its_bounds() -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    shop = gateway(profile="production", limits={"mode": "off"})
    await ask_for_each(shop, range(2000))
    full = resident()
    await ask_for_each(shop, range(2000, 10_000))
    assert resident() - full < 16 * 1024 * 1024
