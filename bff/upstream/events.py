"""A service's event stream that outlives its connections: opened anew with the last event's id when it ends or breaks.

After https://html.spec.whatwg.org/multipage/server-sent-events.html ; but failures are not tried for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from random import Random
from typing import Annotated

import httpx
from prometheus_client import Counter, Gauge
from pydantic import Field

from bff.core.errors import GatewayError, RateLimited, UpstreamBadResponse, UpstreamError, UpstreamUnavailable
from bff.core.settings import Duration, Settings, Size
from bff.core.telemetry import Telemetry
from bff.upstream.sse import Event, Reader, TooLargeError

_FIRST_WAIT = 0.25

Headers = list[tuple[bytes, bytes]]
Open = Callable[[Headers], Awaitable[httpx.Response]]
"""Opens the stream and waits for its head. Raises GatewayError where that does not succeed; statuses are left alone."""


class StreamSettings(Settings):
    """Event streams of a service, on connections beside those of its calls."""

    max_open: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """At once; a stream past it waits for a place, at most a second."""
    max_event: Annotated[Size, Field(ge=1024)] = 64 * 1024
    """Bytes of one event."""
    silence: Annotated[Duration, Field(ge=1)] = 45.0
    """Without a sign of life for so long, a stream is taken for dead and opened anew."""
    max_wait: Annotated[Duration, Field(ge=0.25)] = 10.0
    """Before a stream is opened anew. Waits begin at a quarter of a second and double, less a random part of a half."""
    max_pending: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Values that one who watches may have before them; with one more they do not keep up, and are told so."""
    give_up_after: Duration = 60.0
    """Of nothing but failures, those who watch are told; before a stream's first event, at once."""


class Counts:
    """By which the event streams of all services are counted."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.open = Gauge(
            "http_client_event_streams",
            "Event streams of a service that are open.",
            ["service"],
            registry=telemetry.registry,
        )
        self.reopened = Counter(
            "http_client_event_streams_reopened",
            "Times that an event stream of a service was opened anew after it had ended or failed.",
            ["service"],
            registry=telemetry.registry,
        )


class EventStreams:
    """The event streams of one service.

    Args:
        service: its name.
        transport: what carries them.
        settings: how they are kept going.
        counts: where they are counted.
        random: for the waits.
    """

    def __init__(
        self,
        service: str,
        transport: httpx.AsyncBaseTransport,
        settings: StreamSettings,
        counts: Counts,
        random: Random,
    ) -> None:
        self.service = service
        self.transport = transport
        self.settings = settings
        self.active = counts.open.labels(service)
        self.reopened = counts.reopened.labels(service)
        self.random = random


class EventStream:
    """One stream.

    Args:
        streams: those of its service.
        open: see `Open`.
        refused: the error for an answer that is no stream; it reads and closes the answer.
    """

    def __init__(
        self, streams: EventStreams, open: Open, refused: Callable[[httpx.Response], Awaitable[GatewayError]]
    ) -> None:
        self._streams = streams
        self._service, self._settings = streams.service, streams.settings
        self._open = open
        self._refused = refused
        self._last_id = b""
        self._first_wait = _FIRST_WAIT

    async def events(self) -> AsyncGenerator[Event, None]:
        """All events, until the service says that there will be none any more (204).

        Raises:
            ClientError: the service refuses (4xx).
            UpstreamError: it fails at first, or for too long; or it sends what is no event stream.
        """
        now = asyncio.get_running_loop().time
        heard, failures, good_at = False, 0, now()
        while True:
            opened_at, failed = now(), self._cut()
            try:
                async with aclosing(self._connection()) as connection:
                    async for event in connection:
                        heard, failures, good_at = True, 0, now()
                        yield event
            except _Over:
                return
            except httpx.TransportError:
                pass  # cut after its head had come: as good as ended
            except (UpstreamError, RateLimited) as error:
                failed = error
                if isinstance(error, UpstreamBadResponse) or not heard:
                    raise
            if now() - opened_at > self._settings.max_wait:
                failures, good_at = 0, now()
            elif now() - good_at > self._settings.give_up_after:
                raise failed
            asked = min(failed.retry_after or 0, self._settings.give_up_after)
            await asyncio.sleep(max(self._wait(failures), asked))
            failures += 1
            self._streams.reopened.inc()

    async def _connection(self) -> AsyncGenerator[Event, None]:
        """The events of one connection."""
        headers = [(b"accept", b"text/event-stream"), (b"cache-control", b"no-cache")]
        if self._last_id:
            headers.append((b"last-event-id", self._last_id))
        response = await self._open(headers)
        if response.status_code == HTTPStatus.NO_CONTENT:
            await response.aclose()
            raise _Over
        if response.status_code != HTTPStatus.OK:
            raise await self._refused(response)
        reader = Reader(self._settings.max_event, self._last_id)
        self._streams.active.inc()
        try:
            if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                raise UpstreamBadResponse(self._service, "A service's answer is no event stream", phase="body")
            async for chunk in response.aiter_raw():
                for event in reader.read(chunk):
                    yield event
                    # Only now: an event that nobody has taken is to come again.
                    self._last_id = event.last_id
                if reader.wait is not None:
                    self._first_wait = min(max(reader.wait, _FIRST_WAIT), self._settings.max_wait)
        except TooLargeError:
            raise UpstreamBadResponse(self._service, "An event of a service is too large", phase="body") from None
        finally:
            self._streams.active.dec()
            await response.aclose()

    def _cut(self) -> GatewayError:
        return UpstreamUnavailable(self._service, "A service's event stream ends again and again")

    def _wait(self, failures: int) -> float:
        bound = min(self._first_wait * 2.0 ** min(failures, 10), self._settings.max_wait)
        return bound * (0.5 + self._streams.random.random() / 2)


class _Over(Exception):
    """The service has nothing more to say."""
