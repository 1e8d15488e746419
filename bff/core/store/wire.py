"""One connection to a Redis or Valkey server; commands go in order, those of one turn of the loop in one write.

The protocol is RESP 2 (https://valkey.io/topics/protocol/), read by hiredis. Why not redis-py, see
docs/adr/0014-the-shared-store.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

_LATE = 0.003
"""Seconds by which a loop's timer and one more turn of it may be late: nobody is to wait longer than they were told."""

Late = Callable[[Any], None]
"""What is done with an answer that nobody waits for any more."""


class StoreUnavailable(Exception):
    """The store gives no answer in time, or none that is of use. Never leaves the gateway."""


class Refused(StoreUnavailable):
    """It answers with an error; its text begins with a code such as `NOSCRIPT` or `MOVED`."""


def bulk(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def command(*arguments: bytes | str | int) -> bytes:
    """A command as it is sent."""
    parts = [each if isinstance(each, bytes) else str(each).encode() for each in arguments]
    return b"*%d\r\n%b" % (len(parts), b"".join([bulk(each) for each in parts]))


class Wire(asyncio.Protocol):
    """One connection.

    Args:
        timeout: seconds for each answer. Past it all who wait are told at once; what comes late is still read.
        trouble: told once when answers stay away (`slow`), and when the connection ends.

    Attributes:
        lost: whether it has ended.
        slow: whether an answer took too long; then no more is said of others.
        heard: told each message of channels that are subscribed to, which come between answers.
    """

    def __init__(self, timeout: float, trouble: Callable[[str], None]) -> None:
        self.timeout = timeout
        self.lost = self.slow = False
        self.heard: Callable[[bytes], None] | None = None
        self._trouble = trouble
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[Any] | None, float, Late | None]] = deque()
        self._out: list[bytes] = []
        self._deadline = 0.0
        self._timer: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport

    def hurry(self, timeout: float) -> None:
        """From now on answers have to come in this time; to log in they might take longer."""
        self.timeout = max(timeout - _LATE, timeout / 2)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def call(self, sent: bytes, late: Late | None = None) -> asyncio.Future[Any]:
        """Send a command; what comes of it is the answer, or StoreUnavailable."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._send(sent, future, late)
        return future

    def tell(self, sent: bytes) -> None:
        """Send a command whose answer nobody needs."""
        self._send(sent, None, None)

    def _send(self, sent: bytes, future: asyncio.Future[Any] | None, late: Late | None) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
            self._deadline = self._loop.time() + self.timeout
            if self._timer is None:
                self._timer = self._loop.call_at(self._deadline, self._look_once_more)
        self._out.append(sent)
        self._waiting.append((future, self._deadline, late))

    def _flush(self) -> None:
        sent = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        if not self.lost:
            self._transport.write(sent)

    # A loop that was busy elsewhere runs its timers before it reads: the answer may be there already.

    def _look_once_more(self) -> None:
        self._timer = self._loop.call_soon(self._loop.call_soon, self._judge)

    def _judge(self) -> None:
        self._timer = None
        if self.lost or not self._waiting:
            return
        deadline = self._waiting[0][1]
        if deadline > self._loop.time():
            self._timer = self._loop.call_at(deadline, self._look_once_more)
        elif not self.slow:
            self.slow = True  # until it is asked whether it is back
            self._give_up("no answer in time")

    def _give_up(self, reason: str) -> None:
        self._trouble(reason)
        for future, _, _ in self._waiting:
            if future is not None and not future.done():
                future.set_exception(StoreUnavailable(reason))

    def abort(self) -> None:
        if not self.lost:
            self._transport.abort()

    def close(self) -> None:
        """End once all is sent."""
        self._flush()
        self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (answer := reader.gets()) is not False:
                if self.heard is not None and isinstance(answer, list) and answer[:1] == [b"message"]:
                    self.heard(answer[2])
                    continue
                future, _, late = waiting.popleft()
                if future is not None and not future.done():
                    if isinstance(answer, hiredis.ReplyError):
                        future.set_exception(Refused(str(answer)))
                    else:
                        future.set_result(answer)
                elif late is not None:
                    late(answer)
        except (hiredis.ProtocolError, IndexError):  # this is no Redis
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._give_up("connection lost")
        self._waiting.clear()


async def asked(wire: Wire, commands: Sequence[bytes]) -> list[Any]:
    """The answers to commands that are sent together.

    Raises:
        StoreUnavailable: there is no answer to one of them, or it is an error.
    """
    answers = [wire.call(each) for each in commands]
    try:
        return [await each for each in answers]
    finally:
        for each in answers:
            if not each.cancel() and not each.cancelled():
                each.exception()  # has been seen
