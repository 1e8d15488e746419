"""Server-sent events as bytes (WHATWG HTML §9.2.6): read in pieces of any size, within a bound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_LONGEST_ID = 1024  # it goes into a header
_DIGITS = 9  # of a wait in milliseconds: eleven days


class Event(NamedTuple):
    """One event.

    Attributes:
        name: its kind, `message` where the service gives none.
        data: its lines, joined.
        last_id: what a reader that comes again says it saw last; empty if the service gives no ids.
    """

    name: str
    data: bytes
    last_id: bytes


class TooLargeError(Exception):
    """An event has more bytes than it may."""


class Reader:
    """Takes a stream's bytes and gives its events.

    Args:
        limit: bytes that an event may have.
        last_id: of the event before, where the stream goes on.

    Attributes:
        last_id: of the newest event.
        wait: how long the service asks to wait before coming again, in seconds; None if it does not say.
    """

    def __init__(self, limit: int, last_id: bytes = b"") -> None:
        self._limit = limit
        self._rest = b""
        self._begun = False
        self._after_cr = False
        self._name, self._id = b"", last_id
        self._data: list[bytes] = []
        self._size = 0
        self.last_id = last_id
        self.wait: float | None = None

    def read(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete with this chunk.

        Raises:
            TooLargeError: an event, or a line of one, has more bytes than it may.
        """
        for line in self._lines(chunk):
            if line:
                self._take(line)
            else:
                yield from self._dispatched()

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk."""
        text = self._rest + chunk
        # A CR ends a line at once; an LF that comes with the next chunk belongs to the same end.
        if self._after_cr:
            text = text.removeprefix(b"\n")
        self._after_cr = text.endswith(b"\r")
        if not self._begun:
            if _BOM.startswith(text):
                self._rest = text
                return []
            text, self._begun = text.removeprefix(_BOM), True
        *lines, self._rest = _LINE_END.split(text)
        if len(self._rest) > self._limit:
            raise TooLargeError
        return lines

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._size += len(value) + 1
                if self._size > self._limit:
                    raise TooLargeError
                self._data.append(value)
            case b"event":
                self._name = value
            case b"id" if b"\0" not in value and len(value) <= _LONGEST_ID:
                self._id = value
            case b"retry" if value.isdigit() and len(value) <= _DIGITS:
                self.wait = int(value) / 1000

    def _dispatched(self) -> Iterator[Event]:
        self.last_id = self._id
        if self._data:
            yield Event(self._name.decode(errors="replace") or "message", b"\n".join(self._data), self.last_id)
        self._name, self._data, self._size = b"", [], 0
