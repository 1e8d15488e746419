"""The way in: a request's body within its bound, and the client's leaving noticed while an answer is made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive, Scope

from bff.core.errors import PayloadTooLarge

T = TypeVar("T")


class ClientGone(Exception):
    """The client left before it had its answer: there is nobody to tell anything."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, if its route allows that much.

    Raises:
        PayloadTooLarge: it does not; the rest is not read.
    """
    bound: int = scope["bff.route"].max_body
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > bound:
            raise too_large(bound)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if len(chunks) > 1 else chunk


def too_large(bound: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than the {bound} bytes that this route takes")


async def until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """The outcome of `work`, which is cancelled if the client leaves first. The body must have been read.

    Raises:
        ClientGone: it left.
    """
    current = asyncio.current_task()
    assert current is not None  # noqa: S101 - an ASGI app is always run by a task
    gone = False

    def left(_: asyncio.Task[None]) -> None:
        nonlocal gone
        gone = True
        current.cancel()

    watch = asyncio.ensure_future(_disconnect(receive))
    watch.add_done_callback(left)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or current.uncancel() > 0:
            raise
        raise ClientGone from None
    finally:
        watch.remove_done_callback(left)
        watch.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
