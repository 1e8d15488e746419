"""The same outcome on each front: every kind of credential, with and without each scope, at every kind of thing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from bff.core.certificates import Certificate
from bff.edge.credentials.client_certificates import thumbprint
from tests.harness import BFF_YAML, SECRET, Gateway, bearer, gateway, signing_key
from tests.live.socket import Refused, Socket
from tests.pki import Authority
from tests.shop import Call, answer

NOW = int(time.time())
OK, UNAUTHENTICATED, FORBIDDEN, BAD_REQUEST = "OK", "UNAUTHENTICATED", "FORBIDDEN", "BAD_REQUEST"


class Thing(NamedTuple):
    """One thing that can be done on both fronts, and what it needs."""

    scope: str | None
    method: str
    path: str
    document: str


THINGS = {
    "read a product": Thing(None, "GET", "/api/products/prd_1", '{ product(id: "prd_1") { id } }'),
    "read a user": Thing("users:read", "GET", "/api/users/usr_1", '{ user(id: "usr_1") { id } }'),
    "read an order": Thing("orders:read", "GET", "/api/orders/ord_1", '{ order(id: "ord_1") { id } }'),
    "read a payment": Thing("payments:read", "GET", "/api/payments/pay_1", '{ payment(id: "pay_1") { id } }'),
    "change a user": Thing(
        "users:write",
        "PATCH",
        "/api/users/usr_1",
        'mutation { updateUser(input: {id: "usr_1", name: "New"}) { id } }',
    ),
    "cancel an order": Thing(
        "orders:write", "POST", "/api/orders/ord_1/cancel", 'mutation { cancelOrder(id: "ord_1") { id } }'
    ),
    "refund a payment": Thing(
        "payments:write", "POST", "/api/payments/pay_1/refund", 'mutation { refundPayment(id: "pay_1") { id } }'
    ),
}
# So that the services, which judge for themselves, have nothing against anybody.
ADMIN = ("users:admin", "orders:admin", "payments:admin")
EVERYTHING = (*ADMIN, *(f"{name}:{what}" for name in ("users", "orders", "payments") for what in ("read", "write")))
GRANTED = {
    "none": ADMIN,
    "reading": tuple(scope for scope in EVERYTHING if not scope.endswith(":write")),
    "everything": EVERYTHING,
    "all but users": tuple(scope for scope in EVERYTHING if not scope.startswith("users:") or scope in ADMIN),
}


# Credentials, good ones by what they grant.


def claims(scopes: tuple[str, ...], issuer: str, **changed: object) -> dict[str, object]:
    said = {"iss": issuer, "aud": "shop", "sub": "usr_1", "scope": " ".join(scopes), "iat": NOW, "exp": NOW + 7200}
    return said | changed


def shared(scopes: tuple[str, ...], **changed: object) -> str:
    return jwt.encode(claims(scopes, "https://id.internal", **changed), SECRET, "HS256")


def published(scopes: tuple[str, ...], **changed: object) -> str:
    issuer = "https://login.internal"
    return jwt.encode(claims(scopes, issuer, **changed), signing_key(), "RS256", headers={"kid": "one"})


def opaque(scopes: tuple[str, ...]) -> str:
    return "opaque." + sha256(" ".join(scopes).encode()).hexdigest()


def key(scopes: tuple[str, ...]) -> str:
    return "bff_acme_" + sha256(repr(scopes).encode()).hexdigest()


class Showing:
    """Stands for the handshake: whose certificate a connection has shown, by a header that goes no further."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = [value.decode() for name, value in scope.get("headers", ()) if name == b"shown"]
        if shown:
            headers = [header for header in scope["headers"] if header[0] != b"shown"]
            scope = scope | {"headers": headers, "state": {"bff.certificate": CERTIFICATES[shown[0]]}}
        await self.app(scope, receive, send)


def certificate(name: str, ends: float = NOW + 7200) -> Certificate:
    return Certificate(sha256(name.encode()).hexdigest(), f"CN={name}", "CN=partners", (f"URI:acme/{name}",), 1, ends)


CERTIFICATES = {name: certificate(name) for name in ("none", "reading", "everything", "all-but-users", "nobody")}
CERTIFICATES["ended"] = certificate("everything", NOW - 1)
CERTIFICATES["entry ended"] = certificate("entry-ended")
SCOPES_SHOWN = {GRANTED[name]: name.replace(" ", "-") for name in GRANTED}


def bound(to: str) -> dict[str, str]:
    """A token that is good only over a connection of the certificate."""
    return bearer(shared(GRANTED["everything"], cnf={"x5t#S256": thumbprint(CERTIFICATES[to])}))


GOOD: dict[str, Callable[[tuple[str, ...]], dict[str, str]]] = {
    "API key": lambda scopes: {"x-api-key": key(scopes)},
    "JWT, shared secret": lambda scopes: bearer(shared(scopes)),
    "JWT, published key": lambda scopes: bearer(published(scopes)),
    "opaque token": lambda scopes: bearer(opaque(scopes)),
    "cookie": lambda scopes: {"cookie": f"t={shared(scopes)}", "sec-fetch-site": "same-origin"},
    "client certificate": lambda scopes: {"shown": SCOPES_SHOWN[scopes]},
    "API key over a connection with a certificate": lambda scopes: {"x-api-key": key(scopes), "shown": "reading"},
    "token bound to a certificate": lambda scopes: (
        bearer(shared(scopes, cnf={"x5t#S256": thumbprint(CERTIFICATES["reading"])})) | {"shown": "reading"}
    ),
}
GRANTS_ALL = GRANTED["everything"]
BAD: dict[str, dict[str, str]] = {
    "unknown key": {"x-api-key": "bff_acme_nobody"},
    "expired key": {"x-api-key": key(("expired",))},
    "garbage": bearer("garbage"),
    "unknown opaque token": bearer("opaque.unknown"),
    "expired": bearer(shared(GRANTS_ALL, exp=NOW - 600)),
    "not yet valid": bearer(shared(GRANTS_ALL, nbf=NOW + 7000)),
    "another audience": bearer(published(GRANTS_ALL, aud="elsewhere")),
    "another issuer": bearer(shared(GRANTS_ALL, iss="https://evil.example")),
    "forged": bearer(shared(GRANTS_ALL)[:-6] + "AAAAAA"),
    "bound to a key": bearer(shared(GRANTS_ALL, cnf={"jkt": "x"})),
    "bound to a certificate that is not shown": bound("everything"),
    "bound to another certificate": bound("everything") | {"shown": "reading"},
    "nobody's certificate": {"shown": "nobody"},
    "ended certificate": {"shown": "ended"},
    "certificate of an entry that has ended": {"shown": "entry ended"},
    "garbage over a connection with a good certificate": bearer("garbage") | {"shown": "everything"},
    "another scheme": {"authorization": "Basic dXNlcjpwYXNz"},
    "bad cookie": {"cookie": "t=garbage", "sec-fetch-site": "same-origin"},
    "bad token beside a good cookie": bearer("garbage") | GOOD["cookie"](GRANTS_ALL),
    "bad key beside a good cookie": {"x-api-key": "nobody"} | GOOD["cookie"](GRANTS_ALL),
}
TWO = bearer(shared(GRANTS_ALL)) | {"x-api-key": key(GRANTS_ALL)}


@pytest.fixture(scope="module")
def keys() -> list[dict[str, object]]:
    def entry(name: tuple[str, ...], scopes: tuple[str, ...], **more: object) -> dict[str, object]:
        return {"consumer": "acme", "hash": f"sha256:{sha256(key(name).encode()).hexdigest()}", "scopes": scopes} | more

    expired = entry(("expired",), GRANTS_ALL, expires="2024-01-01")
    return [*(entry(scopes, scopes) for scopes in GRANTED.values()), expired]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["filter", "reject"])
def shop(keys, authority, request) -> Gateway:
    introspection = {"url": "https://login.internal/introspect", "client_id": "bff", "client_secret": "s"}
    partners = [
        {"consumer": "acme", "subject": f"CN={name}", "scopes": list(scopes)} for scopes, name in SCOPES_SHOWN.items()
    ]
    partners += [{"consumer": "acme", "subject": "CN=entry-ended", "scopes": list(GRANTS_ALL), "expires": "2024-01-01"}]
    auth = {
        "api_keys": keys,
        "introspection": introspection,
        "cookie": {"name": "t"},
        "client_certificates": partners,
    }
    tls = authority.issue("server").settings | {"client_ca": str(authority.path)}
    made = gateway(BFF_YAML, auth=auth, graphql={"authorization": request.param}, server={"tls": tls})
    made.app = Showing(made.app)
    made.client = made.client_at("192.0.2.1")
    known = {opaque(scopes): claims(scopes, "https://login.internal", active=True) for scopes in GRANTED.values()}

    async def explains(_: httpx.Request, call: Call) -> httpx.Response | None:
        if call.path != "/introspect":
            return None
        (asked,) = parse_qs(call.body.decode())["token"]
        return answer(200, known.get(asked, {"active": False}))

    made.services.login.behaviour = explains
    return made


# Fronts: each says what came of it in one word.


async def rest(shop: Gateway, thing: Thing, headers: dict[str, str]) -> str:
    response = await shop.client.request(thing.method, thing.path, headers=headers, json={})
    if response.status_code < 300:
        return OK
    code: str = response.json()["code"]
    assert response.status_code == {UNAUTHENTICATED: 401, FORBIDDEN: 403, BAD_REQUEST: 400}[code]
    assert response.headers["www-authenticate"].startswith("Bearer realm=")
    return code


async def graphql(shop: Gateway, thing: Thing, headers: dict[str, str]) -> str:
    found = await shop.query(thing.document, headers=headers)
    if not found.errors:
        return OK
    (code,) = found.codes
    if found.status != 200:
        assert "www-authenticate" in found.headers
    return code


async def over_websocket(shop: Gateway, thing: Thing, headers: dict[str, str], payload: dict[str, str]) -> str:
    try:
        async with Socket(shop.app, headers=headers) as socket:
            await socket.say(type="connection_init", payload=payload)
            await socket.subscribe("1", thing.document)
            code, heard = await answered(socket)
            if code is not None:
                assert code == 4403
                return UNAUTHENTICATED
            errors = heard["payload"] if heard["type"] == "error" else heard["payload"].get("errors", [])
            return errors[0]["extensions"]["code"] if errors else OK
    except Refused as refused:
        return coded(refused)


def coded(refused: Refused) -> str:
    code: str = refused.body["errors"][0]["extensions"]["code"]
    assert refused.status == {UNAUTHENTICATED: 401, BAD_REQUEST: 400}[code]
    return code


async def answered(socket: Socket) -> tuple[int | None, dict[str, object]]:
    """What the operation came to, or the code with which the gateway closed in its place."""
    try:
        assert (await socket.hear())["type"] == "connection_ack"
        return None, await socket.hear()
    except AssertionError:
        return socket.code, {}


async def handshake(shop: Gateway, thing: Thing, headers: dict[str, str]) -> str:
    return await over_websocket(shop, thing, headers, {})


async def payload(shop: Gateway, thing: Thing, headers: dict[str, str]) -> str:
    """As pages have to, which cannot send headers with a handshake; what is no credential goes with it all the same."""
    sent = {name: value for name, value in headers.items() if name in {"authorization", "x-api-key"}}
    rest_of_them = {name: value for name, value in headers.items() if name not in sent}
    outcome = await over_websocket(shop, thing, rest_of_them, sent)
    # A close has no code of ours: 4403 is what a bad credential is, and two of them.
    return BAD_REQUEST if len(sent) > 1 and outcome == UNAUTHENTICATED else outcome


FRONTS: dict[str, Callable[[Gateway, Thing, dict[str, str]], Awaitable[str]]] = {
    "rest": rest,
    "graphql": graphql,
    "websocket, by its handshake": handshake,
    "websocket, by its connection_init": payload,
}


async def outcome(shop: Gateway, thing: Thing, headers: dict[str, str]) -> str:
    """The same on each front, or it is none."""
    found = {}
    for name, front in FRONTS.items():
        shop.services.forget()
        found[name] = await front(shop, thing, headers)
        assert bool(shop.services.calls) is (found[name] == OK), name
    (one,) = set(found.values())
    return one


@pytest.mark.parametrize("granted", GRANTED)
@pytest.mark.parametrize("kind", GOOD)
async def test_a_good_credential_may_what_its_scopes_say_and_no_more(shop, kind, granted):
    scopes = GRANTED[granted]
    expected = {name: OK if thing.scope in (None, *scopes) else FORBIDDEN for name, thing in THINGS.items()}
    headers = GOOD[kind](scopes)
    assert {name: await outcome(shop, thing, headers) for name, thing in THINGS.items()} == expected
    assert OK in expected.values()


async def test_nobody_may_what_needs_no_credential(shop):
    for thing in THINGS.values():
        assert await outcome(shop, thing, {}) == (OK if thing.scope is None else UNAUTHENTICATED)


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_credential_may_nothing_not_even_what_anybody_may(shop, kind):
    for thing in THINGS.values():
        assert await outcome(shop, thing, BAD[kind]) == UNAUTHENTICATED


async def test_two_credentials_may_nothing(shop):
    for thing in THINGS.values():
        assert await outcome(shop, thing, TWO) == BAD_REQUEST
