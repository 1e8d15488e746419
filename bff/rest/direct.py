"""Routes that the gateway answers by itself: with a redirect, or with what the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from bff.core.errors import BadRequest
from bff.rest.headers import HeaderChanges
from bff.rest.redirects import Target
from bff.rest.shape import BodySettings
from bff.rest.templates import Put, as_html, as_json
from bff.upstream.client import Headers

if TYPE_CHECKING:
    from bff.rest.settings import RedirectSettings, ResponseSettings

_PLAIN = "text/plain; charset=utf-8"
_BODYLESS = frozenset({204, 205, 304})
_PUTS: Mapping[str, Put] = {
    "text/plain": str,
    "text/html": as_html,
    "application/json": as_json,
    "application/problem+json": as_json,
}


def puts(settings: ResponseSettings) -> Put | None:
    """How values become text of the body; None where nobody could say what it would mean."""
    given = next((text for name, text in settings.headers.set.items() if name.lower() == "content-type"), None)
    kind = (given.source if given else _PLAIN).partition(";")[0].strip().lower()
    return _PUTS.get(kind)


class Redirect:
    """An ASGI app for one such route."""

    def __init__(self, settings: RedirectSettings, response: ResponseSettings) -> None:
        self._target = Target(settings.to.source)
        self._status = settings.status
        self._changes = HeaderChanges(response.headers)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        location = self._target.of(scope)
        if location is None:
            raise BadRequest("The request lacks what its new address is made of")
        headers = self._changes.applied([(b"location", location), (b"content-length", b"0")], scope)
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body"})


class Direct:
    """An ASGI app for a route with an answer of its own."""

    def __init__(self, settings: ResponseSettings) -> None:
        self._status = settings.status or 200
        self._body = settings.body if not isinstance(settings.body, BodySettings) else None
        self._put = puts(settings) or str
        self._changes = HeaderChanges(settings.headers)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        body = b""
        headers: Headers = []
        if self._body is not None:
            filled = self._body.fill(scope, self._put)
            if filled is None:
                raise BadRequest("The request lacks what the answer is made of")
            body = filled.encode()
            headers.append((b"content-type", _PLAIN.encode()))
        headers = self._changes.applied(headers, scope)
        if self._status not in _BODYLESS:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
