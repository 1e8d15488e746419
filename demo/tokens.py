"""Tokens of the identity provider: signed ones that anybody can check, opaque ones that only it can explain."""

import json
import secrets
import sqlite3
import time
from hashlib import sha256
from typing import Any

import jwt

from demo.database import transaction
from demo.keys import Keys

MAX_KEPT = 10_000  # the oldest make room for new ones
SCHEMA = """
CREATE TABLE tokens (hash BLOB PRIMARY KEY, claims TEXT);
CREATE TABLE revoked (jti TEXT PRIMARY KEY)
"""


class Tokens:
    def __init__(self, db: sqlite3.Connection, keys: Keys, issuer: str) -> None:
        self.db, self.keys, self.issuer = db, keys, issuer

    def signed(self, claims: dict[str, Any], alg: str) -> str:
        """A JWT access token (RFC 9068)."""
        key = self.keys.signing(alg)
        return jwt.encode(claims, key.private, algorithm=alg, headers={"kid": key.kid, "typ": "at+jwt"})

    def opaque(self, claims: dict[str, Any]) -> str:
        """A random string. Only its hash is kept, so the file opens nothing to whoever reads it."""
        token = secrets.token_urlsafe(32)
        with transaction(self.db):
            self.db.execute("INSERT INTO tokens VALUES (?, ?)", (hashed(token), json.dumps(claims)))
            self.db.execute("DELETE FROM tokens WHERE rowid <= (SELECT max(rowid) FROM tokens) - ?", (MAX_KEPT,))
        return token

    def claims_of(self, token: str) -> dict[str, Any] | None:
        """What a token says, while it is valid: issued here, not expired, not revoked."""
        row = self.db.execute("SELECT claims FROM tokens WHERE hash = ?", (hashed(token),)).fetchone()
        claims = json.loads(row["claims"]) if row else self.verified(token)
        if claims is None or claims["exp"] <= time.time():
            return None
        if self.db.execute("SELECT 1 FROM revoked WHERE jti = ?", (claims["jti"],)).fetchone():
            return None
        return claims

    def verified(self, token: str) -> dict[str, Any] | None:
        try:
            key = self.keys.named(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                return None
            return jwt.decode(
                token, key.private.public_key(), algorithms=[key.alg], audience="shop", issuer=self.issuer
            )
        except (jwt.InvalidTokenError, ValueError):
            return None

    def revoke(self, claims: dict[str, Any]) -> None:
        with transaction(self.db):
            self.db.execute("INSERT OR IGNORE INTO revoked VALUES (?)", (claims["jti"],))
            self.db.execute("DELETE FROM revoked WHERE rowid <= (SELECT max(rowid) FROM revoked) - ?", (MAX_KEPT,))


def hashed(token: str) -> bytes:
    return sha256(token.encode()).digest()
