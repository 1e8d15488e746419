"""What services are told of who asks, where headers are not enough: a token of the gateway's, or the client's own."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from bff.core.identity import ANONYMOUS, Caller
from bff.core.loading import ConfigError
from bff.core.settings import Secret
from bff.upstream.identity import Signer, SigningSettings
from tests.edge.test_auth import Clock
from tests.harness import BFF_YAML, Gateway, bearer, customer, gateway, partner, token

CALLER = Caller("usr_1", "web", frozenset({"b", "a"}), credential="jwt", issuer="https://id.internal")


def pem(key, encryption=None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def signing(**settings) -> Gateway:
    return gateway(BFF_YAML, services={"users": {"identity": "signed"}}, auth={"signing": settings})


async def verified(shop: Gateway, text: str, audience: str, issuer: str = "bff") -> dict[str, object]:
    """The claims, as a service would get them that knows nothing but the gateway's key set."""
    keys = jwt.PyJWKSet.from_dict((await shop.client.get("/.well-known/jwks.json")).json())
    key = keys[jwt.get_unverified_header(text)["kid"]]
    required = {"require": ["exp", "iat", "jti"]}
    return jwt.decode(text, key, algorithms=[key.algorithm_name], audience=audience, issuer=issuer, options=required)


def sent(call) -> str:
    scheme, _, text = call.header("authorization").partition(" ")
    assert scheme == "Bearer"
    return text


async def test_a_service_that_asks_for_it_gets_a_short_token_instead_of_headers_on_both_fronts():
    shop = signing(lifetime="2m")
    own = token("usr_1", "users:read orders:read", client_id="web")
    await shop.client.get("/api/users/usr_1", headers=bearer(own))
    await shop.query('{ order(id: "ord_1") { customer { id } } }', headers=bearer(own))
    calls = shop.services.users.calls
    assert len(calls) == 2
    for call in calls:
        assert sent(call) != own
        claims = await verified(shop, sent(call), "users")
        assert claims["exp"] - claims["iat"] == 120
        assert (claims["sub"], claims["sub_iss"], claims["client_id"]) == ("usr_1", "https://id.internal", "web")
        assert claims["scope"] == "orders:read users:read"
        assert not [name for name, _ in call.headers if name.lower().startswith("x-auth")]
    (order,) = shop.services.orders.calls
    assert order.header("authorization") is None
    assert order.header("x-auth-subject") == "usr_1"


async def test_a_program_is_never_taken_for_a_person():
    shop = signing()
    await shop.client.get("/api/users/usr_1", headers=partner())
    claims = await verified(shop, sent(shop.services.users.calls[0]), "users")
    assert "sub" not in claims
    assert claims["client_id"] == "partner"


async def test_nobody_gets_no_token_and_what_a_client_sends_is_none():
    shop = gateway(BFF_YAML, services={"products": {"identity": "signed"}})
    await shop.client.get("/api/products/prd_1")
    assert shop.services.products.calls[0].header("authorization") is None
    await shop.client.get("/api/products/prd_1", headers=customer())
    assert (await verified(shop, sent(shop.services.products.calls[1]), "products"))["sub"] == "usr_1"


async def test_there_is_no_key_set_where_nothing_is_signed():
    assert (await gateway().client.get("/.well-known/jwks.json")).status_code == 404


async def test_the_key_set_has_no_private_part():
    keys = (
        await signing(keys=[pem(rsa.generate_private_key(65537, 2048))]).client.get("/.well-known/jwks.json")
    ).json()
    assert [set(key) for key in keys["keys"]] == [{"kty", "n", "e", "kid", "alg", "use"}]


def test_a_token_is_used_again_until_shortly_before_its_end():
    clock = Clock()
    signer = Signer(SigningSettings(lifetime=60.0), clock)
    first = signer.headers(CALLER, "users")
    clock.now += 44
    assert signer.headers(CALLER, "users") is first
    clock.now += 1
    assert signer.headers(CALLER, "users") != first


def test_each_caller_and_service_has_a_token_of_its_own_and_only_so_many_are_kept():
    signer = Signer(SigningSettings(cache_size=2), Clock())
    one = signer.headers(CALLER, "users")
    assert signer.headers(CALLER, "orders") != one
    other = Caller("usr_1", "web", frozenset({"b", "a"}), credential="jwt", issuer="https://other.internal")
    assert signer.headers(other, "users") != one
    assert len(signer._tokens) == 2
    assert signer.headers(ANONYMOUS, "users") == []


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (rsa.generate_private_key(65537, 2048), "RS256"),
    ],
)
async def test_the_first_key_signs_and_all_are_published_so_that_keys_can_be_changed(key, algorithm):
    next_key = pem(ec.generate_private_key(ec.SECP256R1()))
    shop = signing(keys=[pem(key), next_key], issuer="https://gateway.internal")
    await shop.client.get("/api/users/usr_1", headers=customer())
    text = sent(shop.services.users.calls[0])
    assert jwt.get_unverified_header(text)["alg"] == algorithm
    assert (await verified(shop, text, "users", "https://gateway.internal"))["sub"] == "usr_1"
    published = (await shop.client.get("/.well-known/jwks.json")).json()["keys"]
    changed = signing(keys=[next_key, pem(key)])
    assert {each["kid"] for each in published} == {
        each["kid"] for each in (await changed.client.get("/.well-known/jwks.json")).json()["keys"]
    }


@pytest.mark.parametrize(
    "key",
    [
        "no key",
        pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 (what has to be refused)
        pem(ed25519.Ed25519PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"password")),
        pem(ec.generate_private_key(ec.SECP256K1())),
    ],
)
def test_a_key_that_cannot_sign_is_refused_at_the_start_and_not_shown(key):
    with pytest.raises(ConfigError, match=r"auth\.signing\.keys\[0\]: must be a private key") as caught:
        signing(keys=[key])
    assert key not in str(caught.value)
    assert key not in repr(SigningSettings(keys=(Secret(key),)))


@pytest.mark.parametrize("headers", [customer(), partner()])
async def test_a_service_gets_the_clients_own_credential_only_if_it_asks(headers):
    shop = gateway(BFF_YAML, services={"users": {"forward_credentials": True}})
    await shop.client.get("/api/users/usr_1", headers=headers)
    await shop.query('{ order(id: "ord_1") { customer { id } } }', headers=headers)
    (name, value), (order,) = next(iter(headers.items())), shop.services.orders.calls
    for call in shop.services.users.calls:
        assert call.header(name) == value
        assert call.header("x-auth-scopes")
    assert len(shop.services.users.calls) == 2
    assert order.header(name) is None


@pytest.mark.parametrize("identity", ["signed", "none"])
def test_a_service_cannot_have_both_a_token_of_ours_and_the_clients(identity):
    with pytest.raises(ConfigError, match=r"services\.users\.forward_credentials"):
        gateway(BFF_YAML, services={"users": {"forward_credentials": True, "identity": identity}})
