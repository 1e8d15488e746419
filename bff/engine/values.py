"""What kinds of values resolvers return: whether a column needs a closer look, and what is found by one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from types import NoneType
from typing import Any

from graphql import Undefined

_UndefinedType = type(Undefined)


def plain(values: Iterable[Any]) -> bool:
    """Whether there is no null, no error and nothing to wait for among the values. It is their classes that say so."""
    return all(map(is_plain, set(map(type, values))))


@lru_cache(maxsize=4096)
def is_plain(kind: type) -> bool:
    return not (
        kind is NoneType
        or kind is _UndefinedType
        or issubclass(kind, BaseException)
        or hasattr(kind, "__await__")
        or hasattr(kind, "__aiter__")
        or hasattr(kind, "__getattr__")  # may answer for anything, one object at a time
        or kind.__name__ == "generator"  # may be a coroutine of old
    )


def is_null(value: Any) -> bool:
    return value is None or value is Undefined
