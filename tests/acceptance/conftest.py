"""What the gateway is accepted by: contracts and runners that were made by others and lie beside the project."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.running import ROOT

SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    assert SHARED.is_dir(), "the acceptance tests need ../shared"
    return SHARED


@pytest.fixture(scope="session")
def signing_keys(real_services, tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """File and kid of the identity provider's private keys, by algorithm: good tokens are made beside the forged."""
    folder = tmp_path_factory.mktemp("keys")
    with sqlite3.connect(f"file:{real_services.data / 'identity.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT alg, kid, pem FROM keys ORDER BY generation").fetchall()
    for alg, _, pem in rows:
        (folder / alg).write_bytes(pem)
    return {alg: (folder / alg, kid) for alg, kid, _ in rows}
