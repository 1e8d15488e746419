"""TLS to services: what is believed, what is shown, what is said when it fails, and by whom it is heard."""

import asyncio
import json
import shutil
import socket
import ssl
from datetime import timedelta
from io import BytesIO

import httpx
import pytest

from bff.app import build
from bff.config import ConfigError, load
from bff.core.certificates import Observed
from bff.core.telemetry import JsonLog, Telemetry
from bff.upstream.phases import Phase, phase_of
from bff.upstream.tls import ServiceTls, ServiceTlsSettings
from bff.upstream.transport import Transport, TransportSettings
from tests.pki import Authority

CONFIG = """
services:
  users: {{url: "https://{at}", identity: none, tls: {tls}}}
routes:
  - {{name: users, path: "/u/{{rest*}}", service: users, rewrite: "/{{rest}}", public: true}}
"""


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def presenting(pair, *, clients=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients:
        context.load_verify_locations(clients.path)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Towards:
    """A transport with TLS as its settings have it, and what is logged of it."""

    def __init__(self, **settings):
        self.lines = BytesIO()
        self.telemetry = Telemetry(log=JsonLog(self.lines))
        self.tls = ServiceTls("users", ServiceTlsSettings(**settings), Observed(self.telemetry))
        self.transport = Transport(TransportSettings(), tls=self.tls)

    @property
    def said(self):
        lines = [json.loads(line) for line in self.lines.getvalue().splitlines()]
        return [line["problem"] for line in lines if line["event"] == "service_tls"]

    async def get(self, url):
        response = await self.transport.handle_async_request(httpx.Request("GET", url, extensions={"whole": True}))
        return response.status_code


@pytest.fixture
async def towards():
    made = []

    def make(**settings):
        made.append(Towards(**settings))
        return made[-1]

    yield make
    for each in made:
        await each.transport.aclose()


async def test_a_service_with_a_private_authority_is_reached_where_that_is_believed(serve, authority, towards):
    server = await serve(ssl=presenting(authority.issue("users", names=("DNS:localhost",))))
    url = f"https://localhost:{server.port}/"
    assert await towards(ca=str(authority.path)).get(url) == 200
    stranger = towards()
    with pytest.raises(httpx.ConnectError) as caught:
        await stranger.get(url)
    assert phase_of(caught.value) is Phase.TLS
    assert stranger.said == ["who signed its certificate is not believed here: name that authority's file in `tls.ca`"]


async def test_the_name_may_be_another_than_the_address_has(serve, authority, towards):
    server = await serve(ssl=presenting(authority.issue("users", names=("DNS:users.internal",))))
    url, ca = f"https://127.0.0.1:{server.port}/", str(authority.path)
    assert await towards(ca=ca, server_name="users.internal").get(url) == 200
    for wrong in (towards(ca=ca), towards(ca=ca, server_name="orders.internal")):
        with pytest.raises(httpx.ConnectError) as caught:
            await wrong.get(url)
        assert phase_of(caught.value) is Phase.TLS
        assert "`tls.server_name`" in wrong.said[0]
    assert server.requests[1:] == []


async def test_a_certificate_that_has_ended_is_not_believed(serve, authority, towards):
    old = authority.issue("users", names=("DNS:localhost",), ends=-timedelta(hours=1))
    server = await serve(ssl=presenting(old))
    there = towards(ca=str(authority.path))
    for _ in range(3):
        with pytest.raises(httpx.ConnectError):
            await there.get(f"https://localhost:{server.port}/")
    assert there.said == ["its certificate has expired: renew it"]  # once a minute


async def test_the_gateway_shows_a_certificate_where_it_has_one(serve, authority, towards):
    shown = presenting(authority.issue("users", names=("DNS:localhost",)), clients=authority)
    server = await serve(ssl=shown)
    own = authority.issue("bff", ("CN=bff",))
    url = f"https://localhost:{server.port}/"
    assert await towards(ca=str(authority.path), **own.settings).get(url) == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_service_that_wants_a_certificate_and_gets_none_ends_the_handshake(authority, towards, version):
    """By OpenSSL on a plain socket, which says why: asyncio's servers close without a word."""
    shown = presenting(authority.issue("users", names=("DNS:localhost",)), clients=authority)
    shown.maximum_version = version
    refused = []

    def refuse(listening):
        client, _ = listening.accept()
        with shown.wrap_socket(client, server_side=True, do_handshake_on_connect=False) as secured:
            try:
                secured.do_handshake()
            except ssl.SSLError as error:
                refused.append(error.reason)
            socket.socket.recv(secured, 65536)  # what came meanwhile: to close on it would be a reset

    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listening))
        with pytest.raises(httpx.ConnectError) as caught:
            await towards(ca=str(authority.path)).get(f"https://localhost:{listening.getsockname()[1]}/")
        await refusing
    assert phase_of(caught.value) is Phase.TLS
    assert refused == ["PEER_DID_NOT_RETURN_A_CERTIFICATE"]


async def test_a_service_that_speaks_no_tls_is_told_from_one_that_is_away(serve, authority, towards):
    async def plain(peer):
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await serve(plain)
    there = towards(ca=str(authority.path))
    with pytest.raises(httpx.ConnectError) as caught:
        await there.get(f"https://localhost:{server.port}/")
    assert phase_of(caught.value) is Phase.TLS
    assert there.said == ["it does not speak TLS there: its `url` wants http://, or the port that does"]


async def test_changed_files_count_for_connections_that_are_made_then(serve, authority, towards, tmp_path):
    (tmp_path / "next").mkdir()
    later = Authority(tmp_path / "next")
    server = await serve(ssl=presenting(later.issue("users", names=("DNS:localhost",))))
    url = f"https://localhost:{server.port}/"
    there = towards(ca=str(authority.path))
    with pytest.raises(httpx.ConnectError):
        await there.get(url)
    before = authority.path.read_bytes()
    authority.path.write_text("nonsense")
    assert not await there.tls.files.look()
    authority.path.write_bytes(before)
    shutil.copy(later.path, authority.path)
    assert await there.tls.files.look()
    assert await there.get(url) == 200


# The whole gateway.


@pytest.fixture
async def asked(serve, authority):
    """What a client gets from a gateway whose service is at `localhost:port`, and all that is logged of it."""

    async def ask(server, tls, target="/u/1"):
        lines = BytesIO()
        config = load(CONFIG.format(at=f"localhost:{server.port}", tls=json.dumps(tls)))
        app = build(config, telemetry=Telemetry(log=JsonLog(lines)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return await client.get(target), lines.getvalue().decode()

    return ask


async def test_a_client_learns_the_phase_and_neither_address_nor_reason(serve, authority, asked):
    server = await serve(ssl=presenting(authority.issue("users", names=("DNS:users.internal",))))
    answer, log = await asked(server, {"ca": str(authority.path)})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["phase"]) == (503, "UPSTREAM_UNAVAILABLE", "tls")
    assert "localhost" not in answer.text
    assert str(server.port) not in answer.text
    assert "say in `tls.server_name` which one" in log


async def test_a_client_gets_its_answer_over_mutual_tls(serve, authority, asked):
    shown = presenting(authority.issue("users", names=("DNS:localhost",)), clients=authority)
    server = await serve(ssl=shown)
    answer, _ = await asked(server, {"ca": str(authority.path), **authority.issue("bff").settings})
    assert answer.status_code == 200


def test_settings_that_cannot_be_used_are_errors_with_line_and_key(authority, tmp_path):
    pair, other = authority.issue("bff"), authority.issue("other")
    for tls, says in [
        ({"ca": str(tmp_path / "none.pem")}, "services.users.tls.ca: can't be read: no such file or directory"),
        ({"cert": str(pair.cert)}, "services.users.tls.cert: needs its `key` as well"),
        ({"key": str(pair.key)}, "services.users.tls.key: needs the `cert` that it is the key of"),
        ({"cert": str(pair.cert), "key": str(other.key)}, "services.users.tls.key: is not the key of the first"),
        ({"verify": False}, "services.users.tls.verify: unknown key"),
    ]:
        with pytest.raises(ConfigError, match=r"bff.yaml:3: ") as error:
            load(CONFIG.format(at="users.internal", tls=json.dumps(tls)))
        assert says in str(error.value)
    with pytest.raises(ConfigError, match=r"services.users.tls: needs an https:// address in `url`"):
        load("services: {users: {url: 'http://users.internal', tls: {}}}")
