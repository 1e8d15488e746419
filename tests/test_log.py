"""The log's lines: written together, but never late, never lost and never out of order."""

import asyncio
import io

import msgspec
import orjson
import pytest

from bff.core.telemetry import JsonLog
from tests import shop as fake
from tests.harness import bearer, customer, gateway


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


def test_the_level_can_be_changed_while_lines_are_written():
    out = io.BytesIO()
    log = JsonLog(out, "warning")
    log.info("no")
    log.level = "info"
    log.line(Line(1))
    log.info("yes")
    log.level = "error"
    log.line(Line(2))
    log.warning("no")
    assert written(out) == [1, "yes"]
    assert log.level == "error"


async def test_operators_change_the_level_with_the_admin_token_and_that_is_on_record():
    one = gateway(admin={"token": "of-the-operators"})
    operators = bearer("of-the-operators")
    assert (await one.admin.get("/-/logs/level", headers=operators)).json() == {"level": "info"}
    answer = await one.admin.put("/-/logs/level", json={"level": "error"}, headers=operators)
    assert answer.json() == {"level": "error"}
    await one.client.get("/api/products/prd_1")
    assert one.access == []
    (line,) = one.log
    assert {key: line[key] for key in ("action", "before", "to")} == {
        "action": "log_level",
        "before": "info",
        "to": "error",
    }
    await one.admin.put("/-/logs/level", json={"level": "info"}, headers=operators)
    await one.client.get("/api/products/prd_1")
    assert len(one.access) == 1


@pytest.mark.parametrize(
    ("settings", "headers", "body", "status"),
    [
        ({"token": "of-the-operators"}, {}, {"level": "debug"}, 401),
        ({"token": "of-the-operators"}, bearer("guessed"), {"level": "debug"}, 401),
        ({}, {}, {"level": "debug"}, 403),
        ({"token": "of-the-operators"}, bearer("of-the-operators"), {"level": "loud"}, 422),
        ({"token": "of-the-operators"}, bearer("of-the-operators"), {}, 422),
    ],
)
async def test_nobody_else_does_and_to_no_other_level(settings, headers, body, status):
    one = gateway(admin=settings)
    answer = await one.admin.put("/-/logs/level", json=body, headers=headers)
    assert answer.status_code == status
    assert one.telemetry.log.level == "info"


async def test_all_lines_of_a_request_have_its_ids_and_nothing_else_has():
    one = gateway()
    one.services.payments.fail(fake.refused)
    one.services.products.fail(fake.says(200, [1], "application/json"))
    headers = customer() | {"x-request-id": "this-one"}
    await one.client.get("/api/payments/pay_1", headers=headers)
    await one.client.get("/api/users/usr_1", headers={"x-request-id": "this-one"})
    await one.query('{ product(id: "prd_1") { id } }', headers=headers)
    events = {line["event"] for line in one.log}
    assert {"request", "audit", "attempt_failed"} <= events
    assert {line["request_id"] for line in one.log} == {"this-one"}
    traces = {line["trace_id"] for line in one.log}
    assert traces == {line["trace_id"] for line in one.access}
    one.telemetry.log.warning("later")
    assert "request_id" not in one.log[-1]
