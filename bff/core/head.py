"""The headers of a head: gone through once, as a request came, for all that ask; and written once, as it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec
from starlette.types import Scope

Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_ANNOUNCED = frozenset({"1.0", "1.1"})  # versions whose requests say that they have a body (RFC 9112 §6.3)


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a request's headers say. Requests that say the same may have one together, so nothing in it is changed.

    Attributes:
        headers: as they came.
        values: by name; of a name that comes more than once, the last.
        repeated: names that come more than once.
    """

    headers: Headers
    values: dict[bytes, bytes]
    repeated: frozenset[bytes]
    _found: dict[Callable[[Head], Any], Any] = msgspec.field(default_factory=dict)

    def once(self, find: Callable[[Head], T]) -> T:
        """What this function finds in the head, found when it is asked for first. A function of its module, and no
        method: the head would keep its object.
        """
        found: T | None = self._found.get(find)
        if found is None:
            found = self._found[find] = find(self)
        return found


_NONE: frozenset[bytes] = frozenset()


def head_of(headers: Headers) -> Head:
    """The head with these headers, names in lower case."""
    values = dict(headers)
    return Head(headers, values, _NONE if len(values) == len(headers) else _repeated(headers))


def head(scope: Scope) -> Head:
    """The head of this request, kept in `scope["bff.head"]` from the first time on."""
    found: Head | None = scope.get("bff.head")
    if found is None:
        found = scope["bff.head"] = head_of(scope["headers"])
        if _may_have_a_body(scope) and b"content-length" not in found.values:
            found.values[b"transfer-encoding"] = b"chunked"
    return found


def _may_have_a_body(scope: Scope) -> bool:
    """Whether nothing has to be said of one: other servers than ours pass HTTP/2 on as it came."""
    return scope.get("http_version", "1.1") not in _ANNOUNCED and scope.get("method") in _WITH_BODY


def _repeated(headers: Headers) -> frozenset[bytes]:
    counts = Counter(name for name, _ in headers)
    return frozenset(name for name, count in counts.items() if count > 1)


Names = tuple[bytes, ...]
F = TypeVar("F")

_MOST = 1024
_SMALL = 1024  # bytes of names that are worth remembering


class Forms(dict[Names, F], Generic[F]):
    """What the names of its headers decide of a head, made once: `forms[names]`.

    Clients of one program, calls of one kind and the answers of one route have the same names again and again.

    Args:
        make: what it is, for names that are not known.
    """

    def __init__(self, make: Callable[[Names], F]) -> None:
        self._make = make

    def __missing__(self, names: Names) -> F:
        made = self._make(names)
        if sum(map(len, names)) <= _SMALL:
            if len(self) >= _MOST:
                self.clear()
            self[names] = made
        return made


def lines_of(names: Iterable[bytes]) -> bytes:
    """Header lines with these names and a place for each value, to be filled in by `%`."""
    return b"".join([name.replace(b"%", b"%%") + b": %b\r\n" for name in names])


def lines(headers: Headers) -> bytes:
    """Header lines that are written out once for all requests that have them.

    Where one would not be what it says, there is one with a zero byte in their place: it is never sent.
    """
    names, values = [name for name, _ in headers], [value for _, value in headers]
    said = b"".join(values)
    if b"" in names or b"".join(names).translate(None, TOKEN) or LF in said or CR in said or NUL in said:
        return b"\0: \r\n"
    return lines_of(names) % tuple(values)


def headers_in(text: bytes) -> Headers:
    """What such lines are made of."""
    pairs = [line.partition(b": ") for line in text.split(b"\r\n")[:-1]]
    return [(name, value) for name, _, value in pairs]


TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# As numbers: to look for bytes in bytes, Python 3.11 raises an error first.
LF, CR, NUL = b"\n\r\0"
