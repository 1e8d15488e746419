"""The HTTP cache of routes that say `cache: true`: a shared one, as RFC 9111 means it, between routes and services.

What a request gets of it is told in `Cache-Status` (RFC 9211), and in `scope["bff.cache"]` for log and explanations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import replace
from typing import Final, NamedTuple

import httpx
import msgspec
from starlette.types import Scope

from bff.core.directives import Directives, directives, field
from bff.core.errors import DeadlineExceeded, GatewayError
from bff.core.head import head
from bff.core.identity import Caller
from bff.core.route import Route
from bff.core.shelf import Shelf, Tag, Tags
from bff.rest.cache import places
from bff.rest.cache.answers import answer, is_unchanged, unchanged
from bff.rest.cache.decisions import despite_error, forwarded, usable, while_revalidating
from bff.rest.cache.fetching import Fetch, Fetched, Fetches
from bff.rest.cache.stored import NotKept, Stored, stored
from bff.upstream.bodies import read_up_to
from bff.upstream.changes import path_of
from bff.upstream.client import Headers, Origin, Service, failure
from bff.upstream.wire import Beside, Fields

__all__ = ["Asked", "HttpCache"]

NAME: Final = "http"
_KEPT_METHODS: Final = frozenset({"GET", "HEAD"})
# What a client asks of its own copy: the gateway answers it, and has to have the whole for that.
_ANSWERED_HERE: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-range", b"range"})
# And what only the service can judge.
_NOT_OURS: Final = frozenset({b"if-match", b"if-unmodified-since"})
_FAILURES: Final = frozenset({500, 502, 503, 504})  # RFC 5861 §4
_PASSED_FOR: Final = 60.0
"""Seconds for which nobody waits to see whether an answer can be kept after all."""
_MAX_VARIANTS: Final = 32
_OUTCOMES: Final = ("hit", "stale", "revalidated", "miss", "passed")
_NOTHING_SAID: Final[Directives] = {}


class Key(NamedTuple):
    """What an answer depends on, beside the headers that `Vary` names."""

    service: str
    target: bytes
    path: str
    scheme: str
    caller: Caller | None
    credentials: tuple[tuple[bytes, bytes], ...]
    cookies: bytes | None
    arm: object

    @property
    def size(self) -> int:
        credentials = sum(len(name) + len(value) for name, value in self.credentials)
        return len(self.target) + len(self.path) + credentials + len(self.cookies or b"")


class _Kept(NamedTuple):
    """What is known of a key: its answers, the newest first; or that they cannot be kept, until then."""

    variants: tuple[Stored, ...]
    passed_until: float = 0.0


class Asked(msgspec.Struct, frozen=True):
    """A request on its way to its service.

    Attributes:
        path: the template of the target, for those who count calls.
        is_told: whether the route itself may tell the service who asks.
        beside: where hints and trailers go and come from, if anywhere.
    """

    service: Service
    scope: Scope
    method: str
    target: bytes
    headers: Headers
    content: bytes | AsyncIterator[bytes]
    origin: Origin
    path: str
    is_told: bool = False
    beside: Beside | None = None

    def send(self) -> Awaitable[httpx.Response]:
        """Straight to the service."""
        return self.service.send(
            self.method, self.target, self.headers, self.content, self.origin, path=self.path, beside=self.beside
        )

    @property
    def tells(self) -> bool:
        """Whether the service may know who asks."""
        known = not self.origin.caller.is_anonymous and (self.is_told or not self.service.for_anybody)
        return known or bool(self.origin.credentials)


class HttpCache:
    """Between routes and services.

    Args:
        shelf: where answers are, and its bounds.
        services: by name, those that it may stand before.
    """

    def __init__(self, shelf: Shelf, services: Iterable[str]) -> None:
        self._settings, self._shelf = shelf.settings, shelf
        self.fetches = Fetches()
        shelf.open(NAME)
        self._counted = {
            (service, outcome): shelf.requests.labels(NAME, service, outcome)
            for service in services
            for outcome in _OUTCOMES
        }
        shelf.on_purge.append(self._void)

    async def answer(self, asked: Asked) -> httpx.Response:
        """What `Service.send` answers, or what is kept; raises what that raises."""
        method, headers = asked.method, asked.headers
        names = head(asked.scope).values
        if method not in _KEPT_METHODS or asked.content != b"" or not _NOT_OURS.isdisjoint(names):
            return await self._pass(asked, "fwd=request" if method in _KEPT_METHODS else "fwd=method")
        said = directives(field(headers, b"cache-control")) if b"cache-control" in names else _NOTHING_SAID
        key, now = _key(asked), self._shelf.clock()
        kept: _Kept | None = self._shelf.get(key)
        found = next((each for each in kept.variants if each.is_for(headers)), None) if kept else None
        if found is not None:
            if (told := usable(found, said, now)) is not None:
                return self._given(asked, found, "hit", told)
            if (told := while_revalidating(found, said, now)) is not None:
                self._refresh(asked, key, found)
                return self._given(asked, found, "stale", told)
        if "only-if-cached" in said:
            raise DeadlineExceeded("Nothing that is fresh is kept, and `only-if-cached` forbids to ask for it")
        why = forwarded(found, now, varies=bool(kept and kept.variants))
        in_part = method == "HEAD" or (found is None and b"range" in names)
        if in_part or "no-store" in said or (kept is not None and now < kept.passed_until):
            return await self._pass(asked, why)
        return await self._fetched(asked, key, kept, found, said, why)

    # What a request is given.

    def _given(self, asked: Asked, kept: Stored, outcome: str, told: str) -> httpx.Response:
        self._counted[asked.service.name, outcome].inc()
        asked.scope["bff.cache"] = told
        return answer(kept, asked.method, asked.headers, self._shelf.clock(), b"bff; " + told.encode())

    async def _pass(self, asked: Asked, why: str) -> httpx.Response:
        """Past the cache, as it came."""
        return self._passed(asked, await asked.send(), why)

    def _passed(self, asked: Asked, response: httpx.Response, why: str) -> httpx.Response:
        self._counted[asked.service.name, "passed"].inc()
        asked.scope["bff.cache"] = why
        response.headers = Fields([*response.headers.raw, (b"cache-status", b"bff; " + why.encode())])
        return response

    async def _fetched(
        self, asked: Asked, key: Key, kept: _Kept | None, found: Stored | None, said: Directives, why: str
    ) -> httpx.Response:
        """What the service says, asked once for all who miss the same."""
        varying = kept.variants[0].selecting if kept and kept.variants else ()
        which = (key, *(field(asked.headers, name) for name, _ in varying))
        if (waits := asked.origin.waits) is not None:
            waits.enter()
        try:
            got, leads = await self.fetches.join(
                which, asked.origin.deadline, lambda fetch: self._make(fetch, asked, key, found)
            )
        except GatewayError:
            if found is not None and (told := despite_error(found, said, self._shelf.clock())) is not None:
                return self._given(asked, found, "stale", told)
            raise
        finally:
            if waits is not None:
                waits.leave()
        if got.kept is not None and got.kept.is_for(asked.headers):
            outcome = "miss" if got.status == 200 else "revalidated"
            joined = "" if leads else "; collapsed"
            return self._given(asked, got.kept, outcome, f"{why}; fwd-status={got.status}{got.told}{joined}")
        if not leads or got.response is None:
            return await self._pass(asked, f"{why}{got.told}")  # it was for others
        return await self._not_kept(asked, got.response, found, said, f"{why}{got.told}")

    async def _not_kept(
        self, asked: Asked, response: httpx.Response, found: Stored | None, said: Directives, why: str
    ) -> httpx.Response:
        told = despite_error(found, said, self._shelf.clock()) if found and response.status_code in _FAILURES else None
        if found is not None and told is not None:
            await response.aclose()
            return self._given(asked, found, "stale", told)
        if response.status_code == 200 and is_unchanged(_lowered(response), asked.headers):
            await response.aclose()
            response = unchanged(_lowered(response))
        return self._passed(asked, response, why)

    # Asking the service.

    def _refresh(self, asked: Asked, key: Key, found: Stored) -> None:
        """Ask anew, though nobody waits for it."""
        which = (key, *(value for _, value in found.selecting))
        if self.fetches.is_under_way(which) or len(self.fetches.unattended) >= self._settings.max_refreshes:
            return
        route: Route = asked.scope["bff.route"]
        deadline = asyncio.get_running_loop().time() + route.timeout
        origin = msgspec.structs.replace(asked.origin, deadline=deadline, hurried=False, waterfall=None, waits=None)
        later = msgspec.structs.replace(asked, origin=origin)
        self.fetches.begin(which, lambda fetch: self._make(fetch, later, key, found), attended=False)

    async def _make(self, fetch: Fetch, asked: Asked, key: Key, found: Stored | None) -> Fetched:
        """Ask for the whole, or whether what is kept is still true, and keep what comes."""
        service, sent = asked.service, self._shelf.clock()
        headers = [each for each in asked.headers if each[0] not in _ANSWERED_HERE]
        if found is not None and found.etag:
            headers.append((b"if-none-match", found.etag))
        if found is not None and found.modified:
            headers.append((b"if-modified-since", found.modified))
        response = await service.send("GET", asked.target, headers, b"", asked.origin, path=asked.path)
        now, said = self._shelf.clock(), _lowered(response)
        if response.status_code == 304 and found is not None:
            await response.aclose()
            fresh = found.freshened(said, sent, now)
            if fresh is None:
                return await self._make(fetch, asked, key, None)
            if fresh.may_be_kept:
                self._keep(fetch, key, fresh)
            else:
                self._keep_nothing(fetch, key)
            return Fetched(fresh, None, 304, "")
        try:
            made = stored(response.status_code, said, headers, authorized=asked.tells, sent=sent, now=now)
            _tags(key, said)
            body = await self._body(response)
        except NotKept as reason:
            if response.status_code not in _FAILURES:
                self._keep_nothing(fetch, key)
            return Fetched(None, response, response.status_code, f"; detail={reason}")
        except httpx.TransportError as error:
            await response.aclose()
            raise failure(service.name, error, response.extensions.get("attempts")) from error
        made = replace(made, body=body)
        self._keep(fetch, key, made)
        return Fetched(made, None, made.status, "; stored")

    async def _body(self, response: httpx.Response) -> bytes:
        body = await read_up_to(response, self._settings.max_answer)
        if body is None:
            raise NotKept("size")
        return body

    def _keep(self, fetch: Fetch, key: Key, made: Stored) -> None:
        if fetch.void:
            return
        kept: _Kept = self._shelf.get(key) or _Kept(())
        others = [each for each in kept.variants if each.selecting != made.selecting]
        variants = (made, *others[: _MAX_VARIANTS - 1])
        tags = {tag for each in variants for tag in _tags(key, each.headers)}
        self._shelf.put(NAME, key, _Kept(variants), key.size + sum(each.size for each in variants), tags)

    def _keep_nothing(self, fetch: Fetch, key: Key) -> None:
        """Remember that there is nothing to wait for."""
        if not fetch.void:
            self._shelf.put(NAME, key, _Kept((), self._shelf.clock() + _PASSED_FOR), key.size)

    # What has changed.

    def _void(self, tags: Tags) -> None:
        """By which names services call their answers is known of none that is under way."""
        if tags is None or any(each[0] == "tag" for each in tags):
            self.fetches.void()
        else:
            self.fetches.void(lambda which: _is_concerned(which[0], tags))

    async def close(self) -> None:
        self._shelf.on_purge.remove(self._void)
        await self.fetches.close()


def _key(asked: Asked) -> Key:
    service, scope, origin = asked.service, asked.scope, asked.origin
    route: Route = scope["bff.route"]
    return Key(
        service.name,
        asked.target,
        scope["path"],
        scope["scheme"],
        None if service.for_anybody and route.public and not asked.is_told else origin.caller,
        origin.credentials,
        field(asked.headers, b"cookie") if b"cookie" in head(scope).values else None,
        service.arm(origin) if service.arm else None,
    )


def _tags(key: Key, headers: Headers) -> list[Tag]:
    return places.tags_of(key.service, path_of(key.target), key.path.rstrip("/"), headers)


def _is_concerned(key: Key, tags: frozenset[Tag]) -> bool:
    try:
        return not tags.isdisjoint(_tags(key, []))
    except NotKept:
        return True


def _lowered(response: httpx.Response) -> Headers:
    return [(name.lower(), value) for name, value in response.headers.raw]
