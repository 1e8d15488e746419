"""All limits of one tier, what clients are told of them, and what operators are told of decisions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bff.core.answer import Header
from bff.core.durations import Tally
from bff.core.identity import Caller
from bff.core.route import Route
from bff.core.store import Slot, Window
from bff.core.telemetry import Telemetry
from bff.edge.limits.settings import LimitSettings, QuotaSettings, TierSettings


class Policy:
    """All limits of one tier: a request is admitted by all that are enforced, or costs nothing."""

    def __init__(self, tier: str, settings: TierSettings, limits: LimitSettings) -> None:
        self.tier = tier
        windows: list[Window] = []
        if (mode := limits.mode_of("rate")) != "off":
            windows += [
                Window(f"{tier}-{rate.per}", rate.amount, rate.per, enforced=mode == "enforce")
                for rate in settings.rate
            ]
        if settings.quota is not None and (mode := limits.mode_of("quota")) != "off":
            quota = settings.quota if isinstance(settings.quota, QuotaSettings) else QuotaSettings(rate=settings.quota)
            calendar = quota.window == "calendar"
            windows.append(
                Window(
                    f"{tier}-quota", quota.rate.amount, quota.rate.per, calendar=calendar, enforced=mode == "enforce"
                )
            )
        self.windows = tuple(windows)
        self._slots_enforced = limits.mode_of("concurrency") == "enforce"
        counts = limits.mode_of("concurrency") != "off"
        self.slots = (
            (Slot(f"{tier}-concurrency", settings.concurrency, self._slots_enforced),)
            if settings.concurrency and counts
            else ()
        )
        self._counts_slots = counts
        self._draft = limits.headers in {"draft", "both"}
        self._legacy = limits.headers in {"legacy", "both"}
        said = ", ".join(f'"{each.name}";q={each.amount};w={each.seconds}' for each in self.windows)
        self._said = (b"ratelimit-policy", said.encode())
        # As most tiers have it: one window, of which there is nothing to sort.
        self._alone = (
            b'"%b";r=%%d;t=%%d' % self.windows[0].name.encode().replace(b"%", b"%%")
            if len(self.windows) == 1 and self._draft and not self._legacy
            else None
        )

    def slots_for(self, route: Route) -> tuple[Slot, ...]:
        if route.concurrency is None or not self._counts_slots:
            return self.slots
        return (*self.slots, Slot(f"{route.name}-concurrency", route.concurrency, self._slots_enforced))

    def headers(self, states: Sequence[tuple[int, int]]) -> list[Header]:
        """As draft-ietf-httpapi-ratelimit-headers-10 has them, the most binding window first; and the older form."""
        if not states:
            return []
        if self._alone is not None:
            ((left, more),) = states
            return [(b"ratelimit", self._alone % (left, -(-more // 1000) or self.windows[0].seconds)), self._said]
        told = [
            (left, -(-(-more // 1000) or window.seconds), index)
            for index, ((left, more), window) in enumerate(zip(states, self.windows, strict=True))
        ]
        if len(told) > 1:
            told.sort()  # of two with as much left, the one that takes longer to have more
        headers: list[Header] = []
        if self._draft:
            windows = self.windows
            limit = ", ".join([f'"{windows[index].name}";r={left};t={-seconds}' for left, seconds, index in told])
            headers = [(b"ratelimit", limit.encode()), self._said]
        if self._legacy:
            left, seconds, index = told[0]
            headers += [
                (b"x-ratelimit-limit", b"%d" % self.windows[index].amount),
                (b"x-ratelimit-remaining", b"%d" % left),
                (b"x-ratelimit-reset", b"%d" % -seconds),
            ]
        return headers


class Asked(msgspec.Struct):
    """What a line of the log says of the request. Not its scope, which holds the tab: they would hold each other."""

    route: Route
    caller: Caller | None
    request_id: str | None


class Decisions:
    """What the limits decided, counted; and each refusal in the log."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._log = telemetry.log
        self.count = Tally(
            "bff_limit_decisions",
            "What the limits decided.",
            ["policy", "tier", "front", "decision"],
            telemetry.registry,
        ).add

    def refused(self, asked: Asked, policies: Sequence[str], tier: str, cost: int) -> None:
        route, caller = asked.route, asked.caller
        for policy in policies:
            self.count((policy, tier, route.front, "refused"))
        facts = {"consumer": caller.consumer, "credential": caller.credential} if caller else {}
        self._log.info(
            "limited",
            request_id=asked.request_id,
            policies=list(policies),
            tier=tier,
            route=route.name,
            cost=cost,
            **{name: fact for name, fact in facts.items() if fact is not None},
        )
