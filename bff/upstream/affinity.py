"""What a choice sticks to, and how it is made of it: the same in every process, and moving only those that it must."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import log
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from bff.core.settings import malformed
from bff.upstream.client import Origin

WORDS: Final = ("subject", "consumer", "address")

_WRITTEN: Final = "subject, consumer, address or header:NAME"
_HEADER = re.compile(r"header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_POINTS: Final = 1 << 64


def _affinity(value: object) -> str:
    if not isinstance(value, str) or (value not in WORDS and not _HEADER.fullmatch(value)):
        raise malformed(_WRITTEN)
    return value.lower()


Affinity = Annotated[
    str,
    BeforeValidator(_affinity),
    WithJsonSchema(
        {"type": "string", "pattern": f"^({'|'.join(WORDS)}|header:.+)$", "examples": ["subject", "header:x-device"]}
    ),
]
"""Whom or what a choice is the same for: `subject`, `consumer`, `address` or `header:NAME`."""

KeyOf = Callable[[Origin], str | None]


def key_by(affinity: str) -> KeyOf:
    """What of a request it is; None where the request has none."""
    match affinity.partition(":"):
        case "subject", _, _:
            # The same subject of another issuer is somebody else.
            return lambda origin: origin.caller.subject and f"{origin.caller.issuer}\n{origin.caller.subject}"
        case "consumer", _, _:
            return lambda origin: origin.caller.consumer
        case "address", _, _:
            return lambda origin: origin.asked.address if origin.asked else None
        case _, _, name:
            header = name.encode()
            return lambda origin: origin.asked.header(header) if origin.asked else None


def point(*words: str) -> float:
    """Where in (0, 1) these words lie: anywhere, and always there."""
    digest = blake2b("\n".join(words).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest) + 0.5) / _POINTS


def ranked(points: Mapping[str, float], weights: Mapping[str, float]) -> list[str]:
    """Names in order of preference: over all points, each is the first as often as its weight says.

    By weighted rendezvous hashing (https://en.wikipedia.org/wiki/Rendezvous_hashing#Weighted_rendezvous_hash): as a
    weight grows, keys move to that name and nowhere else.
    """
    return sorted((name for name in points if weights[name]), key=lambda name: log(points[name]) / weights[name])[::-1]
