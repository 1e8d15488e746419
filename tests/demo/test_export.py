"""The whole catalogue as one stream."""

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.demo.conftest import assert_problem


def test_the_export_is_the_catalogue_a_product_a_line(products):
    answer = products.get("/products/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == [f"prd_{n}" for n in range(1, 501)]
    assert lines[6] == products.get("/products/prd_7").json()


def test_copies_repeat_it(products):
    once = products.get("/products/export").content
    assert products.get("/products/export?copies=3").content == once * 3


@pytest.mark.parametrize("copies", ["0", "10001", "-1", "x", "1.5", "", "1e3"])
def test_copies_are_bounded(products, copies):
    assert_problem(products.get("/products/export", params={"copies": copies}), 400)


def test_a_gigabyte_starts_at_once_and_is_never_held_whole(shop):
    """A reader that takes a little of it costs the service a little."""
    pid = shop.children["products"].pid
    before, start = resident(pid), time.monotonic()
    with httpx.stream("GET", f"{shop.urls['products']}/products/export?copies=10000", timeout=30) as answer:
        read = 0
        for chunk in answer.iter_bytes():
            read += len(chunk)
            if read > 3_000_000:
                break
        time.sleep(0.3)
        assert resident(pid) - before < 20_000_000
    assert time.monotonic() - start < 20
    assert httpx.get(f"{shop.urls['products']}/healthz", timeout=30).json() == {"status": "ok"}


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_head_of_the_export_sends_nothing(products):
    answer = products.head("/products/export?copies=10000")
    assert (answer.status_code, answer.content) == (200, b"")
