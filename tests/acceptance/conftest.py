"""What the gateway is accepted by: contracts and runners that were made by others and lie beside the project."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import demo
from tests.running import ROOT, Running, running

SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    assert SHARED.is_dir(), "the acceptance tests need ../shared"
    return SHARED


@pytest.fixture(scope="session")
def shop() -> Iterator[demo.Demo]:
    with demo.processes(demo.FREE) as processes:
        yield processes


@pytest.fixture(scope="session")
def development(shop) -> Iterator[Running]:
    """A gateway as `make run` starts it, but for its limits: a runner is one caller with thousands of requests."""
    with running(ROOT / "bff.yaml", shop, "--profile", "development", BFF__LIMITS__MODE="off") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def production(shop) -> Iterator[Running]:
    with running(ROOT / "bff.yaml", shop, "--profile", "production", BFF__LIMITS__MODE="off") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def signing_keys(shop, tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """File and kid of the identity provider's private keys, by algorithm: good tokens are made beside the forged."""
    folder = tmp_path_factory.mktemp("keys")
    with sqlite3.connect(f"file:{shop.data / 'identity.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT alg, kid, pem FROM keys ORDER BY generation").fetchall()
    for alg, _, pem in rows:
        (folder / alg).write_bytes(pem)
    return {alg: (folder / alg, kid) for alg, kid, _ in rows}
