"""Client certificates as credentials: whose each is, where each counts, and what becomes of one that is withdrawn."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
import websockets
from cryptography.hazmat.primitives.serialization import Encoding

from bff.config import ConfigError
from bff.core.certificates import Certificate
from tests.harness import BFF_YAML, gateway, partner
from tests.live.socket import PROTOCOL
from tests.pki import Authority
from tests.server.conftest import served

USERS, ORDERS = {"scopes": ["users:read", "users:admin"]}, {"scopes": ["orders:read", "users:admin"]}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def made(authority, entries, *, crl=None, **tls):
    pair = authority.issue("server", names=("DNS:localhost",))
    tls = pair.settings | {"client_ca": str(authority.path)} | ({"crl": str(crl)} if crl else {}) | tls
    auth = {"client_certificates": entries, "recheck": "50ms"}
    return gateway(BFF_YAML, server={"tls": tls}, auth=auth)


def shown(pair):
    return Certificate.parse(pair.certificate.public_bytes(Encoding.DER))


async def consumer(one, certificate, **headers):
    """Whom the gateway takes the client for, by what a service is told; or the code that it is refused with."""
    credentials = one.app.state.credentials
    try:
        caller = await credentials.identify([(k.encode(), v.encode()) for k, v in headers.items()], "GET", certificate)
    except Exception as error:  # noqa: BLE001
        return error.code
    return caller.consumer


async def test_an_entry_says_a_certificate_by_fingerprint_alternative_name_or_subject(authority):
    orders = authority.issue("orders", ("CN=orders", "O=Acme"), names=("DNS:o.acme", "URI:spiffe://acme/orders"))
    again = authority.issue("again", ("CN=orders", "O=Acme"), names=("DNS:o.acme", "URI:spiffe://acme/orders"))
    colons = ":".join(orders.fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    for entry, both in [
        ({"fingerprint": orders.fingerprint}, False),
        ({"fingerprint": f"sha256:{orders.fingerprint}"}, False),
        ({"fingerprint": colons}, False),  # as openssl prints it
        ({"san": "URI:spiffe://acme/orders"}, True),
        ({"san": "DNS:o.acme"}, True),
        ({"subject": "O=Acme,CN=orders"}, True),
        ({"subject": "O=Acme, CN=orders"}, True),
    ]:
        one = made(authority, [{"consumer": "acme", **entry}])
        assert await consumer(one, shown(orders)) == "acme", entry
        assert await consumer(one, shown(again)) == ("acme" if both else "UNAUTHENTICATED"), entry
    for entry in ({"subject": "CN=orders"}, {"san": "DNS:spiffe://acme/orders"}, {"fingerprint": "00" * 32}):
        assert await consumer(made(authority, [{"consumer": "acme", **entry}]), shown(orders)) == "UNAUTHENTICATED"


async def test_what_says_most_counts_first(authority):
    orders = authority.issue("orders", ("CN=orders",), names=("DNS:o.acme",))
    entries = [
        {"consumer": "by-subject", "subject": "CN=orders"},
        {"consumer": "by-name", "san": "DNS:o.acme"},
        {"consumer": "by-fingerprint", "fingerprint": orders.fingerprint},
    ]
    assert await consumer(made(authority, entries), shown(orders)) == "by-fingerprint"
    assert await consumer(made(authority, entries[:2]), shown(orders)) == "by-name"


async def test_an_entry_may_be_for_one_authority_alone(authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "Other").issue("orders", ("CN=orders",))
    entry = {"consumer": "acme", "subject": "CN=orders", "issuer": "CN=Test authority"}
    one = made(authority, [entry])
    assert await consumer(one, shown(authority.issue("orders", ("CN=orders",)))) == "acme"
    assert await consumer(one, shown(other)) == "UNAUTHENTICATED"


async def test_without_entries_a_certificate_opens_a_connection_and_is_no_credential(authority):
    one = made(authority, [])
    assert await consumer(one, shown(authority.issue("orders"))) is None


async def test_a_page_of_another_site_cannot_use_the_certificate_of_a_browser(authority):
    orders = authority.issue("orders", ("CN=orders",))
    one = made(authority, [{"consumer": "acme", "subject": "CN=orders"}])
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example", "host": "shop"},
    ):
        assert await consumer(one, shown(orders), **headers) == "CSRF_PREVENTION_FAILED"
    for headers in ({"sec-fetch-site": "same-origin"}, {"origin": "https://shop", "host": "shop"}, {"host": "shop"}):
        assert await consumer(one, shown(orders), **headers) == "acme"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({}, "auth.client_certificates[0]: needs exactly one of `fingerprint`, `san` and `subject`"),
        ({"san": "DNS:a", "subject": "CN=a"}, "auth.client_certificates[0]: needs exactly one of"),
        ({"fingerprint": "abc"}, "auth.client_certificates[0].fingerprint: must be the SHA-256 of a certificate"),
        ({"subject": "orders"}, "auth.client_certificates[0].subject: must be a distinguished name"),
        ({"san": "orders"}, "auth.client_certificates[0].san: "),
        ({"subject": "CN=a", "tier": "gold"}, "auth.client_certificates[0].tier: there is no tier 'gold'"),
        ({"subject": "CN=a", "entitlements": "x"}, "auth.client_certificates[0].entitlements: there is no table 'x'"),
    ],
)
def test_an_entry_that_says_nothing_or_too_much_is_an_error(authority, entry, says):
    with pytest.raises(ConfigError) as error:
        made(authority, [{"consumer": "acme", **entry}])
    assert says in str(error.value)


def test_two_entries_of_one_certificate_and_entries_without_an_authority_are_errors(authority):
    with pytest.raises(ConfigError, match=r"must differ from that of client_certificates\.0"):
        made(authority, [{"consumer": "a", "subject": "CN=a"}, {"consumer": "b", "subject": "CN=a"}])
    with pytest.raises(ConfigError, match=r"needs `server\.tls\.client_ca`"):
        gateway(BFF_YAML, auth={"client_certificates": [{"consumer": "a", "subject": "CN=a"}]})


async def test_what_a_client_says_of_certificates_goes_no_further(authority):
    one = made(authority, [])
    forged = {"client-cert": ":MIIB:", "x-ssl-client-verify": "SUCCESS", "x-forwarded-client-cert": "Subject=CN"}
    answer = await one.client.get("/api/users/usr_1", headers=partner() | forged)
    assert answer.status_code == 200
    (call,) = one.services.calls
    assert not {each for each in call.headers if "cert" in each or "ssl" in each}


# Over TLS, as it is.


@asynccontextmanager
async def listening(one):
    async with served(one.app, tls=one.app.state.tls) as connect:
        yield connect.port


async def over_rest(port, context):
    async with httpx.AsyncClient(verify=context) as client:
        answer = await client.get(f"https://localhost:{port}/api/users/usr_1")
        return 200 if answer.status_code == 200 else answer.json().get("code", answer.text)


async def over_graphql(port, context):
    async with httpx.AsyncClient(verify=context) as client:
        answer = await client.post(f"https://localhost:{port}/graphql", json={"query": '{ user(id: "usr_1") { id } }'})
        body = answer.json()
        return body["errors"][0]["extensions"]["code"] if "errors" in body else 200


async def over_websocket(port, context):
    url = f"wss://localhost:{port}/graphql"
    try:
        async with websockets.connect(url, ssl=context, subprotocols=[PROTOCOL]) as socket:
            await socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(await socket.recv())["type"] == "connection_ack"
            query = {"query": '{ user(id: "usr_1") { id } }'}
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": query}))
            heard = json.loads(await socket.recv())
            errors = heard["payload"] if heard["type"] == "error" else heard["payload"].get("errors")
            return errors[0]["extensions"]["code"] if errors else 200
    except websockets.InvalidStatus as refused:
        return json.loads(refused.response.body)["errors"][0]["extensions"]["code"]


async def test_the_outcome_is_the_same_on_rest_graphql_and_websockets(authority):
    certificates = {
        200: authority.issue("may", ("CN=may",)),
        "FORBIDDEN": authority.issue("may-not", ("CN=may-not",)),
        "UNAUTHENTICATED": authority.issue("nobody", ("CN=nobody",)),
    }
    entries = [
        {"consumer": "may", "subject": "CN=may", **USERS},
        {"consumer": "may-not", "subject": "CN=may-not", **ORDERS},
    ]
    one = made(authority, entries)
    async with listening(one) as port:
        for expected, pair in certificates.items():
            context = authority.client(pair)
            outcomes = [await front(port, context) for front in (over_rest, over_graphql, over_websocket)]
            assert outcomes == [expected] * 3
        assert await over_rest(port, authority.client()) == "UNAUTHENTICATED"
    consumers = {line.get("consumer") for line in one.access if line.get("credential") == "client_certificate"}
    assert consumers == {"may", "may-not"}


async def test_a_websocket_ends_when_its_certificate_is_revoked_and_no_other_does(authority):
    pair, other = authority.issue("one", ("CN=one",)), authority.issue("two", ("CN=two",))
    crl = authority.revoked("crl.pem")
    entries = [{"consumer": name, "subject": f"CN={name}", **USERS} for name in ("one", "two")]
    one = made(authority, entries, crl=crl)
    async with listening(one) as port:
        url, options = f"wss://localhost:{port}/graphql", {"subprotocols": [PROTOCOL]}
        async with (
            websockets.connect(url, ssl=authority.client(pair), **options) as first,
            websockets.connect(url, ssl=authority.client(other), **options) as second,
        ):
            for socket in (first, second):
                await socket.send(json.dumps({"type": "connection_init"}))
                assert json.loads(await socket.recv())["type"] == "connection_ack"
            authority.revoked("crl.pem", pair)
            tls = one.app.state.tls
            assert await tls.context.look()
            tls._judge_again()
            async with asyncio.timeout(20):
                await first.wait_closed()
            assert first.close_code == 4403
            await second.send(json.dumps({"type": "ping"}))
            assert json.loads(await second.recv())["type"] == "pong"
