"""Client certificates (mutual TLS): whose each is. That it is genuine was settled in the handshake, by `server.tls`."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

from cryptography import x509
from pydantic import Field, PlainValidator, WithJsonSchema

from bff.core.certificates import Certificate
from bff.core.errors import CsrfPrevented
from bff.core.identity import Caller
from bff.core.settings import Complaint, Instant, Settings, malformed
from bff.edge.credentials.claims import Name, tier_in
from bff.edge.credentials.pages import is_from_own_page
from bff.edge.credentials.refusals import invalid

Headers = Iterable[tuple[bytes, bytes]]

_FINGERPRINT = re.compile(r"(?:sha256:)?((?:[0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2})")
_SPACES = re.compile(r"(?<!\\), +")
_ALTERNATIVE = r"^(DNS|URI|email|IP):[!-~]{1,1000}$"


def _fingerprint(value: object) -> str:
    match = _FINGERPRINT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise malformed("the SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` prints it")
    return match[1].replace(":", "").lower()


def _subject(value: object) -> str:
    """In the one way in which `Certificate.subject` is written, whatever spaces people put after commas."""
    written = _SPACES.sub(",", value) if isinstance(value, str) else ""
    try:
        return x509.Name.from_rfc4514_string(written).rfc4514_string() or _no_name()
    except ValueError:
        return _no_name()


def _no_name() -> str:
    raise malformed("a distinguished name (RFC 4514) such as `CN=till,O=Acme`")


Fingerprint = Annotated[
    str, PlainValidator(_fingerprint), WithJsonSchema({"type": "string", "pattern": f"^{_FINGERPRINT.pattern}$"})
]
DistinguishedName = Annotated[
    str, PlainValidator(_subject), WithJsonSchema({"type": "string", "examples": ["CN=till,O=Acme"]})
]


class ClientCertificateSettings(Settings):
    """Whose a certificate is that one of `server.tls.client_ca` has signed; exactly one key says which one it is."""

    consumer: Name
    fingerprint: Fingerprint | None = None
    """This one certificate: its SHA-256."""
    san: str | None = Field(default=None, pattern=_ALTERNATIVE)
    """Any with this alternative name: `URI:spiffe://acme/till`, `DNS:till.acme.example`, `email:`, `IP:`."""
    subject: DistinguishedName | None = None
    """Any with this distinguished name (RFC 4514): `CN=till,O=Acme`."""
    issuer: DistinguishedName | None = None
    """Only if this authority has signed it."""
    scopes: tuple[Name, ...] = ()
    tier: str = "default"
    entitlements: str | None = None
    """A table of `entitlements`; by default the one of its tier."""
    expires: Instant | None = None
    """From when on it is refused; a certificate's own end counts as well."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is looked up by."""
        named = {"fingerprint": self.fingerprint, "san": self.san, "subject": self.subject}
        return next(((kind, name) for kind, name in named.items() if name is not None), ("", ""))

    def problems(self) -> Iterable[Complaint]:
        said = [each for each in (self.fingerprint, self.san, self.subject) if each is not None]
        if len(said) != 1:
            yield (), "needs exactly one of `fingerprint`, `san` and `subject`"


class ClientCertificates:
    """Callers by the certificate of their connection.

    Args:
        settings: whose each is; without any, certificates open connections and are no credential.
        tiers: those that exist.
        clock: seconds since 1970.
    """

    def __init__(
        self, settings: Sequence[ClientCertificateSettings], tiers: frozenset[str], clock: Callable[[], float]
    ) -> None:
        self._tiers, self._clock = tiers, clock
        self._known: dict[tuple[str, str], list[ClientCertificateSettings]] = {}
        for each in settings:
            self._known.setdefault(each.key, []).append(each)

    def __bool__(self) -> bool:
        return bool(self._known)

    def holder(self, certificate: Certificate, headers: Headers) -> Caller:
        """Whose certificate it is: by its fingerprint, else by the first of its alternative names, else by its subject.

        Raises:
            Unauthenticated: nobody's, or it has ended.
            CsrfPrevented: a page of another site may have made the browser send the request.
        """
        # A browser shows its certificate whichever page asks.
        if not is_from_own_page(dict(headers), unsaid=True):
            raise CsrfPrevented(
                "A client certificate counts only in requests from programs and from the gateway's own pages: "
                "send a token in `Authorization`"
            )
        entry = self._entry(certificate)
        if entry is None:
            raise invalid("The client certificate is nobody's here: ask for it to be entered, or use another")
        expires = min(certificate.expires, certificate.expires if entry.expires is None else entry.expires)
        if self._clock() >= expires:
            raise invalid("The client certificate has expired: get a new one")
        return Caller(
            consumer=entry.consumer,
            scopes=frozenset(entry.scopes),
            tier=tier_in(entry.tier, self._tiers),
            credential="client_certificate",
            entitlements=entry.entitlements,
            expires=expires,
        )

    def _entry(self, certificate: Certificate) -> ClientCertificateSettings | None:
        names = [("san", each) for each in certificate.names]
        for key in (("fingerprint", certificate.fingerprint), *names, ("subject", certificate.subject)):
            for entry in self._known.get(key, ()):
                if entry.issuer in {None, certificate.issuer}:
                    return entry
        return None


def is_bound_to(caller: Caller, certificate: Certificate | None) -> bool:
    """Whether the caller is who has connected: its token may hold the hash of a certificate (RFC 8705 §3)."""
    if caller.bound_to is None:
        return True
    return certificate is not None and caller.bound_to == thumbprint(certificate)


def thumbprint(certificate: Certificate) -> str:
    """What `x5t#S256` says of it."""
    return urlsafe_b64encode(bytes.fromhex(certificate.fingerprint)).rstrip(b"=").decode()
