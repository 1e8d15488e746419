"""Results as server-sent events, by the graphql-sse protocol in its distinct connections mode.

After https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md . A stream that the gateway ends by itself, since
it goes away or the credential expires, has no `complete`: its client comes again, and says who it is anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from random import Random
from typing import Any

from msgspec.structs import replace
from starlette.types import Scope, Send

from bff.core.errors import GatewayError, ShuttingDown
from bff.core.identity import Caller
from bff.core.lasting import Judge, end_of
from bff.core.receive import ClientGone
from bff.edge.errors import entry
from bff.edge.limits import Tab
from bff.graphql.encoding import encoded
from bff.graphql.execution import Prepared, Result
from bff.graphql.live.operations import Operations
from bff.upstream.client import Origin

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold back what it does not know to be a stream
]
_ALIVE = b":\n\n"
_COMPLETE = b"event: complete\ndata:\n\n"  # without its empty data, a browser's EventSource would not tell of it
_RETRY_MS = (1000, 5000)
"""Clients that all come again at once would meet a gateway that has just begun."""


class OperationStreams:
    """Answers requests that accept `text/event-stream`.

    Args:
        operations: what executes them.
        judge: of the credentials of clients that stay.
        timeout: seconds for one operation, and for each event of a subscription.
        random: for when clients come again.
        clock: seconds since 1970, by which credentials expire.
    """

    def __init__(
        self,
        operations: Operations,
        judge: Judge,
        timeout: float,
        random: Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._judge = judge
        self._operations = operations
        self._settings = operations.settings
        self._timeout = timeout
        self._random = random
        self._clock = clock
        self._open: dict[asyncio.Timeout, asyncio.Task[Any] | None] = {}

    async def answer(self, scope: Scope, send: Send, prepared: Prepared | Result) -> None:
        """Send all results, and signs of life between them."""
        if self._operations.draining:
            raise ShuttingDown
        client = _Client(send, self._settings.send_timeout)
        results = self._results(scope, prepared)
        until = asyncio.timeout_at(end_of(scope["bff.caller"], self._clock()))
        self._open[until] = asyncio.current_task()
        watch = asyncio.create_task(self._end_when_revoked(scope, until))
        try:
            async with until, aclosing(results):
                await self._pump(client, results)
            await client.end(_COMPLETE)
        except TimeoutError:
            await client.end(b"retry: %d\n\n" % self._random.randint(*_RETRY_MS))
        finally:
            watch.cancel()
            del self._open[until]

    async def _end_when_revoked(self, scope: Scope, until: asyncio.Timeout) -> None:
        if not scope["bff.caller"].is_anonymous:
            await self._judge.until_revoked(scope)
            _end(until)

    async def close(self) -> None:
        """End every stream; its client will come again, to somebody else."""
        ends = dict(self._open)
        for until in ends:
            _end(until)
        if tasks := [task for task in ends.values() if task is not None]:
            await asyncio.wait(tasks)

    async def _results(self, scope: Scope, prepared: Prepared | Result) -> AsyncGenerator[Result, None]:
        if not isinstance(prepared, Prepared):
            yield prepared
            return
        caller: Caller = scope["bff.caller"]
        account = caller.account_at(scope["client"][0] if scope.get("client") else None)
        tab: Tab | None = scope.get("bff.tab")
        if tab is not None:
            tab.close()  # how many streams a caller may have has a bound of its own
        explaining = self._operations.requests.explaining(scope, {})
        results = self._operations.results(prepared, lambda: self._origin(scope), account, "sse", tab, explaining)
        try:
            async with aclosing(results):
                async for result in results:
                    yield result
        except GatewayError as error:
            scope["bff.code"] = error.code
            yield {"errors": [entry(error, scope["bff.request_id"])]}

    async def _pump(self, client: _Client, results: AsyncGenerator[Result, None]) -> None:
        coming = asyncio.ensure_future(anext(results))
        try:
            while True:
                await asyncio.wait([coming], timeout=self._settings.heartbeat if client.started else 0)
                if not coming.done():
                    await client.tell(_ALIVE)
                    continue
                try:
                    result = coming.result()
                except StopAsyncIteration:
                    return
                await client.tell(b"event: next\ndata: %b\n\n" % encoded(result))
                coming = asyncio.ensure_future(anext(results))
        finally:
            coming.cancel()
            await asyncio.wait([coming])

    def _origin(self, scope: Scope) -> Origin:
        origin: Origin = scope["bff.origin"]
        return replace(origin, deadline=asyncio.get_running_loop().time() + self._timeout)


def _end(until: asyncio.Timeout) -> None:
    with suppress(RuntimeError):  # it ends already
        until.reschedule(asyncio.get_running_loop().time())


class _Client:
    """Who is told; the answer begins with the first thing that there is to tell."""

    def __init__(self, send: Send, timeout: float) -> None:
        self._send = send
        self._timeout = timeout
        self.started = False

    async def tell(self, text: bytes) -> None:
        await self._take({"type": "http.response.body", "body": text, "more_body": True})

    async def end(self, text: bytes) -> None:
        await self._take({"type": "http.response.body", "body": text})

    async def _take(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                if not self.started:
                    self.started = True
                    await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await self._send(message)
        except TimeoutError:
            raise ClientGone from None
