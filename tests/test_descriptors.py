"""A process has as many descriptors as the system lets it, and says so where its configuration may need more."""

from __future__ import annotations

import subprocess
import sys

from bff.config import Config
from bff.serve import descriptors

SHOWS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
from bff.core.descriptors import raised
print(raised(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_is_raised_to_the_hard_one():
    ran = subprocess.run([sys.executable, "-c", SHOWS], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["128", "128", "128"]


def needed(clients: int, calls: int, streams: int) -> int:
    users = {"url": "http://a.internal", "max_connections": calls, "streams": {"max_open": streams}}
    return descriptors(Config(server={"max_connections": clients}, services={"users": users}))


def test_what_may_be_needed_is_counted_from_the_configuration():
    assert needed(1000, 30, 20) - needed(10, 1, 1) == 990 + 29 + 19
    assert needed(10, 1, 1) > 12, "the gateway itself has some open, too"
