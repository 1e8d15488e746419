"""Answers: records as JSON, validators (RFC 9110: ETag, If-None-Match, Range), lists and streams."""

import re
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from demo.problems import Problem

RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))")


def created(body: bytes) -> Response:
    return Response(body, 201, media_type="application/json")


def items(records: Sequence[object], cache: str, **more: object) -> Response:
    return reply(msgspec.json.encode({"items": records, **more}), cache)


def reply(body: bytes, cache: str) -> Response:
    return Response(body, headers={"cache-control": cache}, media_type="application/json")


def record(request: Request, body: object, cache: str) -> Response:
    return validated(request, msgspec.json.encode(body), cache, "application/json")


def validated(request: Request, body: bytes, cache: str, media_type: str) -> Response:
    headers = {"etag": etag_of(body), "cache-control": cache}
    if is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def etag_of(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=9).hexdigest()}"'


def is_known(request: Request, etag: str) -> bool:
    """If-None-Match compares weakly: a gateway that compresses has made the tag a weak one."""
    if request.method not in ("GET", "HEAD"):
        return False
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in tags or tags == ["*"]


def ranged(request: Request, body: bytes, cache: str, media_type: str) -> Response:
    """The whole, or the one range asked for. Several ranges, or another unit, get the whole, as RFC 9110 allows."""
    whole = validated(request, body, cache, media_type)
    whole.headers["accept-ranges"] = "bytes"
    match = RANGE.fullmatch(request.headers.get("range", "").strip())
    if whole.status_code == 304 or not match or not is_same(request, whole.headers["etag"]):
        return whole
    size = len(body)
    first, last, suffix = match.groups()
    start = max(size - int(suffix), 0) if suffix else int(first)
    stop = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):  # not a range at all
        return whole
    headers = {name: whole.headers[name] for name in ("etag", "cache-control", "accept-ranges")}
    if start >= size or suffix == "0":
        raise Problem(416, f"there are {size} bytes", {"content-range": f"bytes */{size}"})
    headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(body[start:stop], 206, headers, media_type)


def is_same(request: Request, etag: str) -> bool:
    """If-Range compares strongly; a date never matches, since nothing here has a Last-Modified."""
    return request.headers.get("if-range", etag) == etag


def streamed(request: Request, chunks: AsyncIterator[bytes], media_type: str, cache: str) -> Response:
    headers = {"cache-control": cache, "content-type": media_type}
    if request.method == "HEAD":  # the server would throw each chunk away, of an endless stream as well
        return Response(headers=headers)
    return StreamingResponse(chunks, headers=headers)
