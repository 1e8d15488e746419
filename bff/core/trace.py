"""W3C Trace Context: where a request stands in its trace, cheap enough for requests that nobody records."""

from __future__ import annotations

import re
from random import Random

import msgspec

from bff.core.head import lines

# Version 00 has exactly four parts; a later version may have more, of which only the first four are ours (§3.2.2).
_TRACEPARENT = re.compile(
    rb"^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$", re.ASCII
)
_SAMPLED = 0x01
_LAST_64 = (1 << 64) - 1
_MAX_STATE = 512


class Trace(msgspec.Struct, frozen=True, gc=False):
    """One span's place: its trace, its own id, its parent's (empty at the root), and whether it is recorded."""

    trace_id: str
    span_id: str
    sampled: bool
    state: bytes = b""
    parent_id: str = ""

    def lines(self) -> bytes:
        """What services are sent, so that their spans hang below this one, as header lines."""
        parent = f"traceparent: 00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}\r\n".encode()
        return parent + lines([(b"tracestate", self.state)]) if self.state else parent


class Sampler:
    """Continues the client's trace or starts one, and decides whether it is recorded: as the client did, else a share.

    Args:
        share: the part of new traces that is recorded, 0 to 1.
        random: where new ids come from.
    """

    def __init__(self, share: float, random: Random) -> None:
        self._bound = round(share * (1 << 64))
        self._random = random

    def trace(self, traceparent: bytes | None, tracestate: bytes | None) -> Trace:
        bits = self._random.getrandbits(192)
        fresh = bits.to_bytes(24).hex()
        trace_id, span_id = fresh[:32], fresh[32:]
        parent = traceparent and _TRACEPARENT.match(traceparent)
        if not parent or (parent[1] == b"00" and parent[5]):
            return Trace(trace_id, span_id, bits >> 64 & _LAST_64 < self._bound)
        state = tracestate if tracestate and len(tracestate) <= _MAX_STATE else b""
        return Trace(parent[2].decode(), span_id, bool(int(parent[4], 16) & _SAMPLED), state, parent[3].decode())
