"""The identity provider's signing keys: one RSA and one EC at a time, those before them still published."""

import secrets
import sqlite3
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from demo.database import transaction

ALGORITHMS = ("RS256", "ES256")
SCHEMA = "CREATE TABLE keys (kid TEXT PRIMARY KEY, alg TEXT, pem BLOB, generation INTEGER)"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Key(NamedTuple):
    kid: str
    alg: str
    private: PrivateKey

    @property
    def jwk(self) -> dict[str, Any]:
        public = self.private.public_key()
        numbers = (
            RSAAlgorithm.to_jwk(public, as_dict=True)
            if isinstance(public, rsa.RSAPublicKey)
            else ECAlgorithm.to_jwk(public, as_dict=True)
        )
        numbers.pop("key_ops", None)
        return {**numbers, "kid": self.kid, "use": "sig", "alg": self.alg}


class Keys:
    """The newest of each algorithm signs; a token lives on when its key was replaced once, not twice."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.published = self.stored()

    def rotate(self) -> None:
        with transaction(self.db):
            generate(self.db)
        self.published = self.stored()

    def stored(self) -> list[Key]:
        """Newest first."""
        rows = self.db.execute("SELECT kid, alg, pem FROM keys ORDER BY generation DESC, kid")
        return [Key(kid, alg, load_pem_private_key(pem, None)) for kid, alg, pem in rows]  # type: ignore[arg-type]

    def signing(self, alg: str) -> Key:
        return next(key for key in self.published if key.alg == alg)

    def named(self, kid: object) -> Key | None:
        return next((key for key in self.published if key.kid == kid), None)


def generate(db: sqlite3.Connection) -> None:
    generation = 1 + (db.execute("SELECT max(generation) FROM keys").fetchone()[0] or 0)
    for alg in ALGORITHMS:
        private: PrivateKey = (
            rsa.generate_private_key(65537, 2048) if alg == "RS256" else ec.generate_private_key(ec.SECP256R1())
        )
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        kid = f"{alg.lower()}-{secrets.token_hex(4)}"
        db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (kid, alg, pem, generation))
    db.execute("DELETE FROM keys WHERE generation < ?", (generation - 1,))
