"""What a resolver may know of its request. Keep it this short."""

from __future__ import annotations

from collections.abc import Callable

import strawberry

from bff.core.errors import Forbidden, Unauthenticated
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


def demand(caller: Caller, scopes: frozenset[str]) -> None:
    """Let pass who has all of `scopes`.

    Raises:
        Unauthenticated: nobody is known to ask.
        Forbidden: the caller lacks some; the message names them.
    """
    missing = scopes - caller.scopes
    if not missing:
        return
    if caller.is_anonymous:
        raise Unauthenticated("This field needs a credential: send an API key or a bearer token")
    raise Forbidden(f"This field needs the scope {' '.join(sorted(missing))}")
