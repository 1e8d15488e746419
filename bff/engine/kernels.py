"""The two loops that every query spends its time in, made for the names that they are about.

Only here is code generated. It depends on names alone, not on operations, so that a new operation hardly ever needs
any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

Rows: TypeAlias = Callable[[list[list[Any]], int], list[Any]]
"""Makes the objects of an answer out of their columns, all of that length."""

MAX_COMPILED_KEYS = 64


@lru_cache(maxsize=4096)
def attributes(name: str) -> Callable[[Sequence[Any]], list[Any]]:
    """Reads one attribute of all objects."""
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not the name of an attribute")
    read: Callable[[Sequence[Any]], list[Any]] = _compiled(f"lambda objects: [each.{name} for each in objects]")
    return read


@lru_cache(maxsize=1024)
def dicts(keys: tuple[str, ...]) -> Rows:
    """Makes dicts with these keys."""
    if not keys:
        return lambda _columns, count: [{} for _ in range(count)]
    if len(keys) > MAX_COMPILED_KEYS:  # who sends thousands of aliases does not get code of their size kept
        return lambda columns, _count: [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    names = _names(keys)
    display = ", ".join(f"{key!r}: {name}" for key, name in zip(keys, names, strict=True))
    make: Rows = _compiled(f"lambda columns, count: [{{{display}}} for {', '.join(names)}, in zip(*columns)]")
    return make


@lru_cache(maxsize=1024)
def structs(keys: tuple[str, ...]) -> Rows:
    """Makes msgspec Structs that are encoded with these keys, as dicts would be; large ones are dicts."""
    if not keys or len(keys) > MAX_COMPILED_KEYS:
        return dicts(keys)
    names = _names(keys)  # attributes of their own, since a key may be `__class__`
    # As parts of a tree they never hold themselves: the collector need not know of them.
    row = msgspec.defstruct("Row", names, rename=dict(zip(names, keys, strict=True)), gc=False)
    return lambda columns, _count: list(map(row, *columns))


def unpacked(value: Any) -> Any:
    """The same answer, or part of one, with dicts for Structs."""
    if isinstance(value, msgspec.Struct):
        members = zip(value.__struct_encode_fields__, msgspec.structs.astuple(value), strict=True)
        return {key: unpacked(each) for key, each in members}
    if isinstance(value, dict):
        return {key: unpacked(each) for key, each in value.items()}
    return [unpacked(each) for each in value] if isinstance(value, list) else value


def _names(keys: tuple[str, ...]) -> list[str]:
    return [f"v{index}" for index in range(len(keys))]


def _compiled(source: str) -> Any:
    # What stands in the source are identifiers, and keys as repr quotes them.
    return eval(source, {})  # noqa: S307
