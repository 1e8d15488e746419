"""What is purged at one gateway is purged at all that share a store; who cannot hear of it keeps nothing."""

from __future__ import annotations

from random import Random

import msgspec

from bff.core.shelf import Shelf, Tags
from bff.core.store import EVERYTHING, Channel, SharedStore

_messages = msgspec.json.Decoder(list[tuple[str, ...]])


class SharedPurges:
    """Of one shelf, which others of its kind have as well.

    Args:
        shelf: whose purges are told, and which is purged as others say.
        store: over which they hear each other.
        random: spreads the attempts of many gateways to connect.
    """

    def __init__(self, shelf: Shelf, store: SharedStore, random: Random | None = None) -> None:
        self._shelf = shelf
        self.channel = Channel(
            store, "purges", hear=self._hear, connected=shelf.trust, cut_off=shelf.distrust, random=random
        )
        shelf.distrust()
        shelf.tell = self._tell

    def _tell(self, tags: Tags) -> None:
        self.channel.tell(EVERYTHING if tags is None else msgspec.json.encode(sorted(tags)))

    def _hear(self, message: bytes) -> None:
        try:
            tags = frozenset(_messages.decode(message)) if message != EVERYTHING else None
        except msgspec.MsgspecError:
            tags = None  # whatever it means, it is about something that was purged
        self._shelf.heard(tags)
