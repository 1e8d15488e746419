from collections.abc import AsyncIterator

import pytest

from benchmarks import backends


@pytest.fixture
async def urls() -> AsyncIterator[dict[str, str]]:
    addresses, servers = await backends.listen()
    yield addresses
    for server in servers:
        server.close()
