"""What a resolver may know of its request. Keep it this short."""

from __future__ import annotations

from collections.abc import Callable

import strawberry

from bff.core.identity import Caller
from bff.upstream.batch import Loads
from bff.upstream.client import Upstream


class Context(Loads):
    """The caller, and all that can be read and called on its behalf.

    Attributes:
        caller: who asks: `subject`, `consumer`, `scopes`.
    """

    def __init__(self, caller: Caller, upstream: Callable[[str], Upstream]) -> None:
        super().__init__(upstream)
        self.caller = caller


Info = strawberry.Info[Context, None]
