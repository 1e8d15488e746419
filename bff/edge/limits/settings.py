"""What the limits are, as the configuration has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bff.core.settings import Duration, Rate, Settings
from bff.core.store import OnStoreError

Mode = Literal["off", "measure", "enforce"]


class QuotaSettings(Settings):
    rate: Rate
    """Such as `100000/day`."""
    window: Literal["sliding", "calendar"] = "sliding"
    """`calendar`: counted from the beginning of each day, hour or minute (UTC), and then anew."""


class TierSettings(Settings):
    rate: Annotated[tuple[Rate, ...], Field(max_length=5)] = ()
    """What a caller of this tier may spend, in cost units, in each of these sliding windows."""
    quota: QuotaSettings | Rate | None = None
    """What it may spend in the long run: `100000/day`, or `{rate: 100000/day, window: calendar}`."""
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests of one caller under way at a time."""
    priority: Literal["low", "normal", "high"] = "normal"
    """Who is refused last when the gateway is overloaded."""
    entitlements: str | None = None
    """A table of `entitlements`, for those whose key names none; by default everything."""

    def windows(self) -> tuple[Rate, ...]:
        """Rates and quota."""
        quota = self.quota.rate if isinstance(self.quota, QuotaSettings) else self.quota
        return (*self.rate, quota) if quota else self.rate


class LimitModes(Settings):
    """Where one kind of limit is to be in another mode than the rest: `modes: {quota: measure}`."""

    address: Mode | None = None
    rate: Mode | None = None
    quota: Mode | None = None
    concurrency: Mode | None = None


class QueueSettings(Settings):
    """Where requests wait that are too many at a time, by `concurrency`."""

    size: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Of one caller."""
    wait: Duration = 1.0
    """At most, for each."""


class LimitSettings(Settings):
    mode: Mode = "enforce"
    """`measure` counts and reports what would be refused, and refuses nothing."""
    modes: LimitModes = LimitModes()
    per_address: Rate = Rate(300, 60)
    """Before authentication, for each client address: guards the checking of keys and tokens itself."""
    max_accounts: Annotated[int, Field(ge=100, le=100_000_000)] = 100_000
    """Callers, and as many addresses, that are counted at a time; past it, the one seen longest ago begins anew."""
    queue: QueueSettings = QueueSettings()
    on_store_error: OnStoreError = "local"
    """While `store` is away: each process allows its share of the limits, or everything is let pass, or refused."""
    instances: Annotated[int, Field(ge=1, le=100_000)] = 1
    """How many processes share the limits, as long as `store` has not said."""
    headers: Literal["draft", "legacy", "both", "none"] = "draft"
    """`draft`: `RateLimit` and `RateLimit-Policy`; `legacy`: `X-RateLimit-Limit`, `-Remaining` and `-Reset`."""

    def mode_of(self, kind: Literal["address", "rate", "quota", "concurrency"]) -> Mode:
        mode: Mode | None = getattr(self.modes, kind)
        return mode or self.mode

    @property
    def answered(self) -> tuple[str, ...]:
        """The headers by which answers say what is left."""
        if self.mode == "off":
            return ()
        draft = ("RateLimit", "RateLimit-Policy") if self.headers in {"draft", "both"} else ()
        legacy = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
        return draft + (legacy if self.headers in {"legacy", "both"} else ())
