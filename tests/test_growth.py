"""What a gateway holds on to does not grow with what it was asked: counted in blocks of memory, exactly.

`python -m benchmarks memory` asks the same of a whole process, over 10,000 documents and 200,000 requests.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise

from tests.harness import FOUR_SERVICES, Gateway, customer, gateway, operator

FEW = {"memory": {"max_documents": 20}}
LEAST = 5  # blocks a request: a remembered document, caller or exception is ten times that, what libraries warm up less


async def grown(shop: Gateway, ask: Callable[[int], Awaitable[object]], *, before: int, then: int) -> float:
    """Blocks that each of the `then` requests has left, once `before` of them, twice, have filled what is bounded.

    The least of three times: what is never let go of grows each time, and what is filled late, once.
    """

    async def blocks(numbers: range) -> int:
        for n in numbers:
            await ask(n)
            await asyncio.sleep(0)  # over a network in memory the loop would have no turn, and what was cancelled stay
        shop.forget()
        gc.collect()
        gc.collect()  # an operation that the first one ends lets go of its plan, which is for the next
        return sys.getallocatedblocks()

    await blocks(range(before))
    end = 2 * before
    at = [
        await blocks(range(before, end)),
        *[await blocks(range(end + n * then, end + (n + 1) * then)) for n in range(3)],
    ]
    return min(after - earlier for earlier, after in pairwise(at)) / then


async def test_documents_that_are_never_the_same_leave_nothing():
    shop = gateway(graphql=FEW, limits={"mode": "off"})
    headers = operator()

    async def ask(n: int) -> None:
        answer = await shop.query(f'query Q{n} {{ user(id: "usr_{n % 9 + 1}") {{ name }} }}', headers=headers)
        assert answer.data == {"user": {"name": f"User {n % 9 + 1}"}}

    # So many at a time are counted before it is looked what they ask for: see bff/core/usage.py.
    assert await grown(shop, ask, before=256, then=256) < LEAST


async def test_documents_that_are_refused_leave_nothing():
    shop = gateway(graphql=FEW)

    async def ask(n: int) -> None:
        assert (await shop.query(f"{{ users {{ nothing_{n} }} }}")).codes == ["GRAPHQL_VALIDATION_FAILED"]

    assert await grown(shop, ask, before=60, then=120) < LEAST


async def test_requests_of_all_kinds_leave_nothing():
    shop = gateway()
    headers, other = operator(), customer()

    async def ask(n: int) -> None:
        match n % 6:
            case 0:
                assert (await shop.query(FOUR_SERVICES, {"first": 5}, headers=headers)).errors == []
            case 1:
                assert (await shop.client.get(f"/api/users/usr_{n % 7 + 1}", headers=headers)).status_code == 200
            case 2:
                assert (await shop.client.get(f"/nothing/{n}")).status_code == 404
            case 3:
                bearer = {"authorization": f"Bearer {n}"}
                assert (await shop.client.get("/api/users/usr_1", headers=bearer)).status_code == 401
            case 4:
                assert (await shop.client.post("/graphql", content=b"{" * n)).status_code == 415
            case 5:
                assert (await shop.query("{ me { id } }", headers=other)).errors == []

    assert await grown(shop, ask, before=120, then=240) < LEAST
