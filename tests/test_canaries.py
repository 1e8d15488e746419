"""No secret, token, key or person is in any log line, span, metric, error or page for operators."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.edge.test_auth import part
from tests.harness import BFF_YAML, SECRET, Gateway, bearer, gateway, token
from tests.shop import cut, refused, says
from tests.upstream.test_identity import pem

PERSON = "canary.person@example.com"
KEY = "bff_acme_canary-key-0123456789abcdefghijklmnopqrs"
CLIENT_SECRET = "canary-client-secret"
SIGNING = pem(ec.generate_private_key(ec.SECP256R1()))
RECORDED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}

GOOD = token(PERSON, "users:read users:write orders:read", email=PERSON)
CANARIES = {
    "API key": KEY,
    "shared secret": SECRET,
    "client secret": CLIENT_SECRET,
    "signing key": SIGNING.splitlines()[1],
    "token": GOOD.rsplit(".", 1)[1],
    "token's claims": GOOD.split(".")[1],
    "bad key": "canary-bad-key",
    "bad token": "canary-bad-token",
    "forged claims": part({"iss": "https://id.internal", "sub": "canary-forged"}),
    "password": "canary-password",
    "cookie": "canary-cookie",
    "query": "canary-query",
    "variable": "canary-variable",
    "literal": "canary-literal",
    "body": "canary-body",
    "service's words": "canary-internal-10.1.2.3",
    "person": PERSON,
}


@pytest.fixture
def shop() -> Gateway:
    acme = {
        "consumer": "acme",
        "hash": f"sha256:{sha256(KEY.encode()).hexdigest()}",
        "scopes": ["users:read", "users:admin"],
    }
    introspection = {"url": "https://login.internal/introspect", "client_id": "bff", "client_secret": CLIENT_SECRET}
    return gateway(
        BFF_YAML,
        auth={
            "api_keys": [acme],
            "introspection": introspection,
            "cookie": {"name": "session"},
            "signing": {"keys": [SIGNING]},
        },
        services={"users": {"identity": "signed"}},
    )


CREDENTIALS = [
    bearer(GOOD),
    {"x-api-key": KEY},
    {"x-api-key": CANARIES["bad key"]},
    bearer(CANARIES["bad token"]),
    bearer(f"{part({'alg': 'HS256'})}.{CANARIES['forged claims']}.AAAA"),
    {"authorization": f"Basic {CANARIES['password']}"},
    {"cookie": f"session={CANARIES['cookie']}", "sec-fetch-site": "same-origin"},
    {"cookie": f"session={CANARIES['cookie']}", "sec-fetch-site": "cross-site"},
    bearer(GOOD) | {"x-api-key": KEY},
    {},
]


async def exercise(shop: Gateway) -> list[str]:
    """Every kind of credential at both fronts, with personal data wherever a request can have some; what came back."""
    answers = []
    document = (
        'query($q: String) { users(first: 2, q: $q) { nodes { name email } } me { id } nope: user(id: "%s") { id } }'
    )
    for headers in CREDENTIALS:
        for send in (
            shop.client.get(f"/api/users/usr_1?access_token={CANARIES['query']}", headers=headers | RECORDED),
            shop.client.patch("/api/users/usr_1", json={"name": CANARIES["body"]}, headers=headers | RECORDED),
            shop.client.post(
                "/api/orders", content=b'{"x": "%s' % CANARIES["body"].encode(), headers=headers | RECORDED
            ),
            shop.client.post(
                "/graphql",
                json={"query": document % CANARIES["literal"], "variables": {"q": CANARIES["variable"]}},
                headers=headers | RECORDED,
            ),
            shop.client.post(
                "/graphql",
                json={"query": document.replace("email", "e") % CANARIES["literal"]},
                headers=headers | RECORDED,
            ),
        ):
            response = await send
            answers.append(response.text + json.dumps(dict(response.headers)))
    return answers


async def pages(shop: Gateway) -> list[str]:
    """What operators see, every page of it."""
    paths = [path for path in shop.app.state.admin.openapi()["paths"] if "{" not in path]
    assert {"/metrics", "/healthz", "/readyz", "/-/live", "/-/config", "/-/traffic"} <= set(paths)
    return [(await shop.admin.get(path, params={"snapshots": 1})).text for path in paths]


def spans(shop: Gateway) -> str:
    return "".join(span.to_json() for span in shop.spans)


def holding(text: str) -> list[str]:
    return [name for name, canary in CANARIES.items() if canary in text]


@pytest.mark.parametrize("misbehaviour", ["none", "refused", "cut", "failing", "its own 4xx", "nonsense"])
async def test_nothing_that_is_secret_or_personal_is_seen_by_operators(shop, misbehaviour):
    words = {"detail": CANARIES["service's words"], "email": PERSON}
    behaviour = {
        "none": None,
        "refused": refused,
        "cut": cut,
        "failing": says(500, words),
        "its own 4xx": says(404, words, "application/problem+json"),
        "nonsense": says(200, b"<html>canary-internal-10.1.2.3"),
    }[misbehaviour]
    for service in (shop.services.users, shop.services.orders):
        service.fail(behaviour)
    await exercise(shop)
    assert holding(json.dumps(shop.log)) == []
    assert shop.access
    assert holding(spans(shop)) == []
    assert shop.spans
    for page in await pages(shop):
        assert holding(page) == []


async def test_no_answer_of_ours_repeats_a_credential_or_tells_of_the_inside(shop):
    shop.services.users.fail(says(500, {"detail": CANARIES["service's words"]}))
    # A client may be told what it sent itself: its document and its values. Never a credential, nor anything of ours.
    own = {"literal", "variable", "body", "query"}
    for text in await exercise(shop):
        assert set(holding(text)) <= own, text


async def test_no_setting_shows_its_secret(shop):
    for text in (repr(shop.config), str(shop.config), shop.config.model_dump_json()):
        assert holding(text) == []
