"""The handshake that makes a websocket of a connection: from then on it is uvicorn's protocol's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from uvicorn import Config
from uvicorn.server import ServerState

Header = tuple[bytes, bytes]


def is_handshake(method: bytes, headers: Iterable[Header]) -> bool:
    return method == b"GET" and [value.lower() for name, value in headers if name == b"upgrade"] == [b"websocket"]


def hand_over(
    transport: asyncio.Transport,
    url: bytes,
    headers: Iterable[Header],
    rest: bytes,
    config: Config,
    server: ServerState,
    app_state: dict[str, Any],
) -> None:
    """Go on with uvicorn's protocol, as if the handshake and the `rest` of what was read had come there."""
    protocol_class = cast("type[Any]", config.ws_protocol_class)
    protocol = protocol_class(config=config, server_state=server, app_state=app_state)
    lines = [b"GET %b HTTP/1.1" % url, *(b"%b: %b" % header for header in headers), b"", rest]
    protocol.connection_made(transport)
    transport.set_protocol(protocol)
    transport.resume_reading()
    protocol.data_received(b"\r\n".join(lines))
