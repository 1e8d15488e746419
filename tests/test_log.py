"""The log's lines: written together, but never late, never lost and never out of order."""

import asyncio
import io

import msgspec
import orjson

from bff.core.telemetry import JsonLog


class Line(msgspec.Struct, tag_field="event", tag="request"):
    number: int


def written(out):
    return [line.get("number", line["event"]) for line in map(orjson.loads, out.getvalue().splitlines())]


async def test_lines_are_kept_for_a_moment_and_then_written_together():
    out = io.BytesIO()
    log = JsonLog(out, hold=0.02)
    for number in range(3):
        log.line(Line(number))
    assert written(out) == []
    await asyncio.sleep(0.05)
    assert written(out) == [0, 1, 2]


async def test_an_error_is_written_at_once_and_after_what_came_before_it():
    out = io.BytesIO()
    log = JsonLog(out, hold=60)
    log.line(Line(1))
    log.error("unexpected", exc_info=ValueError("why"))
    assert written(out) == [1, "unexpected"]
    assert b"ValueError: why" in out.getvalue()


async def test_only_so_many_lines_are_kept():
    out = io.BytesIO()
    log = JsonLog(out, hold=60)
    for number in range(1001):
        log.line(Line(number))
    assert written(out) == list(range(1000))
    log.flush()
    assert written(out)[-1] == 1000


async def test_below_the_level_nothing_is_written():
    out = io.BytesIO()
    log = JsonLog(out, "warning")
    log.line(Line(1))
    log.info("more")
    log.warning("mind")
    assert written(out) == ["mind"]
