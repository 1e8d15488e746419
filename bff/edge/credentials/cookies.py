"""A cookie in the place of `Authorization`, for pages: browsers send it with whatever any page asks for, so where a
request comes from counts as much as what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from bff.core.errors import CsrfPrevented
from bff.core.route import READS
from bff.core.settings import Settings, WebOrigin
from bff.edge.credentials.pages import is_from_own_page
from bff.edge.credentials.refusals import ambiguous

Headers = Iterable[tuple[bytes, bytes]]


class CookieSettings(Settings):
    """Which cookie holds a token, and whose pages may use it."""

    name: str = Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")
    """Best with `__Host-` before it, so that no other host can set one."""
    origins: tuple[WebOrigin, ...] = ()
    """Besides the gateway's own origin: `https://shop.example.com`."""


class Cookie:
    """The cookie that holds a token."""

    def __init__(self, settings: CookieSettings) -> None:
        self._name = settings.name.encode()
        self._origins = frozenset(each.encode() for each in settings.origins)

    def token(self, headers: Headers, method: str) -> bytes | None:
        """The token in the cookie, if there is one.

        Raises:
            BadRequest: there are two of its name.
            CsrfPrevented: another site may have made the browser send it.
        """
        found = [value for name, value in _pairs(headers) if name == self._name]
        if not found:
            return None
        if len(found) > 1:
            raise ambiguous()
        # Browsers say where all that could change something comes from.
        if not is_from_own_page(dict(headers), unsaid=method in READS, origins=self._origins):
            raise CsrfPrevented(
                "A cookie counts only in requests from the gateway's own pages and the origins that it knows: "
                "send the token in `Authorization`"
            )
        return found[0].strip(b'"')

    def without(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The headers that may go on: the token stays here."""
        kept = []
        for name, value in headers:
            if name == b"cookie":
                rest = b"; ".join(each.strip() for each in value.split(b";") if _name_of(each) != self._name)
                if rest:
                    kept.append((name, rest))
            else:
                kept.append((name, value))
        return kept


def _pairs(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"cookie":
            for pair in value.split(b";"):
                yield _name_of(pair), pair.partition(b"=")[2].strip()


def _name_of(pair: bytes) -> bytes:
    return pair.partition(b"=")[0].strip()
