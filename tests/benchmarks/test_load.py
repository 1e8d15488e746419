import asyncio
from contextlib import asynccontextmanager

import pytest

from benchmarks import load
from benchmarks.load import Answer, Request

ASK = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def server(respond):
    """Answers each request with what `respond(number)` gives; yields the port and the numbers so far."""
    seen = []

    async def serve(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                seen.append(len(seen))
                writer.write(await respond(seen[-1]))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1], seen


async def at_once(_):
    return OK


async def closed(port, requests, **options):
    return await asyncio.to_thread(load.closed, port, requests, **options)


async def steady(port, requests, **options):
    return await asyncio.to_thread(load.steady, port, requests, **options)


async def test_each_answer_is_counted_once_and_none_is_on_its_way_at_the_end():
    async with server(at_once) as (port, seen):
        result = await closed(port, [Request(ASK)], connections=4, seconds=0.5)
    assert result.count == len(seen) > 4
    assert result.errors == 0


async def test_answers_that_come_after_the_deadline_are_waited_for():
    async def slowly(_):
        await asyncio.sleep(0.1)
        return OK

    async with server(slowly) as (port, seen):
        result = await closed(port, [Request(ASK)], connections=3, seconds=0.01)
    assert result.count == len(seen) == 3
    assert result.quantile(0) >= 0.1


@pytest.mark.parametrize("right", [Answer(200, b"no"), Answer(201, b"ok")])
async def test_an_answer_other_than_the_checked_one_is_an_error(right):
    async with server(at_once) as (port, _):
        result = await closed(port, [Request(ASK, right)], connections=1, seconds=0.02)
    assert result.errors == result.count > 0
    assert "b'ok'" in result.first_error


async def test_requests_take_turns():
    paths = []

    async def serve(reader, writer):
        while line := await reader.readline():
            await reader.readuntil(b"\r\n")
            await reader.readuntil(b"\r\n")
            paths.append(line.split()[1])
            writer.write(OK)
        writer.close()

    asks = [ASK.replace(b"/ ", b"/%d " % n) for n in range(3)]
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        answers = await asyncio.to_thread(load.replay, listening.sockets[0].getsockname()[1], asks)
    assert paths == [b"/0", b"/1", b"/2"]
    assert answers == [Answer(200, b"ok")] * 3


async def test_without_a_deadline_each_request_is_made_once():
    async with server(at_once) as (port, seen):
        result = await closed(port, [Request(ASK)] * 25, connections=4)
    assert result.count == len(seen) == 25


async def test_a_server_that_closes_after_each_answer_is_connected_to_again():
    async def once(_):
        return LAST

    async with server(once) as (port, seen):
        result = await closed(port, [Request(ASK)], connections=2, seconds=0.05)
    assert result.count == len(seen) > 2
    assert result.errors == 0


async def test_a_server_that_hangs_up_is_an_error_and_not_an_answer():
    async def hang_up(reader, writer):
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        result = await closed(listening.sockets[0].getsockname()[1], [Request(ASK)], connections=2, seconds=0.05)
    assert result.count == 0
    assert result.errors >= 2


async def test_a_steady_load_sends_what_was_said_however_fast_the_answers():
    async with server(at_once) as (port, seen):
        result = await steady(port, [Request(ASK)], connections=2, rate=200, count=20)
    assert result.count == len(seen) == 20


async def test_who_has_to_wait_for_a_stalled_server_is_counted_from_when_it_was_due():
    async def stalled_at_first(number):
        await asyncio.sleep(0 if number else 0.2)
        return OK

    async with server(stalled_at_first) as (port, _):
        result = await steady(port, [Request(ASK)], connections=1, rate=100, count=10)
    assert result.count == 10
    assert result.quantile(0) >= 0.1  # the last was due at 0.09 s, and nobody was served before 0.2 s
