"""Ids of several requests in one call, where the service cannot tell who asks."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import customer, gateway
from tests.shop import Refusal, answer
from tests.upstream.raw import eventually


def shop_of(**products):
    return gateway(services={"products": {"gather": "20ms"} | products, "users": {"gather": "20ms"}})


def product(shop, number, headers=None):
    return shop.query(f'{{ product(id: "prd_{number}") {{ id }} }}', headers=headers or {})


async def slow(request, call):
    await asyncio.sleep(0.1)


async def test_ids_of_requests_at_the_same_time_are_one_call():
    shop = shop_of()
    shop.services.products.fail(slow)
    found = await asyncio.gather(*(product(shop, n % 40 + 1) for n in range(100)))
    assert [each.data for each in found] == [{"product": {"id": f"prd_{n % 40 + 1}"}} for n in range(100)]
    assert len(shop.services.products.calls) <= 3


async def test_without_load_nothing_waits():
    shop = shop_of(gather="100ms")
    await product(shop, 1)
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(5):  # the best of five, since the machine has other things to do
        began = loop.time()
        for number in range(5):
            await product(shop, number + 1)
        took.append(loop.time() - began)
        if took[-1] < 0.25:
            break
    assert min(took) < 0.25
    assert len(shop.services.products.calls) == 1 + 5 * len(took)


async def test_ids_of_different_callers_never_meet_unless_the_service_says_so():
    shop = shop_of()
    shop.services.users.fail(slow)
    asked = [f"usr_{n % 4 + 1}" for n in range(40)]
    found = await asyncio.gather(
        *(shop.query(f'{{ user(id: "{id}") {{ id }} }}', headers=customer(id)) for id in asked)
    )
    assert [each.data for each in found] == [{"user": {"id": id}} for id in asked]
    for call in shop.services.users.calls:
        assert call.ids == [call.header("x-auth-subject")]
    others = await asyncio.gather(*(shop.query('{ user(id: "usr_2") { id } }', headers=customer(id)) for id in asked))
    assert [bool(each.data["user"]) for each in others] == [id == "usr_2" for id in asked]


async def test_a_call_has_no_more_ids_than_max_batch():
    shop = shop_of(max_batch=10)
    shop.services.products.fail(slow)
    await asyncio.gather(*(product(shop, n + 1) for n in range(35)))
    assert max(len(call.ids) for call in shop.services.products.calls) <= 10
    assert sorted(id for call in shop.services.products.calls for id in call.ids) == sorted(
        f"prd_{n + 1}" for n in range(35)
    )


async def test_an_id_that_the_service_refuses_harms_only_who_asked_for_it():
    shop = shop_of()

    async def picky(request, call):
        await asyncio.sleep(0.05)
        if "prd_13" in call.ids:
            raise Refusal(400, "that one not")

    async def refuses(request, call):
        try:
            await picky(request, call)
        except Refusal as refusal:
            return answer(refusal.status, {"detail": str(refusal)}, "application/problem+json")

    shop.services.products.fail(refuses)
    found = await asyncio.gather(*(product(shop, n) for n in range(1, 21)))
    assert [each.codes for each in found] == [["BAD_USER_INPUT"] if n == 13 else [] for n in range(1, 21)]


async def test_who_leaves_takes_nobody_with_it_and_the_last_one_the_call():
    shop = shop_of()
    cancelled, go_on = [], asyncio.Event()

    async def hangs(request, call):
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            cancelled.append(call.ids)
            raise

    shop.services.products.fail(hangs)
    first, second = (asyncio.ensure_future(product(shop, n)) for n in (1, 2))
    await eventually(lambda: shop.services.products.calls)
    first.cancel()
    await asyncio.sleep(0.05)
    go_on.set()
    assert (await second).data == {"product": {"id": "prd_2"}}
    assert not cancelled
    go_on.clear()
    asked = [asyncio.ensure_future(product(shop, n)) for n in (3, 4)]
    await eventually(lambda: len(shop.services.products.calls) == 2)
    for each in asked:
        each.cancel()
    await eventually(lambda: cancelled)


@pytest.mark.parametrize("seconds", ["0.2"])
async def test_each_request_keeps_its_own_deadline(seconds):
    shop = shop_of()

    async def hangs(request, call):
        await asyncio.sleep(0.6)

    shop.services.products.fail(hangs)
    hurried, patient = await asyncio.gather(product(shop, 1, {"request-timeout": seconds}), product(shop, 2))
    assert hurried.codes == ["DEADLINE_EXCEEDED"]
    assert patient.data == {"product": {"id": "prd_2"}}
