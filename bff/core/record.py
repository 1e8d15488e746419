"""What services answer, decoded."""

from __future__ import annotations

from typing import dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, gc=False):
    """One thing that a service answers with: the fields that are used, by their names in JSON.

        class Product(Record):
            id: str
            price: Money
            tags: list[str] = []

    It cannot be changed, so it can't refer to itself either, and the garbage collector is spared looking at it. What
    the service sends beyond these fields is skipped; what does not fit them makes the answer a bad one.
    """
