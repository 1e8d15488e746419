"""What a client learns from a refusal: what was wrong, and where it gets what it needs (RFC 6750, RFC 9728)."""

from __future__ import annotations

import pytest

from tests.harness import BFF_YAML, bearer, customer, gateway, partner, token

RESOURCE = "https://api.example.com"
METADATA = f"{RESOURCE}/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, 'scope="orders:read"'),
        (
            bearer(token(exp=1_000_000_000)),
            'error="invalid_token", error_description="The token has expired: get a new one"',
        ),
        (
            {"x-api-key": "bff_x"},
            'error="invalid_token", error_description="The API key is not known: check X-API-Key"',
        ),
        (
            bearer(token("usr_1", "users:read")),
            (
                'error="insufficient_scope", scope="orders:read", '
                'error_description="This needs a credential with the scopes: orders:read"'
            ),
        ),
    ],
)
async def test_a_refusal_says_what_is_wrong_and_where_tokens_are_had(headers, said):
    shop = gateway(BFF_YAML, auth={"resource": RESOURCE, "realm": "shop"})
    answer = await shop.client.get("/api/orders/ord_1", headers=headers)
    assert answer.headers["www-authenticate"] == f'Bearer realm="shop", resource_metadata="{METADATA}", {said}'


async def test_two_credentials_are_an_invalid_request():
    answer = await gateway().client.get("/api/orders/ord_1", headers=customer() | partner())
    assert answer.headers["www-authenticate"].startswith('Bearer realm="bff", error="invalid_request"')


async def test_graphql_refuses_in_the_same_words():
    shop = gateway(BFF_YAML, auth={"resource": RESOURCE})
    answer = await shop.query("{ me { id } }", headers=bearer("nonsense"))
    assert answer.status == 401
    assert f'resource_metadata="{METADATA}", error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (RESOURCE, "/.well-known/oauth-protected-resource"),
        (f"{RESOURCE}/shop/v1", "/.well-known/oauth-protected-resource/shop/v1"),
    ],
)
async def test_the_document_about_the_resource_names_issuers_and_scopes(resource, path):
    shop = gateway(BFF_YAML, auth={"resource": resource})
    answer = await shop.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "resource": resource,
        "resource_name": "bff",
        "authorization_servers": ["https://id.internal", "https://login.internal"],
        "scopes_supported": [
            *("orders:read", "orders:write", "payments:read", "payments:write", "users:read", "users:write"),
        ],
        "bearer_methods_supported": ["header"],
    }
    head = await shop.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert (await shop.client.post(path)).status_code == 405
    assert shop.services.calls == []


async def test_the_document_names_the_scopes_of_a_schema_without_routes_too():
    shop = gateway(BFF_YAML.partition("routes:")[0], auth={"resource": RESOURCE})
    named = (await shop.client.get("/.well-known/oauth-protected-resource")).json()["scopes_supported"]
    assert named == ["orders:read", "orders:write", "payments:read", "payments:write", "users:read", "users:write"]


async def test_without_a_resource_there_is_no_document():
    assert (await gateway().client.get("/.well-known/oauth-protected-resource")).status_code == 404
