"""HTTP/2's frames (RFC 9113 §4, §6): what each is called, how it is written, and what it says."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = 9
MAX_FRAME: Final = 16 * 1024
"""The largest that is taken: what every client may send without asking."""
MAX_WINDOW: Final = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x2, 0x3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 0x5, 0x6, 0x7, 0x8, 0x9
ENHANCE_YOUR_CALM: Final = 0xB

TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, FRAME_SIZE, HEADER_LIST = range(1, 7)

_HEAD = struct.Struct(">HBBBL")
_SETTING = struct.Struct(">HL")
_NUMBER = struct.Struct(">L")
_TWO = struct.Struct(">LL")


class Broken(Exception):
    """Nothing that comes on this connection can be trusted any more (RFC 9113 §5.4.1).

    Args:
        code: what the client is told.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def head_of(data: bytes | bytearray, at: int) -> tuple[int, int, int, int]:
    """Size, kind, flags and stream of the frame that begins there."""
    high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
    return (high << 8) | low, kind, flags, stream & MAX_WINDOW


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in values))


def settings_in(payload: bytes) -> Iterable[tuple[int, int]]:
    if len(payload) % _SETTING.size:
        raise Broken(FRAME_SIZE_ERROR)
    pairs: Iterable[tuple[int, int]] = _SETTING.iter_unpack(payload)
    return pairs


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def window_update(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(more))


def goaway(last: int, code: int) -> bytes:
    return frame(GOAWAY, 0, 0, _TWO.pack(last, code))


def number_in(payload: bytes) -> int:
    if len(payload) != _NUMBER.size:
        raise Broken(FRAME_SIZE_ERROR)
    return int(_NUMBER.unpack(payload)[0])


def unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


_MAX_CONTINUATIONS: Final = 32


class Reader:
    """Frames out of bytes as they come; a head that comes in several is one (RFC 9113 §6.10).

    Args:
        max_block: bytes of a head, as they are compressed.
    """

    def __init__(self, max_block: int) -> None:
        self._max_block = max_block
        self._data = bytearray()
        self._begun = False  # the preface has come
        self._block: tuple[int, int, bytearray] | None = None  # stream and flags of a head that is not whole
        self._continuations = 0

    def read(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, stream, flags and payload of all that is whole; HEADERS without padding and priority.

        Raises:
            Broken: this is not HTTP/2, or a frame or head is too large.
        """
        self._data += data
        came, at = self._data, 0
        try:
            if not self._begun:
                if not came.startswith(PREFACE):
                    if PREFACE.startswith(bytes(came)):
                        return
                    raise Broken(PROTOCOL_ERROR)
                self._begun, at = True, len(PREFACE)
            while len(came) - at >= HEAD:
                size, kind, flags, number = head_of(came, at)
                if size > MAX_FRAME:
                    raise Broken(FRAME_SIZE_ERROR)
                if len(came) - at < HEAD + size:
                    return
                at += HEAD + size
                payload = bytes(came[at - size : at])
                if kind in {HEADERS, CONTINUATION} or self._block is not None:
                    if (whole := self._head_with(kind, number, flags, payload)) is not None:
                        yield (HEADERS, *whole)
                else:
                    yield kind, number, flags, payload
        finally:
            del self._data[:at]

    def _head_with(self, kind: int, number: int, flags: int, payload: bytes) -> tuple[int, int, bytes] | None:
        """The head that is whole with this frame. Between its frames there may be no other."""
        if (kind == CONTINUATION) != (self._block is not None):
            raise Broken(PROTOCOL_ERROR)
        if self._block is None:
            payload = unpadded(payload, flags)
            self._block, self._continuations = (number, flags, bytearray()), 0
            if flags & WITH_PRIORITY:
                payload = payload[5:]
        of, first, block = self._block
        block += payload
        self._continuations += kind == CONTINUATION
        if number != of:
            raise Broken(PROTOCOL_ERROR)
        if self._continuations > _MAX_CONTINUATIONS or len(block) > self._max_block:
            raise Broken(ENHANCE_YOUR_CALM)
        if not flags & END_HEADERS:
            return None
        self._block = None
        return of, first, bytes(block)


class Allowance:
    """How often a client may do what costs it nothing: resets, pings, settings, frames of nothing.

    Args:
        now: seconds, never going back.
    """

    MOST: Final = 400.0
    A_SECOND: Final = 50.0

    def __init__(self, now: float) -> None:
        self._left, self._at = self.MOST, now

    def spend(self, units: float, now: float) -> None:
        """Take so many units.

        Raises:
            Broken: there are none left.
        """
        self._left = min(self.MOST, self._left + (now - self._at) * self.A_SECOND) - units
        self._at = now
        if self._left < 0:
            raise Broken(ENHANCE_YOUR_CALM)
