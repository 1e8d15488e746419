"""API keys that no gateway takes any more, whatever its files say: the store has their hashes, and all look there."""

from __future__ import annotations

import asyncio
from typing import Final

from bff.core.loading import ConfigError
from bff.core.store import SharedStore, StoreUnavailable
from bff.core.store.wire import command
from bff.core.telemetry import Telemetry
from bff.edge.credentials.api_keys import ApiKeys, ApiKeySettings, shown

MOST: Final = 10_000
"""Keys in the store, 32 bytes each."""
EVERY: Final = 0.5
"""Seconds between two looks at how many there are."""


class Revocations:
    """Keeps listed keys from being taken that were revoked here, or in another gateway that shares the store.

    The store is asked how many there are, and for the keys themselves when that has changed or it was away meanwhile.
    One that has forgotten what it knew is told again of all keys that are still listed here.

    Args:
        store: where the keys are.
        telemetry: where it is said of which of those that are listed it is heard.
        before: of the store that this one takes the place of: what was revoked there stays so.

    Attributes:
        revoked: hashes of all keys that are known to be.
    """

    def __init__(self, store: SharedStore, telemetry: Telemetry, before: Revocations | None = None) -> None:
        self._store, self._telemetry, self._before = store, telemetry, before
        self._place = store.key("revoked")
        self._held: list[ApiKeys] = []
        self.revoked = self._untold = frozenset[bytes]()
        self._count: int | None = None  # None: what is there is not known
        self._one_at_a_time = asyncio.Lock()

    async def begin(self) -> None:
        if self._before:
            self.revoked, self._before = self._before.revoked, None

    def hold(self, keys: ApiKeys) -> None:
        """Keep these from being taken, until `leave`: those of one configuration, and of the next one beside it."""
        self._held.append(keys)
        keys.refuse(self.revoked)

    def leave(self, keys: ApiKeys) -> None:
        self._held.remove(keys)

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Hear of what others have revoked; a store that is away is asked again later."""
        async with self._one_at_a_time:
            try:
                count = await self._store.call(self._place, command("SCARD", self._place))
                if count != self._count:
                    await self._read()
            except StoreUnavailable:
                self._count = None

    async def revoke(self, key: ApiKeySettings) -> bool:
        """Refuse a key from now on: whether others know; if not, they are told once the store is back.

        Raises:
            ConfigError: the store has no room for it.
        """
        if len(self.revoked) >= MOST:
            raise ConfigError.of(
                self._place.decode(),
                f"there are {MOST} revoked keys in the store: take them out of all configurations and key files, then "
                "delete this key of the store",
            )
        self._refuse(self.revoked | {key.digest})
        try:
            await self._store.call(self._place, command("SADD", self._place, key.digest))
        except StoreUnavailable:
            self._count, self._untold = None, self._untold | {key.digest}
            return False
        return True

    async def _read(self) -> None:
        there = frozenset(await self._store.call(self._place, command("SMEMBERS", self._place)))
        missing = self._known() - there
        if missing:
            await self._store.call(self._place, command("SADD", self._place, *missing))
        there |= missing
        self._untold -= there
        self._count = None if self._untold else len(there)
        self._refuse(there | self._known())  # one may have been revoked here meanwhile

    def _known(self) -> frozenset[bytes]:
        """What the store has to have, whatever it says."""
        return self.revoked.intersection(self._listed()) | self._untold

    def _refuse(self, revoked: frozenset[bytes]) -> None:
        before, self.revoked = self.revoked, revoked
        for keys in self._held:
            keys.refuse(revoked)
        for digest, each in self._listed().items():
            if digest in revoked - before:
                self._telemetry.audit("api_key_revoked", consumer=each.consumer, key=shown(each))

    def _listed(self) -> dict[bytes, ApiKeySettings]:
        return {each.digest: each for keys in self._held for each in keys.listed}
