"""The way out: what layers add to an answer before it begins, and how far it has got."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

Header = tuple[bytes, bytes]


class Answer:
    """One request's answer, in `scope["bff.answer"]`. Layers write into it instead of wrapping `send` one by one.

    Attributes:
        headers: on the answer in any case.
        defaults: on the answer unless it has one of that name.
        status, size, begun, complete: what the client was sent so far.
    """

    __slots__ = ("_send", "begun", "complete", "defaults", "headers", "size", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.headers: list[Header] = []
        self.defaults: list[Header] = []
        self.status = 500
        self.size = 0
        self.begun = self.complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        elif message["type"] == "http.response.start":
            self.begun = True
            self.status = message["status"]
            given = list(message.get("headers", ()))
            present = dict(given)
            given += [default for default in self.defaults if default[0] not in present]
            message["headers"] = given + self.headers
        await self._send(message)


def answer_of(scope: Scope) -> Answer:
    found: Answer = scope["bff.answer"]
    return found
