"""How much a caller may ask for: one account for GraphQL and REST, over sliding windows, by slowapi's limiter."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerHour,
    RateLimitItemPerMinute,
    RateLimitItemPerSecond,
)
from limits.strategies import RateLimiter
from prometheus_client import Counter
from pydantic import Field
from slowapi import Limiter
from slowapi.util import get_remote_address
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.answer import answer_of
from bff.core.errors import RateLimited
from bff.core.identity import Caller
from bff.core.settings import Rate, Settings
from bff.core.store import BoundedMemory
from bff.core.telemetry import Telemetry


class _Item(RateLimitItem):
    """What `limits` calls an item; its key is put together from what a window's name does not say already."""

    __slots__ = ()

    def key_for(self, *identifiers: Any) -> str:
        return "/".join(identifiers)


_KINDS = (RateLimitItemPerSecond, RateLimitItemPerMinute, RateLimitItemPerHour, RateLimitItemPerDay)
_ITEMS: dict[int, type[RateLimitItem]] = {
    kind.GRANULARITY.seconds: type(kind.__name__, (_Item, kind), {}) for kind in _KINDS
}


class TierSettings(Settings):
    rate: Annotated[tuple[Rate, ...], Field(max_length=5)] = ()
    """What a caller of this tier may spend, in cost units, in each of these sliding windows."""
    entitlements: str | None = None
    """A table of `entitlements`, for those whose key names none; by default everything."""


class LimitSettings(Settings):
    mode: Literal["off", "measure", "enforce"] = "enforce"
    """`measure` counts and reports what would be refused, and refuses nothing."""
    per_address: Rate = Rate(300, 60)
    """Before authentication, for each client address: guards the checking of keys and tokens itself."""
    max_accounts: Annotated[int, Field(ge=100, le=100_000_000)] = 100_000
    """Callers and addresses that are counted at a time; past it, the one that was seen longest ago begins anew."""


def _limiter(settings: LimitSettings) -> RateLimiter:
    """The limiter of slowapi, fed with our keys; its own middlewares would pass by mounted apps."""
    return Limiter(
        get_remote_address,
        strategy="sliding-window-counter",
        storage_uri=f"{BoundedMemory.STORAGE_SCHEME[0]}://",
        storage_options={"size": str(settings.max_accounts)},
    ).limiter


class Window:
    """One sliding window of one policy."""

    def __init__(self, policy: str, rate: Rate, limiter: RateLimiter) -> None:
        self.rate = rate
        self.name = f"{policy}-{rate.per}"
        self.item = _ITEMS[rate.per](rate.amount)
        self.policy = f'"{self.name}";q={rate.amount};w={rate.per}'
        self._limiter = limiter

    def admits(self, account: str, cost: int) -> bool:
        return self._limiter.test(self.item, self.name, account, cost=cost)

    def spend(self, account: str, cost: int) -> bool:
        """Take `cost` if there is as much; whether there was."""
        return self._limiter.hit(self.item, self.name, account, cost=cost)

    def state(self, account: str, now: float) -> tuple[int, int]:
        """What is left, and the seconds until more is."""
        stats = self._limiter.get_window_stats(self.item, self.name, account)
        return max(0, stats.remaining), max(1, math.ceil(stats.reset_time - now))


class Account:
    """All windows of one policy: a request is admitted by all of them or by none."""

    def __init__(self, policy: str, rates: Sequence[Rate], limiter: RateLimiter) -> None:
        self.windows = [Window(policy, rate, limiter) for rate in rates]
        self.policy = ", ".join(window.policy for window in self.windows).encode()

    def take(self, account: str, cost: int) -> Window | None:
        """Spend `cost` in every window, or in none of them and name the one that refuses."""
        first, *others = self.windows
        for window in others:
            if not window.admits(account, cost):
                return window
        if not first.spend(account, cost):
            return first
        for window in others:
            window.spend(account, cost)
        return None

    def headers(self, account: str, now: float) -> list[tuple[bytes, bytes]]:
        """As draft-ietf-httpapi-ratelimit-headers-10 has them, the most binding window first."""
        states = [(*window.state(account, now), window.name) for window in self.windows]
        states.sort()
        limit = ", ".join([f'"{name}";r={left};t={seconds}' for left, seconds, name in states])
        return [(b"ratelimit", limit.encode()), (b"ratelimit-policy", self.policy)]


class Limits:
    """After auth, since an account belongs to a caller; an address's own limit is judged by `AddressLimit`."""

    def __init__(
        self,
        app: ASGIApp,
        settings: LimitSettings,
        tiers: Mapping[str, TierSettings],
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self.mode = settings.mode
        self.clock = clock
        limiter = _limiter(settings)
        self.accounts = {tier: Account(tier, policy.rate, limiter) for tier, policy in tiers.items()}
        decisions = Counter(
            "bff_limit_decisions", "What the limits decided.", ["tier", "decision"], registry=telemetry.registry
        )
        self.admitted = {tier: decisions.labels(tier, "admitted") for tier in tiers}
        self.refused = {tier: decisions.labels(tier, "refused") for tier in tiers}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            answer_of(scope).headers += self.spend(_address(scope), scope["bff.caller"], scope["bff.route"].cost)
        elif scope["type"] == "websocket":
            # Who it belongs to is said later, and what it costs is what is asked over it.
            scope["bff.spend"] = partial(self.spend, _address(scope))
        return self.app(scope, receive, send)

    def spend(self, address: str | None, caller: Caller, cost: int) -> list[tuple[bytes, bytes]]:
        """Take `cost` from the caller's account; the headers that say what is left, none where nothing limits it.

        Raises:
            RateLimited: there is not as much.
        """
        tier = caller.tier if caller.tier in self.accounts else "default"
        account = self.accounts.get(tier)
        if self.mode == "off" or account is None or not account.windows:
            return []
        key = caller.account_at(address)
        refusing = account.take(key, cost)
        headers = account.headers(key, self.clock())
        (self.refused if refusing else self.admitted)[tier].inc()
        if refusing and self.mode == "enforce":
            raise self._refusal(refusing, key, headers)
        return headers

    def _refusal(self, window: Window, key: str, headers: list[tuple[bytes, bytes]]) -> RateLimited:
        _, seconds = window.state(key, self.clock())
        return RateLimited(
            f"More than {window.rate} of this caller's units are spent: try again in {seconds} s",
            retry_after=seconds,
            headers={name.decode(): value.decode() for name, value in headers},
            members={"violated-policies": [window.name]},
        )


class AddressLimit:
    """Before auth: how often one address may knock at all."""

    def __init__(self, app: ASGIApp, settings: LimitSettings, clock: Callable[[], float] = time.time) -> None:
        self.app = app
        self.mode = settings.mode
        self.clock = clock
        self.window = Window("address", settings.per_address, _limiter(settings))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        address = _address(scope)
        if address and self.mode == "enforce" and not self.window.spend(address, 1):
            _, seconds = self.window.state(address, self.clock())
            raise RateLimited(f"More than {self.window.rate} requests from this address", retry_after=seconds)
        return self.app(scope, receive, send)


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None
