"""What crosses the layers of the edge, and what they leave behind where requests share what was found of them."""

import asyncio

from bff.core.head import head_of
from tests.harness import gateway


async def test_the_beginning_and_end_of_the_app_do_not_cross_the_layers():
    made = gateway()
    to, fro = asyncio.Queue(), asyncio.Queue()
    life = asyncio.create_task(made.app({"type": "lifespan"}, to.get, fro.put))
    for message in ("startup", "shutdown"):
        await to.put({"type": f"lifespan.{message}"})
        assert await fro.get() == {"type": f"lifespan.{message}.complete"}
    await life
    assert not made.access


async def test_requests_that_share_a_head_find_it_as_it_came():
    made, seen = gateway(), []
    head = head_of([(b"host", b"gateway"), (b"accept", b"application/json"), (b"via", b"1.1 far"), (b"cookie", b"a=b")])
    before = list(head.headers), dict(head.values)

    async def send(message):
        seen.append(message)

    async def receive():
        await asyncio.Event().wait()

    for number in range(3):
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/api/products/prd_1",
            "raw_path": b"/api/products/prd_1", "query_string": b"", "root_path": "", "headers": head.headers,
            "client": (f"192.0.2.{number}", 1), "server": ("gateway", 80), "bff.head": head,
        }  # fmt: skip
        await made.app(scope, receive, send)
    assert [each["status"] for each in seen if each["type"] == "http.response.start"] == [200] * 3
    sent = [dict(call.headers) for call in made.services.calls]
    assert [each["via"] for each in sent] == ["1.1 far, 1.1 bff"] * 3
    assert [each["x-forwarded-for"] for each in sent] == [f"192.0.2.{number}" for number in range(3)]
    assert (head.headers, head.values) == before
