"""CORS: known pages can read every answer, others none, and caches keep them apart."""

from __future__ import annotations

import pytest

from bff.core.loading import ConfigError
from tests.harness import BFF_YAML, customer, gateway
from tests.shop import refused, says

SHOP, EVIL = "https://shop.example.com", "https://evil.example"


def shop_with(**changed):
    return gateway(
        BFF_YAML, server={"cors": {"origins": [SHOP, "http://localhost:3000"], "credentials": True} | changed}
    )


def cors(answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def preflight(origin: str, method: str = "POST", **more: str) -> dict[str, str]:
    return {"origin": origin, "access-control-request-method": method} | {
        k.replace("_", "-"): v for k, v in more.items()
    }


async def test_a_known_page_reads_answers_of_both_fronts():
    shop = shop_with()
    rest = await shop.client.get("/api/products/prd_1", headers={"origin": SHOP})
    graphql = await shop.query("{ __typename }", headers={"origin": SHOP})
    for answer in (rest, graphql.response):
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert {"x-request-id", "ratelimit", "retry-after", "www-authenticate"} <= set(
            answer.headers["access-control-expose-headers"].split(", ")
        )
        assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/users/usr_1", {}, 401),
        ("GET", "/api/users/usr_1", {"x-api-key": "nobody"}, 401),
        ("DELETE", "/api/users/usr_1", customer(), 403),
        ("GET", "/nothing", {}, 404),
        ("GET", "/api/users/../x", {}, 400),
        ("GET", "/api/products/prd_1", {"x": "y" * 70_000}, 431),
        ("TRACE", "/api/products/prd_1", {}, 405),
    ],
)
async def test_a_known_page_reads_refusals_too(method, path, headers, status):
    shop = shop_with()
    shop.services.users.fail(says(403, {}))
    answer = await shop.client.request(method, path, headers=headers | {"origin": SHOP})
    if status in {401, 403, 404, 405, 431}:
        assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == SHOP


async def test_a_known_page_reads_why_it_is_limited_and_that_a_service_is_down():
    shop = gateway(
        BFF_YAML,
        server={"cors": {"origins": [SHOP]}},
        tiers={"anonymous": {"rate": ["1/minute"]}},
        limits={"mode": "enforce"},
    )
    shop.services.products.fail(refused)
    answers = [await shop.client.get("/api/products/prd_1", headers={"origin": SHOP}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 429]
    assert [answer.headers["access-control-allow-origin"] for answer in answers] == [SHOP, SHOP]


@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "", f"{SHOP}.evil.example", f"{SHOP}/", f"{SHOP}:443", SHOP.upper(), "http://shop.example.com"],
)
async def test_other_pages_read_nothing(origin):
    shop = shop_with()
    answer = await shop.client.get("/api/products/prd_1", headers={"origin": origin})
    assert cors(answer) == {}
    assert "Origin" in answer.headers["vary"]
    asked = await shop.client.options("/api/products/prd_1", headers=preflight(origin))
    assert cors(asked) == {}


async def test_answers_without_an_origin_differ_by_it_too():
    shop = shop_with()
    answer = await shop.client.get("/api/products/prd_1")
    assert cors(answer) == {}
    assert "Origin" in answer.headers["vary"]


async def test_a_preflight_is_answered_without_a_credential_and_asks_no_service():
    shop = shop_with()
    for path in ("/api/users/usr_1", "/graphql", "/nothing"):
        answer = await shop.client.options(
            path, headers=preflight(SHOP, "PATCH", access_control_request_headers="authorization, content-type")
        )
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-max-age"] == "600"
        assert "access-control-expose-headers" not in answer.headers
        assert {"Origin", "Access-Control-Request-Headers"} <= set(answer.headers["vary"].split(", "))
    assert shop.services.calls == []


@pytest.mark.parametrize("wanted", ["x" * 2000, "a\tb", 'a"b', "ä"])
async def test_a_preflight_that_asks_for_what_is_no_header_gets_none(wanted):
    shop = shop_with()
    asked = preflight(SHOP) | {"access-control-request-headers": wanted.encode()}
    answer = await shop.client.options("/graphql", headers=asked)
    assert answer.status_code == 204
    assert "access-control-allow-headers" not in answer.headers


async def test_headers_that_requests_may_have_can_be_named():
    shop = shop_with(headers=["authorization"], expose=["x-total"])
    answer = await shop.client.options("/graphql", headers=preflight(SHOP, access_control_request_headers="x-evil"))
    assert answer.headers["access-control-allow-headers"] == "authorization"
    answer = await shop.query("{ __typename }", headers={"origin": SHOP})
    assert answer.headers["access-control-expose-headers"].endswith(", x-total")


async def test_all_origins_may_read_what_needs_no_cookie():
    shop = gateway(BFF_YAML, server={"cors": {"origins": ["*"]}})
    answer = await shop.client.get("/api/products/prd_1", headers={"origin": EVIL})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert "origin" not in answer.headers.get("vary", "").lower()


@pytest.mark.parametrize("configured", [True, False])
async def test_what_a_service_says_of_it_goes_no_further(configured):
    shop = shop_with() if configured else gateway()
    loose = {"access-control-allow-origin": EVIL, "access_control_allow_credentials": "true", "vary": "accept"}
    shop.services.products.fail(says(200, {}, **loose))
    answer = await shop.client.get("/api/products/prd_1", headers={"origin": EVIL})
    assert cors(answer) == {}
    assert "accept" in answer.headers["vary"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": ["*"], "credentials": True},
        {"origins": ["*", SHOP]},
        {"origins": []},
        {"origins": ["shop.example.com"]},
        {"origins": [f"{SHOP}/"]},
        {"origins": [f"{SHOP}:443"]},
        {"origins": ["https://*.example.com"]},
        {"origins": ["null"]},
        {"origins": [SHOP], "headers": ["a b"]},
    ],
)
def test_what_would_let_the_wrong_in_is_refused_at_the_start(wrong):
    with pytest.raises(ConfigError, match=r"server\.cors"):
        gateway(BFF_YAML, server={"cors": wrong})
