"""A private authority and what it signs, as files, for tests of TLS."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key, and where both are."""

    certificate: x509.Certificate
    cert: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def settings(self) -> dict[str, str]:
        return {"cert": str(self.cert), "key": str(self.key)}


def named(*parts: str) -> x509.Name:
    kinds = {"CN": NameOID.COMMON_NAME, "O": NameOID.ORGANIZATION_NAME}
    return x509.Name([x509.NameAttribute(kinds[part[: part.index("=")]], part.partition("=")[2]) for part in parts])


def alternative(name: str) -> x509.GeneralName:
    kind, _, value = name.partition(":")
    if kind == "IP":
        return x509.IPAddress(ip_address(value))
    return {"DNS": x509.DNSName, "URI": x509.UniformResourceIdentifier, "email": x509.RFC822Name}[kind](value)


class Authority:
    """`Authority(folder).issue("server", names=["DNS:localhost"])`."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder, self.name = folder, named(f"CN={name}")
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(self.name, self._key.public_key(), -DAY, 90 * DAY)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        own = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.path = folder / f"{name.replace(' ', '-').lower()}.pem"
        self.path.write_bytes(own.public_bytes(Encoding.PEM))

    def issue(
        self,
        file: str,
        subject: tuple[str, ...] = ("CN=test",),
        *,
        names: tuple[str, ...] = (),
        begins: timedelta = -DAY,
        ends: timedelta = 60 * DAY,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Pair:
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(named(*subject), key.public_key(), begins, ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(alternative, names)), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = Pair(certificate, self.folder / f"{file}.pem", self.folder / f"{file}.key")
        pair.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def revoked(self, file: str, *pairs: Pair) -> Path:
        """A list of these as revoked."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self.name, now - DAY, now + DAY)
        for pair in pairs:
            entry = x509.RevokedCertificateBuilder(pair.certificate.serial_number, now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        path = self.folder / file
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path

    def client(self, pair: Pair | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A client that believes this authority, and shows this certificate."""
        context = ssl.create_default_context(cafile=self.path)
        if pair:
            context.load_cert_chain(pair.cert, pair.key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: timedelta, ends: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now + begins,
            not_valid_after=now + ends,
        ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
