"""Rows from columns: the only code that is generated, once for each set of response keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")

Rows = Callable[[list[list[Any]], int], list[Any]]


@lru_cache(maxsize=4096)
def rows_of(keys: tuple[str, ...]) -> Rows:
    """A function that makes `[{key: value, ...}, ...]` of columns: a literal, six times as fast as `dict(zip(...))`."""
    if not keys:
        return lambda _columns, count: [{} for _ in range(count)]
    if not all(_NAME.fullmatch(key) for key in keys):
        raise ValueError("a response key is a GraphQL name")
    values = [f"v{index}" for index in range(len(keys))]
    literal = ", ".join(f"{key!r}: {value}" for key, value in zip(keys, values, strict=True))
    source = f"lambda columns, count: [{{{literal}}} for {', '.join(values)}, in zip(*columns)]"
    rows: Rows = eval(source)  # noqa: S307 - nothing in it but the names that were just checked
    return rows
