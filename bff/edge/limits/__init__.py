"""How much a caller may ask for: one account for GraphQL and REST, over exact windows, with slowapi's limiter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerHour,
    RateLimitItemPerMinute,
    RateLimitItemPerSecond,
)
from limits.strategies import RateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.answer import Answer
from bff.core.errors import GatewayError, RateLimited
from bff.core.identity import Caller
from bff.core.route import MAX_COST, OPERATIONS, Route
from bff.core.store import Decision, Slot
from bff.edge.limits.accounts import Accounts, limiter_of, store_of
from bff.edge.limits.policy import Asked, Decisions, Policy
from bff.edge.limits.settings import LimitSettings, TierSettings
from bff.edge.limits.tab import FLOOR, Tab

__all__ = [
    "FLOOR",
    "Accounts",
    "AddressLimit",
    "Decisions",
    "LimitSettings",
    "Limits",
    "Tab",
    "TierSettings",
    "limiter_of",
]


class _Item(RateLimitItem):
    """What `limits` calls an item; its key is put together from what a window's name does not say already."""

    __slots__ = ()

    def key_for(self, *identifiers: Any) -> str:
        return "/".join(identifiers)


_KINDS = (RateLimitItemPerSecond, RateLimitItemPerMinute, RateLimitItemPerHour, RateLimitItemPerDay)
_ITEMS: dict[int, type[RateLimitItem]] = {
    kind.GRANULARITY.seconds: type(kind.__name__, (_Item, kind), {}) for kind in _KINDS
}


_ELSEWHERE = 0.05
"""Seconds after which those who wait for slots look whether other gateways have given some back."""


class Limits:
    """After auth, since an account belongs to a caller; an address's own limit is judged by `AddressLimit`.

    GraphQL's endpoint finds a tab in `scope["bff.tab"]` from which the first unit was taken, and takes the rest once it
    knows what the operation costs. For a websocket that is a function from its caller to a tab.
    """

    def __init__(self, app: ASGIApp, accounts: Accounts, decisions: Decisions) -> None:
        self.app = app
        self.queue = accounts.settings.queue
        self.decisions = decisions
        self.accounts = accounts
        self._lines: dict[str, _Line] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            route: Route = scope["bff.route"]
            if route.cost:
                caller: Caller = scope["bff.caller"]
                policy = self.accounts.policy(caller.tier)
                slots = policy.slots if route.concurrency is None else policy.slots_for(route)
                if policy.windows or slots:
                    tab = self._tab(policy, caller, scope, scope["bff.answer"])
                    return self._spend(tab, route, slots, scope, receive, send)
        elif scope["type"] == "websocket":
            # Who it belongs to is said later, and what it costs is what is asked over it.
            scope["bff.tab"] = partial(self.tab, scope)
        return self.app(scope, receive, send)

    def tab(self, scope: Scope, caller: Caller) -> Tab | None:
        """What the caller's next operation over a socket is put on; None where nothing limits it."""
        policy = self.accounts.policy(caller.tier)
        return self._tab(policy, caller, scope, None) if policy.windows else None

    def _tab(self, policy: Policy, caller: Caller, scope: Scope, answer: Answer | None) -> Tab:
        account = caller.account_at(_address(scope)) if caller.is_anonymous else caller.account
        key = f"{policy.tier}/{account}"
        return Tab(scope["bff.route"], caller, scope.get("bff.request_id"), self, policy, key, answer)

    def _spend(
        self, tab: Tab, route: Route, slots: Sequence[Slot], scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        scope["bff.account"] = tab
        if route.front in OPERATIONS:
            scope["bff.tab"] = tab
        if slots or route.cost_header or self.accounts.shared:
            return self._settled(tab, route, slots, scope, receive, send)
        tab.heed(self.accounts.store.reserve(tab.key, tab.policy.windows, route.cost), route.cost)
        if route.cost == FLOOR:
            app = self.app
            return app(scope, receive, send)  # less it cannot become
        return self._refunded(tab, scope, receive, send)

    async def _settled(
        self, tab: Tab, route: Route, slots: Sequence[Slot], scope: Scope, receive: Receive, send: Send
    ) -> None:
        await tab.take(route.cost, slots)
        try:
            await self._refunded(tab, scope, receive, _read_cost(tab, route.cost_header, send))
        finally:
            tab.close()

    async def _refunded(self, tab: Tab, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except GatewayError as error:
            if error.status >= 500 and scope["bff.route"].front not in OPERATIONS:
                tab.settle(FLOOR)  # what the caller cannot mend costs it no more than it has to
            raise

    def reserve(
        self, key: str, policy: Policy, cost: int, slots: Sequence[Slot] = ()
    ) -> Decision | Awaitable[Decision]:
        return self.accounts.reserve(key, policy, cost, slots)

    # Waiting for slots.

    def may_wait(self, decision: Decision, slots: Sequence[Slot]) -> bool:
        names = {each.name for each in slots}
        return self.queue.size > 0 and names.issuperset(decision.refusing)

    async def queued(
        self,
        key: str,
        reserve: Callable[[], Decision | Awaitable[Decision]],
        decision: Decision,
        slots: Sequence[Slot],
    ) -> Decision:
        """Stand in line until a slot is free; the last refusal if there is none in time, or the line is full."""
        line = self._lines.setdefault(key, _Line())
        if line.waiting >= self.queue.size:
            return decision
        line.waiting += 1
        try:
            async with asyncio.timeout(self.queue.wait):
                while decision.refusing and self.may_wait(decision, slots):
                    await self._somebody_has_gone(line)
                    tried = reserve()
                    decision = tried if isinstance(tried, Decision) else await tried
        except TimeoutError:
            pass
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[key]
        return decision

    async def _somebody_has_gone(self, line: _Line) -> None:
        """Or may have, of another gateway: that is not told."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ELSEWHERE if self.accounts.shared else None):
                await line.freed.wait()

    def freed(self, key: str) -> None:
        """Somebody has gone: whoever waits may try."""
        if line := self._lines.get(key):
            line.freed.set()
            line.freed = asyncio.Event()


class _Line:
    def __init__(self) -> None:
        self.waiting = 0
        self.freed = asyncio.Event()


class AddressLimit:
    """Before auth: how often one address may knock at all."""

    def __init__(self, app: ASGIApp, settings: LimitSettings, limiter: RateLimiter, decisions: Decisions) -> None:
        self.app = app
        self.mode = settings.mode_of("address")
        self.decisions = decisions
        self.rate = settings.per_address
        self.limiter = limiter
        self.item = _ITEMS[self.rate.per](self.rate.amount)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        address = _address(scope)
        if address and self.mode != "off" and not self.limiter.hit(self.item, address):
            self._refuse(scope, address)
        app = self.app
        return app(scope, receive, send)

    def _refuse(self, scope: Scope, address: str) -> None:
        if self.mode == "measure":
            self.decisions.count(("address", "", scope["bff.route"].front, "measured"))
            return
        asked = Asked(scope["bff.route"], scope.get("bff.caller"), scope.get("bff.request_id"))
        self.decisions.refused(asked, ["address"], "", FLOOR)
        stats = self.limiter.get_window_stats(self.item, address)
        wait = stats.reset_time - store_of(self.limiter).clock()
        raise RateLimited(f"More than {self.rate} requests from this address", retry_after=wait)


def _read_cost(tab: Tab, header: bytes | None, send: Send) -> Send:
    """What the service says of the request's cost."""
    if header is None:
        return send

    async def read(message: Message) -> None:
        if message["type"] == "http.response.start":
            said = next((value for name, value in message["headers"] if name == header), b"")
            if said.isdigit() and len(said) <= len(str(MAX_COST)):
                tab.settle(min(int(said), MAX_COST))
        await send(message)

    return read


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None
