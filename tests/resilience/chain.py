"""A policy by itself: time that only passes when it is told to, and something behind it that does what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from bff.core.identity import ANONYMOUS
from bff.core.trace import Trace
from bff.upstream.client import Origin
from bff.upstream.phases import Phase, failed

ORIGIN = Origin(ANONYMOUS, Trace("0" * 31 + "1", "0" * 15 + "1", sampled=False), "a-request", 1000.0)


class Clock:
    """Seconds that pass when somebody sleeps, or says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def request(method: str = "GET", headers: dict[str, str] | None = None, **extensions: Any) -> httpx.Request:
    told = {"deadline": 1000.0, "until": 1000.0, "origin": ORIGIN, "whole": True, "target": b"/"} | extensions
    return httpx.Request(method, "http://service", headers=headers, content=b"", extensions=told)


def answer(status: int = 200, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=Whole())


class Whole(httpx.ByteStream):
    """As the transport has it of an answer that is there."""

    content = b""

    def __init__(self) -> None:
        super().__init__(b"")


def raises(kind: type[httpx.TransportError], phase: Phase) -> Callable[[httpx.Request], httpx.Response]:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failed(kind, "as told", request, phase)

    return fail


Behaviour = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class Target(httpx.AsyncBaseTransport):
    """What is behind a policy; it takes `takes` seconds for each call."""

    def __init__(self, behaviour: Behaviour = lambda _: answer(), clock: Clock | None = None, takes: float = 0) -> None:
        self.behaviour, self.clock, self.takes = behaviour, clock, takes
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.clock:
            self.clock.now += self.takes
        given = self.behaviour(request)
        return given if isinstance(given, httpx.Response) else await given


async def outcome(chain: httpx.AsyncBaseTransport, asked: httpx.Request) -> httpx.Response | httpx.TransportError:
    """What comes of it, an error being one of the things that may."""
    try:
        return await chain.handle_async_request(asked)
    except httpx.TransportError as error:
        return error
