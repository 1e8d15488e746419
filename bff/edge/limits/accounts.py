"""The accounts of callers: what each tier may spend, and what each caller has left of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from limits.strategies import RateLimiter
from slowapi import Limiter
from slowapi.util import get_remote_address

from bff.core.store import MemoryStore
from bff.edge.limits.policy import Policy
from bff.edge.limits.settings import LimitSettings, TierSettings


class Accounts:
    """One account a caller and tier, whichever front it spends at.

    Args:
        settings: how many are kept, and which limits hold.
        tiers: what may be spent.
    """

    def __init__(self, settings: LimitSettings, tiers: Mapping[str, TierSettings]) -> None:
        self.settings = settings
        self.limiter = limiter_of(settings)
        self.store = store_of(self.limiter)
        # Where nothing is said of a tier, routes may still bound what is under way.
        tiers = {"default": TierSettings(), **tiers}
        self.policies = {tier: Policy(tier, policy, settings) for tier, policy in tiers.items()}

    def policy(self, tier: str) -> Policy:
        return self.policies.get(tier) or self.policies["default"]

    def shown(self) -> dict[str, Any]:
        """What the limits are, and how many accounts there are, for operators."""
        return {
            "accounts": len(self.store),
            "max_accounts": self.settings.max_accounts,
            "tiers": {
                tier: {each.name: _said(each) for each in (*policy.windows, *policy.slots)}
                for tier, policy in self.policies.items()
            },
        }

    def of(self, caller: str) -> dict[str, Any]:
        """What a caller has left, by tier, where it has asked for something: `consumer:acme`, `subject:usr_1`."""
        tiers: dict[str, Any] = {}
        for tier, policy in self.policies.items():
            if f"{tier}/{caller}" not in self.store:
                continue
            states, held = self.store.look(f"{tier}/{caller}", policy.windows)
            windows = {
                window.name: {"limit": window.amount, "seconds": window.seconds, "left": left, "more_in_ms": more}
                for window, (left, more) in zip(policy.windows, states, strict=True)
            }
            tiers[tier] = {"windows": windows, "under_way": held}
        return {"caller": caller, "tiers": tiers}


def _said(limit: Any) -> dict[str, Any]:
    said = {"limit": getattr(limit, "amount", None) or limit.most, "mode": "enforce" if limit.enforced else "measure"}
    return {**said, "seconds": limit.seconds} if hasattr(limit, "seconds") else said


def limiter_of(settings: LimitSettings) -> RateLimiter:
    """The limiter of slowapi, whose storage is ours; its own middlewares would pass by mounted apps."""
    limiter: RateLimiter = Limiter(
        get_remote_address,
        strategy="moving-window",
        storage_uri=f"{MemoryStore.STORAGE_SCHEME[0]}://",
        storage_options={"size": str(settings.max_accounts)},
    ).limiter
    return limiter


def store_of(limiter: RateLimiter) -> MemoryStore:
    return cast("MemoryStore", limiter.storage)
