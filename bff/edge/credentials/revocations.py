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
_EVERY: Final = 0.5
"""Seconds between two looks at how many there are."""


class Revocations:
    """Keeps `keys` from taking what was revoked here, or in another gateway that shares the store.

    The store is asked how many there are, and for the keys themselves when that has changed or it was away meanwhile.
    One that has forgotten what it knew is told again of all keys that are still listed here.

    Args:
        store: where the keys are.
        keys: those that are listed here.
        telemetry: where it is said of which of these it is heard.
    """

    def __init__(self, store: SharedStore, keys: ApiKeys, telemetry: Telemetry) -> None:
        self._store, self._keys, self._telemetry = store, keys, telemetry
        self._place = store.key("revoked")
        self._count: int | None = None  # None: what is there is not known
        self._untold = frozenset[bytes]()

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await self.look()

    async def look(self) -> None:
        """Hear of what others have revoked; a store that is away is asked again later."""
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
        if len(self._keys.revoked) >= MOST:
            raise ConfigError.of(
                self._place.decode(),
                f"there are {MOST} revoked keys in the store: take them out of all configurations and key files, then "
                "delete this key of the store",
            )
        self._refuse(self._keys.revoked | {key.digest})
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
        listed = frozenset(each.digest for each in self._keys.listed)
        return listed & self._keys.revoked | self._untold

    def _refuse(self, revoked: frozenset[bytes]) -> None:
        before = self._keys.revoked
        self._keys.refuse(revoked)
        for each in self._keys.listed:
            if each.digest in revoked - before:
                self._telemetry.audit("api_key_revoked", consumer=each.consumer, key=shown(each))
