"""A process that takes as much as it gets from one account, and tells from which slices of the server's time.

python -m tests.store.spender URL SECONDS AMOUNT PERIOD

As JSON: a slice for each unit that it got, from which to which it has asked for one in vain, how often it has asked,
and how often the store did not answer in time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from bff.core.store import StoreUnavailable, Window
from tests.store.conftest import ledger


async def spend(url: str, seconds: float, amount: int, period: int) -> None:
    shared, window, taken, refused = ledger(url), Window("all", amount, period), list[int](), set[tuple[int, int]]()
    asks = late = 0
    await shared.store.open()
    until = time.monotonic() + seconds

    def now() -> int:
        return int(time.time() * 1000) // window.slice

    async def one() -> None:
        nonlocal asks, late
        while time.monotonic() < until:
            asks += 1
            asked = now()
            try:
                decision = await shared.reserve("load/one", (window,), 1)
            except StoreUnavailable:  # by a machine that is busy elsewhere
                late += 1
                continue
            if decision.reservation:
                ((_, number),) = decision.reservation.charged
                taken.append(number)
            else:
                refused.add((asked, now()))
                await asyncio.sleep(0.002)

    await asyncio.gather(*(one() for _ in range(4)))
    await shared.store.close()
    sys.stdout.write(json.dumps([taken, sorted(refused), asks, late]))


if __name__ == "__main__":
    uvloop.run(spend(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
