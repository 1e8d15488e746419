"""The identity provider: discovery, keys that rotate, tokens, introspection and revocation."""

import time

import jwt
import pytest

import demo
from demo.identity import CUSTOMER as CUSTOMER_SCOPES
from tests.demo.conftest import assert_problem
from tests.running import until

CLI, GATEWAY, REPORTING = ("demo-cli", "demo-secret"), ("bff", "bff-secret"), ("reporting", "reporting-secret")
FOR_SOMEBODY = {"grant_type": "urn:demo:subject", "subject": "usr_1"}


def token(identity, auth=CLI, **form) -> str:
    answer = identity.post("/token", data={**FOR_SOMEBODY, **form}, auth=auth)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def keys(identity) -> dict[str, dict]:
    return {key["kid"]: key for key in identity.get("/.well-known/jwks.json").json()["keys"]}


def checked(identity, access_token: str) -> dict:
    """As a gateway would: by the published keys alone."""
    header = jwt.get_unverified_header(access_token)
    key = jwt.PyJWK(keys(identity)[header["kid"]])
    return jwt.decode(access_token, key, algorithms=["RS256", "ES256"], audience="shop")


def introspected(identity, access_token: str) -> dict:
    return identity.post("/introspect", data={"token": access_token}, auth=GATEWAY).json()


def test_discovery_names_what_is_there(identity, shop):
    found = identity.get("/.well-known/openid-configuration").json()
    assert found["issuer"] == shop.urls["identity"]
    for name in ("jwks_uri", "token_endpoint", "introspection_endpoint", "revocation_endpoint"):
        assert found[name].startswith(f"{found['issuer']}/")
    assert identity.get(found["jwks_uri"]).status_code == 200
    assert identity.post(found["token_endpoint"], data=FOR_SOMEBODY, auth=CLI).status_code == 200


def test_one_rsa_and_one_ec_key_are_published_without_their_private_parts(identity):
    published = keys(identity).values()
    assert {(key["kty"], key["alg"], key["use"]) for key in published} == {
        ("RSA", "RS256", "sig"),
        ("EC", "ES256", "sig"),
    }
    for key in published:
        assert not {"d", "p", "q", "dp", "dq", "qi"} & key.keys()
        assert jwt.PyJWK(key).key.key_size in (2048, 256)


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
def test_a_token_says_whose_it_is_and_is_signed_as_asked(identity, shop, alg):
    access_token = token(identity, alg=alg, plan="partner", scope="users:read orders:admin")
    header, claims = jwt.get_unverified_header(access_token), checked(identity, access_token)
    assert (header["alg"], header["typ"]) == (alg, "at+jwt")
    assert (claims["iss"], claims["aud"], claims["sub"]) == (shop.urls["identity"], "shop", "usr_1")
    assert (claims["scope"], claims["plan"], claims["client_id"]) == ("users:read orders:admin", "partner", "demo-cli")
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < 20
    assert claims["jti"] != checked(identity, token(identity))["jti"]


def test_a_customer_gets_a_customers_scopes(identity):
    answer = identity.post("/token", data=FOR_SOMEBODY, auth=CLI)
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 3600, CUSTOMER_SCOPES)
    claims = checked(identity, body["access_token"])
    assert (claims["scope"], "plan" in claims) == (CUSTOMER_SCOPES, False)


def test_a_client_as_itself_gets_its_own_scopes_and_no_others(identity):
    form = {"grant_type": "client_credentials"}
    answer = identity.post("/token", data=form, auth=REPORTING).json()
    claims = checked(identity, answer["access_token"])
    assert (claims["sub"], claims["client_id"]) == ("reporting", "reporting")
    assert claims["scope"] == "users:admin orders:admin orders:read"
    narrow = identity.post("/token", data={**form, "scope": "orders:read"}, auth=REPORTING).json()
    assert narrow["scope"] == "orders:read"
    wide = identity.post("/token", data={**form, "scope": "orders:read payments:admin"}, auth=REPORTING)
    assert (wide.status_code, wide.json()["error"]) == (400, "invalid_scope")


def test_a_client_may_prove_itself_in_the_form(identity):
    form = {**FOR_SOMEBODY, "client_id": CLI[0], "client_secret": CLI[1]}
    assert identity.post("/token", data=form).status_code == 200


@pytest.mark.parametrize("auth", [None, ("demo-cli", "wrong"), ("nobody", "demo-secret"), ("", ""), ("bff", "")])
@pytest.mark.parametrize("path", ["/token", "/introspect", "/revoke"])
def test_an_unproven_client_gets_nothing(identity, path, auth):
    answer = identity.post(path, data={**FOR_SOMEBODY, "token": "t"}, auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("credentials", ["", "!!!", "Zm9v", "w4A=", "gICA"])
def test_basic_credentials_that_cannot_be_read_are_none(identity, credentials):
    answer = identity.post("/token", data=FOR_SOMEBODY, headers={"authorization": f"Basic {credentials}".strip()})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"subject": "usr_1"}, "unsupported_grant_type"),
        ({"grant_type": "urn:demo:subject"}, "invalid_request"),
        ({**FOR_SOMEBODY, "subject": "usr 1"}, "invalid_request"),
        ({**FOR_SOMEBODY, "scope": 'a "b"'}, "invalid_scope"),
        ({**FOR_SOMEBODY, "scope": "a  b"}, "invalid_scope"),
        ({**FOR_SOMEBODY, "alg": "none"}, "invalid_request"),
        ({**FOR_SOMEBODY, "alg": "HS256"}, "invalid_request"),
        ({**FOR_SOMEBODY, "expires_in": "0"}, "invalid_request"),
        ({**FOR_SOMEBODY, "expires_in": "1000000"}, "invalid_request"),
        ({**FOR_SOMEBODY, "subject": ["usr_1", "usr_2"]}, "invalid_request"),
        ({f"field{n}": "x" for n in range(40)}, "invalid_request"),
    ],
)
def test_a_wrong_request_is_refused_as_oauth_has_it(identity, form, error):
    answer = identity.post("/token", data=form, auth=CLI)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_client_uses_only_its_own_grants(identity):
    answer = identity.post("/token", data=FOR_SOMEBODY, auth=REPORTING)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


def test_another_body_is_refused(identity):
    assert_problem(identity.post("/token", json=FOR_SOMEBODY, auth=CLI), 415)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert_problem(identity.post("/token", content=b"a" * 1_100_000, auth=CLI, headers=form), 413)


def test_an_opaque_token_means_nothing_by_itself_and_introspection_explains_it(identity, shop):
    access_token = token(identity, token_format="opaque", plan="partner")
    assert "." not in access_token
    meaning = introspected(identity, access_token)
    assert meaning["active"] is True
    assert (meaning["iss"], meaning["aud"], meaning["sub"]) == (shop.urls["identity"], "shop", "usr_1")
    assert (meaning["scope"], meaning["plan"], meaning["token_type"]) == (CUSTOMER_SCOPES, "partner", "Bearer")
    assert meaning["exp"] - meaning["iat"] == 3600


def test_introspection_explains_signed_tokens_too(identity):
    access_token = token(identity)
    assert introspected(identity, access_token) == {
        "active": True,
        "token_type": "Bearer",
        **checked(identity, access_token),
    }


def test_what_is_no_valid_token_is_inactive_and_nothing_more(identity):
    access_token = token(identity)
    header, payload, signature = access_token.split(".")
    forged = jwt.encode({"iss": "x", "exp": 9_999_999_999}, "s" * 32, algorithm="HS256")
    for wrong in ("x", f"{header}.{payload}.", f"{header}.{payload[:-2]}AA.{signature}", forged, "a.b.c", "é"):
        assert introspected(identity, wrong) == {"active": False}
    missing = identity.post("/introspect", data={"token": ""}, auth=GATEWAY)
    assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("token_format", ["jwt", "opaque"])
def test_an_expired_token_is_inactive(identity, token_format):
    access_token = token(identity, token_format=token_format, expires_in="3")  # times are whole seconds: two to three
    assert introspected(identity, access_token)["active"] is True
    until(lambda: introspected(identity, access_token) == {"active": False})


@pytest.mark.parametrize("token_format", ["jwt", "opaque"])
def test_a_revoked_token_is_inactive_and_others_live_on(identity, token_format):
    access_token, other = token(identity, token_format=token_format), token(identity, token_format=token_format)
    foreign = identity.post("/revoke", data={"token": access_token}, auth=REPORTING)
    assert (foreign.status_code, introspected(identity, access_token)["active"]) == (400, True)
    for _ in range(2):
        assert identity.post("/revoke", data={"token": access_token}, auth=CLI).status_code == 200
    assert introspected(identity, access_token) == {"active": False}
    assert introspected(identity, other)["active"] is True
    assert identity.post("/revoke", data={"token": "unknown"}, auth=CLI).status_code == 200


def test_a_rotated_key_is_published_once_more_and_then_no_longer():
    with demo.processes(demo.FREE, issuer="https://id.example.com") as shop:
        import httpx  # noqa: PLC0415

        with httpx.Client(base_url=shop.urls["identity"]) as identity:
            first, before = set(keys(identity)), token(identity)
            signing = identity.post("/-/rotate").json()
            second = set(keys(identity))
            assert len(second) == 4
            assert first < second
            assert set(signing.values()) == second - first
            assert checked(identity, before)["iss"] == "https://id.example.com"
            assert introspected(identity, before)["active"] is True
            after = token(identity)
            assert jwt.get_unverified_header(after)["kid"] == signing["RS256"]
            identity.post("/-/rotate")
            assert len(keys(identity)) == 4
            assert not first & set(keys(identity))
            assert introspected(identity, before) == {"active": False}
            assert introspected(identity, after)["active"] is True
            shop.stop("identity")
            shop.start("identity")
            assert checked(identity, after)["sub"] == "usr_1"
