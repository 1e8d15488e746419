"""Accounts in a shared store: the same decisions as in memory, by a script that is one step and one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import count
from typing import Any

from bff.core.store.account import Decision, Slot, Window
from bff.core.store.shared import RESERVE, SETTLE, STAY, SharedStore
from bff.core.store.wire import bulk, command

_MAX_NAME = 200
"""Bytes of an account's name that are a part of its key; of longer ones, a hash is."""

_SPARE = 1000
"""Milliseconds that a key outlives what counts of it."""


class SharedLedger:
    """Accounts of all gateways that share a store."""

    def __init__(self, store: SharedStore) -> None:
        self.store = store
        self._numbers = count()
        self._holding: dict[str, SharedReservation] = {}
        store.every(store.lease / 3000, self.stay)

    def key(self, account: str) -> bytes:
        name = account.encode()
        if len(name) > _MAX_NAME:
            name = b"sha256-" + sha256(name).hexdigest().encode()
        # One node has all keys of an account: what is in braces decides.
        return b"%b:{%b}" % (self.store.settings.prefix.encode(), name.replace(b"}", b"%7D"))

    async def reserve(self, account: str, windows: Sequence[Window], cost: int, slots: Sequence[Slot] = ()) -> Decision:
        """As MemoryStore.reserve.

        Raises:
            StoreUnavailable: it is not known. What is taken after all is given back.
        """
        key, terms = self.key(account), _terms(tuple(windows), tuple(slots))
        who = f"{self.store.me}-{next(self._numbers)}" if slots else ""

        def give_back(answer: Any) -> None:
            if isinstance(answer, list) and not answer[0]:
                given = SharedReservation(self, key, terms, answer, cost, who)
                given.settle(0)
                given.release()

        sent = terms.asking(key, self.store.now, cost, who, self.store.lease)
        answer = await self.store.call(key, sent, give_back)
        refusing, over, wait = answer[:3]
        states = list(zip(answer[3::3], answer[4::3], strict=True))
        if refusing:
            return Decision(terms.named(refusing), terms.named(over), states, None if wait < 0 else wait)
        taken = SharedReservation(self, key, terms, answer, cost, who)
        if slots:
            self._holding[who] = taken
        return Decision((), terms.named(over) if over else (), states, 0, taken)

    async def look(
        self, account: str, windows: Sequence[Window], slots: Sequence[Slot] = ()
    ) -> tuple[list[tuple[int, int]], dict[str, int]] | None:
        """As MemoryStore.look; None where there is no such account.

        Raises:
            StoreUnavailable: it is not known.
        """
        key, terms = self.key(account), _terms(tuple(windows), tuple(slots))
        answer = await self.store.call(key, terms.asking(key, self.store.now, 0, "", self.store.lease))
        end = 3 + 3 * len(windows)
        held = {slot.name: number for slot, number in zip(slots, answer[end:], strict=True) if number}
        if not held and not await self.store.call(key, command("EXISTS", key)):
            return None
        return list(zip(answer[3:end:3], answer[4:end:3], strict=True)), held

    async def stay(self) -> None:
        """Say of all slots that are held that they still are."""
        for who, each in list(self._holding.items()):
            self.store.tell(each.key, STAY(each.slots, self.store.now, self.store.lease, who))
            await asyncio.sleep(0)

    def settle(self, taken: SharedReservation, by: int) -> None:
        charged = [part for pair in taken.charged for part in pair]
        if charged:
            self.store.tell(taken.key, SETTLE([taken.key], by, *charged))

    def release(self, taken: SharedReservation) -> None:
        self._holding.pop(taken.who, None)
        for each in taken.slots:
            self.store.tell(taken.key, command("ZREM", each, taken.who))


class SharedReservation:
    """Units and slots that were taken in a shared store; what becomes of them is told to it and not waited for."""

    __slots__ = ("_ledger", "_released", "_terms", "_where", "cost", "key", "who")

    def __init__(self, ledger: SharedLedger, key: bytes, terms: _Terms, answer: list[int], cost: int, who: str) -> None:
        self._ledger, self._terms, self._released = ledger, terms, False
        self._where = answer[5 : 3 + 3 * len(terms.ids) : 3]
        self.key, self.cost, self.who = key, cost, who

    @property
    def charged(self) -> list[tuple[bytes, int]]:
        """The windows from which units were taken, and in which slice."""
        return [(id, number) for id, number in zip(self._terms.ids, self._where, strict=True) if number >= 0]

    @property
    def slots(self) -> list[bytes]:
        return [] if self._released else self._terms.slots_of(self.key)

    def settle(self, cost: int) -> None:
        if cost != self.cost:
            self._ledger.settle(self, cost - self.cost)
            self.cost = cost

    def release(self) -> None:
        if not self._released and self.who:
            self._ledger.release(self)
        self._released = True


class _Terms:
    """Windows and slots as the script is told them: the part of a command that is always the same."""

    def __init__(self, windows: Sequence[Window], slots: Sequence[Slot]) -> None:
        self._names = [*(each.name for each in windows), *(each.name for each in slots)]
        self._slots = [b":" + each.name.encode() for each in slots]
        self.ids: list[bytes] = []
        told: list[bytes | int] = [
            max((each.seconds * 1000 + each.slice for each in windows), default=0) + _SPARE,
            len(windows),
        ]
        for window in windows:
            # What was spent stays spent when a limit changes its amount, its name or its place.
            same = sum(each.startswith(b"%d." % window.slice) for each in self.ids)
            self.ids.append(b"%d.%d:" % (window.slice, same))
            told += [self.ids[-1], window.amount, window.slice, window.span, int(window.enforced)]
        for slot in slots:
            told += [slot.most, int(slot.enforced)]
        keys = 1 + len(slots)
        self._head = b"*%d\r\n%b%b%b" % (
            3 + keys + 4 + len(told), bulk(b"EVALSHA"), bulk(RESERVE.hash), bulk(b"%d" % keys),
        )  # fmt: skip
        self._tail = b"".join([bulk(each if isinstance(each, bytes) else b"%d" % each) for each in told])

    def asking(self, key: bytes, now: int, cost: int, who: str, lease: int) -> bytes:
        keys = bulk(key) + b"".join([bulk(each) for each in self.slots_of(key)]) if self._slots else bulk(key)
        cost_said, now_said, lease_said = b"%d" % cost, b"%d" % now, b"%d" % lease
        return b"%b%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            self._head, keys,
            len(now_said), now_said, len(cost_said), cost_said, len(who), who.encode(), len(lease_said), lease_said,
            self._tail,
        )  # fmt: skip

    def slots_of(self, key: bytes) -> list[bytes]:
        return [key + each for each in self._slots]

    def named(self, bits: int) -> tuple[str, ...]:
        return tuple([name for at, name in enumerate(self._names) if bits >> at & 1])


_terms = lru_cache(maxsize=1024)(_Terms)
