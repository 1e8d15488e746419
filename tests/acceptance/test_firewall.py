"""The firewall against the requests that the OWASP Core Rule Set is tested with: what it refuses, and what not."""

from __future__ import annotations

import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from urllib.parse import urlsplit

import pytest

from tests.running import running

EVERYTHING = """
firewall: {mode: block}
services:
  users: {url: "http://users.internal"}
  products: {url: "http://products.internal"}
  orders: {url: "http://orders.internal"}
  payments: {url: "http://payments.internal"}
routes:
  - {name: all, path: "/{rest*}", service: products, public: true, errors: relay}
"""


def sent(case, host: str) -> bytes:
    """The request as its author wrote it, completed as a client would."""
    if case["raw"] is not None:
        return case["raw"]
    headers = [(name, value) for name, value in case["headers"] if name.lower() != "connection"]
    names = {name.lower() for name, _ in headers}
    if case["autoheaders"]:
        if "host" not in names:
            headers.append(("Host", host))
        if case["body"] and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(case["body"]))))
        if case["body"] and "content-type" not in names:
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
    head = [f"{case['method']} {case['uri']} {case['version']}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode("utf-8", "surrogateescape") + case["body"]


def answer(address: tuple[str, int], request: bytes) -> bytes:
    received = b""
    with socket.create_connection(address, timeout=5) as connection:
        try:
            connection.sendall(request)
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:
            pass
    return received


@pytest.mark.timeout(300)
def test_more_is_refused_than_by_modsecurity_and_hardly_anything_by_mistake(shared, real_services, tmp_path):
    sys.path.insert(0, str(shared / "acceptance"))
    corpus = import_module("crs_corpus").load(shared / "data" / "crs-requests.jsonl.gz")
    cases = [case for case in corpus if not 950 <= case["rule"] // 1000 <= 980]
    config = tmp_path / "bff.yaml"
    config.write_text(EVERYTHING)
    with running(config, real_services, BFF__LIMITS__MODE="off") as gateway:
        url = urlsplit(gateway.url)
        address = (url.hostname, url.port)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda case: answer(address, sent(case, url.netloc)), cases))
    refused = [b'"code":"REQUEST_BLOCKED"' in each for each in answers]
    statuses = [int(found[1]) if (found := re.match(rb"HTTP/1.1 (\d+)", each)) else 0 for each in answers]
    attacks = [blocked for case, blocked in zip(cases, refused, strict=True) if case["expect"]]
    harmless = [
        blocked for case, blocked in zip(cases, refused, strict=True) if not case["expect"] and case["no_expect"]
    ]
    assert sum(attacks) / len(attacks) > 0.69, sum(attacks)
    assert sum(harmless) / len(harmless) < 0.15, sum(harmless)
    assert not [status for status in statuses if status in {500, 502, 503, 504}]
