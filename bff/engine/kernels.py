"""The two loops that every query spends its time in, compiled for the names that they are about.

This is the only generated code. It depends on names alone, not on operations, so that a new operation hardly ever
needs any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

MAX_COMPILED_KEYS = 64


@lru_cache(maxsize=4096)
def attributes(name: str) -> Callable[[Sequence[Any]], list[Any]]:
    """Reads one attribute of all objects."""
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not the name of an attribute")
    read: Callable[[Sequence[Any]], list[Any]] = _compiled(f"lambda objects: [each.{name} for each in objects]")
    return read


@lru_cache(maxsize=1024)
def rows(keys: tuple[str, ...]) -> Callable[[list[list[Any]], int], list[dict[str, Any]]]:
    """Makes dicts with these keys out of columns of that length."""
    if not keys:
        return lambda _columns, count: [{} for _ in range(count)]
    if len(keys) > MAX_COMPILED_KEYS:  # who sends thousands of aliases does not get code of their size kept
        return lambda columns, _count: [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    names = [f"v{index}" for index in range(len(keys))]
    display = ", ".join(f"{key!r}: {name}" for key, name in zip(keys, names, strict=True))
    make: Callable[[list[list[Any]], int], list[dict[str, Any]]] = _compiled(
        f"lambda columns, count: [{{{display}}} for {', '.join(names)}, in zip(*columns)]"
    )
    return make


def _compiled(source: str) -> Any:
    # What stands in the source are identifiers, and keys as repr quotes them.
    return eval(source, {})  # noqa: S307
