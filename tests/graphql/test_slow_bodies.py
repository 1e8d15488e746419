"""A body that never ends: the operation's timeout counts from the request's head, not from the body's end."""

import asyncio
import json

from tests.harness import gateway


async def drip(shop, chunks):
    """Send these pieces of a body and then nothing more; the answer's status and code."""
    pieces, sent = iter(chunks), []

    async def receive():
        for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": True}
        return await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"gateway"), (b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    path = {"path": "/graphql", "raw_path": b"/graphql", "query_string": b"", "root_path": ""}
    about = {"type": "http", "method": "POST", "scheme": "http", "http_version": "1.1", "client": ("10.0.0.9", 1)}
    await shop.app({**about, **path, "headers": headers, "asgi": {"version": "3.0"}}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])["errors"][0]["extensions"]["code"]


async def test_a_body_that_never_ends_is_a_timeout_and_not_a_hang():
    shop = gateway(graphql={"timeout": "200ms"})
    async with asyncio.timeout(20):
        assert await drip(shop, [b'{"query":', b' "{ __typename']) == (504, "DEADLINE_EXCEEDED")
    assert shop.services.calls == []
