"""The way in: a request's body within its bound, and the client's leaving noticed while an answer is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Protocol, Self

from starlette.types import Message, Receive, Scope

from bff.core.errors import DeadlineExceeded, PayloadTooLarge
from bff.core.head import Head

CUT_SHORT: Final = "cut short by the end of the gateway"
"""The message with which a request's task is cancelled whose client is still there, and is to be told."""


class ClientGone(Exception):
    """The client left before it had its answer: there is nobody to tell anything."""


def bounded_receive(said: Head, receive: Receive, limit: int) -> Receive:
    """A `receive` that ends a body of more than `limit` bytes: here, where its length is announced, else as it comes.

    Raises:
        PayloadTooLarge: here or from what is returned.
    """
    length = said.once(announced)
    if length > limit:
        raise too_large(limit)
    if length >= 0:
        return receive
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:
                raise too_large(limit)
        return message

    return counted


def too_large(bound: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than the {bound} bytes that this route takes")


class Exchange(Protocol):
    """What our own server offers beside ASGI, in `scope["bff.exchange"]`."""

    task: asyncio.Task[None]
    """What answers the request."""

    body_is_here: bool
    """Whether all of the body can be received without waiting."""

    def on_leave(self, call: Callable[[], None] | None) -> None:
        """Have this called when the client leaves before it has its answer."""


class Client:
    """The caller's end: its body, and whether it is still there. If it leaves, the work within is cancelled."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        said: Head = scope["bff.head"]
        self.has_body = said.once(announced) != 0
        self._receive = bounded_receive(said, receive, limit) if self.has_body else receive
        self._exchange: Exchange | None = scope.get("bff.exchange")
        self._left = self._late = self._served = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task() if self._exchange is None else self._exchange.task
        assert task is not None  # noqa: S101 - ASGI apps are run by tasks
        self._task, self._cancelling = task, task.cancelling()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._served:
            self.served()
        if kind is not asyncio.CancelledError or not (self._left or self._late):
            return
        # If somebody else wants this task to end, too, it ends for them.
        if self._task.uncancel() <= self._cancelling:
            if self._left:
                raise ClientGone from error
            raise DeadlineExceeded("The body did not come in time") from None

    async def body(self, deadline: float) -> bytes | AsyncIterator[bytes]:
        """All of a body that came with the head, so that it is one write, or else a stream of it."""
        if not self.has_body:
            return self.no_body()
        alarm = self._alarm(deadline)
        try:
            data, more = await self._chunk()
        finally:
            _cancel(alarm)
        if more:
            return self._stream(data)
        self.watch()
        return data

    def no_body(self) -> bytes:
        """The same of a request without one."""
        self.watch()
        return b""

    async def whole_body(self, deadline: float) -> bytes:
        """All of the body, however it comes."""
        alarm = self._alarm(deadline)
        try:
            data, more = await self._chunk()
            if more:
                chunks = [data]
                while more:
                    data, more = await self._chunk()
                    chunks.append(data)
                data = b"".join(chunks)
        finally:
            _cancel(alarm)
        self.watch()
        return data

    async def _stream(self, data: bytes) -> AsyncIterator[bytes]:
        more = True
        while more:
            yield data
            data, more = await self._chunk()
        self.watch()
        yield data

    async def _chunk(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    def _alarm(self, deadline: float) -> asyncio.TimerHandle | None:
        if self._exchange is not None and self._exchange.body_is_here:
            return None
        return asyncio.get_running_loop().call_at(deadline, self._is_late)

    def _is_late(self) -> None:
        self._late = True
        self._task.cancel()

    def served(self) -> None:
        """Nothing is under way any more that could be cancelled."""
        if self._served:
            return
        self._served = True
        if self._exchange is not None:
            self._exchange.on_leave(None)
        elif self._watch is not None:
            self._watch.cancel()
            self._watch = None  # it ends with a traceback that leads back to here, and so to all of the request

    def watch(self) -> None:
        """From the end of the body on: until then, whoever reads the body sees it leave."""
        if self._served:
            return
        if self._exchange is not None:
            self._exchange.on_leave(self._leave)
        else:
            self._watch = asyncio.create_task(self._until_it_leaves())

    def _leave(self) -> None:
        self._left = True
        self._task.cancel()

    async def _until_it_leaves(self) -> None:
        """On a server that only tells who asks; ours calls, which spares each request a task."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()


def _cancel(alarm: asyncio.TimerHandle | None) -> None:
    if alarm is not None:
        alarm.cancel()


def announced(said: Head) -> int:
    """How long the body is said to be; -1 where there is one and it is not said (RFC 9112 §6.3)."""
    length = said.values.get(b"content-length")
    if length is not None:
        return int(length)
    return -1 if b"transfer-encoding" in said.values else 0
