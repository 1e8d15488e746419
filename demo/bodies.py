"""Request bodies: bounded, JSON, and of the shape that the endpoint says."""

from typing import TypeVar

import msgspec
from starlette.requests import Request

from demo.problems import Problem

MAX_BODY = 1024 * 1024

T = TypeVar("T")


async def json_body(request: Request, shape: type[T]) -> T:
    """400 for what is no JSON, 413 and 415 for its size and type, 422 for JSON of another shape."""
    expect(request, "application/json")
    body = await bounded_body(request)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "the body is no JSON") from None
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise Problem(422, str(error)) from None


def expect(request: Request, media_type: str) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise Problem(415, f"the body must be {media_type}")


async def bounded_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Problem(413, f"the body is larger than {MAX_BODY} bytes")
    return body
