"""Trusted proxies: what they say of the client counts, and what anybody else says does not."""

import httpx
import pytest

from bff.config import ConfigError, load
from bff.edge.forwarded import Forwarded
from tests.harness import BFF_YAML, gateway

TRUSTED = ["10.0.0.0/8", "fd00::/8"]
APP = "x-forwarded"


async def seen(headers, *, peer="10.0.0.1", spoken=APP, kind="http"):
    """Address and scheme as all layers below see them."""
    scope = {"type": kind, "client": (peer, 1), "scheme": "http" if kind == "http" else "ws"}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers]

    async def below(scope, receive, send):
        pass

    settings = load(BFF_YAML, overrides={"server": {"trusted_proxies": TRUSTED, "proxy_headers": spoken}}).server
    await Forwarded(below, settings.trusted_proxies, settings.proxy_headers)(scope, None, None)
    return scope["client"][0], scope["scheme"]


FOR, PROTO = "x-forwarded-for", "x-forwarded-proto"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], ("10.0.0.1", "http")),
        ([(FOR, "192.0.2.7"), (PROTO, "https")], ("192.0.2.7", "https")),
        ([(FOR, "6.6.6.6, 192.0.2.7")], ("192.0.2.7", "http")),
        ([(FOR, "6.6.6.6"), (FOR, "192.0.2.7, 10.0.0.9")], ("192.0.2.7", "http")),
        ([(FOR, "10.1.1.1, 10.0.0.9")], ("10.1.1.1", "http")),
        ([(FOR, "192.0.2.7:4711")], ("192.0.2.7", "http")),
        ([(FOR, "[2001:db8::1]:443")], ("2001:db8::1", "http")),
        ([(FOR, "2001:db8::1")], ("2001:db8::1", "http")),
        ([(FOR, "::ffff:192.0.2.7")], ("192.0.2.7", "http")),
        ([(FOR, "6.6.6.6, unknown, 10.0.0.9")], ("10.0.0.9", "http")),
        ([(FOR, "6.6.6.6, nonsense")], ("10.0.0.1", "http")),
        ([(FOR, "192.0.2.7, 10.0.0.9"), (PROTO, "https, http")], ("192.0.2.7", "https")),
        ([(FOR, "192.0.2.7"), (PROTO, "gopher")], ("192.0.2.7", "http")),
        ([("forwarded", "for=6.6.6.6;proto=https")], ("10.0.0.1", "http")),
        ([(FOR, ",".join(["6.6.6.6"] + ["10.0.0.2"] * 5000))], ("10.0.0.2", "http")),
    ],
)
async def test_the_client_is_the_last_address_that_is_no_proxys(headers, found):
    assert await seen(headers) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("for=192.0.2.7;proto=https;by=10.0.0.1", ("192.0.2.7", "https")),
        ('For="[2001:db8::1]:443"; Proto=HTTPS', ("2001:db8::1", "https")),
        ("for=6.6.6.6;proto=https, for=192.0.2.7;proto=http, for=10.0.0.9;proto=https", ("192.0.2.7", "http")),
        ("for=_hidden, for=10.0.0.9", ("10.0.0.9", "http")),
        ("for=6.6.6.6, for=unknown", ("10.0.0.1", "http")),
        ("for=", ("10.0.0.1", "http")),
    ],
)
async def test_forwarded_is_read_where_proxies_write_that(value, found):
    assert await seen([("forwarded", value), (FOR, "6.6.6.6")], spoken="forwarded") == found


@pytest.mark.parametrize("peer", ["192.0.2.9", "11.0.0.1", "::1", "not an address"])
async def test_anybody_else_is_who_the_connection_says(peer):
    headers = [(FOR, "6.6.6.6"), (PROTO, "https"), ("forwarded", "for=6.6.6.6")]
    assert await seen(headers, peer=peer) == (peer, "http")


async def test_a_proxy_that_is_seen_as_ipv4_in_ipv6_is_trusted():
    assert (await seen([(FOR, "192.0.2.7")], peer="::ffff:10.0.0.1"))[0] == "192.0.2.7"


async def test_a_websocket_that_came_by_tls_is_one():
    assert await seen([(FOR, "192.0.2.7"), (PROTO, "https")], kind="websocket") == ("192.0.2.7", "wss")


async def test_limits_the_log_and_services_see_the_client_behind_a_proxy():
    shop = gateway(server={"trusted_proxies": TRUSTED}, limits={"per_address": "2/minute"}, address="10.0.0.1")
    answers = [
        (
            await shop.client.get("/api/products/prd_1", headers={FOR: f"6.6.6.{n}, 192.0.2.7", PROTO: "https"})
        ).status_code
        for n in range(3)
    ]
    assert answers == [200, 200, 429]
    assert (await shop.client.get("/api/products/prd_1", headers={FOR: "192.0.2.8"})).status_code == 200
    assert [line["address"] for line in shop.access] == ["192.0.2.7"] * 3 + ["192.0.2.8"]
    sent = httpx.Headers(shop.services.calls[0].headers)
    assert (sent[FOR], sent[PROTO]) == ("192.0.2.7", "https")


async def test_without_trusted_proxies_the_headers_are_anybodys():
    shop = gateway(limits={"per_address": "1/minute"})
    answers = [(await shop.client.get("/api/products/prd_1", headers={FOR: f"6.6.6.{n}"})).status_code for n in "12"]
    assert answers == [200, 429]


def test_a_network_that_is_none_ends_the_start():
    with pytest.raises(ConfigError) as error:
        load(BFF_YAML, overrides={"server": {"trusted_proxies": ["10.0.0.1/8"]}})
    assert "server.trusted_proxies[0]: must be a network" in str(error.value)
