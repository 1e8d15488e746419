"""API keys: 256 random bits, of which only the hash is kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from bff.core.identity import Caller
from bff.core.settings import Instant, Settings, malformed
from bff.edge.credentials.claims import Name, tier_in
from bff.edge.credentials.refusals import invalid

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def _hash(value: object) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        # Never shown: it may be the key itself.
        raise malformed("`sha256:` and 64 hexadecimal digits, as `bff keys create` prints them", show=False)
    return value


Hash = Annotated[str, PlainValidator(_hash), WithJsonSchema({"type": "string", "pattern": f"^{_HASH.pattern}$"})]


class ApiKeySettings(Settings):
    """One API key, of which only the hash is known."""

    consumer: Name
    hash: Hash
    """`sha256:` and the hash of a random key of 256 bits, as `bff keys create` prints it."""
    scopes: tuple[Name, ...] = ()
    tier: str = "default"
    entitlements: str | None = None
    """A table of `entitlements`; by default the one of its tier."""
    prefix: str | None = Field(default=None, pattern=r"^[!-~]{1,300}$")
    """How the key begins, so that people can tell which one it is."""
    created: Instant | None = None
    expires: Instant | None = None
    """From when on it is refused."""


class ApiKeys:
    """Callers by the hash of their key: a key is random, so a plain hash of it is as hard to guess as itself.

    Args:
        settings: the keys of the configuration, which stay.
        tiers: those that a key may be of.
        clock: seconds since 1970.
        longest: bytes of a key that is looked at.
    """

    def __init__(
        self, settings: Sequence[ApiKeySettings], tiers: frozenset[str], clock: Callable[[], float], longest: int
    ) -> None:
        self.configured = settings
        self.tiers = tiers
        self._clock = clock
        self._longest = longest
        self.add(())

    def add(self, keys: Sequence[ApiKeySettings]) -> None:
        """Take these keys beside those of the configuration, and no others any more."""
        self._holders = dict(self._holder(each) for each in (*self.configured, *keys))

    def holder(self, key: bytes) -> Caller:
        """Whose key it is.

        Raises:
            Unauthenticated: nobody's, or it has expired.
        """
        digest = sha256(key).digest() if len(key) <= self._longest else b""
        kept, caller = self._holders.get(digest, (b"", None))
        if caller is None or not hmac.compare_digest(kept, digest):
            raise invalid("The API key is not known: check X-API-Key")
        if caller.expires is not None and self._clock() >= caller.expires:
            raise invalid("The API key has expired: get a new one")
        return caller

    def _holder(self, key: ApiKeySettings) -> tuple[bytes, tuple[bytes, Caller]]:
        digest = bytes.fromhex(key.hash.removeprefix("sha256:"))
        caller = Caller(
            consumer=key.consumer,
            scopes=frozenset(key.scopes),
            tier=tier_in(key.tier, self.tiers),
            credential="api_key",
            entitlements=key.entitlements,
            expires=key.expires,
        )
        return digest, (digest, caller)
