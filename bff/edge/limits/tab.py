"""What one request spends: taken before it is served, settled when it is known what it was worth."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec

from bff.core.answer import Answer, Header
from bff.core.errors import QuotaExceeded
from bff.core.store import Decision, Reservation, Slot
from bff.edge.limits.policy import Asked, Decisions, Policy

FLOOR = 1
"""Units that a request costs at least, however it ends: failures are not free."""


class Ledger(Protocol):
    """Where tabs are kept: `Limits`."""

    decisions: Decisions

    def reserve(
        self, key: str, policy: Policy, cost: int, slots: Sequence[Slot] = (), /
    ) -> Decision | Awaitable[Decision]: ...

    def may_wait(self, decision: Decision, slots: Sequence[Slot], /) -> bool: ...

    async def queued(
        self,
        key: str,
        reserve: Callable[[], Decision | Awaitable[Decision]],
        decision: Decision,
        slots: Sequence[Slot],
        /,
    ) -> Decision: ...

    def freed(self, key: str, /) -> None: ...


class Tab(Asked, eq=False):
    """What one request, or one operation over a socket, has on its caller's account."""

    _ledger: Ledger
    policy: Policy
    key: str
    _answer: Answer | None
    _decision: Decision | None = None
    _headers: list[Header] = msgspec.field(default_factory=list)
    _reservations: list[Reservation] = msgspec.field(default_factory=list)
    _given_back: int = 0

    async def spend(self, cost: int) -> None:
        """Take `cost` units for good.

        Raises:
            RateLimited: there is not as much.
        """
        await self.take(cost)
        self._reservations.pop()

    async def take(self, cost: int, slots: Sequence[Slot] = ()) -> None:
        """Take `cost` more units from the caller's account, and wait a while for slots.

        Raises:
            RateLimited: there is not as much.
            Overloaded: the store is away, and nothing is to be admitted without it.
        """
        decision = self._ledger.reserve(self.key, self.policy, cost, slots)
        if not isinstance(decision, Decision):
            decision = await decision
        if decision.refusing and self._ledger.may_wait(decision, slots):
            decision = await self._ledger.queued(
                self.key, partial(self._ledger.reserve, self.key, self.policy, cost, slots), decision, slots
            )
        self.heed(decision, cost)

    def heed(self, decision: Decision, cost: int) -> None:
        policy, decisions = self.policy, self._ledger.decisions
        self._decision = decision
        if self._given_back:
            self._given_back = 0
        if self._answer is not None:
            self._show(self._answer, policy.headers(decision.states))
        if decision.refusing:
            decisions.refused(self, decision.refusing, policy.tier, cost)
            raise _refusal(decision, policy, cost)
        if decision.over:
            for name in decision.over:
                decisions.count((name, policy.tier, self.route.front, "measured"))
        else:
            decisions.count(("all", policy.tier, self.route.front, "admitted"))
        if decision.reservation:
            self._reservations.append(decision.reservation)

    def _show(self, answer: Answer, headers: list[Header]) -> None:
        if self._headers:
            answer.headers = [each for each in answer.headers if each not in self._headers]
        answer.headers.extend(headers)
        self._headers = headers

    @property
    def left(self) -> int:
        """Units in the most binding window, as it was last decided, and what was given back since."""
        return max(0, min([left for left, _ in self._states()], default=0) + self._given_back)

    def _states(self) -> Sequence[tuple[int, int]]:
        return self._decision.states if self._decision else ()

    @property
    def taken(self) -> int:
        return sum([each.cost for each in self._reservations])

    def shown(self) -> dict[str, object]:
        """What operators, and those who ask for it, are told."""
        refusing = self._decision.refusing if self._decision else ()
        return {
            "tier": self.policy.tier,
            "decision": "refused" if refusing else "admitted",
            "refused_by": list(refusing),
            "taken": self.taken,
            "left": self.left if self._states() else None,
        }

    def settle(self, cost: int) -> None:
        """Pay `cost` instead of all that was taken, though never less than the floor."""
        before, rest = self.taken, max(cost, FLOOR)
        *earlier, last = self._reservations
        for each in earlier:
            if each.cost > rest:
                each.settle(rest)
            rest -= each.cost
        if rest != last.cost:
            last.settle(max(0, rest))
        self._given_back += before - self.taken

    def close(self) -> None:
        """Give slots back."""
        for each in self._reservations:
            each.release()
        self._ledger.freed(self.key)


def _refusal(decision: Decision, policy: Policy, cost: int) -> QuotaExceeded:
    named = {each.name: f"{each.amount} in {each.seconds} s" for each in policy.windows}
    limits = " and ".join([named.get(each, each) for each in decision.refusing])
    members = {"violated-policies": list(decision.refusing)}
    if decision.wait is None:
        return QuotaExceeded(
            f"This costs {cost} units, more than is ever allowed: {limits}. Ask for less", members=members
        )
    seconds = max(1, math.ceil(decision.wait / 1000))
    if not named.keys() & set(decision.refusing):
        detail = f"This caller has as many requests under way as it may ({limits}): wait for one to end"
    else:
        detail = f"This costs {cost} of this caller's units, and less is left of {limits}: try again in {seconds} s"
    return QuotaExceeded(detail, retry_after=seconds, members=members)
