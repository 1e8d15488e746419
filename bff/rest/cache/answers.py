"""Answers made of what is kept: whole, a part of it, its head, or that nothing has changed (RFC 9110 §13, §14)."""

from __future__ import annotations

import re
from typing import Final

import httpx

from bff.core.directives import field, instant
from bff.rest.cache.stored import Stored
from bff.upstream.client import Headers
from bff.upstream.wire import Fields, WholeBody, response_of

_RANGE: Final = re.compile(rb"bytes\s*=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*")
# What of an answer describes its body, which a 304 has not.
_OF_THE_BODY: Final = frozenset(
    {b"content-length", b"content-type", b"content-encoding", b"content-language", b"content-range"}
)
_ANY: Final = httpx.Request("GET", "http://service")


def answer(kept: Stored, method: str, asked: Headers, now: float, status: bytes) -> httpx.Response:
    """What this request is answered with it.

    Args:
        kept: fresh, or good enough.
        method: GET or HEAD.
        asked: the request's headers.
        now: in seconds since 1970.
        status: what `Cache-Status` says.
    """
    headers = [*kept.headers, (b"age", b"%d" % kept.freshness.age_at(now)), (b"cache-status", status)]
    if kept.status == 200:
        if is_unchanged(kept.headers, asked):
            return unchanged(headers)
        if method == "GET" and (value := field(asked, b"range")) and _range_holds(kept, asked):
            found = _part(value, kept, headers)
            if found is not None:
                return found
    if method == "HEAD":
        return _made(kept.status, _with_length(headers, len(kept.body)), b"")
    return _made(kept.status, _with_length(headers, len(kept.body)), kept.body)


def unchanged(headers: Headers) -> httpx.Response:
    """That the client has it already."""
    return _made(304, [each for each in headers if each[0] not in _OF_THE_BODY], b"")


def is_unchanged(headers: Headers, asked: Headers) -> bool:
    """Whether the client has it already (RFC 9110 §13.1.2, §13.1.3)."""
    wanted = field(asked, b"if-none-match")
    if wanted is not None:
        etag = field(headers, b"etag")
        if wanted.strip() == b"*":
            return True
        return etag is not None and _opaque(etag) in {_opaque(each.strip()) for each in _tags(wanted)}
    # Without one, the date of the answer takes its place (RFC 9111 §4.3.2).
    modified = instant(field(headers, b"last-modified") or field(headers, b"date"))
    since = instant(field(asked, b"if-modified-since"))
    return since is not None and modified is not None and modified <= since


def _tags(value: bytes) -> list[bytes]:
    return re.findall(rb'(?:W/)?"[^"]*"', value)


def _opaque(etag: bytes) -> bytes:
    return etag.removeprefix(b"W/")


def _range_holds(kept: Stored, asked: Headers) -> bool:
    """Whether the client's part and this one are of the same whole (RFC 9110 §13.1.5)."""
    given = field(asked, b"if-range")
    if given is None:
        return True
    return (given == kept.etag and not given.startswith(b"W/")) or (given[:1] != b'"' and given == kept.modified)


def _part(value: bytes, kept: Stored, headers: Headers) -> httpx.Response | None:
    """One range of it; None where the whole is as good an answer: several ranges, or none that could be read."""
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    size = len(kept.body)
    if match[3] is not None:
        first, last = max(0, size - int(match[3])), size - 1
        fits = int(match[3]) > 0 and size > 0
    else:
        first, last = int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            return None
        fits = first < size
    others = [each for each in headers if each[0] not in {b"content-length", b"content-range"}]
    if not fits:
        return _made(416, [*others, (b"content-range", b"bytes */%d" % size), (b"content-length", b"0")], b"")
    where = (b"content-range", b"bytes %d-%d/%d" % (first, last, size))
    body = kept.body[first : last + 1]
    return _made(206, [*others, where, (b"content-length", b"%d" % len(body))], body)


def _with_length(headers: Headers, length: int) -> Headers:
    for name, _ in headers:
        if name == b"content-length":
            return headers
    return [*headers, (b"content-length", b"%d" % length)]


def _made(status: int, headers: Headers, body: bytes) -> httpx.Response:
    return response_of(status, Fields(headers), {}, WholeBody(body), _ANY)
