"""A websocket to a gateway in memory: what a server would pass on, and what a client would see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Self

import orjson

PATIENCE = 20.0
PROTOCOL = "graphql-transport-ws"


class Refused(Exception):
    """The handshake was answered with a status."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


class Socket:
    """A client's end.

        async with Socket(gateway.app) as socket:
            await socket.say(type="connection_init")
            assert await socket.hear() == {"type": "connection_ack"}

    Attributes:
        code, reason: with which the gateway closed; None while it is open.
        subprotocol: what the gateway chose.
        takes: whether the client takes what it is sent; while it does not, the gateway has to wait.
    """

    def __init__(
        self,
        app: Any,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] = (PROTOCOL,),
        address: str = "192.0.2.1",
        path: str = "/graphql",
    ) -> None:
        given = {"host": "gateway.example", "connection": "upgrade", "upgrade": "websocket"} | dict(headers or {})
        self.app = app
        self.scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": ("gateway.example", 80),
            "client": (address, 40000),
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}},
        }
        self.code: int | None = None
        self.reason = ""
        self.subprotocol: str | None = None
        self._up: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._down: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._gone = False
        self.takes = asyncio.Event()
        self.takes.set()
        self.task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._up.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(self.app(self.scope, self._up.get, self._send))
        first = await asyncio.wait_for(self._next(), PATIENCE)
        if first["type"] == "websocket.http.response.start":
            body = await asyncio.wait_for(self._next(), PATIENCE)
            await self.task
            raise Refused(first["status"], orjson.loads(body["body"]))
        assert first["type"] == "websocket.accept", first
        self.subprotocol = first.get("subprotocol")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def _send(self, message: dict[str, Any]) -> None:
        await self.takes.wait()
        if self._gone:
            raise OSError("the client is gone")
        if message["type"] == "websocket.close":
            self.code, self.reason = message["code"], message["reason"]
            self._down.put_nowait(None)
        else:
            assert self.code is None, f"{message} after the close"
            self._down.put_nowait(message)

    async def _next(self) -> dict[str, Any]:
        message = await self._down.get()
        assert message is not None, f"closed: {self.code} {self.reason}"
        return message

    def put(self, text: str | bytes) -> None:
        """Send these bytes, as a text or a binary message."""
        kind = "text" if isinstance(text, str) else "bytes"
        self._up.put_nowait({"type": "websocket.receive", kind: text})

    async def say(self, **message: Any) -> None:
        self.put(orjson.dumps(message).decode())

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        message = await asyncio.wait_for(self._next(), PATIENCE)
        heard: dict[str, Any] = orjson.loads(message["text"])
        return heard

    async def init(self, **payload: Any) -> Self:
        await self.say(type="connection_init", payload=payload)
        assert (await self.hear())["type"] == "connection_ack"
        return self

    async def subscribe(self, id: str, query: str, **payload: Any) -> None:
        await self.say(type="subscribe", id=id, payload={"query": query, **payload})

    async def closed(self) -> tuple[int | None, list[dict[str, Any]]]:
        """The code with which the gateway closes, and what it said before that."""
        heard = []
        while (message := await asyncio.wait_for(self._down.get(), PATIENCE)) is not None:
            heard.append(orjson.loads(message["text"]))
        await asyncio.wait_for(self.task, PATIENCE)
        return self.code, heard

    async def leave(self, code: int = 1000) -> None:
        """Close from this end, and wait until the gateway has noticed."""
        self._gone = True
        self.takes.set()
        self._up.put_nowait({"type": "websocket.disconnect", "code": code})
        await asyncio.wait_for(self.task, PATIENCE)
