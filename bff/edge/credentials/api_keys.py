"""API keys: 256 random bits, of which only the hash is kept."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from bff.core.identity import Caller
from bff.core.loading import ConfigError
from bff.core.settings import Instant, Settings, malformed
from bff.edge.credentials.claims import Name, tier_in
from bff.edge.credentials.refusals import invalid

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_SHOWN_OF_HASH = len("sha256:") + 12


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

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.hash.removeprefix("sha256:"))


def shown(key: ApiKeySettings) -> str:
    """What people call a key: how it begins, or its hash does."""
    return key.prefix or key.hash[:_SHOWN_OF_HASH]


def is_called(key: ApiKeySettings, name: str) -> bool:
    return name == key.prefix or (len(name) >= _SHOWN_OF_HASH and key.hash.startswith(name))


def the_one_called(name: str, keys: Iterable[ApiKeySettings], where: str = "api_keys") -> ApiKeySettings:
    """The key of this name.

    Raises:
        ConfigError: there is none, or more than one.
    """
    found = [each for each in keys if is_called(each, name)]
    if len(found) != 1:
        many = f"{len(found)} keys are" if found else "no key is"
        raise ConfigError.of(where, f"{many} called so: say one as `bff keys list` shows it")
    return found[0]


class ApiKeys:
    """Callers by the hash of their key: a key is random, so a plain hash of it is as hard to guess as itself.

    Args:
        settings: the keys of the configuration, which stay.
        tiers: those that a key may be of.
        clock: seconds since 1970.
        longest: bytes of a key that is looked at.

    Attributes:
        configured, added: where the keys are listed.
        revoked: hashes of those that are refused all the same.
    """

    def __init__(
        self, settings: Sequence[ApiKeySettings], tiers: frozenset[str], clock: Callable[[], float], longest: int
    ) -> None:
        self.configured = settings
        self.added: Sequence[ApiKeySettings] = ()
        self.revoked: frozenset[bytes] = frozenset()
        self.tiers = tiers
        self._clock = clock
        self._longest = longest
        self._take()

    @property
    def listed(self) -> Sequence[ApiKeySettings]:
        return *self.configured, *self.added

    def add(self, keys: Sequence[ApiKeySettings]) -> None:
        """Take these keys beside those of the configuration, and no others any more."""
        self.added = keys
        self._take()

    def refuse(self, digests: frozenset[bytes]) -> None:
        """Take none of these, wherever they are listed."""
        if digests != self.revoked:
            self.revoked = digests
            self._take()

    def holder(self, key: bytes) -> Caller:
        """Whose key it is.

        Raises:
            Unauthenticated: nobody's, or it has expired or was revoked.
        """
        digest = sha256(key).digest() if len(key) <= self._longest else b""
        kept, caller = self._holders.get(digest, (b"", None))
        if caller is None or not hmac.compare_digest(kept, digest):
            raise invalid("The API key is not known: check X-API-Key")
        if caller.expires is not None and self._clock() >= caller.expires:
            raise invalid("The API key has expired: get a new one")
        return caller

    def _take(self) -> None:
        self._holders = dict(self._holder(each) for each in self.listed if each.digest not in self.revoked)

    def _holder(self, key: ApiKeySettings) -> tuple[bytes, tuple[bytes, Caller]]:
        caller = Caller(
            consumer=key.consumer,
            scopes=frozenset(key.scopes),
            tier=tier_in(key.tier, self.tiers),
            credential="api_key",
            entitlements=key.entitlements,
            expires=key.expires,
        )
        return key.digest, (key.digest, caller)
