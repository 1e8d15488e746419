"""TLS as clients see it: what is spoken, what is refused, which certificate is shown, and when that changes."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
from datetime import timedelta
from io import BytesIO

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from bff.config import ConfigError, load
from bff.core.certificates import Observed
from bff.core.telemetry import JsonLog, Telemetry
from bff.server import Tls, TlsSettings
from tests.pki import Authority
from tests.server.test_connection import GET, Echo
from tests.upstream.raw import eventually

PROTOCOLS = ("http/1.1",)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def pair(authority):
    return authority.issue("server", names=("DNS:localhost", "IP:127.0.0.1"))


@pytest.fixture
def echo():
    return Echo()


class Terminated:
    """A `Tls`, and what it says of itself."""

    def __init__(self, **settings):
        self.lines = BytesIO()
        self.telemetry = Telemetry(log=JsonLog(self.lines))
        self.tls = Tls(TlsSettings(**settings), PROTOCOLS, Observed(self.telemetry), self.telemetry)

    def counted(self, outcome):
        return self.telemetry.registry.get_sample_value("bff_tls_handshakes_total", {"outcome": outcome})

    def reloads(self, outcome):
        labels = {"certificate": "server", "outcome": outcome}
        return self.telemetry.registry.get_sample_value("bff_certificate_reloads_total", labels)

    @property
    def log(self):
        return self.lines.getvalue().decode()

    async def look(self):
        if await self.tls.context.look():
            self.tls._judge_again()


def shown_by(port, context, name="localhost", **versions):
    """What a client learns in a handshake: protocol, cipher, and the certificate's serial number."""
    for each, value in versions.items():
        setattr(context, each, value)
    plain = socket.create_connection(("127.0.0.1", port), 5)
    with context.wrap_socket(plain, server_hostname=name) as secured:
        return secured.version(), secured.cipher()[0], secured.getpeercert()["serialNumber"]


async def shown(connect, context, **versions):
    return await asyncio.to_thread(shown_by, connect.port, context, **versions)


async def test_requests_come_over_tls_as_they_do_without(serve, echo, authority, pair):
    connect = await serve(echo, tls=Terminated(**pair.settings).tls)
    client = await connect(GET, ssl=authority.client(), server_hostname="localhost")
    assert await client.answer() == (200, {b"content-length": b"6"}, b"GET /a")
    client.send(GET)
    assert (await client.answer())[0] == 200
    (first, second) = echo.scopes
    assert first["scheme"] == second["scheme"] == "https"
    assert first["client"][0] == "127.0.0.1"
    assert first["state"] == {}


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(serve, echo, authority, pair):
    """Sent in one piece with the client's last words of the handshake."""
    connect = await serve(echo, tls=Terminated(**pair.settings).tls)

    def at_once():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", connect.port), 5) as plain:
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
            client.write(GET)
            plain.sendall(outgoing.read())
            while True:
                try:
                    return client.read()
                except ssl.SSLWantReadError:
                    incoming.write(plain.recv(65536))

    assert (await asyncio.to_thread(at_once)).startswith(b"HTTP/1.1 200")


async def test_a_large_body_goes_both_ways(serve, authority, pair):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    connect = await serve(app, tls=Terminated(**pair.settings).tls)
    client = await connect(ssl=authority.client(), server_hostname="localhost")
    data = bytes(range(256)) * 8192
    client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
    assert (await client.answer())[2] == data


# What is spoken.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_no_old_protocol_is_spoken(serve, echo, authority, pair, version):
    there = Terminated(**pair.settings)
    connect = await serve(echo, tls=there.tls)
    context = authority.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version|unsupported"):
        await shown(connect, context, minimum_version=version, maximum_version=version)
    await eventually(lambda: there.counted("failed") == 1)


async def test_the_two_that_are_not_old_are_spoken_unless_the_older_is_not_wanted(serve, echo, authority, pair):
    both, newest = Terminated(**pair.settings), Terminated(**pair.settings, min_version="1.3")
    older = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    connect = await serve(echo, tls=both.tls)
    assert (await shown(connect, authority.client()))[0] == "TLSv1.3"
    assert (await shown(connect, authority.client(), **older))[0] == "TLSv1.2"
    connect = await serve(echo, tls=newest.tls)
    assert (await shown(connect, authority.client()))[0] == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        await shown(connect, authority.client(), **older)


def ciphers_of_openssl():
    """All of TLS 1.2 and before that this OpenSSL knows, the broken ones too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return sorted(each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3")


@pytest.mark.parametrize("kind", ["EC", "RSA"])
async def test_no_cipher_without_forward_secrecy_and_authentication_is_spoken(serve, echo, authority, kind):
    key = rsa.generate_private_key(65537, 2048) if kind == "RSA" else None
    pair = authority.issue("either", names=("DNS:localhost",), key=key)
    connect = await serve(echo, tls=Terminated(**pair.settings).tls)

    def accepted():
        for name in ciphers_of_openssl():
            context = authority.client()
            context.set_ciphers(f"{name}:@SECLEVEL=0")
            with contextlib.suppress(OSError):
                yield shown_by(connect.port, context, maximum_version=ssl.TLSVersion.TLSv1_2)[1]

    spoken = await asyncio.to_thread(lambda: set(accepted()))
    signed = "ECDSA" if kind == "EC" else "RSA"
    assert spoken == {
        f"ECDHE-{signed}-AES128-GCM-SHA256",
        f"ECDHE-{signed}-AES256-GCM-SHA384",
        f"ECDHE-{signed}-CHACHA20-POLY1305",
    }


# Which certificate.


async def test_a_changed_certificate_is_shown_to_who_comes_then(serve, echo, authority, pair):
    there = Terminated(**pair.settings)
    connect = await serve(echo, tls=there.tls)
    before = await connect(GET, ssl=authority.client(), server_hostname="localhost")
    await before.answer()
    first = (await shown(connect, authority.client()))[2]
    authority.issue("server", names=("DNS:localhost",))
    assert (await shown(connect, authority.client()))[2] == first
    await there.look()
    assert (await shown(connect, authority.client()))[2] != first
    assert there.reloads("taken") == 1
    before.send(GET)
    assert (await before.answer())[0] == 200


async def test_a_mounted_secret_is_followed_through_its_links(serve, echo, authority, tmp_path):
    """As Kubernetes does it: one link is turned, and neither the names nor the times of the files need change."""
    for name in ("one", "two"):
        pair = authority.issue(name, names=("DNS:localhost",))
        (tmp_path / f"..{name}").mkdir()
        shutil.move(pair.cert, tmp_path / f"..{name}/tls.crt")
        shutil.move(pair.key, tmp_path / f"..{name}/tls.key")
    (tmp_path / "..data").symlink_to("..one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    there = Terminated(cert=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key"))
    connect = await serve(echo, tls=there.tls)
    first = (await shown(connect, authority.client()))[2]
    (tmp_path / "..next").symlink_to("..two")
    (tmp_path / "..next").replace(tmp_path / "..data")
    await there.look()
    assert (await shown(connect, authority.client()))[2] != first


async def test_a_new_pair_that_is_broken_changes_nothing_and_says_so(serve, echo, authority, pair):
    there = Terminated(**pair.settings)
    connect = await serve(echo, tls=there.tls)
    first = (await shown(connect, authority.client()))[2]
    good = pair.key.read_bytes()
    for broken, says in [
        (authority.issue("other").key.read_bytes(), "is not the key of the first certificate"),
        (b"nonsense", "has no private key in PEM form"),
        (None, "no such file"),
    ]:
        pair.key.unlink() if broken is None else pair.key.write_bytes(broken)
        await there.look()
        assert (await shown(connect, authority.client()))[2] == first
        assert says in there.log.splitlines()[-1]
    assert there.reloads("refused") == 3
    await there.look()  # said once each
    assert there.reloads("refused") == 3
    pair.key.write_bytes(good)
    await there.look()
    assert there.reloads("taken") == 1


# Which certificate, where there are several.


SHOP = ("DNS:Shop.example.com", "DNS:*.shop.example.com")


async def test_a_client_is_shown_the_certificate_with_the_name_that_it_asks_for(serve, echo, authority, pair):
    shop, exact = authority.issue("shop", names=SHOP), authority.issue("exact", names=("DNS:eu.shop.example.com",))
    connect = await serve(echo, tls=Terminated(**pair.settings, others=[shop.settings, exact.settings]).tls)
    anybody = ssl.create_default_context(cafile=authority.path)
    anybody.check_hostname = False
    for name, expected in [
        ("localhost", pair),
        ("shop.example.com", shop),
        ("SHOP.example.com", shop),
        ("de.shop.example.com", shop),
        ("eu.shop.example.com", exact),
        ("a.eu.shop.example.com", pair),
        ("example.com", pair),
        (None, pair),
    ]:
        serial = (await shown(connect, anybody, name=name))[2]
        assert int(serial, 16) == expected.certificate.serial_number, name
    client = await connect(GET, ssl=authority.client(), server_hostname="shop.example.com")
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_whichever_is_shown_the_same_clients_are_believed(serve, echo, authority, pair, tmp_path, version):
    shop = authority.issue("shop", names=SHOP)
    (tmp_path / "strangers").mkdir()
    stranger = Authority(tmp_path / "strangers", "Strangers").issue("stranger")
    known, gone = authority.issue("known", ("CN=known",)), authority.issue("gone")
    there = Terminated(
        **pair.settings,
        others=[shop.settings],
        client_ca=str(authority.path),
        crl=str(authority.revoked("crl.pem", gone)),
        client_certificates="required",
    )
    connect = await serve(echo, tls=there.tls)

    async def asked(shows):
        context = authority.client(shows, alpn=("http/1.1",))
        context.maximum_version = version
        client = await connect(GET, ssl=context, server_hostname="shop.example.com")
        return (await client.answer())[0]

    assert await asked(known) == 200
    assert echo.scopes[0]["state"]["bff.certificate"].subject == "CN=known"
    for refused in (stranger, gone, None):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await asked(refused)


async def test_each_of_several_certificates_is_followed_and_the_first_to_end_is_measured(serve, echo, authority, pair):
    shop = authority.issue("shop", names=SHOP, ends=timedelta(days=20))
    there = Terminated(**pair.settings, others=[shop.settings])
    ends = there.telemetry.registry.get_sample_value(
        "bff_certificate_expires_timestamp_seconds", {"certificate": "server"}
    )
    assert ends == shop.certificate.not_valid_after_utc.timestamp()
    connect = await serve(echo, tls=there.tls)
    first = (await shown(connect, authority.client(), name="shop.example.com"))[2]
    authority.issue("shop", names=SHOP)
    await there.look()
    assert (await shown(connect, authority.client(), name="shop.example.com"))[2] != first
    shop.key.write_bytes(b"nonsense")
    await there.look()
    assert "others[0].key: has no private key in PEM form" in there.log.splitlines()[-1]
    assert (await shown(connect, authority.client(), name="shop.example.com"))[2] != first


def test_one_of_several_that_cannot_be_used_is_an_error_that_says_which(authority, pair, tmp_path):
    good = {"cert": pair.cert, "key": pair.key}
    nameless, other = authority.issue("nameless"), authority.issue("other", names=SHOP)
    for others, says in [
        ([other.settings, nameless.settings], "server.tls.others[1].cert: has no name that a client could ask for"),
        (
            [other.settings | {"key": str(pair.key)}],
            "server.tls.others[0].key: is not the key of the first certificate",
        ),
        ([{"cert": str(other.cert)}], "server.tls.others[0].key: "),
    ]:
        assert says in complaints(good | {"others": json.dumps(others)})


async def test_files_are_followed_while_the_gateway_runs(serve, echo, authority, pair):
    there = Terminated(**pair.settings, refresh=0.01)
    connect = await serve(echo, tls=there.tls)
    first = (await shown(connect, authority.client()))[2]
    following = asyncio.create_task(there.tls.follow())
    authority.issue("server", names=("DNS:localhost",))
    await eventually(lambda: there.reloads("taken"))
    assert (await shown(connect, authority.client()))[2] != first
    following.cancel()


async def test_when_a_certificate_ends_is_measured_and_one_that_has_ended_is_warned_of(authority):
    pair = authority.issue("old", ends=-timedelta(hours=1))
    there = Terminated(**pair.settings)
    assert "it has expired: clients refuse it" in there.log
    ends = there.telemetry.registry.get_sample_value(
        "bff_certificate_expires_timestamp_seconds", {"certificate": "server"}
    )
    assert ends == pair.certificate.not_valid_after_utc.timestamp()
    assert not Terminated(**authority.issue("new", ends=timedelta(days=90)).settings).log


# What is said at the start.


def complaints(tls):
    with pytest.raises(ConfigError) as error:
        load(
            "services: {any: {url: 'http://any.internal'}}\nserver:\n  tls:\n"
            + "".join(f"    {key}: {value}\n" for key, value in tls.items())
        )
    return str(error.value)


def test_files_that_cannot_be_used_are_errors_with_file_line_and_key(authority, pair, tmp_path):
    other = authority.issue("other")
    (tmp_path / "empty.pem").write_text("")
    good = {"cert": pair.cert, "key": pair.key}
    for changed, says in [
        ({"cert": tmp_path / "none.pem"}, "bff.yaml:4: server.tls.cert: can't be read: no such file or directory"),
        ({"key": tmp_path}, "bff.yaml:5: server.tls.key: can't be read: is a directory"),
        ({"cert": tmp_path / "empty.pem"}, "bff.yaml:4: server.tls.cert: has no certificate in PEM form"),
        ({"key": other.cert}, "bff.yaml:5: server.tls.key: has no private key in PEM form"),
        ({"key": other.key}, f"bff.yaml:5: server.tls.key: is not the key of the first certificate in {pair.cert}"),
        ({"client_ca": tmp_path / "empty.pem"}, "bff.yaml:6: server.tls.client_ca: has no certificate in PEM form"),
        ({"client_certificates": "required"}, "bff.yaml:6: server.tls.client_certificates: needs a `client_ca`"),
        ({"crl": tmp_path / "empty.pem"}, "bff.yaml:6: server.tls.crl: needs a `client_ca`"),
        (
            {"client_ca": authority.path, "crl": authority.path},
            "bff.yaml:7: server.tls.crl: has no list of revoked certificates",
        ),
        ({"min_version": "1.1"}, "bff.yaml:6: server.tls.min_version: "),
        ({"ciphers": "ALL"}, "bff.yaml:6: server.tls.ciphers: unknown key"),
    ]:
        assert says in complaints(good | changed)


def test_a_key_that_is_too_short_is_an_error(authority):
    short = authority.issue("short", key=rsa.generate_private_key(65537, 1024))  # noqa: S505
    assert "server.tls.cert: cannot be used: ee key too small" in complaints({"cert": short.cert, "key": short.key})


# Bounds.


async def test_who_speaks_plain_http_is_told_so(serve, echo, pair):
    there = Terminated(**pair.settings)
    connect = await serve(echo, tls=there.tls)
    client = await connect(GET)
    status, _, body = await client.answer()
    assert (status, body) == (400, b"This port speaks TLS: use https:// in place of http://\n")
    assert await client.ended() == b""
    assert echo.scopes == []
    await eventually(lambda: there.counted("plain_http") == 1)


async def test_who_speaks_neither_is_cut_off(serve, echo, pair):
    there = Terminated(**pair.settings)
    connect = await serve(echo, tls=there.tls)
    client = await connect(b"\x00\x01\x02" * 2000)
    with contextlib.suppress(ConnectionError):
        assert len(await client.ended()) < 10  # an alert
    await eventually(lambda: there.counted("failed") == 1)
    assert there.tls.under_way == 0


async def test_a_handshake_has_its_time(serve, echo, pair):
    there = Terminated(**pair.settings, handshake_timeout=0.05)
    connect = await serve(echo, tls=there.tls)
    client = await connect()
    with contextlib.suppress(ConnectionError):
        assert await client.ended() == b""
    await eventually(lambda: there.counted("late") == 1)
    assert there.tls.under_way == 0


async def test_only_so_many_handshakes_are_under_way(serve, echo, authority, pair):
    there = Terminated(**pair.settings, max_handshakes=2)
    connect = await serve(echo, tls=there.tls)
    slow = [await connect() for _ in range(2)]
    await eventually(lambda: there.tls.under_way == 2)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await connect(ssl=authority.client(), server_hostname="localhost")
    assert there.counted("refused") == 1
    for each in slow:
        each.writer.close()
    await eventually(lambda: there.tls.under_way == 0)
    assert there.counted("left") == 2
    client = await connect(GET, ssl=authority.client(), server_hostname="localhost")
    assert (await client.answer())[0] == 200


async def test_who_is_shaking_hands_when_the_port_closes_is_answered(serve, echo, authority, pair):
    there = Terminated(**pair.settings)
    connect = await serve(echo, tls=there.tls)
    reader, writer = await asyncio.open_connection("127.0.0.1", connect.port)
    await eventually(lambda: there.tls.under_way == 1)
    connect.server.should_exit = True
    await asyncio.sleep(0.2)
    await writer.start_tls(authority.client(), server_hostname="localhost")
    writer.write(GET)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


# Certificates of clients.


async def test_a_certificate_that_is_believed_comes_with_each_request(serve, echo, authority, pair):
    partner = authority.issue("partner", ("CN=orders", "O=Acme"), names=("URI:spiffe://acme/orders", "DNS:a.acme"))
    there = Terminated(**pair.settings, client_ca=str(authority.path))
    connect = await serve(echo, tls=there.tls)
    client = await connect(GET * 2, ssl=authority.client(partner), server_hostname="localhost")
    await client.answer()
    await client.answer()
    for scope in echo.scopes:
        certificate = scope["state"]["bff.certificate"]
        assert certificate.fingerprint == partner.fingerprint
        assert certificate.subject == "O=Acme,CN=orders"
        assert certificate.issuer == "CN=Test authority"
        assert certificate.names == ("URI:spiffe://acme/orders", "DNS:a.acme")
        assert certificate.expires == partner.certificate.not_valid_after_utc.timestamp()
    without = await connect(GET, ssl=authority.client(), server_hostname="localhost")
    assert (await without.answer())[0] == 200
    assert echo.scopes[-1]["state"] == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_that_is_not_believed_ends_the_handshake(serve, echo, authority, pair, tmp_path, version):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "Another authority").issue("partner", ("CN=orders",))
    old = authority.issue("old", ends=-timedelta(hours=1))
    revoked = authority.issue("revoked")
    crl = authority.revoked("crl.pem", revoked)
    there = Terminated(**pair.settings, client_ca=str(authority.path), crl=str(crl))
    connect = await serve(echo, tls=there.tls)
    for shows in (stranger, old, revoked):
        context = authority.client(shows)
        context.maximum_version = version
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await (await connect(GET, ssl=context, server_hostname="localhost")).answer()
    await eventually(lambda: there.counted("failed") == 3)
    assert echo.scopes == []
    good = await connect(GET, ssl=authority.client(authority.issue("good")), server_hostname="localhost")
    assert (await good.answer())[0] == 200


async def test_a_certificate_may_be_required(serve, echo, authority, pair):
    there = Terminated(**pair.settings, client_ca=str(authority.path), client_certificates="required")
    connect = await serve(echo, tls=there.tls)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await (await connect(GET, ssl=authority.client(), server_hostname="localhost")).answer()
    good = await connect(GET, ssl=authority.client(authority.issue("good")), server_hostname="localhost")
    assert (await good.answer())[0] == 200


async def test_who_would_not_be_let_in_any_more_has_to_go(serve, echo, authority, pair):
    """So that a certificate that was revoked is of no use any more, whatever its connection does."""
    partner = authority.issue("partner")
    crl = authority.revoked("crl.pem")
    there = Terminated(**pair.settings, client_ca=str(authority.path), crl=str(crl))
    connect = await serve(echo, tls=there.tls)
    with_certificate = await connect(GET, ssl=authority.client(partner), server_hostname="localhost")
    await with_certificate.answer()
    another = authority.client(authority.issue("another"))
    others = [await connect(GET, ssl=context, server_hostname="localhost") for context in (authority.client(), another)]
    for each in others:
        await each.answer()
    authority.revoked("crl.pem", partner)
    await there.look()
    assert echo.scopes[0]["state"]["bff.certificate"].withdrawn
    assert await with_certificate.ended() == b""
    for each in others:
        each.send(GET)
        assert (await each.answer())[0] == 200
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await (await connect(GET, ssl=authority.client(partner), server_hostname="localhost")).answer()


async def test_with_other_authorities_all_who_have_shown_certificates_come_again(serve, echo, authority, pair):
    there = Terminated(**pair.settings, client_ca=str(authority.path))
    connect = await serve(echo, tls=there.tls)
    partner = authority.client(authority.issue("partner"))
    with_certificate = await connect(GET, ssl=partner, server_hostname="localhost")
    await with_certificate.answer()
    authority.issue("server", names=("DNS:localhost",))  # a new certificate of the gateway's own is no reason to go
    await there.look()
    with_certificate.send(GET)
    assert (await with_certificate.answer())[0] == 200
    authority.path.write_bytes(authority.path.read_bytes() * 2)
    await there.look()
    assert await with_certificate.ended() == b""
    assert (await (await connect(GET, ssl=partner, server_hostname="localhost")).answer())[0] == 200
