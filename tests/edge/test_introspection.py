"""Opaque tokens: asked about once at a time, believed for as long as the configuration says, never longer."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson
import pytest

from bff.core.errors import Unauthenticated, UpstreamUnavailable
from bff.core.settings import Secret
from bff.edge.credentials import AuthSettings, Credentials
from bff.edge.credentials.introspection import IntrospectionSettings
from bff.upstream.transport import Transport, TransportSettings
from tests.edge.test_auth import ISSUER, RSA, SETTINGS, Clock, bearer, jwk, settle, token
from tests.running import token as demo_token

URL = "https://id.example.com/introspect"
ENTRY = {"url": URL, "client_id": "b:ff", "client_secret": "s3cret/+"}


class Explainer(httpx.AsyncBaseTransport):
    """A provider that knows some tokens."""

    def __init__(self, **tokens: Any) -> None:
        self.tokens = tokens
        self.asked: list[str] = []
        self.requests: list[httpx.Request] = []
        self.hold: asyncio.Event | None = None
        self.answer: Callable[[], httpx.Response] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return answered({"keys": [jwk(RSA, "r1")]})
        self.requests.append(request)
        (asked,) = parse_qs((await request.aread()).decode())["token"]
        self.asked.append(asked)
        if self.hold:
            await self.hold.wait()
        return self.answer() if self.answer else answered(self.tokens.get(asked, {"active": False}))


def answered(value: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(orjson.dumps(value)))


def active(**more: Any) -> dict[str, Any]:
    said = {
        "active": True,
        "sub": "usr_1",
        "scope": "users:read orders:read",
        "client_id": "app",
        "exp": time.time() + 900,
    }
    return {name: value for name, value in (said | more).items() if value is not None}


def credentials(explainer: Explainer, clock: Clock, *, cache_size: int = 10_000, **changed: Any) -> Credentials:
    given = {"jwt": [SETTINGS.jwt[0].model_dump()], "introspection": ENTRY | changed, "cache_size": cache_size}
    return Credentials(AuthSettings.model_validate(given), explainer, clock, timer=clock, tiers=frozenset({"gold"}))


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def refused(held: Credentials, text: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await held.identify(bearer(text))
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_a_token_is_of_whom_its_provider_says(clock):
    explainer = Explainer(opaque=active(plan="gold", iss=ISSUER))
    caller = await credentials(explainer, clock).identify(bearer("opaque"))
    assert (caller.subject, caller.consumer, caller.tier) == ("usr_1", "app", "gold")
    assert (caller.credential, caller.issuer) == ("introspection", ISSUER)
    assert caller.scopes == {"users:read", "orders:read"}
    (request,) = explainer.requests
    assert str(request.url) == URL
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    scheme, _, encoded = request.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded)) == ("Basic", b"b%3Aff:s3cret%2F%2B")


async def test_the_gateway_can_say_who_it_is_in_the_form(clock):
    explainer = Explainer(opaque=active())
    await credentials(explainer, clock, client_auth="post").identify(bearer("opaque"))
    (request,) = explainer.requests
    form = parse_qs((await request.aread()).decode())
    assert (form["client_id"], form["client_secret"]) == (["b:ff"], ["s3cret/+"])
    assert "authorization" not in request.headers


async def test_jwts_of_known_issuers_are_not_asked_about_and_others_are(clock):
    explainer = Explainer()
    held = credentials(explainer, clock)
    await held.identify(bearer(token()))
    await refused(held, token()[:-4] + "AAAA")
    assert explainer.asked == []
    foreign = token(iss="https://other.example.com")
    explainer.tokens[foreign] = active()
    assert (await held.identify(bearer(foreign))).subject == "usr_1"


async def test_an_answer_is_believed_for_as_long_as_the_configuration_says(clock):
    explainer = Explainer(opaque=active())
    held = credentials(explainer, clock)
    for _ in range(5):
        await held.identify(bearer("opaque"))
    assert explainer.asked == ["opaque"]
    explainer.tokens.clear()
    clock.now += 29
    await held.identify(bearer("opaque"))
    clock.now += 1
    await refused(held, "opaque")
    assert len(explainer.asked) == 2


async def test_an_answer_is_never_believed_past_the_tokens_end(clock):
    explainer = Explainer(opaque=active(exp=clock.now + 5))
    held = credentials(explainer, clock, leeway="0s")
    await held.identify(bearer("opaque"))
    clock.now += 5
    await refused(held, "opaque")


async def test_a_refusal_is_remembered_shortly_and_within_bounds(clock):
    explainer = Explainer()
    held = credentials(explainer, clock, cache_size=3)
    for _ in range(5):
        await refused(held, "opaque")
    assert explainer.asked == ["opaque"]
    clock.now += 5
    explainer.tokens["opaque"] = active()
    assert (await held.identify(bearer("opaque"))).subject == "usr_1"
    for number in (*range(10), *range(7, 10), 6):
        await refused(held, f"made-up-{number}")
    assert explainer.asked[2:] == [*(f"made-up-{number}" for number in range(10)), "made-up-6"]


async def test_many_requests_with_one_token_share_one_question_that_outlives_its_first_waiter(clock):
    explainer = Explainer(opaque=active())
    explainer.hold = asyncio.Event()
    held = credentials(explainer, clock)
    waiting = [asyncio.create_task(held.identify(bearer("opaque"))) for _ in range(20)]
    await settle()
    waiting[0].cancel()
    await settle()
    explainer.hold.set()
    assert {caller.subject for caller in await asyncio.gather(*waiting[1:])} == {"usr_1"}
    assert explainer.asked == ["opaque"]
    assert held._introspection._asked == {}


async def test_only_so_many_questions_are_asked_at_a_time(clock):
    explainer = Explainer(**{f"t{number}": active() for number in range(5)})
    explainer.hold = asyncio.Event()
    held = credentials(explainer, clock, max_in_flight=3)
    waiting = [asyncio.create_task(held.identify(bearer(f"t{number}"))) for number in range(3)]
    await settle()
    with pytest.raises(UpstreamUnavailable):
        await held.identify(bearer("t3"))
    explainer.hold.set()
    await asyncio.gather(*waiting)
    assert (await held.identify(bearer("t3"))).subject == "usr_1"


INACTIVE = {
    "not active": {"active": False, "sub": "usr_1"},
    "active by a word": active(active="true"),
    "active by a number": active(active=1),
    "expired": active(exp=time.time() - 60),
    "not yet": active(nbf=time.time() + 600),
    "times that are none": active(exp="never"),
    "nobody": active(sub=None, client_id=None),
    "a name that is none": active(sub="a\r\nx-auth-scopes: root"),
    "a refresh token": active(token_type="refresh_token"),
    "bound to a key": active(cnf={"x5t#S256": "x"}),
    "another audience": active(aud="elsewhere"),
    "no audience": active(aud=None),
    "another issuer": active(aud="shop", iss="https://evil.example"),
    "an issuer that is none": active(aud="shop", iss=7),
}


@pytest.mark.parametrize("kind", INACTIVE)
async def test_an_answer_that_is_not_for_us_or_for_now_is_a_refusal(clock, kind):
    held = credentials(Explainer(opaque=INACTIVE[kind]), clock, audience="shop", issuer=ISSUER)
    await refused(held, "opaque")


async def test_audience_and_issuer_are_checked_where_the_configuration_has_them(clock):
    held = credentials(Explainer(opaque=active(aud=["x", "shop"], iss=ISSUER)), clock, audience="shop", issuer=ISSUER)
    assert (await held.identify(bearer("opaque"))).issuer == ISSUER
    held = credentials(Explainer(opaque=active(aud="shop")), clock, audience="shop", issuer=ISSUER)
    assert (await held.identify(bearer("opaque"))).issuer == ISSUER


FAILURES = {
    "an error": lambda: answered({"active": True, "sub": "x"}, 500),
    "our secret refused": lambda: answered({"error": "invalid_client"}, 401),
    "a redirect": lambda: httpx.Response(302, headers={"location": "https://evil.example"}),
    "no JSON": lambda: httpx.Response(200, stream=httpx.ByteStream(b"<html>")),
    "no object": lambda: answered([]),
    "too large": lambda: answered({"active": True, "sub": "x", "more": "x" * 70_000}),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_provider_that_fails_is_503_and_nothing_is_remembered(clock, failure):
    explainer = Explainer(opaque=active())
    explainer.answer = FAILURES[failure]
    held = credentials(explainer, clock)
    with pytest.raises(UpstreamUnavailable) as caught:
        await held.identify(bearer("opaque"))
    assert caught.value.retry_after == 1
    assert "id.example.com" not in caught.value.detail
    explainer.answer = None
    assert (await held.identify(bearer("opaque"))).subject == "usr_1"
    assert {str(request.url) for request in explainer.requests} == {URL}


async def test_a_provider_that_hangs_holds_a_request_no_longer_than_its_timeout_and_no_other_at_all(clock):
    explainer = Explainer(opaque=active())
    explainer.hold = asyncio.Event()
    held = credentials(explainer, clock, timeout="100ms")
    started = time.monotonic()
    asking = asyncio.create_task(held.identify(bearer("opaque")))
    await settle()
    assert (await held.identify(bearer(token()))).subject == "usr_1"
    with pytest.raises(UpstreamUnavailable):
        await asking
    assert time.monotonic() - started < 2


async def test_closing_ends_the_questions_under_way(clock):
    explainer = Explainer(opaque=active())
    explainer.hold = asyncio.Event()
    held = credentials(explainer, clock)
    asking = asyncio.create_task(held.identify(bearer("opaque")))
    await settle()
    await held.close()
    with pytest.raises(UpstreamUnavailable):
        await asking


@pytest.mark.parametrize("text", ["a b", "a,b", 'a"b', "é", "", "=", "\x00"])
async def test_what_can_be_no_token_is_not_asked_about(clock, text):
    explainer = Explainer()
    await refused(credentials(explainer, clock), text)
    assert explainer.asked == []


async def test_without_introspection_opaque_tokens_are_refused(clock):
    held = Credentials(AuthSettings(), Explainer(opaque=active()), clock)
    await refused(held, "opaque")


@pytest.mark.parametrize(("url", "complaints"), [(URL, 0), ("http://127.0.0.1:1/x", 0), ("http://id.example.com", 1)])
def test_tokens_are_sent_over_https_or_on_this_machine(url, complaints):
    settings = IntrospectionSettings(url=url, client_id="bff", client_secret=Secret("s"))
    assert len(list(settings.problems())) == complaints


async def test_the_demos_provider_explains_its_own_tokens_until_they_are_revoked(real_services):
    identity = real_services.urls["identity"]
    settings = {"url": f"{identity}/introspect", "client_id": "bff", "client_secret": "bff-secret", "cache": "0s"}
    settings |= {"issuer": identity, "audience": "shop"}
    network = Transport(TransportSettings())
    held = Credentials(AuthSettings.model_validate({"introspection": settings}), network)
    opaque = demo_token(real_services, "usr_3", "users:read", token_format="opaque")
    caller = await held.identify(bearer(opaque))
    assert (caller.subject, caller.scopes, caller.issuer) == ("usr_3", {"users:read"}, identity)
    client = {"client_id": "demo-cli", "client_secret": "demo-secret"}
    async with httpx.AsyncClient() as asking:
        await asking.post(f"{identity}/revoke", data=client | {"token": opaque})
    await refused(held, opaque)
    await network.aclose()
