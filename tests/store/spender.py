"""A process that takes as much as it gets from one account, and tells from which slices of the server's time.

python -m tests.store.spender URL SECONDS AMOUNT PERIOD
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from bff.core.store import Window
from tests.store.conftest import ledger


async def spend(url: str, seconds: float, amount: int, period: int) -> None:
    shared, windows, taken = ledger(url), (Window("all", amount, period),), []
    await shared.store.open()
    until = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < until:
            decision = await shared.reserve("load/one", windows, 1)
            if decision.reservation:
                ((_, number),) = decision.reservation.charged
                taken.append(number)
            else:
                await asyncio.sleep(0.002)

    await asyncio.gather(*(one() for _ in range(4)))
    await shared.store.close()
    sys.stdout.write(" ".join(map(str, taken)))


if __name__ == "__main__":
    uvloop.run(spend(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
