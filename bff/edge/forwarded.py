"""Who the client is, where proxies that are trusted say so: of all addresses the last one that is none of theirs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Spoken = Literal["x-forwarded", "forwarded"]
Hop = tuple[str, str]
"""An address and a scheme, as they were written; empty where nothing was."""

_MOST: Final = 30
"""Proxies in a row; who would be before them is not looked for."""
_PORT: Final = re.compile(r":[0-9]{1,5}$")
# RFC 7239 §4, less what the two parameters that are read here never need.
_PAIR: Final = re.compile(r'\s*(\w+)=(?:"([^"\\]*)"|([^\s";,]*))\s*')
_SCHEMES: Final = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}


class Forwarded:
    """Outermost: whatever is logged, limited or told of the client below is about the one that is found here.

    Args:
        app: the layer below.
        trusted: where proxies call from; what others say of themselves is not read.
        spoken: which headers these proxies write. The others may be a client's, passed on by them.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network], spoken: Spoken) -> None:
        self.app = app
        self.trusts = lru_cache(4096)(lambda text: _is_within(text, trusted))
        self.hops = _of_forwarded if spoken == "forwarded" else _of_x_forwarded

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        client = scope.get("client")
        if client and scope["type"] in _SCHEMES and self.trusts(client[0]):
            self._believe(scope)
        return self.app(scope, receive, send)

    def _believe(self, scope: Scope) -> None:
        address = scheme = ""
        for said, proto in reversed(self.hops(scope["headers"])):
            found = _address(said)
            if found is None:  # hidden, unknown or nonsense: whoever is before that, nobody vouches for
                break
            address, scheme = str(found), proto or scheme
            if not self.trusts(address):
                break
        if address:
            scope["client"] = (address, 0)
        if known := _SCHEMES[scope["type"]].get(scheme.lower()):
            scope["scheme"] = known


def _is_within(text: str, networks: Iterable[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)


def _address(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = _PORT.sub("", text)
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # What an IPv4 client looks like to a socket for both.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _listed(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The last entries of all headers of that name."""
    joined = b",".join([value for given, value in headers if given == name])
    return [each.strip() for each in joined.decode("latin-1").split(",")][-_MOST:] if joined else []


def _of_x_forwarded(headers: Sequence[tuple[bytes, bytes]]) -> list[Hop]:
    addresses, schemes = _listed(headers, b"x-forwarded-for"), _listed(headers, b"x-forwarded-proto")
    if len(schemes) != len(addresses):  # most write one, of the first of them
        schemes = [schemes[-1] if schemes else ""] * len(addresses)
    return list(zip(addresses, schemes, strict=True))


def _of_forwarded(headers: Sequence[tuple[bytes, bytes]]) -> list[Hop]:
    hops: list[Hop] = []
    for entry in _listed(headers, b"forwarded"):
        pairs = {name.lower(): quoted or plain for name, quoted, plain in map(re.Match.groups, _PAIR.finditer(entry))}
        hops.append((pairs.get("for", ""), pairs.get("proto", "")))
    return hops
