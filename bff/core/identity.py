"""Who is calling: auth writes it once; limits, cache keys, resolvers and upstream calls read it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Caller:
    """A caller, however it proved who it is.

    Attributes:
        subject: the user's id, for a token that has one.
        consumer: the holder of the API key, or the OAuth client.
        scopes: what it may do.
        tier: which entry of `tiers` says how much it may spend.
        credential: what decided: `anonymous`, `api_key` or `jwt`.
    """

    subject: str | None = None
    consumer: str | None = None
    scopes: frozenset[str] = frozenset()
    tier: str = "default"
    credential: str = "anonymous"

    @property
    def is_anonymous(self) -> bool:
        return self.credential == "anonymous"

    @cached_property
    def account(self) -> str:
        """What its limits are counted under: the person before the program, since one program serves many persons."""
        if self.subject is not None:
            return f"subject:{self.subject}"
        return f"consumer:{self.consumer}"

    @cached_property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The identity headers that services trust; only the gateway ever sets them."""
        if self.is_anonymous:
            return []
        named = [(b"x-auth-subject", self.subject), (b"x-auth-consumer", self.consumer)]
        headers = [(name, value.encode("latin-1", "replace")) for name, value in named if value is not None]
        headers.append((b"x-auth-scopes", " ".join(sorted(self.scopes)).encode("latin-1", "replace")))
        return headers


ANONYMOUS = Caller(tier="anonymous")
