"""OpenID discovery: the issuer's own document says where its keys are, and nobody else's does."""

from __future__ import annotations

import httpx
import orjson
import pytest

from bff.core.errors import UpstreamUnavailable
from bff.edge.credentials import AuthSettings, Credentials
from bff.edge.credentials.jwt import IssuerSettings
from tests.edge.test_auth import AUDIENCE, ISSUER, OTHER_RSA, RSA, Clock, bearer, jwk, token

CONFIGURATION = f"{ISSUER}/.well-known/openid-configuration"
KEYS = "https://keys.example.com/set"


class Site(httpx.AsyncBaseTransport):
    """Pages by their address; a page may be a response with a status of its own."""

    def __init__(self, **document: object) -> None:
        self.pages: dict[str, object] = {
            CONFIGURATION: {"issuer": ISSUER, "jwks_uri": KEYS} | document,
            KEYS: {"keys": [jwk(RSA, "r1")]},
        }
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self.asked.append(url)
        page = self.pages.get(url)
        if isinstance(page, httpx.Response):
            return page
        return httpx.Response(200 if page else 404, stream=httpx.ByteStream(orjson.dumps(page)))


def credentials(site: Site, clock: Clock, issuer: str = ISSUER) -> Credentials:
    entry = {"issuer": issuer, "audience": AUDIENCE, "algorithms": ["RS256"], "oidc": True}
    return Credentials(AuthSettings.model_validate({"jwt": [entry]}), site, clock, timer=clock)


async def test_keys_are_found_by_the_issuers_document():
    site, clock = Site(), Clock()
    assert (await credentials(site, clock).identify(bearer(token()))).subject == "usr_1"
    assert site.asked == [CONFIGURATION, KEYS]


async def test_an_issuer_with_a_slash_at_its_end_is_asked_at_the_same_place():
    site, clock = Site(issuer=f"{ISSUER}/"), Clock()
    assert (await credentials(site, clock, f"{ISSUER}/").identify(bearer(token(iss=f"{ISSUER}/")))).subject == "usr_1"


async def test_keys_that_have_moved_are_found_again():
    site, clock = Site(), Clock()
    held = credentials(site, clock)
    await held.identify(bearer(token()))
    site.pages[CONFIGURATION] = {"issuer": ISSUER, "jwks_uri": "https://elsewhere.example.com/set"}
    site.pages["https://elsewhere.example.com/set"] = {"keys": [jwk(OTHER_RSA, "r2")]}
    clock.now += 31
    assert (await held.identify(bearer(token(OTHER_RSA, kid="r2")))).subject == "usr_1"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"issuer": f"{ISSUER}/"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 7},
        {"jwks_uri": "http://keys.example.com/set"},
        {"jwks_uri": "http://127.0.0.1:9000/metrics"},
        {"jwks_uri": "https://localhost/set"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://["},
        {"jwks_uri": ""},
    ],
)
async def test_a_document_that_is_not_the_issuers_or_names_what_must_not_be_asked_is_none(document):
    site, clock = Site(**document), Clock()
    with pytest.raises(UpstreamUnavailable):
        await credentials(site, clock).identify(bearer(token()))
    assert site.asked == [CONFIGURATION]


@pytest.mark.parametrize("where", [CONFIGURATION, KEYS])
async def test_redirects_are_not_followed(where):
    site, clock = Site(), Clock()
    site.pages[where] = httpx.Response(302, headers={"location": "https://evil.example/"})
    with pytest.raises(UpstreamUnavailable):
        await credentials(site, clock).identify(bearer(token()))
    assert "https://evil.example/" not in site.asked


@pytest.mark.parametrize("issuer", ["shop", "http://id.example.com", "ftp://id.example.com", "https:id"])
def test_only_an_https_address_can_be_asked(issuer):
    entry = {"issuer": issuer, "audience": AUDIENCE, "algorithms": ["RS256"], "oidc": True}
    complaints = list(IssuerSettings.model_validate(entry).problems())
    assert [where for where, _ in complaints] == [("issuer",)]
    assert not list(IssuerSettings.model_validate(entry | {"issuer": "http://127.0.0.1:8105"}).problems())


@pytest.mark.parametrize("more", [{"jwks": KEYS}, {"algorithms": ["HS256"]}])
def test_discovery_is_for_asymmetric_keys_and_instead_of_an_address(more):
    entry = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256"], "oidc": True} | more
    assert len(list(IssuerSettings.model_validate(entry).problems())) == 1
