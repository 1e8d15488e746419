"""One SQLite file per service: filled with the shop's records the first time, kept from then on."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 1


def database(file: Path, schema: str, seed: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """One connection, used from the event loop alone: a query takes microseconds, less than a thread would."""
    file.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(file, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.create_function("fold", 1, str.casefold, deterministic=True)  # SQLite's lower() knows ASCII only
    with transaction(db):  # all or nothing: a start that was cut off leaves an empty file, not half a shop
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            for statement in schema.split(";"):
                db.execute(statement)
            seed(db)
            db.execute(f"PRAGMA user_version = {VERSION}")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def marks(values: list[int]) -> str:
    """The placeholders of `IN (?, ?, …)`: values are parameters, always."""
    return ", ".join("?" * len(values))
