"""CORS (Fetch §3.2): whose pages may read answers, on every answer there is, and the preflight requests about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.head import head
from bff.core.route import METHODS
from bff.core.settings import Complaint, Duration, Settings, WebOrigin

HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$")]

# What the gateway itself puts on answers, and what clients need of those of services.
_EXPOSED = (
    *("x-request-id", "ratelimit", "ratelimit-policy", "retry-after", "www-authenticate", "server-timing"),
    *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    *("etag", "link", "location", "deprecation", "sunset"),
)
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,1024}")


class CorsSettings(Settings):
    """Which pages of other origins may use the gateway."""

    origins: Annotated[tuple[WebOrigin | Literal["*"], ...], Field(min_length=1)]
    """`["https://shop.example.com"]`, compared to the letter; `["*"]` for all, without credentials."""
    credentials: bool = False
    """Whether browsers may send cookies and client certificates."""
    headers: tuple[HeaderName, ...] = ()
    """What requests may have; by default whatever they ask for."""
    expose: tuple[HeaderName, ...] = ()
    """What pages may read of answers, besides the headers that the gateway sets and the usual ones."""
    max_age: Duration = 600.0
    """How long a browser need not ask again."""

    def problems(self) -> Iterable[Complaint]:
        if "*" in self.origins and len(self.origins) > 1:
            yield ("origins",), "must be `*` alone, or origins without it"
        if "*" in self.origins and self.credentials:
            yield ("credentials",), "must be false with `*`: any page could read what its visitor may"


class Cors:
    """Below `observe`, whose answer it writes to; above all that answers, refusals too, or browsers hide the reason."""

    def __init__(self, app: ASGIApp, settings: CorsSettings) -> None:
        self.app = app
        self.any = "*" in settings.origins
        self.origins = frozenset(each.encode() for each in settings.origins)
        self.credentials = [(b"access-control-allow-credentials", b"true")] if settings.credentials else []
        self.exposed = (b"access-control-expose-headers", ", ".join((*_EXPOSED, *settings.expose)).encode())
        self.headers = ", ".join(settings.headers).encode()
        self.asked_about = [
            (b"access-control-allow-methods", ", ".join(sorted(METHODS)).encode()),
            (b"access-control-max-age", b"%d" % settings.max_age),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            said = head(scope).values
            origin = said.get(b"origin")
            headers = scope["bff.answer"].headers
            if not self.any:
                headers.append((b"vary", b"Origin"))  # also where there is none: a cache must not give it to others
            if origin is not None and (self.any or origin in self.origins):
                headers.append((b"access-control-allow-origin", b"*" if self.any else origin))
                headers += self.credentials
                if scope["method"] == "OPTIONS" and b"access-control-request-method" in said:
                    await self._allow(said.get(b"access-control-request-headers", b""), send)
                    return
                headers.append(self.exposed)
        await self.app(scope, receive, send)

    async def _allow(self, wanted: bytes, send: Send) -> None:
        """Answer a preflight; what is asked for may still be refused when it is sent."""
        headers = [*self.asked_about, (b"vary", b"Access-Control-Request-Headers")]
        allowed = self.headers or (wanted if _NAMES.fullmatch(wanted) else b"")
        if allowed:
            headers.append((b"access-control-allow-headers", allowed))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})
