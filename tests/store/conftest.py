"""A real Valkey, which starts in some milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bff.core.store import Decision, SharedLedger, SharedStore, StoreSettings, StoreUrl
from bff.core.store.local import LocalValkey
from bff.core.telemetry import Telemetry


@pytest.fixture(scope="session")
def valkey() -> Iterator[LocalValkey]:
    """One that all tests share: who stops or stalls one starts another."""
    with LocalValkey() as local:
        yield local


def ledger(url: str, *, clock=None, telemetry: Telemetry | None = None, **settings) -> SharedLedger:
    """The accounts as one gateway has them; patient, since a busy machine is not what is tested."""
    given = StoreSettings(url=StoreUrl(url), **({"timeout": 1.0} | settings))
    return SharedLedger(SharedStore(given, telemetry or Telemetry(), clock=clock))


def decided(decision: Decision) -> tuple[object, ...]:
    """What two stores have to say alike."""
    return decision.refusing, decision.over, decision.states, decision.wait
