"""Answers of services that break off, to a client of its own connection."""

import pytest

from tests.rest.test_beside import asked, passing

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


@pytest.mark.parametrize("length", [6, 16 * 1024])
async def test_a_short_answer_that_breaks_off_before_its_body_is_a_failure_that_is_told(length):
    async def script(peer):
        await peer.head()
        await peer.send(HEAD % length)
        peer.reset()

    async with passing(script) as (_, connect):
        client = await connect(asked())
        status, headers, body = await client.answer()
    assert status == 502
    assert headers[b"content-type"] == b"application/problem+json"
    assert b'"service":"users"' in body
    assert b'"phase":"body"' in body


async def test_what_has_begun_is_cut_off():
    async def script(peer):
        await peer.head()
        await peer.drip([HEAD % 6, b"abc"], 0.05)
        peer.reset()

    async with passing(script) as (_, connect):
        client = await connect(asked())
        assert (await client.reader.read()).endswith(b"\r\n\r\nabc")
