"""What finding a route costs, for ten routes and for a thousand: CPU time, in turn, the least of several rounds.

.venv/bin/python -m benchmarks.routing
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bff.core.route import Condition, Route
from bff.edge.routing import Matcher, Routing

CALLS, ROUNDS = 10_000, 7
KINDS: dict[str, Callable[[int], Route]] = {
    "paths": lambda n: Route(f"r{n}", f"/api/r{n}/{{id}}/{{rest*}}"),
    "hosts": lambda n: Route(f"r{n}", "/api/{kind}/{id}/{rest*}", hosts=(f"t{n}.example.com",)),
    "headers": lambda n: Route(f"r{n}", "/api/{kind}/{rest*}", conditions=(Condition("headers", "x-t", (f"t{n}",)),)),
}
SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/api/r7/x/a/b",
    "raw_path": b"/api/r7/x/a/b",
    "query_string": b"",
    "headers": [(b"host", b"t7.example.com"), (b"x-t", b"t7")],
}


def microseconds(routing: Routing) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        routing(SCOPE, None, None)
    return (time.process_time() - began) / CALLS * 1e6


def main() -> None:
    for kind, route in KINDS.items():
        found = {count: Routing(lambda *_: None, Matcher(map(route, range(count)))) for count in (10, 1000)}
        least = dict.fromkeys(found, float("inf"))
        for _ in range(ROUNDS):
            for count, routing in found.items():
                least[count] = min(least[count], microseconds(routing))
        print(f"{kind:8} 10 routes {least[10]:5.2f} us, 1000 routes {least[1000]:5.2f} us")


if __name__ == "__main__":
    main()
