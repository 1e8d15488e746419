"""docs/growing.md: each of its steps does what the text says, in front of the same service."""

import re
from hashlib import sha256
from pathlib import Path

from tests.harness import PARTNER, gateway, partner
from tests.shop import says

PAGE = (Path(__file__).parent.parent.parent / "docs" / "growing.md").read_text()
STEPS = re.findall(r"^```yaml bff\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ONE = "/api/products/prd_1"


def step(number):
    """The gateway of that step, with a key that is known here in place of the one shown."""
    return gateway(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{sha256(PARTNER.encode()).hexdigest()}", STEPS[number - 1]))


def test_the_first_step_has_six_lines_at_most():
    assert len(STEPS) == 7
    assert len(STEPS[0].splitlines()) <= 6


async def test_one_route_passes_on():
    shop = step(1)
    answer = await shop.client.get(ONE)
    assert (answer.status_code, answer.json()["id"]) == (200, "prd_1")
    assert shop.services.targets == ["GET /products/prd_1"]
    assert "x-request-id" in answer.headers


async def test_a_key_is_needed_and_told():
    shop = step(2)
    assert (await shop.client.get(ONE)).status_code == 401
    assert (await shop.client.get(ONE, headers={"x-api-key": "another"})).status_code == 401
    assert (await shop.client.get(ONE, headers=partner())).status_code == 200
    assert shop.services.products.calls[0].header("x-auth-consumer") == "acme"


async def test_a_limit_is_said_and_kept():
    shop = step(3)
    answers = [await shop.client.get(ONE, headers=partner()) for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert "ratelimit" in answers[0].headers
    assert int(answers[3].headers["retry-after"]) > 0


async def test_a_cache_spares_the_service():
    shop = step(4)
    shop.services.products.fail(says(200, {"id": "prd_1", "name": "One"}, cache_control="public, max-age=60"))
    told = [(await shop.client.get(ONE, headers=partner())).headers["cache-status"] for _ in range(2)]
    assert told[0].endswith("stored")
    assert told[1].endswith("hit; ttl=60") or told[1].endswith("hit; ttl=59")
    assert shop.services.targets == ["GET /products/prd_1"]
    await shop.client.put(ONE, headers=partner(), json={})
    assert "hit" not in (await shop.client.get(ONE, headers=partner())).headers["cache-status"]


async def test_a_canary_is_for_testers_first():
    shop = step(5)
    for headers in ({}, {"x-beta": "1"}):
        assert (await shop.client.get(ONE, headers=partner() | headers)).status_code == 200
    assert [call.host for call in shop.services.calls] == ["products", "products-next"]


async def test_clients_get_what_they_need():
    shop = step(6)
    found = (await shop.client.get(ONE)).json()
    assert "article" in found
    assert not {"sku", "stock"} & set(found)
    moved = await shop.client.get("/shop/prd_1?x=1")
    assert (moved.status_code, moved.headers["location"]) == (308, "/api/products/prd_1?x=1")


async def test_graphql_stands_beside_the_route():
    shop = step(7)
    answer = await shop.query('{ product(id: "prd_1") { name } }')
    rest = (await shop.client.get(ONE)).json()
    assert answer.data == {"product": {"name": rest["name"]}}
