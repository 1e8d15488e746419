"""Gateways whose Order service sends events on demand, and what is left when all have gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from tests.harness import Gateway, gateway
from tests.live.stream import OrderEvents
from tests.upstream.raw import eventually


class Live(NamedTuple):
    gateway: Gateway
    events: OrderEvents


def live(**overrides: object) -> Live:
    one = gateway(**overrides)
    return Live(one, OrderEvents(one.services.orders))


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """Whatever a test does, no task of a gateway outlives it."""
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: not asyncio.all_tasks() - before - {asyncio.current_task()})
