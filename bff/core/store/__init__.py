"""What requests leave behind for others: accounts and words, in memory or in a store that several gateways share."""

from bff.core.store.account import SLICES, Decision, Reservation, Slot, Window
from bff.core.store.channel import EVERYTHING, Channel
from bff.core.store.ledger import SharedLedger
from bff.core.store.memory import MemoryStore
from bff.core.store.settings import OnStoreError, StoreSettings, StoreUrl, store_settings
from bff.core.store.shared import SharedStore
from bff.core.store.wire import StoreUnavailable

__all__ = [
    "EVERYTHING",
    "SLICES",
    "Channel",
    "Decision",
    "MemoryStore",
    "OnStoreError",
    "Reservation",
    "SharedLedger",
    "SharedStore",
    "Slot",
    "StoreSettings",
    "StoreUnavailable",
    "StoreUrl",
    "Window",
    "store_settings",
]
