"""The deployments of a service: what the configuration says of them, and the way of a call to one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Annotated, Any

import httpx
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import Field

from bff.core.loading import did_you_mean
from bff.core.settings import Complaint, Key, Settings, Url
from bff.core.telemetry import Telemetry
from bff.upstream.balance import Algorithm, Arm, Balance
from bff.upstream.health import HealthSettings
from bff.upstream.mirror import MirrorSettings
from bff.upstream.outliers import Outliers, OutlierSettings
from bff.upstream.split import RuleSettings, Split
from bff.upstream.target import Target

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
Targets = Annotated[tuple[Url, ...], Field(min_length=1, max_length=100)]


class DeploymentSettings(Settings):
    url: Url | None = None
    """Where the service is; its name is resolved again as it changes."""
    targets: Annotated[dict[ArmName, Targets], Field(max_length=10)] = Field(default_factory=dict)
    """Instead of `url`, several deployments, by arm: `{stable: ["http://a.internal"], canary: ["http://b.internal"]}`."""
    split: Annotated[tuple[RuleSettings, ...], Field(max_length=50)] = ()
    """Which arm a request's calls go to: the first rule that is for it. By default the first of `targets`."""
    mirror: MirrorSettings | None = None
    """Copies of reads for another arm: `mirror: {to: canary, percent: 1}`."""
    balance: Algorithm = "round_robin"
    """Which target of the arm: in turn, the one with the least to do, or always the same one for the same caller."""
    outliers: OutlierSettings = OutlierSettings()
    health: HealthSettings | None = None
    """Checks that are made all the time: `health: {path: /healthz, interval: 5s}`. By default none are."""

    def problems(self) -> Iterable[Complaint]:
        if self.url is None and not self.targets:
            yield ("url",), "is required, or `targets` for several deployments"
        if self.url is not None and self.targets:
            yield ("url",), "must not be beside `targets`; leave one of them out"
        yield from self._repeated()
        if self.targets:
            yield from self._rules()
            yield from self._mirror()
        elif self.mirror:
            yield (
                ("mirror",),
                "needs an arm to copy to, and there is one `url`: `targets: {stable: [...], canary: [...]}`",
            )
        if self.split and not self.targets:
            yield ("split",), "chooses between arms, and there is one `url`: `targets: {stable: [...], canary: [...]}`"

    def _repeated(self) -> Iterable[Complaint]:
        seen: dict[str, str] = {}
        for arm, urls in self.targets.items():
            for at, url in enumerate(urls):
                if url in seen:
                    yield ("targets", arm, at), f"is in `{seen[url]}` already; each target belongs to one arm, once"
                seen[url] = arm

    def _rules(self) -> Iterable[Complaint]:
        everybody: int | None = None
        for at, rule in enumerate(self.split):
            where: tuple[Key, ...] = ("split", at)
            if everybody is not None:
                yield where, f"is never reached, since split[{everybody}] has no `when`; put it before that"
                break
            if rule.when is None:
                everybody = at
            if rule.to is not None:
                yield from self._known((*where, "to"), rule.to)
            for arm in rule.weights:
                yield from self._known((*where, "weights", arm), arm)
            for arm in rule.ramp.weights if rule.ramp else ():
                yield from self._known((*where, "ramp", "weights", arm), arm)
        for arm in self.targets.keys() - self.led_to() - {self.mirror.to if self.mirror else ""}:
            yield ("targets", arm), f"has no calls, since no rule of `split` leads there: `weights: {{{arm}: 5, ...}}`"

    def _mirror(self) -> Iterable[Complaint]:
        if self.mirror and self.mirror.to in self.targets and len(self.targets) == 1:
            yield ("mirror", "to"), f"is where all calls go; add an arm beside `{self.first}`"
        elif self.mirror:
            yield from self._known(("mirror", "to"), self.mirror.to)

    def _known(self, where: tuple[Key, ...], arm: str) -> Iterable[Complaint]:
        if arm not in self.targets:
            hint = did_you_mean(arm, self.targets) or f"; there are {', '.join(self.targets)}"
            yield where, f"there is no arm `{arm}` in `targets`{hint}"

    def led_to(self) -> set[str]:
        """The arms that calls may go to; one may be there with a weight of 0."""
        arms = {self.first} if not self.split or self.split[-1].when else set()
        for rule in self.split:
            arms |= {*filter(None, [rule.to]), *rule.weights, *(rule.ramp.weights if rule.ramp else ())}
        return arms

    @property
    def urls(self) -> list[str]:
        return [url for urls in ((self.url,), *self.targets.values()) for url in urls if url is not None]

    @property
    def first(self) -> str:
        return next(iter(self.targets))


class Deployments:
    """The targets of one service, and what decides between them.

    Args:
        service: its name.
        settings: of the service.
        telemetry: told of ejections.
        random: for choices that nothing sticks to.
        clock: the loop's.
        wall: seconds since 1970, for ramps.

    Attributes:
        targets: all of them.
        split: which arm a request has.
        health: what checks say of a target, if there are some.
    """

    def __init__(
        self,
        service: str,
        settings: DeploymentSettings,
        telemetry: Telemetry,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.service = service
        self.health: Callable[[Target], dict[str, Any]] = lambda _: {}
        self._telemetry = telemetry
        self._clock = clock
        named = {arm: [Target(httpx.URL(url), arm) for url in urls] for arm, urls in settings.targets.items()}
        arms = named or {"": [Target(httpx.URL(settings.url or ""))]}
        self.targets = [target for targets in arms.values() for target in targets]
        self.split = Split(service, settings.split, list(arms), random, wall)
        self._arms = {name: Arm(each, settings.balance, settings.outliers.panic) for name, each in arms.items()}
        self._outliers = Outliers(settings.outliers, self.targets, clock, self._ejected)

    def is_up(self, target: Target) -> bool:
        return target.is_up(self._clock())

    @property
    def addresses(self) -> list[httpx.URL]:
        return [each.url for each in self.targets]

    def balanced(self, way: Callable[[Target], httpx.AsyncBaseTransport]) -> httpx.AsyncBaseTransport:
        """What takes a call to one of the targets, by the ways that there are; to the only one, straight."""
        ways = {target: way(target) for target in self.targets}
        if len(ways) == 1:
            return ways[self.targets[0]]
        return Balance(self.service, ways, self._arms, self.split, self._outliers, self._clock)

    def _ejected(self, target: Target) -> None:
        seconds = target.ejected_until - self._clock()
        self._telemetry.log.warning(
            "target_ejected",
            service=self.service,
            arm=target.arm,
            target=str(target.url),
            why=target.ejected_for,
            seconds=round(seconds, 3),
        )

    def state(self) -> list[Mapping[str, Any]]:
        """Each target as operators are shown it; times in seconds from now."""
        now = self._clock()
        return [self._state(target, now) for target in self.targets]

    def _state(self, target: Target, now: float) -> Mapping[str, Any]:
        health = self.health(target)
        ejected = target.ejected_until > now
        return {
            "url": str(target.url),
            "arm": target.arm,
            "up": target.is_up(now),
            "in_flight": target.in_flight,
            "errors": target.errors,
            "ejected_for": round(target.ejected_until - now, 1) if ejected else None,
            "why": target.ejected_for if ejected else health["reason"] if target.healthy is False else None,
            **health,
        }


class DeploymentMetrics(Collector):
    """What there is to say of the targets of all services, read when it is asked for."""

    def __init__(self, services: Iterable[Deployments], registry: CollectorRegistry) -> None:
        self._services = list(services)
        registry.register(self)

    def describe(self) -> tuple[GaugeMetricFamily, CounterMetricFamily]:
        labels = ["service", "arm", "target"]
        return (
            GaugeMetricFamily("http_client_target_up", "Whether a target of a service is to get calls.", labels=labels),
            CounterMetricFamily(
                "http_client_target_ejections", "Times that a target was ejected for its failures.", labels=labels
            ),
        )

    def collect(self) -> Iterator[Metric]:
        up, ejected = self.describe()
        for each in self._services:
            for target in each.targets:
                values = each.service, target.arm, str(target.url)
                up.add_metric(values, each.is_up(target))
                ejected.add_metric(values, target.times_ejected)
        yield from (up, ejected)
