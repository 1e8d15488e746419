"""The entity cache: what a service says of one record is kept for GraphQL and REST alike, whichever of them read it.

`GET /users/usr_1` and `GET /users?ids=usr_1,usr_2` are about the same records, and of several the service is asked for
those that are missing only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import httpx

from bff.core.directives import Directives, age, directives, field, seconds
from bff.core.settings import Settings
from bff.core.shelf import Shelf
from bff.upstream.bodies import read_up_to
from bff.upstream.changes import DEEPEST, MAX_TAGS, at, names_given, path_of
from bff.upstream.records import Records, Shape, Wanted, joined, records_of, wanted_by
from bff.upstream.wire import NOTHING, Fields, WholeBody, request_of, response_of

NAME: Final = "entity"

# Of a request: what no answer of JSON depends on, or what `Vary` has to name if it does.
_PLAIN: Final = frozenset(
    b"host accept accept-encoding accept-language user-agent via forwarded x-forwarded-for x-forwarded-proto "
    b"x-forwarded-host x-forwarded-port x-forwarded-prefix x-real-ip x-request-id traceparent tracestate baggage "
    b"cache-control pragma connection content-length dnt priority referer origin save-data sec-fetch-dest "
    b"sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
    b"upgrade-insecure-requests".split()
)
# And what says that it is about something else than the whole of what is there now.
_PARTIAL: Final = frozenset(b"range if-range if-match if-none-match if-modified-since if-unmodified-since".split())
_JSON: Final = frozenset({b"*/*", b"application/json"})
_MAY_VARY_BY: Final = frozenset({b"accept", b"accept-encoding", b"origin"}) | {b""}
# Of an answer: what is about its records, and with a single one what is about it alone.
_OF_RECORDS: Final = frozenset({b"cache-control", b"vary", b"surrogate-key", b"cache-tag"})
_OF_ONE: Final = _OF_RECORDS | {b"etag", b"last-modified", b"content-language"}

Headers = list[tuple[bytes, bytes]]


class ServiceCacheSettings(Settings):
    entities: bool = False
    """Whether records that it answers with a `Cache-Control: max-age` are kept, for GraphQL and REST alike."""


class _Source(NamedTuple):
    """The answer in which records came.

    Attributes:
        headers: those of its headers that are about them.
        since: when they were made, and
        until: when they are fresh, in seconds since 1970.
        is_private: whether they are for who asked alone.
    """

    headers: Headers
    since: float
    until: float
    is_private: bool

    @property
    def size(self) -> int:
        return sum(len(name) + len(value) for name, value in self.headers)


class _Entity(NamedTuple):
    body: bytes
    source: _Source


class _Kind(NamedTuple):
    """What two reads have to have in common, beside the id, to be answered alike.

    Attributes:
        arm: which deployment is asked, where there are several kinds.
        asked: the digest of all else: of the collection, the caller and what its headers ask for, as long as they are.
    """

    arm: object
    asked: bytes


class Entities(httpx.AsyncBaseTransport):
    """Answers reads of records from what is kept of them.

    Args:
        inner: what asks the service.
        service: its name.
        shelf: where records are kept.
        for_anybody: whether answers do not depend on who asks.
        signed: whether the service is told who asks in `Authorization`, anew each time.
        arm: which deployments the request's calls go to, where there are several kinds.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        service: str,
        shelf: Shelf,
        *,
        for_anybody: bool,
        signed: bool,
        arm: Callable[[Any], object] | None = None,
    ) -> None:
        self._inner, self._service, self._shelf = inner, service, shelf
        self._max_answer, self._for_anybody, self._arm = shelf.settings.max_answer, for_anybody, arm
        self._plain = _PLAIN | {b"authorization"} if signed else _PLAIN
        shelf.open(NAME)
        self._hits, self._misses = (shelf.requests.labels(NAME, service, each) for each in ("hit", "miss"))

    def handle_async_request(self, request: httpx.Request) -> Awaitable[httpx.Response]:  # type: ignore[override]
        if request.method != "GET" or request.stream is not NOTHING:
            return self._inner.handle_async_request(request)
        wanted = wanted_by(request.extensions["target"])
        fields = request.headers._list  # noqa: SLF001 - as bytes, with their names in lower case
        if wanted is None or not _PARTIAL.isdisjoint([name for _, name, _ in fields]):
            return self._inner.handle_async_request(request)
        return self._read(request, wanted)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _read(self, request: httpx.Request, wanted: Wanted) -> httpx.Response:
        since, kind = self._shelf.epoch, self._kind_of(request, wanted)
        said = _said(request)
        found = {} if said else self._found(kind, wanted)
        missing = [id for id in wanted.ids if id not in found] if found else wanted.ids
        if call := request.extensions.get("call"):
            call.cached = len(found)
        self._hits.inc(len(found))
        self._misses.inc(len(missing))
        if not missing:
            return self._answer(request, kind, wanted, found)
        if not found:
            return await self._ask(request, kind, wanted, since, is_kept="no-store" not in said)
        return await self._complete(request, kind, wanted, found, missing, since)

    async def _complete(
        self,
        request: httpx.Request,
        kind: _Kind,
        wanted: Wanted,
        found: dict[bytes, _Entity],
        missing: Sequence[bytes],
        since: int,
    ) -> httpx.Response:
        """Ask for what is missing alone."""
        target = b"%b?ids=%b" % (wanted.collection, b",".join(missing))
        part = request_of("GET", request.url, request.headers, request.extensions | {"target": target}, request.stream)
        response = await self._inner.handle_async_request(part)
        if response.status_code >= 500 or response.status_code == 429:
            return response
        records = await self._records(response, wanted._replace(ids=missing)) if response.status_code == 200 else None
        if records is None or records.shape != self._shape(kind):
            await response.aclose()
            return await self._ask(request, kind, wanted, since)
        source = self._source(response, request, wanted)
        if source is not None:
            self._keep(kind, wanted, source, records, since)
        return self._merged(response, source, wanted, found, records)

    # What is kept.

    def _kind_of(self, request: httpx.Request, wanted: Wanted) -> _Kind:
        origin, plain = request.extensions["origin"], self._plain
        asked = [
            (name, value)
            for _, name, value in request.headers._list  # noqa: SLF001
            if name not in plain or (name == b"accept" and not _takes_json(value))
        ]
        caller = None if self._for_anybody else origin.caller.digest
        digest = blake2b(ascii((wanted.collection, caller, asked)).encode(), digest_size=32).digest()
        return _Kind(self._arm and self._arm(origin), digest)

    def _found(self, kind: _Kind, wanted: Wanted) -> dict[bytes, _Entity]:
        """Those that are fresh; of a batch only where it is known how the service puts them together."""
        if wanted.is_batch and self._shape(kind) is None:
            return {}
        now, found = self._shelf.clock(), {}
        for id in wanted.ids:
            entity: _Entity | None = self._shelf.get((kind, id))
            if entity is not None and entity.source.until > now:
                found[id] = entity
        return found

    def _shape(self, kind: _Kind) -> Shape | None:
        shape: Shape | None = self._shelf.get((kind, None))
        return shape

    async def _ask(
        self, request: httpx.Request, kind: _Kind, wanted: Wanted, since: int, *, is_kept: bool = True
    ) -> httpx.Response:
        """The service, for all of it."""
        response = await self._inner.handle_async_request(request)
        source = self._source(response, request, wanted) if is_kept else None
        records = await self._records(response, wanted) if source is not None else None
        if source is not None and records is not None:
            self._keep(kind, wanted, source, records, since)
            _say(response, b"fwd=uri-miss; stored")
        return response

    async def _records(self, response: httpx.Response, wanted: Wanted) -> Records | None:
        """Those of an answer; None where it is not of what was asked for alone, or too large."""
        try:
            body = await read_up_to(response, self._max_answer) if _is_json(response) else None
        except BaseException:
            await response.aclose()
            raise
        if body is None:
            return None
        records = records_of(body, is_list=wanted.is_batch)
        return records if records and records.by_id.keys() <= set(wanted.ids) else None

    def _keep(self, kind: _Kind, wanted: Wanted, source: _Source, records: Records, since: int) -> None:
        names = names_given(source.headers)
        of_all = source.size
        for id, body in records.by_id.items():
            tags = [*names, *at(self._service, path_of(b"%b/%b" % (wanted.collection, id)))]
            self._shelf.put(NAME, (kind, id), _Entity(body, source), len(id) + len(body) + of_all, tags, since=since)
        if records.shape is not None:
            self._shelf.put(NAME, (kind, None), records.shape, len(records.shape.after))

    def _source(self, response: httpx.Response, request: httpx.Request, wanted: Wanted) -> _Source | None:
        """What an answer says of how long its records are good, and for whom; None where they may not be kept."""
        if response.status_code != 200 or path_of(wanted.collection).count("/") >= DEEPEST:
            return None
        headers = [(name, value) for _, name, value in response.headers._list]  # noqa: SLF001
        said = directives(field(headers, b"cache-control"))
        lifetime = _lifetime(said)
        caller = request.extensions["origin"].caller
        is_private = "private" in said
        if lifetime is None or (is_private and (self._for_anybody or caller.is_anonymous)):
            return None
        names = {name for name, _ in headers}
        if not names.isdisjoint({b"set-cookie", b"content-encoding"}) or len(names_given(headers)) > MAX_TAGS:
            return None
        vary = {name.strip().lower() for name in (field(headers, b"vary") or b"").split(b",")} - _MAY_VARY_BY
        if b"*" in vary or not vary.isdisjoint(self._plain):
            return None
        about = _OF_RECORDS if wanted.is_batch else _OF_ONE
        now = self._shelf.clock()
        made = now - age(headers)
        if made + lifetime <= now:
            return None
        return _Source([each for each in headers if each[0] in about], made, made + lifetime, is_private)

    # What a read is given.

    def _answer(
        self, request: httpx.Request, kind: _Kind, wanted: Wanted, found: dict[bytes, _Entity]
    ) -> httpx.Response:
        """Without asking the service."""
        bodies = [found[id].body for id in wanted.ids]
        sources = list({id(each.source): each.source for each in found.values()}.values())
        body = joined(self._shape(kind) if wanted.is_batch else None, bodies)
        headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += self._told(sources)
        response = response_of(200, Fields(headers), {}, WholeBody(body), request)
        ttl = min(each.until for each in sources) - self._shelf.clock()
        _say(response, b"hit; ttl=%d" % ttl)
        return response

    def _merged(
        self,
        response: httpx.Response,
        source: _Source | None,
        wanted: Wanted,
        found: dict[bytes, _Entity],
        records: Records,
    ) -> httpx.Response:
        """The service's answer with the records that it was not asked for."""
        bodies = {id: entity.body for id, entity in found.items()} | records.by_id
        body = joined(records.shape, [bodies[id] for id in wanted.ids if id in bodies])
        replaced = _OF_ONE | {b"age", b"content-length"} if source else {b"etag", b"last-modified", b"content-length"}
        headers = [each for each in response.headers.raw if each[0].lower() not in replaced]
        headers.append((b"content-length", b"%d" % len(body)))
        if source is not None:
            headers += self._told([source, *{id(each.source): each.source for each in found.values()}.values()])
        response.headers, response.stream = Fields(headers), WholeBody(body)
        _say(response, b"fwd=partial; detail=%d" % len(found))
        return response

    def _told(self, sources: Sequence[_Source]) -> Headers:
        """What the headers of several answers say of all: those of the one that is good for the shortest time."""
        first = min(sources, key=lambda each: each.until)
        told = list(first.headers)
        for each in sources:
            told += [header for header in each.headers if header not in told and header[0] != b"cache-control"]
        if any(each.is_private for each in sources) and not first.is_private:
            told = [each for each in told if each[0] != b"cache-control"]
            told.append((b"cache-control", b"private, max-age=%d" % (first.until - first.since)))
        return [*told, (b"age", b"%d" % max(0.0, self._shelf.clock() - first.since))]


def _said(request: httpx.Request) -> Directives:
    """What the client wants of caches: with any of it, the service is asked."""
    said: Directives = {}
    for _, name, value in request.headers._list:  # noqa: SLF001
        if name == b"cache-control":
            said = said | directives(value)
        elif name == b"pragma":
            said = said | {"no-cache": ""}
    return said


def _takes_json(accept: bytes) -> bool:
    """Before all else."""
    return accept.partition(b",")[0].strip() in _JSON


def _is_json(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "application/json"


def _lifetime(said: Directives) -> int | None:
    """How long the service says that it is good; None where it does not, or forbids to keep it."""
    if not said.keys().isdisjoint({"no-store", "no-cache"}):
        return None
    shared = seconds(said, "s-maxage")
    return seconds(said, "max-age") if shared is None else shared


def _say(response: httpx.Response, what: bytes) -> None:
    """In `Cache-Status` (RFC 9211), and for whoever explains the request."""
    response.headers = Fields([*response.headers.raw, (b"cache-status", b"bff-entities; " + what)])
    response.extensions["entities"] = what.decode()
