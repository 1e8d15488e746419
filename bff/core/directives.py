"""What headers say about caching, read strictly: what is in doubt is taken to be stale (RFC 9111 §4.2.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from functools import lru_cache

_DIRECTIVE = re.compile(
    rb'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s,]*))?\s*(?:,|$)|[^,]*(?:,|$)'
)
_LONGEST = 2**31
"""Seconds; a larger number means as much (RFC 9111 §1.2.2)."""

Directives = dict[str, str]


def field(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The values of that header as one, lines joined by commas (RFC 9110 §5.3)."""
    values = [value.strip() for given, value in headers if given == name]
    return b", ".join(values) if values else None


@lru_cache(maxsize=1024)
def directives(value: bytes | None) -> Directives:
    """Names in lower case, with their values or an empty string.

    Of one that comes twice, the value that lets less be kept counts: the shorter time, and all rather than a field.
    """
    found: Directives = {}
    for match in _DIRECTIVE.finditer(value or b""):
        if match[1]:
            name = match[1].decode().lower()
            given = (match[2] or b"").strip(b'"').decode("latin-1")
            found[name] = min(given, found[name], key=_weight) if name in found else given
    return found


def _weight(value: str) -> int:
    return int(value) if value.isdecimal() and len(value) < 20 else -1


def seconds(said: Directives, name: str) -> int | None:
    """How long; None where nothing is said, 0 where it makes no sense."""
    value = said.get(name)
    if value is None:
        return None
    return min(int(value), _LONGEST) if value.isascii() and value.isdecimal() and len(value) < 400 else 0


def age(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """The first that it says; what makes no sense says nothing (§5.1)."""
    value = (field(headers, b"age") or b"").partition(b",")[0].strip()
    return min(float(value), _LONGEST) if value.isdigit() and len(value) < 20 else 0.0


@lru_cache(maxsize=1024)
def instant(value: bytes | None) -> float | None:
    """A date in seconds since 1970; None where there is none that could be read (RFC 9110 §5.6.7)."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    # Other zones and formats are read by some and not by others.
    if not text.endswith(" GMT") and text[3:4] != " ":
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
