"""Which deployment of a service a call goes to: the request's arm, and of its targets the one whose turn it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, cast

import httpx
from pydantic import BeforeValidator, WithJsonSchema

from bff.core.settings import malformed
from bff.upstream.affinity import WORDS, key_by, point
from bff.upstream.bodies import Ended, Followed
from bff.upstream.client import Origin
from bff.upstream.outliers import Outliers
from bff.upstream.split import Split
from bff.upstream.target import Target

_ROUND_ROBIN: Final = "round_robin"
_LEAST: Final = "least_connections"
_ERRORS: Final = 500
_HASH = re.compile(rf"hash:({'|'.join(WORDS)}|header:[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,100}})")
_WRITTEN: Final = "round_robin, least_connections, or hash:NAME with subject, consumer, address or header:NAME"


def _algorithm(value: object) -> str:
    if not isinstance(value, str) or (value not in (_ROUND_ROBIN, _LEAST) and not _HASH.fullmatch(value)):
        raise malformed(_WRITTEN)
    return value.lower()


Algorithm = Annotated[
    str,
    BeforeValidator(_algorithm),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^({_ROUND_ROBIN}|{_LEAST}|hash:({'|'.join(WORDS)}|header:.+))$",
            "examples": [_ROUND_ROBIN, _LEAST, "hash:subject"],
        }
    ),
]
"""`round_robin`, `least_connections`, or `hash:` with `subject`, `consumer`, `address` or `header:NAME`."""


class Arm:
    """The targets of one arm, and whose turn it is."""

    def __init__(self, targets: Sequence[Target], algorithm: str, panic: float) -> None:
        self.targets = list(targets)
        self._least = algorithm == _LEAST
        self._key = key_by(algorithm.partition(":")[2]) if ":" in algorithm else None
        self._needed = panic * len(targets)
        self._turn = 0

    def up(self, now: float) -> list[Target]:
        """Those that are to get calls; none where they would be too few for all that come."""
        up = [each for each in self.targets if each.is_up(now)]
        return up if len(up) >= self._needed else []

    def pick(self, targets: list[Target], origin: Origin) -> Target:
        if len(targets) == 1:
            return targets[0]
        if self._key is not None and (key := self._key(origin)) is not None:
            return max(targets, key=lambda target: point(str(target.url), key))
        self._turn += 1
        if self._least:
            # Begun at another one each time, so that of those with as little to do none is always the first.
            start = self._turn % len(targets)
            return min(targets[start:] + targets[:start], key=lambda target: target.in_flight)
        return targets[self._turn % len(targets)]


class Balance(httpx.AsyncBaseTransport):
    """Hands each call to one target, of the arm that its request has.

    The arm is kept with the request, so that all its calls to this service have the same one, for as long as it is up.

    Args:
        service: its name.
        ways: what takes a call to each target.
        arms: the targets by arm.
        split: which arm a request has.
        outliers: told what came of each call.
        clock: the loop's.
    """

    def __init__(
        self,
        service: str,
        ways: Mapping[Target, httpx.AsyncBaseTransport],
        arms: Mapping[str, Arm],
        split: Split,
        outliers: Outliers,
        clock: Callable[[], float],
    ) -> None:
        self._service = service
        self._ways = ways
        self._arms = arms
        self._split = split
        self._outliers = outliers
        self._clock = clock

    def handle_async_request(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:
        target = self._target(request.extensions["origin"], request.extensions.get("tried"))
        return self._call(target, request)

    async def aclose(self) -> None:
        for way in self._ways.values():
            await way.aclose()

    def arm(self, origin: Origin) -> Arm:
        """Where the request's calls go from here on; for those who have to know before there is one."""
        return self._up(origin)[0]

    def _target(self, origin: Origin, tried: list[Target] | None) -> Target:
        arm, up = self._up(origin)
        if tried is None:
            return arm.pick(up, origin)
        # Another attempt is better made elsewhere, as long as there is an elsewhere.
        target = arm.pick([each for each in up if each not in tried] or up if tried else up, origin)
        tried.append(target)
        return target

    def _up(self, origin: Origin) -> tuple[Arm, list[Target]]:
        """The request's arm, and those of its targets that are to get calls."""
        now = self._clock()
        asked = origin.asked
        if asked is not None and (chosen := asked.arms.get(self._service)) and (up := self._arms[chosen].up(now)):
            return self._arms[chosen], up
        preferred: str | None = None
        for name in self._split.arms(origin):
            preferred = preferred or name
            if up := self._arms[name].up(now):
                break
        else:
            # Nothing is up: where all would be left out, none is.
            name = cast("str", preferred)
            up = self._arms[name].targets
        if asked is not None:
            asked.arms[self._service] = name
        return self._arms[name], up

    async def _call(self, target: Target, request: httpx.Request) -> httpx.Response:
        target.in_flight += 1
        under_way = False
        try:
            response = await self._ways[target].handle_async_request(request)
            ended: Ended = partial(self._ended, target, response.status_code)
            if hasattr(response.stream, "content"):
                ended(None)
            else:
                if response.status_code >= _ERRORS or _is_of_events(response):
                    ended(None)
                    ended = _told_already
                response.stream = _UnderWay(cast("httpx.AsyncByteStream", response.stream), target, ended)
                under_way = True
        except httpx.TransportError as error:
            self._outliers.failed(target, error, hurried=request.extensions["origin"].hurried)
            raise
        finally:
            if not under_way:
                target.in_flight -= 1
        return response

    def _ended(self, target: Target, status: int, error: BaseException | None) -> None:
        if isinstance(error, httpx.TimeoutException):
            return  # it may as well be the client that takes too long
        if isinstance(error, httpx.TransportError):
            self._outliers.failed(target, error, hurried=False)
        else:
            self._outliers.answered(target, status)


def _is_of_events(response: httpx.Response) -> bool:
    """Of what has no end, the beginning is what says something."""
    return bool(response.headers.get("content-type", "").lower().startswith("text/event-stream"))


def _told_already(_: BaseException | None) -> None:
    pass


class _UnderWay(Followed):
    """A body that is still to come: until then, its target has it to do."""

    def __init__(self, inner: httpx.AsyncByteStream, target: Target, ended: Ended) -> None:
        super().__init__(inner, ended)
        self._target: Target | None = target

    async def aclose(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            target.in_flight -= 1
        await super().aclose()
