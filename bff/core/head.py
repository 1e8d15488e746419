"""The headers of a head: gone through once, as a request came, for all that ask; and written once, as it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from starlette.types import Scope


class Head(NamedTuple):
    """What a request's headers say.

    Attributes:
        values: by name; of a name that comes more than once, the last.
        repeated: names that come more than once.
    """

    values: dict[bytes, bytes]
    repeated: frozenset[bytes]


_NONE: frozenset[bytes] = frozenset()


def head(scope: Scope) -> Head:
    """The head of this request, kept in `scope["bff.head"]` from the first time on."""
    found: Head | None = scope.get("bff.head")
    if found is None:
        headers = scope["headers"]
        values = dict(headers)
        repeated = _NONE if len(values) == len(headers) else _repeated(headers)
        found = scope["bff.head"] = Head(values, repeated)
    return found


def _repeated(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    counts = Counter(name for name, _ in headers)
    return frozenset(name for name, count in counts.items() if count > 1)


def lines_of(names: Iterable[bytes]) -> bytes:
    """Header lines with these names and a place for each value, to be filled in by `%`."""
    return b"".join([name.replace(b"%", b"%%") + b": %b\r\n" for name in names])
