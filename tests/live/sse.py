"""A request for an event stream to a gateway in memory, whose answer is read as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import orjson

PATIENCE = 20.0


class Event(NamedTuple):
    """A block of the stream: an event, or a comment, which has no name."""

    name: str
    data: Any


class EventStream:
    """A client's end.

    Attributes:
        status, headers: of the answer.
    """

    def __init__(
        self,
        app: Any,
        query: str,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        address: str = "192.0.2.1",
        **parameters: Any,
    ) -> None:
        given = {"host": "gateway.example", "accept": "text/event-stream"} | dict(headers or {})
        body = b""
        if method == "POST":
            body = orjson.dumps({"query": query, **parameters})
            given |= {"content-type": "application/json", "content-length": str(len(body))}
        self.app = app
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("gateway.example", 80),
            "client": (address, 40000),
            "root_path": "",
            "path": "/graphql",
            "raw_path": b"/graphql",
            "query_string": urlencode({"query": query, **parameters}).encode() if method == "GET" else b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        }
        self._up: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._up.put_nowait({"type": "http.request", "body": body})
        self._down: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._text = b""
        self._over = False
        self.takes = asyncio.Event()
        self.takes.set()
        self.task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.app(self.scope, self._up.get, self._send))
        start = await asyncio.wait_for(self._down.get(), PATIENCE)
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def _send(self, message: dict[str, Any]) -> None:
        await self.takes.wait()
        self._down.put_nowait(message)

    async def block(self) -> Event | None:
        """The next block; None at the end."""
        while b"\n\n" not in self._text:
            if self._over:
                return None
            message = await asyncio.wait_for(self._down.get(), PATIENCE)
            self._text += message.get("body", b"")
            self._over = not message.get("more_body", False)
        block, _, self._text = self._text.partition(b"\n\n")
        if block == b":":
            return Event("", None)
        fields = dict(line.split(":", 1) for line in block.decode().split("\n"))
        data = fields.get("data", "").strip()
        if "retry" in fields:
            return Event("retry", int(fields["retry"]))
        return Event(fields["event"].strip(), orjson.loads(data) if data else None)

    async def event(self) -> Event | None:
        """The next event, whatever comments come before it; None at the end."""
        while (block := await self.block()) is not None:
            if block.name:
                return block
        return None

    async def body(self) -> Any:
        """All of an answer that is no stream."""
        message = await asyncio.wait_for(self._down.get(), PATIENCE)
        return orjson.loads(message["body"])

    async def leave(self) -> None:
        """Disconnect, and wait until the gateway has noticed."""
        self.takes.set()
        self._up.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, PATIENCE)
