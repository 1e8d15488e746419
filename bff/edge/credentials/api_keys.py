"""API keys: 256 random bits, of which only the hash is kept."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from pydantic import Field

from bff.core.identity import Caller
from bff.core.settings import Settings
from bff.edge.credentials.claims import Name, tier_in


class ApiKeySettings(Settings):
    """One API key, of which only the hash is known."""

    consumer: Name
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """`sha256:` and the hash of a random key of 256 bits, as `bff keys create` prints it."""
    scopes: tuple[Name, ...] = ()
    tier: str = "default"


class ApiKeys:
    """Callers by the hash of their key: a key is random, so a plain hash of it is as hard to guess as itself."""

    def __init__(self, settings: Iterable[ApiKeySettings], tiers: frozenset[str]) -> None:
        self._holders = {digest: (digest, caller) for digest, caller in (_holder(each, tiers) for each in settings)}

    def find(self, key: bytes) -> Caller | None:
        digest = sha256(key).digest()
        kept, caller = self._holders.get(digest, (b"", None))
        return caller if hmac.compare_digest(kept, digest) else None


def _holder(key: ApiKeySettings, tiers: frozenset[str]) -> tuple[bytes, Caller]:
    caller = Caller(
        consumer=key.consumer, scopes=frozenset(key.scopes), tier=tier_in(key.tier, tiers), credential="api_key"
    )
    return bytes.fromhex(key.hash.removeprefix("sha256:")), caller
