"""Where a request comes from, for credentials that browsers send with whatever any page asks for."""

from __future__ import annotations

from collections.abc import Mapping


def is_from_own_page(headers: Mapping[bytes, bytes], *, unsaid: bool, origins: frozenset[bytes] = frozenset()) -> bool:
    """Whether no page of another site can have had it sent; stricter than `SameSite=Strict`.

    Args:
        headers: the request's.
        unsaid: what counts where nothing says where it comes from, as programs send it.
        origins: those that are as good as the gateway's own.
    """
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    if origin in origins:
        return True
    if site is not None:
        return site in {b"same-origin", b"none"}
    if origin is not None:
        return origin.partition(b"://")[2] == headers.get(b"host")
    return unsaid
