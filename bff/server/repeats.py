"""A request with the same header lines as one before it on its connection: what these say is known already.

Clients that keep a connection send the same headers again and again, and only another target. To parse them calls
Python for each header, and every layer would find out the same once more.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from bff.core.head import Head

# A request line that can be read in one way only; any other is the parser's.
_LINE: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*) HTTP/1\.1\r\n"
)
# What decides how the connection goes on, or how the body comes, is looked at each time.
_EACH_TIME: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_MOST: Final = 2048  # bytes of header lines that are remembered, of
_KEPT: Final = 4  # requests that differ in them


Again = tuple[bytes, bytes, Head, bytes]
"""Method, target, head and body."""


class Lines(msgspec.Struct, eq=False, gc=False):
    """The header lines of a request, from the first one to the empty one, and what a parser made of them.

    Attributes:
        text: as they came.
        head: what they say.
        size: bytes of the body that follows, whatever the request line.
    """

    text: bytes
    head: Head
    size: int
    _sure: bool = False

    def are_plain(self) -> bool:
        """Whether anybody would read the same in them. A parser may be lenient: what is remembered must not be."""
        if not self._sure:
            lines = self.text[:-4].split(b"\r\n")
            self._sure = len(lines) == len(self.head.headers) and all(map(_says, lines, self.head.headers))
        return self._sure


class Repeats:
    """Of one connection."""

    __slots__ = ("_began", "_kept")

    def __init__(self) -> None:
        self._kept: list[Lines] = []  # the newest first
        self._began: tuple[bytes, int] | None = None  # what came with the next one, and where its header lines begin

    def request_in(self, data: bytes) -> Again | None:
        """What is asked, if this is a whole request with header lines that are known, and nothing else.

        Args:
            data: what came after the end of the last request.
        """
        line = _LINE.match(data)
        if line is None:
            return None
        start = line.end()
        for lines in self._kept:
            at = start + len(lines.text)
            if len(data) == at + lines.size and data.startswith(lines.text, start) and lines.are_plain():
                return line[1], line[2], lines.head, data[at:]
        self._began = data, start
        return None

    def forget(self) -> None:
        self._kept = []

    def learn(self, head: Head, *, keep_alive: bool) -> None:
        """A parser has found this head in what came, and whether another request may follow it."""
        if self._began is None:
            return
        (data, start), self._began = self._began, None
        end = data.find(b"\r\n\r\n", start) + 4
        if not keep_alive or not 4 <= end - start <= _MOST or not _EACH_TIME.isdisjoint(head.values):
            return
        length, text = head.values.get(b"content-length", b"0"), data[start:end]
        if length.isdigit() and not head.repeated and all(text != each.text for each in self._kept):
            self._kept = [Lines(text, head, int(length)), *self._kept[: _KEPT - 1]]


def _says(line: bytes, header: tuple[bytes, bytes]) -> bool:
    name, colon, value = line.partition(b":")
    plain = colon and name.lower() == header[0] and value.strip(b" \t") == header[1].strip(b" \t")
    return bool(plain) and not any(end in line for end in (b"\r", b"\n"))
