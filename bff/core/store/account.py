"""Accounts: what a caller may spend in several windows, and what a store decides of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

SLICES = 100


class Window:
    """One limit over time: at most `amount` units in any `seconds`, or in each calendar period of them (UTC).

    Attributes:
        name: what headers, metrics and refusals call it.
        slice: milliseconds in which units are counted together.
        span: how many earlier slices count with the present one.
        enforced: whether it refuses; otherwise it is only said that it would.
    """

    __slots__ = ("amount", "enforced", "name", "seconds", "slice", "span")

    def __init__(self, name: str, amount: int, seconds: int, *, calendar: bool = False, enforced: bool = True) -> None:
        self.name = name
        self.amount = amount
        self.seconds = seconds
        self.slice = seconds * 1000 if calendar else seconds * 1000 // SLICES
        self.span = 0 if calendar else SLICES
        self.enforced = enforced


class Slot(NamedTuple):
    """A limit on what is under way at a time."""

    name: str
    most: int
    enforced: bool = True


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What became of a request for units.

    Attributes:
        refusing: the names of the limits that refuse; empty if it is admitted.
        over: the names of those that are only measured and would have refused.
        states: for each window what is left, and the milliseconds until there is more.
        wait: milliseconds until there can be as much as was asked for; None if there never can.
        reservation: what was taken, if it is admitted.
    """

    refusing: tuple[str, ...]
    over: tuple[str, ...]
    states: list[tuple[int, int]]
    wait: int | None = 0
    reservation: Reservation | None = None


class Reservation(Protocol):
    """Units that were taken, until it is known what they were worth; and slots, until they are given back."""

    cost: int

    def settle(self, cost: int, /) -> None:
        """Pay `cost` instead of what was taken: the rest is given back where it was taken. Slots are kept."""

    def release(self) -> None:
        """Give the slots back."""
