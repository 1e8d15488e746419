"""A process has as many descriptors as the system lets it, and says so where its configuration may need more."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

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
    assert needed(1000, 30, 20) - needed(10, 1, 1) == 990 + 29 + 2 * 19, "answers and streams of events may last"
    assert needed(10, 1, 1) > 13, "the gateway itself has some open, too"


def test_each_address_of_a_service_is_counted_and_checks_copies_and_websockets_are():
    def needs(**users: Any) -> int:
        service = {"max_connections": 30, "streams": {"max_open": 5}, **users}
        return descriptors(Config(services={"users": service})) - descriptors(Config(services={}))

    one, two = "http://a.internal", "http://b.internal"
    assert needs(url=one) == 30 + 5 + 5
    assert needs(url=one, required=True) == 30 + 5 + 5 + 2
    assert needs(targets={"all": [one, two]}) == 2 * (30 + 5) + 5
    mirrored = {"stable": [one], "canary": [two]}
    assert needs(targets=mirrored, mirror={"to": "canary", "percent": 1, "max_in_flight": 7}) == 2 * (30 + 5) + 5 + 7
    route = {"name": "users", "path": "/u", "service": "users", "websocket": {"max_open": 50}}
    with_sockets = Config(services={"users": {"url": one}}, routes=[route])
    assert descriptors(with_sockets) - descriptors(Config(services={"users": {"url": one}})) == 50
