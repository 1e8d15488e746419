"""Which pages may open a websocket: browsers let any page try, and only tell which one it is (RFC 6455 §10.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from bff.core.errors import Forbidden

_PORTS = {"http": 80, "https": 443}


def check_origin(headers: Iterable[tuple[bytes, bytes]], allowed: Collection[str]) -> None:
    """Let pass what is no browser's page, comes from this host itself, or is allowed.

    Raises:
        Forbidden: it is another site's.
    """
    origin = host = None
    for name, value in headers:
        if name == b"origin":
            origin = value.decode("latin-1").lower()
        elif name == b"host":
            host = value.decode("latin-1").lower()
    if origin is None or origin in allowed or "*" in allowed or (host and _is_at(origin, host)):
        return
    raise Forbidden("Pages of this origin may not open websockets here")


def _is_at(origin: str, host: str) -> bool:
    """Whether they are the same host and port; TLS may have ended before the gateway, so the scheme does not count."""
    scheme = origin.partition(":")[0]
    port = _PORTS.get(scheme)
    try:
        one, other = urlsplit(origin), urlsplit(f"{scheme}://{host}")
        same = one.hostname == other.hostname and (one.port or port) == (other.port or port)
    except ValueError:  # a port or an IPv6 address that is none
        return False
    return same and port is not None
