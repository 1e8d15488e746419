"""Messages of graphql-transport-ws as they come in: whatever is none closes the socket with 4400."""

from __future__ import annotations

from typing import Any, Final

import orjson
from starlette.types import Message

MAX_ID: Final = 256
"""Characters of an operation's id."""


class Closed(Exception):
    """The socket is to be closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def parsed(message: Message) -> dict[str, Any]:
    """The JSON object that a websocket's message is."""
    text = message.get("text")
    if text is None:
        raise Closed(4400, "Invalid message: it must be text")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Closed(4400, "Invalid message: it must be JSON") from None
    if not isinstance(value, dict):
        raise Closed(4400, "Invalid message: it must be an object")
    return value


def payload_of(message: dict[str, Any]) -> dict[str, Any]:
    payload = message.get("payload")
    if payload is None:
        return {}
    if not isinstance(payload, dict):
        raise Closed(4400, "Invalid message: the payload must be an object")
    return payload


def id_of(message: dict[str, Any]) -> str:
    id = message.get("id")
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID:
        raise Closed(4400, f"Invalid message: the id must be text of 1 to {MAX_ID} characters")
    return id
