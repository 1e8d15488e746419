"""Errors as RFC 9457 problems: the one shape in which every service of the shop refuses."""

from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


class Problem(HTTPException):
    """Raised anywhere in a service, rendered by `problem`."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)


async def problem(_: Request, error: Exception) -> Response:
    """Starlette's own refusals (404, 405) take the same shape; anything unexpected becomes a 500 without its text."""
    known = error if isinstance(error, HTTPException) else HTTPException(500)
    title = HTTPStatus(known.status_code).phrase
    body = {"type": "about:blank", "title": title, "status": known.status_code}
    if known.detail != title:
        body["detail"] = known.detail
    return Response(msgspec.json.encode(body), known.status_code, known.headers, "application/problem+json")
