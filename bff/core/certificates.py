"""Certificates: what is wrong with those in files, what is made of them when they change, and what clients show."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from prometheus_client import Counter, Gauge

from bff.core.settings import Complaint
from bff.core.telemetry import Telemetry

T = TypeVar("T")

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption alone, which is also all that TLS 1.3 has."""
CERTIFICATE: Final = "bff.certificate"
"""In a request's `state`: the client's certificate, where it has shown one."""
_LISTS: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_LARGEST: Final = 4 * 1024 * 1024
_SOON: Final = 14 * 86400.0


class CertificateError(ValueError):
    """A file of certificates or a key cannot be used.

    Args:
        key: of the settings that name it.
        problem: what is wrong with it, and what to do.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.complaint: Complaint = (key,), problem

    def of(self, among: str, number: int) -> CertificateError:
        """The same, of one of several."""
        (key, *_), problem = self.complaint
        error = CertificateError(f"{among}[{number}].{key}", problem)
        error.complaint = (among, number, key), problem
        return error


def read(key: str, path: Path) -> bytes:
    """What is in a file that the settings name by `key`.

    Raises:
        CertificateError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise CertificateError(key, f"can't be read: {(error.strerror or 'no such file').lower()}") from None
    if len(content) > _LARGEST:
        raise CertificateError(key, "is larger than any file of certificates")
    return content


def certificates(key: str, path: Path) -> list[x509.Certificate]:
    """Those in a file, at least one.

    Raises:
        CertificateError: it cannot be read, or has none.
    """
    try:
        return x509.load_pem_x509_certificates(read(key, path))
    except CertificateError:
        raise
    except ValueError:
        raise CertificateError(key, "has no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None


def check_pair(cert: Path, key: Path) -> x509.Certificate:
    """The first certificate in `cert`, whose private key is in `key`.

    Raises:
        CertificateError: one of them cannot be used, or they do not belong together.
    """
    first = certificates("cert", cert)[0]
    try:
        private = load_pem_private_key(read("key", key), None)
    except TypeError:
        raise CertificateError("key", "is encrypted: keys are read without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, CertificateError):
            raise
        raise CertificateError("key", "has no private key in PEM form (-----BEGIN PRIVATE KEY-----)") from None
    if private.public_key() != first.public_key():
        raise CertificateError("key", f"is not the key of the first certificate in {cert}")
    return first


def load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> x509.Certificate:
    """Have a context present the certificate.

    Raises:
        CertificateError: as of `check_pair`, or OpenSSL does not take them, such as for a key that is too short.
    """
    first = check_pair(cert, key)
    try:
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise CertificateError("cert", f"cannot be used: {_words(error)}") from None
    return first


def trust(context: ssl.SSLContext, key: str, path: Path) -> None:
    """Have a context believe what the authorities in a file have signed.

    Raises:
        CertificateError: there are none.
    """
    certificates(key, path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise CertificateError(key, f"cannot be used: {_words(error)}") from None


def revoked(key: str, path: Path) -> frozenset[tuple[str, int]]:
    """Issuer and number of each certificate in a file's lists (RFC 5280 §5).

    Raises:
        CertificateError: there is no list.
    """
    found = _LISTS.findall(read(key, path))
    if not found:
        raise CertificateError(key, "has no list of revoked certificates in PEM form (-----BEGIN X509 CRL-----)")
    try:
        lists = [x509.load_pem_x509_crl(each) for each in found]
    except ValueError:
        raise CertificateError(key, "has a list that is malformed") from None
    return frozenset((each.issuer.rfc4514_string(), one.serial_number) for each in lists for one in each)


def complaint_of(made: Callable[[], object]) -> Iterator[Complaint]:
    """What is wrong with the files that something is made of, as `Settings.problems` says it."""
    try:
        made()
    except CertificateError as error:
        yield error.complaint


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
    return str(reason).lower().replace("_", " ")


@dataclass(eq=False)
class Certificate:
    """What a client has shown in its handshake, and one of the authorities that are trusted has signed.

    Attributes:
        fingerprint: SHA-256 of all of it, 64 hexadecimal digits.
        subject: its distinguished name (RFC 4514), such as `CN=till,O=Acme`.
        issuer: the distinguished name of who signed it.
        names: its subject's alternative names, by kind: `DNS:`, `URI:`, `email:`, `IP:`.
        serial: its number, by which its issuer revokes it.
        expires: when it ends, in seconds since 1970.
        withdrawn: it would not be let in any more, or the authorities by which it was let in are others now.
    """

    fingerprint: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    serial: int
    expires: float
    withdrawn: bool = False

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Of a certificate that OpenSSL has verified."""
        found = x509.load_der_x509_certificate(der)
        return cls(
            sha256(der).hexdigest(),
            found.subject.rfc4514_string(),
            found.issuer.rfc4514_string(),
            tuple(_names_in(found)),
            found.serial_number,
            found.not_valid_after_utc.timestamp(),
        )


def certificate_of(scope: Mapping[str, Any]) -> Certificate | None:
    """What the client of this request has shown, if it has shown a certificate."""
    state = scope.get("state")
    return state.get(CERTIFICATE) if state else None


_KINDS: Final[dict[type, str]] = {
    x509.DNSName: "DNS",
    x509.UniformResourceIdentifier: "URI",
    x509.RFC822Name: "email",
    x509.IPAddress: "IP",
}


def _names_in(certificate: x509.Certificate) -> Iterator[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return
    for name in names:
        if kind := _KINDS.get(type(name)):
            yield f"{kind}:{name.value}"


def dns_names(certificate: x509.Certificate) -> list[str]:
    """The hosts that it is for, in lower case; `*.` stands for one label."""
    return [each.removeprefix("DNS:").lower() for each in _names_in(certificate) if each.startswith("DNS:")]


class Observed:
    """How certificates are doing, by what each is for: `server`, or the name of a service."""

    def __init__(self, telemetry: Telemetry, clock: Callable[[], float] = time.time) -> None:
        self.log = telemetry.log
        self._clock = clock
        self._expires = Gauge(
            "bff_certificate_expires_timestamp_seconds",
            "When the certificate ends, in seconds since 1970.",
            ["certificate"],
            registry=telemetry.registry,
        )
        self._reloads = Counter(
            "bff_certificate_reloads_total",
            "Times that files of certificates had changed.",
            ["certificate", "outcome"],
            registry=telemetry.registry,
        )

    def taken(self, name: str, ends: datetime | None, *, again: bool) -> None:
        if again:
            self._reloads.labels(name, "taken").inc()
            self.log.info("certificate", certificate=name, expires=ends and ends.isoformat())
        if ends is None:
            return
        self._expires.labels(name).set(ends.timestamp())
        left = ends.timestamp() - self._clock()
        if left < _SOON:
            problem = "it has expired: clients refuse it" if left <= 0 else "it expires soon"
            self.log.warning("certificate", certificate=name, problem=problem, expires=ends.isoformat())

    def refused(self, name: str, error: CertificateError) -> None:
        self._reloads.labels(name, "refused").inc()
        self.log.warning("certificate", certificate=name, problem=str(error), kept="the one before")


class Followed(Generic[T]):
    """What is made of files, made anew when what is in them changes; what cannot be used changes nothing.

    Content counts, not names or times: so a mounted secret whose links are turned to other files is followed as well.

    Args:
        name: what it is for, in log and metrics.
        files: what to look at.
        make: reads them; with it, when it ends.
        observed: where it is said what came of it.
        every: seconds between two looks.

    Raises:
        CertificateError: they cannot be used as they are at the start.
    """

    def __init__(
        self,
        name: str,
        files: Iterable[Path | None],
        make: Callable[[], tuple[T, datetime | None]],
        observed: Observed,
        every: float,
    ) -> None:
        self._name, self._make, self._observed, self._every = name, make, observed, every
        self._files = [each for each in files if each is not None]
        self._seen = content(self._files)
        self.current, ends = make()
        observed.taken(name, ends, again=False)

    async def follow(self, changed: Callable[[], None] = lambda: None) -> None:
        """Look again and again, until cancelled; `changed` is called whenever there is another `current`."""
        while True:
            await asyncio.sleep(self._every)
            if await self.look():
                changed()

    async def look(self) -> bool:
        """Whether there is another `current` now."""
        seen = await asyncio.to_thread(content, self._files)
        if seen == self._seen:
            return False
        # What is read now may be newer than what was seen, or half of it: then the next look finds it changed again.
        self._seen = seen
        try:
            self.current, ends = await asyncio.to_thread(self._make)
        except CertificateError as error:
            self._observed.refused(self._name, error)
            return False
        self._observed.taken(self._name, ends, again=True)
        return True


def content(files: Iterable[Path]) -> list[bytes | str]:
    """What differs whenever what is in one of the files does."""
    return [_digest(each) for each in files]


def _digest(path: Path) -> bytes | str:
    try:
        return sha256(read("", path)).digest()
    except CertificateError as error:
        return str(error)
