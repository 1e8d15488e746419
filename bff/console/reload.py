"""`/-/reload`: what a reload would change, and the reload itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fastapi import APIRouter, Response

from bff.core.loading.changes import Change

Outcome = Literal["taken", "unchanged", "refused"]


@dataclass(frozen=True)
class Reloaded:
    """What came of a look at the configuration.

    Attributes:
        outcome: whether it counts now.
        problems: why it cannot be used.
        changes: what differs from the one before.
        restart: which of these keys count only from the next start on.
    """

    outcome: Outcome
    problems: Sequence[str] = ()
    changes: Sequence[Change] = ()
    restart: Sequence[str] = ()

    def said(self) -> dict[str, Any]:
        """Without the values: those are for who asks."""
        found = {"problems": self.problems, "changed": [each.key for each in self.changes], "restart": self.restart}
        return {"outcome": self.outcome, **{name: list(each) for name, each in found.items() if each}}

    def shown(self) -> dict[str, Any]:
        return {**self.said(), "changes": [each._asdict() for each in self.changes]}


class Reloads(Protocol):
    """Who can do it."""

    async def look(self) -> Reloaded: ...

    async def reload(self, why: str) -> Reloaded: ...


def reload(reloads: Reloads) -> APIRouter:
    """GET says what would change; POST has it count."""
    pages = APIRouter()

    @pages.get("/-/reload")
    async def look(response: Response) -> dict[str, Any]:
        return _answer(await reloads.look(), response)

    @pages.post("/-/reload")
    async def again(response: Response) -> dict[str, Any]:
        return _answer(await reloads.reload("operator"), response)

    return pages


def _answer(reloaded: Reloaded, response: Response) -> dict[str, Any]:
    response.status_code = 422 if reloaded.outcome == "refused" else 200
    return reloaded.shown()
