"""A request is over by one deadline, whatever it waits for; services are told of it, and who asks may set it nearer."""

from __future__ import annotations

import asyncio
import time
from random import Random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bff.core.errors import UpstreamTimeout
from bff.core.telemetry import Telemetry
from bff.upstream import Measures, ServiceSettings, connect
from bff.upstream.client import Upstream
from bff.upstream.deadline import Attempt, Deadline
from bff.upstream.phases import Phase, phase_of
from tests import shop as fake
from tests.harness import gateway, operator
from tests.resilience.chain import ORIGIN, Clock, Target, outcome, request
from tests.upstream.raw import Server

TWO = '{ user(id: "usr_1") { id } product(id: "prd_1") { id } }'


@settings(deadline=None)
@given(left=st.floats(-5, 60), timeout=st.floats(0.002, 60), waited=st.floats(0, 60))
def test_an_attempt_has_what_its_service_allows_and_never_more_than_is_left_less_a_reserve(left, timeout, waited):
    clock, target = Clock(), Target()
    deadline = clock.now + left
    asked = request(deadline=deadline)
    attempt = Attempt(target, httpx.URL("http://users.internal"), timeout, clock)
    waits = Target(attempt.handle_async_request, clock, waited)
    ended = asyncio.run(outcome(Deadline(waits, clock), asked))
    if not target.requests:
        assert phase_of(ended) is Phase.DEADLINE
        assert clock.now >= deadline - min(0.02, left * 0.1) - 0.0011
        return
    (sent,) = target.requests
    assert sent.extensions["deadline"] < deadline
    assert sent.extensions["deadline"] <= clock.now + timeout + 1e-6
    assert float(sent.headers["request-timeout"]) <= min(left, timeout) + 0.0006
    assert "request-timeout" not in asked.headers


async def test_a_client_may_ask_for_less_time_on_both_fronts():
    shop = gateway()
    shop.services.products.fail(fake.hangs)
    started = time.monotonic()
    rest = await shop.client.get("/api/products/prd_1", headers={"request-timeout": "0.5"})
    answer = await shop.query(TWO, headers=operator() | {"request-timeout": "0.5"})
    assert time.monotonic() - started < 10
    assert rest.status_code == 504
    problem = rest.json()
    assert problem["code"] == "DEADLINE_EXCEEDED"
    assert problem["service"] == "products"
    assert problem["retryable"] is True
    assert answer.status == 200
    assert answer.data == {"user": {"id": "usr_1"}, "product": None}
    (error,) = answer.errors
    assert error["path"] == ["product"]
    assert error["extensions"]["code"] == "DEADLINE_EXCEEDED"
    assert error["extensions"]["service"] == "products"


async def test_services_are_told_how_long_is_left_and_never_what_the_client_said():
    shop = gateway(services={"products": {"timeout": "3s"}})
    await shop.client.get("/api/products/prd_1")
    await shop.client.get("/api/products/prd_1", headers={"request-timeout": "2"})
    await shop.client.get("/api/products/prd_1", headers={"Request_Timeout": "99"})
    await shop.client.get("/api/products/prd_1", headers={"request-timeout": "99"})
    told = [float(call.header("request-timeout")) for call in shop.services.products.calls]
    assert told[0] == told[2] == told[3] == 3
    assert 1 < told[1] < 2


@pytest.mark.parametrize("value", ["", "0", "0.0", "-1", "2s", "soon", "1e3", "99999999", "1,5", "inf"])
async def test_what_is_no_time_is_refused(value):
    shop = gateway()
    rest = await shop.client.get("/api/products/prd_1", headers={"request-timeout": value})
    assert rest.status_code == 400
    assert rest.json()["code"] == "BAD_REQUEST"
    assert "Request-Timeout" in rest.json()["detail"]
    assert not shop.services.calls


@pytest.mark.parametrize("whole", [True, False])
async def test_a_body_that_drips_is_cut_at_the_end_of_its_time(whole):
    async def drips(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        await peer.drip(b" " * 1000, 0.02)

    server = await Server(drips).start()
    telemetry = Telemetry()
    settings = ServiceSettings(url=server.url, timeout=0.6, connect_timeout=20)
    service = connect("drips", settings, Measures(telemetry), telemetry, Random(7))  # noqa: S311
    origin = replace(ORIGIN, deadline=asyncio.get_running_loop().time() + 5)
    started = time.monotonic()

    async def read() -> None:
        if whole:
            await Upstream(service, origin).get("/", dict)
        else:
            await (await service.send("GET", b"/", [], b"", origin)).aread()

    try:
        with pytest.raises(UpstreamTimeout if whole else httpx.ReadTimeout):
            await read()
        assert time.monotonic() - started < 4
    finally:
        await service.close()
        await server.stop()
