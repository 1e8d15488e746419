"""HTTP/2 as programs of others speak it to a gateway as people run it: curl, h2load, nghttp; with certificates, too."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from demo import API_KEY
from tests.pki import Authority, Pair
from tests.running import ROOT, Running, running

if not shutil.which("h2load"):
    pytest.skip("there is no h2load here: make nghttp2", allow_module_level=True)

QUERY = '{ product(id: "prd_1") { id name } }'
PARTNERS = [{"consumer": "acme", "subject": "CN=orders,O=Acme", "scopes": ["users:read", "users:admin"]}]


class Secured:
    """A gateway that speaks HTTP/2, and believes the certificates of its authority's clients."""

    def __init__(self, gateway: Running, authority: Authority) -> None:
        self.gateway, self.authority = gateway, authority
        self.url = gateway.url.replace("http://127.0.0.1", "https://localhost")

    def run(self, *command: str | Path) -> str:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def curl(self, *arguments: str | Path) -> list[str]:
        return self.run("curl", "-sS", "--http2", "--cacert", self.authority.path, *arguments).splitlines()

    def handshakes(self) -> float:
        metrics = httpx.get(f"{self.gateway.admin}/metrics").text
        return float(re.findall(r'^bff_tls_handshakes_total{outcome="done"} (\S+)$', metrics, re.MULTILINE)[0])


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def partner(authority) -> Pair:
    return authority.issue("partner", ("O=Acme", "CN=orders"))


@pytest.fixture(scope="module")
def secured(authority, real_services) -> Iterator[Secured]:
    pair = authority.issue("server", names=("DNS:localhost", "IP:127.0.0.1"))
    told = {
        "BFF__SERVER__TLS__CERT": str(pair.cert),
        "BFF__SERVER__TLS__KEY": str(pair.key),
        "BFF__SERVER__TLS__CLIENT_CA": str(authority.path),
        "BFF__SERVER__HTTP2": "true",
        "BFF__AUTH__CLIENT_CERTIFICATES": json.dumps(PARTNERS),
        # It is one caller, and the machine may be busy.
        "BFF__LIMITS__MODE": "off",
        "BFF__SERVER__OVERLOAD__MODE": "off",
        "BFF__SERVICES__PRODUCTS__TIMEOUT": "20s",
        "BFF__SERVICES__USERS__TIMEOUT": "20s",
    }
    with running(ROOT / "bff.yaml", real_services, **told) as gateway:
        yield Secured(gateway, authority)


def test_h2load_has_graphql_and_rest_answered_side_by_side_on_two_connections(secured):
    before = secured.handshakes()
    asked = [f"{secured.url}/graphql?query={quote(QUERY)}", f"{secured.url}/api/products/prd_1"]
    told = ["--requests=200", "--clients=2", "--max-concurrent-streams=20", "--header=graphql-require-preflight: 1"]
    said = secured.run("h2load", *told, *asked)
    assert "Application protocol: h2" in said
    assert "200 succeeded, 0 failed, 0 errored, 0 timeout" in said, said
    assert "status codes: 200 2xx, 0 3xx, 0 4xx, 0 5xx" in said
    assert secured.handshakes() - before == 2


def test_h2load_posts_queries(secured, tmp_path):
    body = tmp_path / "body"
    body.write_text(json.dumps({"query": QUERY}))
    told = ["--requests=300", "--clients=1", "--max-concurrent-streams=100", f"--data={body}"]
    said = secured.run("h2load", *told, "--header=content-type: application/json", f"{secured.url}/graphql")
    assert "status codes: 300 2xx, 0 3xx, 0 4xx, 0 5xx" in said, said


def test_curl_asks_for_many_things_at_once_on_one_connection(secured):
    """A query and a route, each by turns."""
    transfers: list[str] = []
    for at in range(20):
        transfers += ["--next"] * (at > 0)
        transfers += ["--cacert", str(secured.authority.path), "-sS", "--http2", "-o", "/dev/null"]
        transfers += ["-w", "%{http_code} %{http_version} %{num_connects}\n", "-H", f"x-api-key: {API_KEY}"]
        if at % 2:
            transfers += [f"{secured.url}/graphql", "-H", "content-type: application/json"]
            transfers += ["-d", json.dumps({"query": QUERY})]
        else:
            transfers += [f"{secured.url}/api/products/prd_{at + 1}"]
    lines = secured.run("curl", "--parallel", *transfers).splitlines()
    assert [each[:5] for each in lines] == ["200 2"] * 20
    assert sum(int(each[6:]) for each in lines) == 1


def test_a_partner_is_known_by_its_certificate_on_every_stream(secured, partner):
    shown = ["--cert", partner.cert, "--key", partner.key, "-w", "\n%{http_code} %{http_version}\n"]
    (body, outcome) = secured.curl(*shown, f"{secured.url}/api/users/usr_1")
    assert (json.loads(body)["id"], outcome) == ("usr_1", "200 2")
    query = json.dumps({"query": '{ user(id: "usr_2") { id } }'})
    (body, _) = secured.curl(*shown, f"{secured.url}/graphql", "-H", "content-type: application/json", "-d", query)
    assert json.loads(body) == {"data": {"user": {"id": "usr_2"}}}
    several = ["nghttp", "--cert", partner.cert, "--key", partner.key, "--multiply=10", "--null-out", "--stat"]
    said = secured.run(*several, f"{secured.url}/api/users/usr_1")
    assert len(re.findall(r" 200 +\d+ /api/users/usr_1$", said, re.MULTILINE)) == 10, said


def test_who_shows_no_certificate_is_nobody_on_every_stream(secured):
    (_, outcome) = secured.curl("-w", "\n%{http_code} %{http_version}\n", f"{secured.url}/api/users/usr_1")
    assert outcome == "401 2"


def test_a_certificate_of_another_authority_ends_the_handshake(secured, tmp_path):
    other = Authority(tmp_path, "Another authority").issue("partner", ("O=Acme", "CN=orders"))
    shown = ["--cert", other.cert, "--key", other.key]
    ran = subprocess.run(
        ["curl", "-sS", "--http2", "--cacert", secured.authority.path, *shown, f"{secured.url}/api/users/usr_1"],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert ran.returncode != 0
    assert ran.stdout == ""


def test_what_is_spoken_below_it_is_what_its_standard_allows(secured):
    """RFC 9113 §9.2: TLS 1.2 or later with ephemeral keys and authenticated encryption; nothing is compressed."""
    port = int(secured.url.rpartition(":")[2])
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = secured.authority.client(alpn=("h2",))
        context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", port), 10)
        with context.wrap_socket(plain, server_hostname="localhost") as spoken:
            assert spoken.selected_alpn_protocol() == "h2"
            assert spoken.compression() is None
            name, of, bits = spoken.cipher()
        assert bits >= 128
        assert re.match("TLS_(AES|CHACHA20)|ECDHE-ECDSA-(AES...-GCM|CHACHA20)", name), (name, of)


def test_nobody_renegotiates(secured):
    """Each time costs the server more than the client."""
    asking = ["openssl", "s_client", "-tls1_2", "-connect", secured.url.removeprefix("https://")]
    ran = subprocess.run(asking, input="R\n", capture_output=True, text=True, check=False, timeout=110)
    assert "RENEGOTIATING" in ran.stdout + ran.stderr
    assert "no renegotiation" in ran.stderr
