"""What every answer tells browsers and caches, unless its service says otherwise."""

import httpx
import pytest

from tests.harness import customer, gateway, partner


@pytest.mark.parametrize(
    "path", ["/api/products/prd_1", "/api/products/prd_999", "/api/users/usr_1", "/nowhere", "/..%2f"]
)
async def test_no_answer_is_read_as_another_type_than_it_says(path):
    assert (await gateway().client.get(path)).headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("headers", [customer(), partner(), {"cookie": "session=1"}])
async def test_what_is_answered_to_a_credential_is_kept_by_no_cache(headers):
    answer = await gateway().client.get("/api/products/prd_1", headers=headers)
    assert answer.headers.get_list("cache-control") == ["no-store"]


async def test_what_is_answered_to_anybody_may_be_kept():
    assert "cache-control" not in (await gateway().client.get("/api/products/prd_1")).headers


async def test_a_services_own_word_counts():
    async def answer(request, _):
        return httpx.Response(200, headers=own, json={})

    own = {"cache-control": "private, max-age=60", "x-content-type-options": "other"}
    shop = gateway()
    shop.services.products.fail(answer)
    given = await shop.client.get("/api/products/prd_1", headers=partner())
    assert {name: given.headers.get_list(name) for name in own} == {name: [value] for name, value in own.items()}
