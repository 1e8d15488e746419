"""Which arm of a service a request's calls go to: canaries, A/B tests, and how their shares change with time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Annotated

from pydantic import Field

from bff.core.expressions import Expression, Over
from bff.core.request import REQUEST
from bff.core.settings import Complaint, Duration, Instant, Settings
from bff.upstream.affinity import Affinity, key_by, point, ranked
from bff.upstream.client import Origin

Weight = Annotated[float, Field(ge=0, le=1_000_000)]


class RampSettings(Settings):
    """Weights that change by themselves, evenly."""

    weights: Annotated[dict[str, Weight], Field(min_length=1)]
    """What they become: `{stable: 50, canary: 50}`."""
    start: Instant
    """Until when they are what `weights` beside `ramp` says: `2027-01-31T12:00:00Z`."""
    over: Annotated[Duration, Field(gt=0)]
    """How long it takes from there: `1h`."""


class RuleSettings(Settings):
    """Either `to` or `weights`, for the requests that are meant."""

    when: Annotated[Expression, Over(*REQUEST, "caller")] | None = None
    """Which these are: over `method`, `path`, `host`, `headers`, `query`, `cookies` and `caller`; by default all."""
    to: str | None = None
    """The arm that all of them go to."""
    weights: dict[str, Weight] = Field(default_factory=dict)
    """The share of each arm: `{stable: 95, canary: 5}`."""
    sticky: Affinity | None = None
    """For whom the choice is always the same; by default each request has its own."""
    ramp: RampSettings | None = None
    """What the weights become in the course of time."""

    def problems(self) -> Iterable[Complaint]:
        if self.to is None and not self.weights:
            yield (), "must say `to: ARM` or `weights: {ARM: 95, OTHER: 5}`"
        if self.to is not None and self.weights:
            yield ("weights",), "must not be beside `to`, which takes all"
        if self.to is not None and self.sticky:
            yield ("sticky",), "has nothing to choose beside `to`; leave it out, or write `weights`"
        if self.to is not None and self.ramp:
            yield (
                ("ramp",),
                "changes `weights`, and there are none; write `weights: {ARM: 95, OTHER: 5}` instead of `to`",
            )
        for where, weights in ((("weights",), self.weights), (("ramp", "weights"), self.ramp and self.ramp.weights)):
            if weights and not any(weights.values()):
                yield where, "must have at least one that is more than 0"


class Weights:
    """The shares of the arms: as configured, in the middle of a ramp, or as an operator has set them for a while.

    Args:
        configured: by arm, or what they are until the ramp begins.
        ramp: what they become.
        wall: seconds since 1970, for the ramp.
    """

    def __init__(self, configured: Mapping[str, float], ramp: RampSettings | None, wall: Callable[[], float]) -> None:
        self.configured = dict(configured)
        self._ramp = ramp
        self._wall = wall
        self._set: tuple[Mapping[str, float], float] | None = None

    @property
    def arms(self) -> set[str]:
        """All that may have a share."""
        return self.configured.keys() | (self._ramp.weights.keys() if self._ramp else ())

    @property
    def set_until(self) -> float | None:
        """When what was set ends, in seconds since 1970; None if nothing is."""
        return self._set[1] if self._set and self._wall() < self._set[1] else None

    def now(self) -> Mapping[str, float]:
        """By arm; those that have none are left out or 0."""
        if self._set is not None:
            weights, until = self._set
            if self._wall() < until:
                return weights
            self._set = None
        if self._ramp is None:
            return self.configured
        ramp = self._ramp
        done = min(max((self._wall() - ramp.start) / ramp.over, 0.0), 1.0)
        begin, end = _shares(self.configured), _shares(ramp.weights)
        return {arm: begin.get(arm, 0) * (1 - done) + end.get(arm, 0) * done for arm in begin | end}

    def set(self, weights: Mapping[str, float], seconds: float) -> None:
        """What they are for so long, whatever else is said; `{}` or 0 seconds ends that.

        Raises:
            ValueError: an arm is not one of these, a weight is below 0, or all are 0.
        """
        if unknown := sorted(weights.keys() - self.arms):
            raise ValueError(f"there is no arm {unknown[0]} here, but {', '.join(sorted(self.arms))}")
        if weights and (min(weights.values()) < 0 or not any(weights.values())):
            raise ValueError("weights must be 0 or more, and one of them more than 0")
        self._set = (dict(weights), self._wall() + seconds) if weights and seconds > 0 else None


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    """So that 5 of 100 and 50 of 100 may also be written as 1 of 20 and 1 of 2."""
    total = sum(weights.values())
    return {arm: weight / total for arm, weight in weights.items()}


class Rule:
    """One entry of `split`."""

    def __init__(self, service: str, settings: RuleSettings, random: Random, wall: Callable[[], float]) -> None:
        self.settings = settings
        self.weights = Weights({settings.to: 1.0} if settings.to else settings.weights, settings.ramp, wall)
        self._service = service
        self._random = random
        self._key = key_by(settings.sticky) if settings.sticky else None

    def is_for(self, origin: Origin) -> bool:
        when = self.settings.when
        # A call that belongs to no client's request says nothing that could be asked for.
        return when is None or (origin.asked is not None and when.holds(origin.asked.view))

    def arms(self, origin: Origin) -> list[str]:
        """In the order in which they are preferred."""
        weights = self.weights.now()
        key = self._key and self._key(origin)
        if key is None:
            return ranked({arm: 1 - self._random.random() for arm in weights}, weights)
        # With the service's name, so that the same few do not have the canaries of all services.
        return ranked({arm: point(self._service, arm, key) for arm in weights}, weights)


class Split:
    """The rules of one service.

    Args:
        service: its name.
        rules: as configured.
        arms: all that there are; without a rule that is meant, the first has the calls.
        random: for those that nothing sticks to.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        service: str,
        rules: Sequence[RuleSettings],
        arms: Sequence[str],
        random: Random,
        wall: Callable[[], float],
    ) -> None:
        self.rules = [Rule(service, each, random, wall) for each in rules]
        self._last = arms[0]

    def arms(self, origin: Origin) -> Iterator[str]:
        """In the order in which they are to be tried: those of the first rule that is meant, then the next one's."""
        for rule in self.rules:
            if rule.is_for(origin):
                yield from rule.arms(origin)
        yield self._last

    @property
    def weights(self) -> Weights | None:
        """Those of the rule that is for everybody; None if there is none with weights."""
        return next((each.weights for each in self.rules if not each.settings.when and not each.settings.to), None)
