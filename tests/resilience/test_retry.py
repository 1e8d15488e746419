"""What failed is sent again where that can do no harm, soon, and seldom enough not to make things worse."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bff.core.telemetry import Telemetry
from bff.upstream.phases import Phase, RefusedError, attempts_of
from bff.upstream.retry import Decision, Repeats, Retries, Retry, RetrySettings, retry_after
from tests import shop as fake
from tests.harness import FOUR_SERVICES, customer, gateway, operator
from tests.resilience.chain import ORIGIN, Clock, Target, answer, outcome, raises, request

RECORDED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
REFUSED = raises(httpx.ConnectError, Phase.CONNECT)
RESET = raises(httpx.ReadError, Phase.FIRST_BYTE)
SLOW = raises(httpx.ReadTimeout, Phase.FIRST_BYTE)
FAILURES = {
    "refused": REFUSED,
    "no connection in time": raises(httpx.ConnectTimeout, Phase.TLS),
    "reset": RESET,
    "reset while sent": raises(httpx.WriteError, Phase.SEND),
    "slow": SLOW,
    "502": lambda _: answer(502),
    "503": lambda _: answer(503),
    "504": lambda _: answer(504),
}
NOTHING_WAS_SENT = {"refused", "no connection in time"}


def retry(target: Target, clock: Clock, seed: int = 7, **settings) -> Retry:
    random = Random(seed)  # noqa: S311
    return Retry(target, "shop", RetrySettings(**settings), Repeats(Telemetry()), random, clock, clock.sleep)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_idempotent_calls_are_made_again(method, failure):
    clock, target = Clock(), Target()
    target.behaviour = lambda each: answer() if len(target.requests) > 1 else FAILURES[failure](each)
    response = await retry(target, clock).handle_async_request(request(method))
    assert response.status_code == 200
    assert response.extensions["attempts"] == len(target.requests) == 2
    assert all(0 <= each <= 0.025 for each in clock.slept)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_others_only_where_nothing_was_sent(method, failure):
    target = Target(FAILURES[failure])
    await outcome(retry(target, Clock()), request(method))
    assert len(target.requests) == (2 if failure in NOTHING_WAS_SENT else 1)


@pytest.mark.parametrize("failure", FAILURES)
async def test_or_where_their_client_gave_them_a_key(failure):
    target = Target(FAILURES[failure])
    await outcome(retry(target, Clock()), request("POST", {"Idempotency-Key": "one"}))
    assert len(target.requests) == 2


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda _: answer(404),
        lambda _: answer(429, retry_after="0"),
        lambda _: answer(500),
        raises(httpx.RemoteProtocolError, Phase.BODY),
        raises(httpx.PoolTimeout, Phase.POOL),
        raises(httpx.LocalProtocolError, Phase.SEND),
    ],
)
async def test_what_another_attempt_would_not_mend_is_left_alone(behaviour):
    target = Target(behaviour)
    await outcome(retry(target, Clock()), request())
    assert len(target.requests) == 1


async def test_what_the_gateway_itself_refuses_is_no_attempt():
    def refuses(each: httpx.Request) -> httpx.Response:
        raise RefusedError("full", each, Phase.BREAKER)

    error = await outcome(retry(Target(refuses), Clock()), request())
    assert attempts_of(error) == 0


def refuses_to_repeat(failure):
    def behave(each: httpx.Request) -> httpx.Response:
        if each.extensions["attempt"] > 1:
            raise RefusedError("left alone", each, Phase.BREAKER)
        return failure(each)

    return behave


async def test_a_repeat_that_is_not_let_go_leaves_the_call_with_what_it_came_to_before():
    error = await outcome(retry(Target(refuses_to_repeat(SLOW)), Clock()), request())
    assert type(error) is httpx.ReadTimeout
    assert attempts_of(error) == 1


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_repeat_that_is_not_let_go_costs_nothing(failure):
    clock, origin = Clock(), replace(ORIGIN, retries=Retries(5))
    chain = retry(Target(refuses_to_repeat(FAILURES[failure])), clock)
    for _ in range(100):
        await outcome(chain, request(origin=origin))
    assert (chain.budget.left, origin.retries.left) == (20, 5)


async def test_a_body_that_streams_is_sent_once():
    async def body():
        yield b"a"

    asked = request("PUT")
    asked.stream = httpx.Request("PUT", "http://any", content=body()).stream
    target = Target(RESET)
    await outcome(retry(target, Clock()), asked)
    assert len(target.requests) == 1


async def test_a_service_is_given_the_time_that_it_asks_for_unless_it_is_too_long():
    for seconds, attempts in (("1", 2), ("2", 1), ("3600", 1)):
        clock, target = Clock(), Target(lambda _, after=seconds: answer(503, retry_after=after))
        response = await retry(target, clock).handle_async_request(request())
        assert response.status_code == 503
        assert len(target.requests) == attempts
        assert all(each >= float(seconds) for each in clock.slept)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:10 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "soon", "date": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "9" * 5000}, 999_999_999),
        ({}, None),
    ],
)
def test_how_long_a_service_asks_for(headers, seconds):
    assert retry_after(httpx.Response(503, headers=headers)) == seconds


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    attempts=st.integers(1, 6),
    left=st.floats(0, 3),
    takes=st.floats(0, 1),
    wait=st.floats(0, 1),
    after=st.sampled_from([None, "0", "1", "5"]),
)
def test_no_attempt_begins_past_the_deadline_and_waits_stay_in_their_bounds(seed, attempts, left, takes, wait, after):
    clock = Clock()
    headers = {"retry_after": after} if after else {}
    target = Target(lambda _: answer(503, **headers), clock, takes)
    began: list[float] = []
    inner = Target(lambda each: began.append(clock.now) or target.handle_async_request(each))
    until = clock.now + left
    chain = retry(inner, clock, seed, attempts=attempts, wait=wait, max_wait=0.5)
    asyncio.run(outcome(chain, request(until=until)))
    assert len(began) <= attempts
    assert all(each < until for each in began[1:])
    for number, slept in enumerate(clock.slept):
        assert float(after or 0) <= slept <= float(after or 0) + min(0.5, wait * 2**number)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    gaps=st.lists(st.floats(0.0005, 0.5), min_size=1, max_size=400),
    failing=st.floats(0, 1),
    share=st.sampled_from([0.0, 0.1, 0.2, 1.0]),
)
def test_repeated_calls_stay_within_their_share_of_first_ones(seed, gaps, failing, share):
    """In any run of calls, however they come and fail: the share of those within 10 s, and the floor."""
    clock, random = Clock(), Random(seed)  # noqa: S311
    target = Target(lambda _: answer(503 if random.random() < failing else 200))
    chain = retry(target, clock, seed, attempts=3, budget=share, wait=0.0, floor=3)

    async def run():
        for gap in gaps:
            clock.now += gap
            await chain.handle_async_request(request())

    asyncio.run(run())
    repeated = len(target.requests) - len(gaps)
    assert repeated <= share * len(gaps) + 3 * (sum(gaps) + 1)


async def test_calls_that_timed_out_together_leave_no_debt_to_those_after_them():
    clock = Clock()
    target = Target(SLOW)
    chain = retry(target, clock, attempts=3, wait=0.0)
    for _ in range(200):
        chain.budget.earn()
    clock.now += 2
    while chain.budget.spend():
        pass
    clock.now += 8.5
    target.behaviour = lambda _: answer(200 if len(target.requests) % 10 else 503)
    for _ in range(100):
        clock.now += 0.001
        assert (await chain.handle_async_request(request())).status_code == 200


async def test_a_service_that_fails_wholly_gets_a_fifth_more_calls_at_most():
    clock, target = Clock(), Target(lambda _: answer(503))
    chain = retry(target, clock, attempts=5, wait=0.0)
    for _ in range(10_000):
        clock.now += 0.01
        await chain.handle_async_request(request())
    assert len(target.requests) <= 1.2 * 10_000 + 3


async def test_while_every_tenth_call_fails_as_good_as_all_reads_succeed():
    clock, random = Clock(), Random(7)  # noqa: S311
    target = Target(lambda _: answer(503 if random.random() < 0.1 else 200))
    chain = retry(target, clock, wait=0.0)
    good = 0
    for _ in range(10_000):
        clock.now += 0.01
        good += (await chain.handle_async_request(request())).status_code == 200
    assert good >= 9_850  # a hundred fail twice in a row
    assert len(target.requests) <= 11_300


async def test_one_operation_repeats_no_more_than_it_may():
    target = Target(lambda _: answer(503))
    chain = retry(target, Clock(), floor=100)
    origin = replace(ORIGIN, retries=Retries(2))
    for _ in range(30):
        await chain.handle_async_request(request(origin=origin))
    assert len(target.requests) == 32


async def test_who_leaves_during_a_wait_ends_it():
    target = Target(lambda _: answer(503))
    chain = Retry(target, "shop", RetrySettings(wait=60, max_wait=60), Repeats(Telemetry()), Random(7))  # noqa: S311
    task = asyncio.create_task(chain.handle_async_request(request(until=10.0**9)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(target.requests) == 1


# Of the whole gateway.


def every_tenth(services: fake.Services) -> fake.Behaviour:
    calls = 0

    async def behave(request: httpx.Request, call: fake.Call) -> httpx.Response | None:
        nonlocal calls
        calls += 1
        return fake.answer(503, {}) if calls % 10 == 0 else None

    return behave


async def test_reads_of_both_fronts_outlive_every_tenth_call():
    shop = gateway()
    shop.services.products.fail(every_tenth(shop.services))
    rest = [(await shop.client.get("/api/products/prd_1")).status_code for _ in range(50)]
    answers = [await shop.query('{ product(id: "prd_1") { id } }') for _ in range(50)]
    assert rest == [200] * 50
    assert not any(each.errors for each in answers)
    assert len(shop.services.products.calls) <= 120


async def test_an_error_says_how_often_the_call_was_sent_and_the_log_has_each_attempt():
    shop = gateway()
    shop.services.payments.fail(fake.says(503, {}))
    rest = await shop.client.get("/api/payments/pay_1", headers=customer() | {"x-request-id": "look-for-me"})
    assert rest.json()["attempts"] == 2
    lines = [line for line in shop.log if line["event"] == "attempt_failed"]
    assert [(line["attempt"], line["retry"]) for line in lines] == [(1, "made"), (2, "attempts")]
    assert {line["request_id"] for line in lines} == {"look-for-me"}
    assert {line["status"] for line in lines} == {503}
    shop.services.payments.fail(fake.refused)
    answer = await shop.query('{ payment(id: "pay_1") { id } }', headers=customer())
    assert answer.errors[0]["extensions"]["attempts"] == 2
    counted = await shop.metrics("http_client_retries_total")
    assert {dict(labels)["decision"] for labels in counted} == set(Decision)
    assert counted[("decision", "made"), ("service", "payments")] == 2


async def test_an_operation_with_many_calls_repeats_a_few():
    shop = gateway(graphql={"max_retries": 1}, services={"products": {"max_batch": 1}})
    shop.services.products.fail(fake.says(503, {}))
    fields = " ".join(f'p{n}: product(id: "prd_{n}") {{ id }}' for n in range(1, 11))
    answer = await shop.query(f"{{ {fields} }}")
    assert answer.codes == ["UPSTREAM_ERROR"] * 10
    assert len(shop.services.products.calls) == 11


@pytest.mark.parametrize("fails", [fake.refused, fake.cut, fake.says(503, {})])
async def test_a_write_is_never_done_twice(fails):
    shop = gateway()
    shop.services.orders.fail(fails)
    await shop.client.post("/api/orders", headers=customer(), json={"user_id": "usr_1", "items": []})
    assert len(shop.services.orders.calls) == (2 if fails is fake.refused else 1)


async def test_the_span_of_a_repeated_call_says_so():
    shop = gateway()
    shop.services.payments.fail(fake.says(503, {}))
    await shop.query(FOUR_SERVICES, headers=operator() | RECORDED)
    resent = [span.attributes.get("http.request.resend_count") for span in shop.spans if span.kind.name == "CLIENT"]
    assert sorted(each for each in resent if each) == [1]


async def test_without_retries_each_call_is_one_attempt():
    shop = gateway(services={"payments": {"retry": {"attempts": 1}}})
    shop.services.payments.fail(fake.refused)
    await shop.client.get("/api/payments/pay_1", headers=customer())
    assert len(shop.services.payments.calls) == 1
