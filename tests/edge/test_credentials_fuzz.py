"""Whatever comes as a credential, as a key set or as an answer about a token: refused, at worst."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import httpx
import orjson
from hypothesis import given, settings
from hypothesis import strategies as some

from bff.core.errors import BadRequest, CsrfPrevented, Unauthenticated, UpstreamUnavailable
from bff.edge.credentials import AuthSettings, Credentials
from bff.edge.credentials.jwk import usable
from tests.edge.test_auth import ISSUER, SETTINGS, SHARED, SHARED_ISSUER, part, sealed

JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**60), 2**60) | some.floats() | some.text(max_size=20),
    lambda inside: some.lists(inside, max_size=4) | some.dictionaries(some.text(max_size=10), inside, max_size=4),
    max_leaves=10,
)
CLAIMS = ("iss", "aud", "exp", "nbf", "iat", "sub", "scope", "client_id", "azp", "plan", "cnf", "active", "token_type")
KEYS = ("kty", "kid", "use", "alg", "key_ops", "n", "e", "crv", "x", "y", "k")


def members(names: tuple[str, ...], **likely: Any) -> some.SearchStrategy[dict[str, Any]]:
    """Objects with some of these members, whose values may be what is expected, or anything."""
    values = {name: JSON | some.just(likely[name]) if name in likely else JSON for name in names}
    return some.fixed_dictionaries({}, optional=values)


class Answering(httpx.AsyncBaseTransport):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(orjson.dumps(self.answer)))


def judged(headers: list[tuple[bytes, bytes]], network: Answering, **more: Any) -> None:
    """It is somebody, nobody, or refused in one of our ways."""
    taken = AuthSettings.model_validate({"jwt": [each.model_dump() for each in SETTINGS.jwt], **more})

    async def run() -> None:
        held = Credentials(taken, network)
        try:
            await held.identify(headers)
        finally:
            await held.close()

    with suppress(Unauthenticated, BadRequest, CsrfPrevented, UpstreamUnavailable):
        asyncio.run(run())


NAMES = some.sampled_from([b"authorization", b"x-api-key", b"cookie", b"origin", b"host", b"sec-fetch-site"])
VALUES = some.binary(max_size=200) | some.binary(max_size=200).map(lambda text: b"Bearer " + text) | some.just(b"t=x")


@given(some.lists(some.tuples(NAMES, VALUES), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_headers(headers):
    judged(headers, Answering({}), cookie={"name": "t"})


LIKELY = {"iss": SHARED_ISSUER, "aud": "shop", "exp": int(time.time()) + 9000, "sub": "usr_1", "scope": "a b"}


@given(members(("alg", "typ", "kid", "crit", "jwk"), alg="HS256", typ="JWT"), members(CLAIMS, **LIKELY))
@settings(max_examples=150, deadline=None)
def test_any_token_that_is_signed_well(header, payload):
    text = sealed(header, orjson.dumps(payload), SHARED.encode())
    judged([(b"authorization", f"Bearer {text}".encode())], Answering({}))


@given(members(CLAIMS, **LIKELY | {"active": True, "iss": ISSUER}))
@settings(max_examples=100, deadline=None)
def test_any_answer_about_a_token(answer):
    entry = {"url": "https://id.example.com/introspect", "client_id": "bff", "client_secret": "s"}
    judged([(b"authorization", b"Bearer opaque")], Answering(answer), introspection=entry)


@given(some.lists(members(KEYS, kty="RSA", e="AQAB", n=part(b"\xff" * 256), use="sig") | JSON, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_key_set(keys):
    try:
        usable({"keys": keys}, ["RS256", "ES256", "EdDSA", "PS256"], 100)
    except ValueError:
        return


def test_what_is_likely_is_good():
    text = sealed({"alg": "HS256"}, orjson.dumps(LIKELY), SHARED.encode())
    caller = asyncio.run(Credentials(SETTINGS, Answering({})).identify([(b"authorization", f"Bearer {text}".encode())]))
    assert caller.subject == "usr_1"
