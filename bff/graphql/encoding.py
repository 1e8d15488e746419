"""Answers as JSON: by msgspec, which knows the objects that the engine makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = ((str, str.__str__), (int, int.__pos__), (float, float.__pos__))


def _plain(value: Any) -> Any:
    """Text and numbers of classes of their own, to which scalars may come."""
    for kind, plain in _PLAIN:
        if isinstance(value, kind):
            return plain(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON has: a scalar has to serialize what it is of")


encoded = msgspec.json.Encoder(enc_hook=_plain).encode
