"""Policies: rules over the caller that have a name, for both fronts.

policies: {gold: "caller.tier == 'gold'"}
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from bff.core.expressions import Expression, of_caller
from bff.core.identity import Caller

_KEPT = 4096  # verdicts: an expression takes about 20 µs, and a caller asks again and again


class Policies:
    """The policies of the configuration.

    Args:
        expressions: over `caller`, by name.
    """

    def __init__(self, expressions: Mapping[str, Expression]) -> None:
        self.expressions = expressions
        self.holds = lru_cache(_KEPT)(self._holds)

    def _holds(self, name: str, caller: Caller) -> bool:
        return self.expressions[name].holds({"caller": of_caller(caller)})


NO_POLICIES = Policies({})
