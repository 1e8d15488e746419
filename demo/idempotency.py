"""The first answer to each Idempotency-Key of each caller, kept beside what it created."""

import sqlite3
from hashlib import blake2b

import msgspec
from starlette.requests import Request

from demo.caller import Caller, single
from demo.problems import Problem

MAX_ANSWERS = 10_000
MAX_KEY = 255

SCHEMA = """
CREATE TABLE answers (caller TEXT, key TEXT, fingerprint BLOB, body BLOB, PRIMARY KEY (caller, key))
"""


def key_of(request: Request) -> str:
    key = single(request, "idempotency-key")
    if not 1 <= len(key) <= MAX_KEY:
        raise Problem(400, f"a write needs an Idempotency-Key of 1 to {MAX_KEY} characters")
    return key


def first_answer(db: sqlite3.Connection, caller: Caller, key: str, wish: msgspec.Struct) -> bytes | None:
    """The answer that this key had, None when it is new; 422 when it had another body."""
    row = db.execute("SELECT fingerprint, body FROM answers WHERE caller = ? AND key = ?", (caller.key, key)).fetchone()
    if row is None:
        return None
    if row["fingerprint"] != fingerprint(wish):
        raise Problem(422, "this Idempotency-Key came with another body before")
    return bytes(row["body"])


def keep_answer(db: sqlite3.Connection, caller: Caller, key: str, wish: msgspec.Struct, body: bytes) -> None:
    """To be called in the transaction of the write itself. The oldest answers make room for new ones."""
    db.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (caller.key, key, fingerprint(wish), body))
    db.execute("DELETE FROM answers WHERE rowid <= (SELECT max(rowid) FROM answers) - ?", (MAX_ANSWERS,))


def fingerprint(wish: msgspec.Struct) -> bytes:
    return blake2b(msgspec.json.encode(wish), digest_size=16).digest()
