"""Who is calling: auth writes it once; limits, cache keys, resolvers and upstream calls read it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import blake2b

from bff.core.head import lines


@dataclass(frozen=True)
class Caller:
    """A caller, however it proved who it is.

    Attributes:
        subject: the user's id, for a token that has one.
        consumer: the holder of the API key, or the OAuth client.
        scopes: what it may do.
        tier: which entry of `tiers` says how much it may spend.
        credential: what decided: `anonymous`, `api_key`, `jwt`, `introspection` or `client_certificate`.
        issuer: who says so, for a token: the same subject of another issuer is somebody else.
        entitlements: the table that its key names; its tier may name one as well.
        bound_to: the hash of the certificate that has to come with its token (`x5t#S256`, RFC 8705).
        expires: when the credential ends, in seconds since 1970; not a part of who it is.
    """

    subject: str | None = None
    consumer: str | None = None
    scopes: frozenset[str] = frozenset()
    tier: str = "default"
    credential: str = "anonymous"
    issuer: str | None = None
    entitlements: str | None = None
    bound_to: str | None = None
    expires: float | None = field(default=None, compare=False)

    @cached_property
    def is_anonymous(self) -> bool:
        return self.credential == "anonymous"

    @cached_property
    def account(self) -> str:
        """What its limits are counted under: the person before the program, since one program serves many persons."""
        name = f"consumer:{self.consumer}" if self.subject is None else f"subject:{self.subject}"
        return name if self.issuer is None else f"{name} of {self.issuer}"

    @cached_property
    def digest(self) -> bytes:
        """The same for equal callers alone, and short, whatever a token says of one."""
        said = [getattr(self, each.name) for each in fields(self) if each.compare]
        plain = [sorted(each) if isinstance(each, frozenset) else each for each in said]
        return blake2b(ascii(plain).encode(), digest_size=32).digest()

    def account_at(self, address: str | None) -> str:
        """The same, for somebody who calls from there: of the anonymous, the address is all that is known."""
        return f"address:{address}" if address and self.is_anonymous else self.account

    @cached_property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The identity headers that services trust; only the gateway ever sets them."""
        if self.is_anonymous:
            return []
        named = [
            (b"x-auth-subject", self.subject),
            (b"x-auth-consumer", self.consumer),
            (b"x-auth-issuer", self.issuer),
        ]
        headers = [(name, value.encode("latin-1", "replace")) for name, value in named if value is not None]
        headers.append((b"x-auth-scopes", " ".join(sorted(self.scopes)).encode("latin-1", "replace")))
        return headers

    @cached_property
    def lines(self) -> bytes:
        """The same, as they are sent."""
        return lines(self.headers)


ANONYMOUS = Caller(tier="anonymous")
