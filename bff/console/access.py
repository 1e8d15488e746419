"""Who may see what is under the admin port, and who may change it."""

from __future__ import annotations

from hmac import compare_digest
from ipaddress import ip_address
from typing import Final

from fastapi import HTTPException, Request

from bff.core.settings import Secret

_READS: Final = frozenset({"GET", "HEAD"})
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class Operators:
    """Judges a request by the admin token: in a header that no other site's page can send, so that none can act for an
    operator. Where no token is configured, this machine may read and nobody may change anything.

    Args:
        token: `admin.token`.
    """

    def __init__(self, token: Secret | None) -> None:
        self._token = token

    def judge(self, request: Request) -> None:
        """Raises 401 or 403 unless the request may pass."""
        if self._token is not None:
            given = request.headers.get("authorization", "")
            if not compare_digest(given.encode(), f"Bearer {self._token.reveal()}".encode()):
                raise HTTPException(401, "The admin token is needed", _CHALLENGE)
        elif request.method not in _READS:
            raise HTTPException(
                403, "Nothing can be changed here without a token: set admin.token in the configuration"
            )
        elif not local(request):
            raise HTTPException(403, "Other machines need a token to see this: set admin.token in the configuration")

    def judge_scrape(self, request: Request) -> None:
        """The same, but this machine may read in any case."""
        if not local(request):
            self.judge(request)


def local(request: Request) -> bool:
    """Whether this machine asks, by a name that is its own: a page whose name was made to lead here has another.

    On a socket that is a file the process for operators asks, which has judged the request.
    """
    if request.client is None:
        return True
    return _is_loopback(request.client.host) and _is_loopback(_host(request))


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    return host[1:].partition("]")[0] if host.startswith("[") and "]" in host else host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
