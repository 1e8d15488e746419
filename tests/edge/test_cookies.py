"""A cookie that holds a token: good on the gateway's own pages and those it knows, and for nobody else's."""

from __future__ import annotations

import pytest

from tests.harness import BFF_YAML, bearer, gateway, partner, token

OWN, SHOP, EVIL = "http://gateway.example", "https://shop.example.com", "https://evil.example"
COOKIE = {"name": "__Host-token", "origins": [SHOP]}


def shop_with(cookie=COOKIE):
    return gateway(BFF_YAML, auth={"cookie": cookie})


def with_cookie(**headers: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"cookie": f"theme=dark; __Host-token={token('usr_1')}; lang=en"} | named


async def read(shop, headers) -> int:
    return (await shop.client.get("/api/users/usr_1", headers=headers)).status_code


async def written(shop, headers) -> int:
    return (await shop.client.patch("/api/users/usr_1", json={"name": "x"}, headers=headers)).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "same-origin", "origin": OWN},
        {"sec_fetch_site": "cross-site", "origin": SHOP},
        {"origin": OWN},
        {"origin": SHOP},
    ],
)
async def test_pages_of_the_gateway_and_of_known_origins_use_it(headers):
    shop = shop_with()
    assert await read(shop, with_cookie(**headers)) == 200
    assert await written(shop, with_cookie(**headers)) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": EVIL},
        {"sec_fetch_site": "cross-site", "origin": "null"},
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": f"{SHOP}.evil.example"},
        {"origin": f"{SHOP}:8443"},
        {"origin": "http://shop.example.com"},
        {"origin": ""},
    ],
)
async def test_other_pages_cannot_make_a_browser_use_it(headers):
    shop = shop_with()
    answer = await shop.client.get("/api/users/usr_1", headers=with_cookie(**headers))
    assert (answer.status_code, answer.json()["code"]) == (400, "CSRF_PREVENTION_FAILED")
    assert await written(shop, with_cookie(**headers)) == 400
    assert (await shop.query("{ me { id } }", headers=with_cookie(**headers))).status == 400
    public = await shop.client.get("/api/products/prd_1", headers=with_cookie(**headers))
    assert public.status_code == 400
    assert shop.services.calls == []


async def test_where_nobody_says_from_where_it_is_good_for_reading_only():
    shop = shop_with()
    assert await read(shop, with_cookie()) == 200
    assert await written(shop, with_cookie()) == 400


async def test_it_is_a_token_like_any_other_on_both_fronts():
    shop = shop_with()
    here = {"sec_fetch_site": "same-origin"}
    assert (await shop.query("{ me { id } }", headers=with_cookie(**here))).data == {"me": {"id": "usr_1"}}
    bad = with_cookie(**here) | {"cookie": "__Host-token=nonsense"}
    assert await read(shop, bad) == 401
    assert (await shop.client.get("/api/products/prd_1", headers=bad)).status_code == 401


async def test_another_credential_goes_first_and_a_bad_one_does_not_fall_back():
    shop = shop_with()
    here = {"sec_fetch_site": "same-origin"}
    assert await read(shop, with_cookie(**here) | bearer("nonsense")) == 401
    assert await read(shop, with_cookie(**here) | {"x-api-key": "nonsense"}) == 401
    assert await read(shop, with_cookie(sec_fetch_site="cross-site") | partner()) == 200


async def test_two_of_its_name_are_refused():
    shop = shop_with()
    twice = {"cookie": f"__Host-token={token('usr_2')}; __Host-token={token()}", "sec-fetch-site": "same-origin"}
    assert await read(shop, twice) == 400


async def test_the_token_stays_here_and_other_cookies_go_on():
    shop = shop_with()
    await read(shop, with_cookie(sec_fetch_site="same-origin"))
    await read(shop, with_cookie(sec_fetch_site="same-origin") | partner())
    await read(shop, {"cookie": f"__Host-token={token()}", "sec-fetch-site": "same-origin"})
    assert [call.header("cookie") for call in shop.services.calls] == [
        "theme=dark; lang=en",
        "theme=dark; lang=en",
        None,
    ]


async def test_where_no_cookie_is_configured_none_counts():
    shop = gateway()
    assert await read(shop, with_cookie(sec_fetch_site="same-origin")) == 401
    assert (await shop.client.get("/api/products/prd_1", headers=with_cookie(origin=EVIL))).status_code == 200
