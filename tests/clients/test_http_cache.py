"""The published tests of HTTP caches (npm's http-cache-tests, of RFC 7234): those that must hold do, but for some."""

from __future__ import annotations

import os
from pathlib import Path

from tests.running import Running, free_port

AGE = "an Age that makes no sense is ignored (RFC 9111 §5.1), where RFC 7234 left it open"
NOT_KEPT = "an answer that sets a cookie is not kept: it would be everybody's"
UNKNOWN = "the gateway takes no method that it does not know"
OURS = "instead of the stale answer comes the gateway's own 502, which has no number of the service's for them to count"
LEFT_OUT = {
    "age-parse-dup-0": AGE,
    "age-parse-dup-0-twoline": AGE,
    "age-parse-dup-old": AGE,
    "age-parse-float": AGE,
    "age-parse-negative": AGE,
    "age-parse-nonnumeric": AGE,
    "age-parse-numeric-parameter": AGE,
    "age-parse-parameter": AGE,
    "age-parse-prefix-twoline": AGE,
    "headers-store-Set-Cookie": NOT_KEPT,
    "304-etag-update-response-Set-Cookie": NOT_KEPT,
    "304-etag-update-response-Content-MD5": "a header that is none any more (RFC 7231 appendix B)",
    "304-etag-update-response-ETag": "a 304 about another answer than it was asked about (RFC 9111 §4.3.4)",
    "headers-store-Transfer-Encoding": "a coding that nobody knows has no end that could be known",
    "invalidate-M-SEARCH": UNKNOWN,
    "invalidate-M-SEARCH-cl": UNKNOWN,
    "other-authorization": "credentials that the gateway does not know are refused",
    "stale-close-must-revalidate": OURS,
    "stale-close-no-cache": OURS,
    "stale-close-proxy-revalidate": OURS,
    "stale-close-s-maxage=2": OURS,
}
CONFIG = """
limits: {mode: "off"}
server: {overload: {mode: "off"}}
services:
  origin:
    url: http://127.0.0.1:%d
    identity: none
    timeout: 30s
    connect_timeout: 10s
    max_connections: 1000
    breaker: "off"
    retry: {attempts: 1}
routes:
  - {name: all, path: "/{rest*}", service: origin, public: true, cache: true, errors: relay}
"""


def test_all_that_must_hold_hold(node, tmp_path: Path):
    origin, port, admin = free_port(), free_port(), free_port()
    config = tmp_path / "bff.yaml"
    config.write_text(CONFIG % origin)
    environ = {**os.environ, "BFF__SERVER__PORT": str(port), "BFF__ADMIN__PORT": str(admin)}
    url = f"http://127.0.0.1:{port}"
    gateway = Running(["-c", str(config)], environ, url, f"http://127.0.0.1:{admin}", tmp_path)
    try:
        gateway.wait_until_up()
        assert node("http_cache.mjs", origin, url, *LEFT_OUT) == "136 of 136\n"
    finally:
        gateway.end()
