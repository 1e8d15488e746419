"""The request that services are called for, as balancing sees it: what it says, and which arms were chosen for it."""

from __future__ import annotations

from functools import cached_property

from starlette.types import Scope

from bff.core.head import head
from bff.core.request import RequestView


class Asked:
    """One request of a client's, or one operation over its websocket.

    Attributes:
        arms: of each service that has been called for it, by name: where its calls go, to the last.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.arms: dict[str, str] = {}
        # What the access line and the span will say; of a websocket, that of the operation that began last.
        scope["bff.arms"] = self.arms

    def again(self) -> Asked:
        """The same for the next operation on the same connection."""
        return Asked(self._scope)

    @property
    def address(self) -> str | None:
        """The client's."""
        client = self._scope.get("client")
        return client[0] if client else None

    def header(self, name: bytes) -> str | None:
        """Its value, if it came; of several, the last."""
        value = head(self._scope).values.get(name)
        return None if value is None else value.decode("latin-1")

    @cached_property
    def view(self) -> RequestView:
        """What expressions are over."""
        return RequestView(self._scope)
