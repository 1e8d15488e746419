"""The accounts of callers: what each tier may spend, and what each caller has left of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, cast

from limits.strategies import RateLimiter
from slowapi import Limiter
from slowapi.util import get_remote_address

from bff.core.route import Route
from bff.core.store import Decision, MemoryStore, SharedLedger, Slot, StoreUnavailable
from bff.core.telemetry import Telemetry
from bff.edge.limits.fallback import Fallback
from bff.edge.limits.policy import Policy
from bff.edge.limits.settings import LimitSettings, TierSettings

LATEST = 50
"""Callers of whom it is remembered that they asked last."""
_TOLD_OF_A_PERSON = 8  # characters


class Accounts:
    """One account a caller and tier, whichever front it spends at.

    Args:
        settings: how many are kept, and which limits hold.
        tiers: what may be spent.
        routes: those that bound what is under way.
        limiter: whose storage they are in, if they are this process's own.
        telemetry: what is told of decisions without the store.
        shared: the accounts of all gateways, if they are not this process's own.
    """

    def __init__(
        self,
        settings: LimitSettings,
        tiers: Mapping[str, TierSettings],
        routes: Iterable[Route],
        limiter: RateLimiter,
        telemetry: Telemetry,
        shared: SharedLedger | None = None,
    ) -> None:
        self.settings = settings
        self.shared = shared
        self._latest = OrderedDict[str, None]()  # of the shared ones, those that this process spent from
        self._routes = [each for each in routes if each.concurrency]
        self.limiter = limiter
        self.store = store_of(limiter)
        # Where nothing is said of a tier, routes may still bound what is under way.
        tiers = {"default": TierSettings(), **tiers}
        self.policies = {tier: Policy(tier, policy, settings) for tier, policy in tiers.items()}
        self._fallback = Fallback(settings.on_store_error, self.store, self._instances, telemetry)

    def _instances(self) -> int:
        return (self.shared and self.shared.store.instances) or self.settings.instances

    def policy(self, tier: str) -> Policy:
        return self.policies.get(tier) or self.policies["default"]

    def reserve(
        self, key: str, policy: Policy, cost: int, slots: Sequence[Slot] = ()
    ) -> Decision | Awaitable[Decision]:
        """Take `cost` units and one of each slot, or nothing; a decision of the shared store is on its way."""
        if self.shared is None:
            return self.store.reserve(key, policy.windows, cost, slots)
        return self._reserve(self.shared, key, policy, cost, slots)

    async def _reserve(
        self, shared: SharedLedger, key: str, policy: Policy, cost: int, slots: Sequence[Slot]
    ) -> Decision:
        self._latest[key] = None
        self._latest.move_to_end(key)
        if len(self._latest) > LATEST:
            self._latest.popitem(last=False)
        try:
            return await shared.reserve(key, policy.windows, cost, slots)
        except StoreUnavailable:
            return self._fallback.reserve(key, policy.windows, cost, slots)

    def shown(self) -> dict[str, Any]:
        """What the limits are, and how many accounts there are, for operators."""
        store = self.shared and self.shared.store
        said = (
            {"store": {"url": str(store.settings.url), "up": store.up, "instances": store.instances}} if store else {}
        )
        return said | {
            "accounts": len(self.store),
            "max_accounts": self.settings.max_accounts,
            "tiers": {
                tier: {each.name: _said(each) for each in (*policy.windows, *policy.slots)}
                for tier, policy in self.policies.items()
            },
        }

    async def of(self, caller: str) -> dict[str, Any]:
        """What a caller has left, by tier, where it has asked for something: `consumer:acme`, `subject:usr_1`."""
        tiers: dict[str, Any] = {}
        for tier, policy in self.policies.items():
            found = await self._look(f"{tier}/{caller}", tier)
            if found is None:
                continue
            states, held = found
            windows = {
                window.name: {"limit": window.amount, "seconds": window.seconds, "left": left, "more_in_ms": more}
                for window, (left, more) in zip(policy.windows, states, strict=True)
            }
            tiers[tier] = {"windows": windows, "under_way": held}
        return {"caller": caller, "tiers": tiers}

    async def latest(self) -> list[dict[str, Any]]:
        """The callers that asked this process for something last, the last one first, and what they have left.

        Of persons and addresses, only how they begin; `id` tells those apart that begin alike.
        """
        keys = self.store.latest(LATEST) if self.shared is None else list(reversed(self._latest))
        named = [(key, tier) for key in keys if (tier := self._tier_in(key))]
        try:
            found = await asyncio.gather(*(self._look(key, tier) for key, tier in named))
        except StoreUnavailable:
            return []  # what they have left is not known
        return [
            self._said_of(key, tier, *account)
            for (key, tier), account in zip(named, found, strict=True)
            if account is not None
        ]

    def _tier_in(self, key: str) -> str | None:
        """None: accounts outlive a reload, and tiers need not."""
        return max((each for each in self.policies if key.startswith(f"{each}/")), key=len, default=None)

    def _said_of(self, key: str, tier: str, states: list[tuple[int, int]], held: dict[str, int]) -> dict[str, Any]:
        windows = self.policies[tier].windows
        return {
            "id": blake2b(key.encode(), digest_size=8).hexdigest(),
            "caller": _shortened(key.removeprefix(f"{tier}/")),
            "tier": tier,
            "windows": [
                {"name": window.name, "limit": window.amount, "seconds": window.seconds, "left": left}
                for window, (left, _) in zip(windows, states, strict=True)
            ],
            "under_way": sum(held.values()),
        }

    async def _look(self, key: str, tier: str) -> tuple[list[tuple[int, int]], dict[str, int]] | None:
        policy = self.policies[tier]
        if self.shared is None:
            return self.store.look(key, policy.windows) if key in self.store else None
        slots = {slot: None for route in self._routes for slot in policy.slots_for(route)}
        return await self.shared.look(key, policy.windows, [*dict.fromkeys(policy.slots), *slots])


def _shortened(caller: str) -> str:
    kind, _, name = caller.partition(":")
    if kind == "consumer":
        return caller
    name, of, issuer = name.partition(" of ")
    return f"{kind}:{name[:_TOLD_OF_A_PERSON]}{'…' if len(name) > _TOLD_OF_A_PERSON else ''}{of}{issuer}"


def _said(limit: Any) -> dict[str, Any]:
    said = {"limit": getattr(limit, "amount", None) or limit.most, "mode": "enforce" if limit.enforced else "measure"}
    return {**said, "seconds": limit.seconds} if hasattr(limit, "seconds") else said


def limiter_of(max_accounts: int) -> RateLimiter:
    """The limiter of slowapi, whose storage is ours; its own middlewares would pass by mounted apps."""
    limiter: RateLimiter = Limiter(
        get_remote_address,
        strategy="moving-window",
        storage_uri=f"{MemoryStore.STORAGE_SCHEME[0]}://",
        storage_options={"size": str(max_accounts)},
    ).limiter
    return limiter


def store_of(limiter: RateLimiter) -> MemoryStore:
    return cast("MemoryStore", limiter.storage)
