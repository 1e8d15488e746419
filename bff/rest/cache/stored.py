"""An answer as it is kept: what may be kept at all, for how long it is good, and how it is brought up to date.

RFC 9111. Whether an answer may be stored and what a 304 changes in it is decided by hishel's state machine; how old it
is and how long it is good is computed here, since hishel knows no `Age` (§4.2.3) and guesses a lifetime (§4.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import hishel

from bff.core.directives import Directives, age, directives, field, instant, seconds
from bff.upstream.client import Headers

_SHARED: Final = hishel.CacheOptions(shared=True, supported_methods=["GET"], allow_stale=False)
_NO_ID: Final = UUID(int=0)
# Of an answer or its connection, not of what it is about; and what is said anew with each answer.
_NOT_KEPT: Final = frozenset({b"age", b"connection", b"trailer", b"proxy-authentication-info"})


class NotKept(Exception):
    """An answer may not be kept; the message is the reason, as `Cache-Status` tells it."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """For how long an answer is good.

    Attributes:
        since: when it was received, in seconds since 1970.
        age: how old it was then.
        lifetime: until which age it may be given out without asking.
        while_revalidate, if_error: for how long after that, while it is asked for anew, or because that failed.
        strict: whether it must not be given out when it is stale, whoever asks for that.
    """

    since: float
    age: float
    lifetime: float
    while_revalidate: float
    if_error: float
    strict: bool

    def age_at(self, now: float) -> float:
        return self.age + max(0.0, now - self.since)

    def ttl_at(self, now: float) -> float:
        """For how long it is fresh; below zero, for how long it has not been."""
        return self.lifetime - self.age_at(now)


@dataclass(frozen=True, slots=True)
class Stored:
    """One answer to GET.

    Attributes:
        selecting: the request's headers that `Vary` names, with their values.
    """

    status: int
    headers: Headers
    body: bytes
    selecting: tuple[tuple[bytes, bytes | None], ...]
    freshness: Freshness
    etag: bytes | None
    modified: bytes | None

    def is_for(self, headers: Headers) -> bool:
        """Whether it is what this request would be answered, as far as `Vary` says (§4.1)."""
        return all(_normal(field(headers, name)) == value for name, value in self.selecting)

    @property
    def may_be_kept(self) -> bool:
        """What a 304 says may forbid it."""
        return not _objection(self.status, self.headers, directives(field(self.headers, b"cache-control")))

    @property
    def size(self) -> int:
        named = (*self.headers, *self.selecting)
        return len(self.body) + sum(len(name) + len(value or b"") for name, value in named)

    def freshened(self, headers: Headers, sent: float, now: float) -> Stored | None:
        """With what a 304 says (§4.3.4); None if that is about another answer."""
        entry = hishel.Entry(_NO_ID, hishel.Request("GET", ""), _response(self.status, self.headers))
        asked = hishel.Request("GET", "")
        state: hishel.State = hishel.NeedRevalidation(
            _SHARED, request=asked, original_request=asked, revalidating_entries=[entry]
        ).next(_response(304, headers))
        if not isinstance(state, hishel.NeedToBeUpdated):
            return None
        named = {b"content-type"} & dict(headers).keys()  # hishel leaves it as it was (§3.2)
        left_out = _NOT_KEPT | named | {b"set-cookie"}
        updated = [each for each in _raw(state.updating_entries[0].response) if each[0] not in left_out]
        updated += [each for each in headers if each[0] in named]
        said = directives(field(updated, b"cache-control"))
        return replace(
            self,
            headers=updated,
            freshness=_freshness(updated, headers, said, sent, now),
            etag=field(updated, b"etag"),
            modified=field(updated, b"last-modified"),
        )


def stored(status: int, headers: Headers, asked: Headers, *, authorized: bool, sent: float, now: float) -> Stored:
    """An answer without its body, to be kept.

    Args:
        status: of the answer.
        headers: of the answer, names in lower case.
        asked: the request's, as the service gets them.
        authorized: whether the service was told who asks, so that §3.5 holds.
        sent: when it was asked.
        now: when it was answered.

    Raises:
        NotKept: it must not be, or there is no use in it.
    """
    said = directives(field(headers, b"cache-control"))
    reason = _objection(status, headers, said)
    request = hishel.Request("GET", "", hishel.Headers({"authorization": "-"} if authorized else {}))
    state = hishel.CacheMiss(_SHARED, request=request).next(_response(status, headers))
    if reason or not isinstance(state, hishel.StoreAndUse):
        raise NotKept(reason or ("authorization" if authorized else "response"))
    hops = {name.strip().lower() for name in (field(headers, b"connection") or b"").split(b",")}
    kept = [(name, value) for name, value in _raw(state.response) if name not in _NOT_KEPT and name not in hops]
    fresh = _freshness(kept, headers, said, sent, now)
    made = Stored(
        status, kept, b"", _selecting(headers, asked), fresh, field(kept, b"etag"), field(kept, b"last-modified")
    )
    if fresh.lifetime <= fresh.age and not (made.etag or made.modified or fresh.while_revalidate or fresh.if_error):
        raise NotKept("stale" if said or field(headers, b"expires") else "no-lifetime")
    return made


def _objection(status: int, headers: Headers, said: Directives) -> str:
    """Why it is not kept, though RFC 9111 may not forbid it."""
    if status >= 500 or status in {206, 304} or status < 200:
        return "status"
    for name in ("no-store", "private"):
        if said.get(name) == "":
            return name
    names = {name for name, _ in headers}
    if b"set-cookie" in names:
        return "set-cookie"  # it would be everybody's
    if b"*" in {name.strip() for name in (field(headers, b"vary") or b"").split(b",")}:
        return "vary"
    if (field(headers, b"content-type") or b"").startswith(b"text/event-stream"):
        return "stream"
    return ""


def _selecting(headers: Headers, asked: Headers) -> tuple[tuple[bytes, bytes | None], ...]:
    names = {name.strip().lower() for name in (field(headers, b"vary") or b"").split(b",")} - {b""}
    return tuple((name, _normal(field(asked, name))) for name in sorted(names))


def _normal(value: bytes | None) -> bytes | None:
    """Without the spaces that mean nothing in a list."""
    return value and b",".join([each.strip() for each in value.split(b",")])


def _freshness(kept: Headers, answered: Headers, said: Directives, sent: float, now: float) -> Freshness:
    date = instant(field(answered, b"date"))
    no_cache = said.get("no-cache") == ""
    strict = no_cache or not said.keys().isdisjoint({"must-revalidate", "proxy-revalidate", "s-maxage"})
    return Freshness(
        since=now,
        age=max(0.0, now - date if date is not None else 0.0, age(answered) + (now - sent)),
        lifetime=-1.0 if no_cache else _lifetime(kept, said, now if date is None else date),
        while_revalidate=0 if strict else seconds(said, "stale-while-revalidate") or 0,
        if_error=0 if strict else seconds(said, "stale-if-error") or 0,
        strict=strict,
    )


def _lifetime(headers: Headers, said: Directives, date: float) -> float:
    """How long it is good, by what it says itself (§4.2.1): nothing is guessed."""
    for name in ("s-maxage", "max-age"):
        if (given := seconds(said, name)) is not None:
            return given
    expires = instant(field(headers, b"expires"))
    return -1.0 if expires is None else expires - date


def _response(status: int, headers: Headers) -> hishel.Response:
    lists: dict[str, list[str]] = {}
    for name, value in headers:
        lists.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return hishel.Response(status, hishel.Headers(lists))


def _raw(response: hishel.Response) -> Headers:
    names = response.headers
    return [(name.encode("latin-1"), value.encode("latin-1")) for name in names for value in names.get_list(name) or ()]
