"""Requests that are worth a look afterwards: the last ones that failed, that were slow, and a sample of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from random import Random
from time import perf_counter
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field
from starlette.types import Scope

from bff.core.expressions import Expression, Over, of_caller
from bff.core.head import head
from bff.core.identity import ANONYMOUS, Caller
from bff.core.settings import Duration, Settings
from bff.core.waits import Waits
from bff.core.waterfall import Waterfall

HEADER: Final = b"x-explain"
"""Whoever sends it, and may, has their request kept; GraphQL tells them in `extensions.explain` what it did."""

Kind = Literal["failed", "slow", "asked", "sampled"]
KINDS: tuple[Kind, ...] = ("failed", "slow", "asked", "sampled")
"""In the order in which one wants to see them."""


class RequestSettings(Settings):
    keep: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Requests of each kind: those that failed, that were slow, that were asked for, and of the others. 0: none."""
    slow: Duration = 0.5
    """From when on a request is slow."""
    sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of all others that is kept, 0 to 1."""
    max_calls: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Calls of services that are taken down of one request; of more, only their number."""
    explain: bool | Annotated[Expression, Over("caller")] = False
    """Who is told what their own request did: `true`, `false`, or an expression over the caller. Not where services
    are."""


class Kept(NamedTuple):
    """One request, and what became of it."""

    kind: Kind
    began: datetime
    request_id: str
    trace_id: str
    method: str
    path: str
    route: dict[str, Any] | None
    caller: dict[str, Any]
    operation: str
    cost: int | None
    limits: dict[str, Any] | None
    arms: dict[str, str]
    cache: str
    status: int
    code: str
    ended: float
    waterfall: Waterfall

    @classmethod
    def of(cls, kind: Kind, scope: Scope, waterfall: Waterfall, status: int = 0) -> Kept:
        """As it is now."""
        route, tab = scope.get("bff.route"), scope.get("bff.account")
        caller: Caller = scope.get("bff.caller", ANONYMOUS)
        ended = perf_counter()
        return cls(
            kind,
            datetime.fromtimestamp(datetime.now(UTC).timestamp() - (ended - waterfall.started), UTC),
            scope["bff.request_id"],
            scope["bff.trace"].trace_id,
            scope.get("method", "GET"),
            scope["path"],
            {"name": route.name, "path": route.path, "service": route.service} if route else None,
            {"credential": caller.credential, "consumer": caller.consumer, "tier": caller.tier},
            scope.get("bff.operation", ""),
            scope.get("bff.cost"),
            tab.shown() if tab else None,
            dict(scope.get("bff.arms", {})),
            scope.get("bff.cache", ""),
            status,
            scope.get("bff.code", ""),
            ended,
            waterfall,
        )

    def summary(self) -> dict[str, Any]:
        services = self.waterfall.by_service(self.ended)
        slowest = max(services, key=lambda name: services[name][1], default=None)
        return {
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "kind": self.kind,
            "began": self.began.isoformat(timespec="milliseconds"),
            "method": self.method,
            "path": self.path,
            "route": self.route and self.route["name"],
            "operation": self.operation or None,
            "status": self.status or None,
            "code": self.code or None,
            "ms": round((self.ended - self.waterfall.started) * 1000, 3),
            "calls": len(self.waterfall.calls) + self.waterfall.left_out,
            "slowest_service": slowest,
        }

    def whole(self) -> dict[str, Any]:
        """For operators."""
        return self.summary() | self._why() | self.waterfall.laid_out(self.ended, targets=True)

    def told(self) -> dict[str, Any]:
        """For the client whose request it is."""
        hidden = {"kind", "path", "status", "code"}
        summary = {name: value for name, value in self.summary().items() if name not in hidden}
        return summary | self._why() | self.waterfall.laid_out(self.ended, targets=False)

    def _why(self) -> dict[str, Any]:
        return {
            "route": self.route,
            "caller": self.caller,
            "cost": self.cost,
            "limits": self.limits,
            "arms": self.arms,
            "cache": self.cache or None,
        }


class Explaining:
    """Tells the client of something that lasts what each of its results did at services.

    Args:
        scope: of the connection, with what is known of the operation.
        most: calls that are taken down of one result.
    """

    def __init__(self, scope: Scope, most: int) -> None:
        self._scope, self._most = scope, most
        self._waterfall = Waterfall(most)

    def begin(self) -> Waterfall:
        """Where the calls for the next result are taken down."""
        self._waterfall = Waterfall(self._most)
        return self._waterfall

    def put(self, result: dict[str, Any]) -> None:
        """What it did, into the result itself."""
        explain_in(result, Kept.of("asked", self._scope, self._waterfall).told())


def explain_in(result: dict[str, Any], told: dict[str, Any] | None) -> None:
    """Where there is something to tell."""
    if told:
        result.setdefault("extensions", {})["explain"] = told


class Requests:
    """Those that are kept, and who may be told of their own.

    Args:
        settings: which, and how many.
        random: draws the sample.

    Attributes:
        explains: whether anybody is told.
    """

    def __init__(self, settings: RequestSettings, random: Random) -> None:
        self._slow, self._sample, self._explain = settings.slow, settings.sample, settings.explain
        self._most_calls, self._random = settings.max_calls, random
        self.explains = settings.explain is not False
        self._on = settings.keep > 0 or self.explains
        self._kept: dict[Kind, deque[Kept]] = {kind: deque(maxlen=settings.keep) for kind in KINDS}

    def begin(self, scope: Scope, started: float) -> None:
        """Take down in `scope["bff.waterfall"]` what the request does; not of a websocket, which has many in it."""
        if self._on and scope["type"] == "http":
            scope["bff.waterfall"] = Waterfall(self._most_calls, started)

    def end(self, scope: Scope, status: int, seconds: float, *, failed: bool) -> None:
        """Keep it, if it is worth it; `failed`: it, or a call that was made for it."""
        waterfall: Waterfall | None = scope.get("bff.waterfall")
        if waterfall is None:
            return
        kind = self._kind(scope, seconds, failed=failed)
        if kind is not None:
            self._kept[kind].append(Kept.of(kind, scope, waterfall, status))

    def _kind(self, scope: Scope, seconds: float, *, failed: bool) -> Kind | None:
        if self.explains and self.is_asked(scope):
            return "asked"
        if failed:
            return "failed"
        if seconds >= self._slow:
            return "slow"
        share = self._sample
        return "sampled" if share and (share == 1 or self._random.random() < share) else None

    def may_be_told(self, caller: Caller) -> bool:
        allowed = self._explain
        return allowed.holds({"caller": of_caller(caller)}) if isinstance(allowed, Expression) else allowed

    def is_asked(self, scope: Scope, *, besides: bool = False) -> bool:
        """Whether the request asks to be explained, of a caller who may; `besides`: otherwise than by the header."""
        asked = self.explains and (besides or HEADER in head(scope).values)
        return asked and self.may_be_told(scope.get("bff.caller", ANONYMOUS))

    def explaining(self, scope: Scope, facts: Mapping[str, Any], *, besides: bool = False) -> Explaining | None:
        """For something that lasts, where its client asks and may be told; `facts` go over what the scope says."""
        if not self.is_asked(scope, besides=besides):
            return None
        return Explaining({**scope, **facts}, self._most_calls)

    def told(self, scope: Scope) -> dict[str, Any] | None:
        """What the client gets of it, so far; None where it may not, or did not ask."""
        waterfall: Waterfall | None = scope.get("bff.waterfall")
        if waterfall is None or not self.is_asked(scope):
            return None
        return Kept.of("asked", scope, waterfall).told()

    def server_timing(self, scope: Scope) -> bytes:
        """What the browser's own tools show of it, so far (https://www.w3.org/TR/server-timing/); empty for others."""
        waterfall: Waterfall | None = scope.get("bff.waterfall")
        if waterfall is None or not self.may_be_told(scope.get("bff.caller", ANONYMOUS)):
            return b""
        now = perf_counter()
        services = waterfall.by_service(now)
        said = [
            f'{name};dur={seconds * 1000:.1f};desc="{count} call{"s" * (count != 1)}"'
            for name, (count, seconds) in services.items()
        ]
        waits: Waits = scope["bff.waits"]
        own = now - waterfall.started - waits.so_far
        return ", ".join([*said, f"gateway;dur={max(0.0, own) * 1000:.1f}"]).encode()

    def all(self) -> Iterable[Kept]:
        """Failed ones first, then slow ones; of each kind the newest first."""
        for kind in KINDS:
            yield from reversed(self._kept[kind])

    def find(self, id: str) -> Kept | None:
        """The newest of that request id, or trace id."""
        found = [each for each in self.all() if id in {each.request_id, each.trace_id}]
        return max(found, key=lambda each: each.began, default=None)
