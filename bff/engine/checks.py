"""What a resolver gave, looked at before it is completed: a promise about its values is kept, or is an error."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

Check: TypeAlias = Callable[[list[Any], dict[str, Any]], list[Any]]
"""The values that a field's resolver gave for some parents, and its arguments, to the values that are completed: the
same, others in their place, or errors. Errors and nulls are among what it is given. It never raises one."""

CHECK = "engine.check"
"""The key of a `Check` in `GraphQLField.extensions`."""


def each_checked(check: Check, function: Callable[..., Any]) -> Callable[..., Any]:
    """A resolver of one parent at a time, with its value looked at. Values that come later than its call are not."""
    if inspect.iscoroutinefunction(function):

        async def resolve_soon(*args: Any, **arguments: Any) -> Any:
            return check([await function(*args, **arguments)], arguments)[0]

        return resolve_soon

    def resolve_now(*args: Any, **arguments: Any) -> Any:
        return check([function(*args, **arguments)], arguments)[0]

    return resolve_now
