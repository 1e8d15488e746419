"""Connections are shared within their bounds, handed on in order, let go in time, and safe."""

import asyncio
import contextlib
import random
import ssl
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from bff.upstream.phases import Phase, phase_of
from bff.upstream.transport import TransportSettings
from tests.upstream.raw import OK, eventually, get, idle


async def read(transport, request):
    response = await transport.handle_async_request(request)
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.aclose()


def gated():
    """A script that answers when the gate is open, and the gate."""
    gate = asyncio.Event()

    async def script(peer):
        while True:
            await peer.request()
            await gate.wait()
            await peer.send(OK)

    return script, gate


def occupancy(transport):
    return tuple(next(iter(transport.occupancy().values()), ()))


async def test_calls_in_turn_share_one_connection(serve, transport):
    server = await serve()
    for _ in range(5):
        assert await read(transport, get(server.url)) == b"ok"
    assert (server.connections, occupancy(transport)) == (1, (1, 1, 0))


async def test_there_are_never_more_connections_than_allowed(serve, connect):
    server = await serve()
    transport = connect(max_connections=3)
    assert await asyncio.gather(*(read(transport, get(server.url)) for _ in range(100))) == [b"ok"] * 100
    assert server.most_open <= 3
    assert occupancy(transport) == (3, 3, 0)


async def test_who_waits_longest_is_served_first(serve, connect):
    script, gate = gated()
    server = await serve(script)
    transport = connect(max_connections=1)
    calls = []
    for number in range(5):
        calls.append(asyncio.create_task(read(transport, get(f"{server.url}/{number}"))))
        await eventually(lambda waiting=number: occupancy(transport) == (1, 0, waiting))
    gate.set()
    await asyncio.gather(*calls)
    assert [request.split()[1] for request in server.requests] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


async def test_waiting_too_long_is_a_pool_timeout(serve, connect):
    script, gate = gated()
    server = await serve(script)
    transport = connect(max_connections=1)
    first = asyncio.create_task(read(transport, get(server.url)))
    await eventually(lambda: occupancy(transport) == (1, 0, 0))
    soon = asyncio.get_running_loop().time() + 0.05
    for extensions in ({"timeout": {"pool": 0.05}}, {"deadline": soon}):
        with pytest.raises(httpx.PoolTimeout) as caught:
            await read(transport, get(server.url, **extensions))
        assert phase_of(caught.value) is Phase.POOL
    assert occupancy(transport) == (1, 0, 0)
    gate.set()
    assert await first == b"ok"
    assert len(server.requests) == 1


async def test_the_line_has_a_bound(serve, connect):
    script, gate = gated()
    server = await serve(script)
    transport = connect(max_connections=1, max_waiting=2)
    calls = [asyncio.create_task(read(transport, get(server.url))) for _ in range(3)]
    await eventually(lambda: occupancy(transport) == (1, 0, 2))
    with pytest.raises(httpx.PoolTimeout):
        await asyncio.wait_for(read(transport, get(server.url)), 20)
    gate.set()
    await asyncio.gather(*calls)


async def test_a_place_that_falls_free_goes_to_who_waits(serve, connect):
    """Connections that close, fail or are given up hand on their place, not only those that come back."""

    async def once(peer):
        request = await peer.request()
        await asyncio.sleep(0.01)
        if b"fail" not in request:
            await peer.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")

    server = await serve(once)
    transport = connect(max_connections=2)
    paths = ["/", "/fail"] * 10
    calls = [asyncio.create_task(read(transport, get(server.url + path))) for path in paths]
    await asyncio.sleep(0.005)
    calls[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results[1:]] == [httpx.ReadError, *[bytes, httpx.ReadError] * 9]
    await eventually(lambda: occupancy(transport) == (0, 0, 0))


async def test_no_place_is_lost_however_calls_end(serve, connect):
    chance = random.Random(5)  # noqa: S311 - repeatable

    async def unreliable(peer):
        while True:
            await peer.request()
            await asyncio.sleep(chance.random() * 0.004)
            match chance.randrange(6):
                case 0:
                    return
                case 1:
                    peer.reset()
                case 2:
                    await peer.send(b"nonsense\r\n\r\n")
                case _:
                    await peer.send(OK)

    server = await serve(unreliable)
    transport = connect(max_connections=4)
    opened = []

    async def call():
        request = httpx.Request(chance.choice(["GET", "POST"]), server.url)
        request.extensions = {"timeout": {"read": 0.003, "pool": chance.random() * 0.02}}
        with contextlib.suppress(httpx.TransportError, TimeoutError):
            await asyncio.wait_for(read(transport, request), chance.random() * 0.05)
        opened.append(occupancy(transport)[0])

    for _ in range(20):
        await asyncio.gather(*(call() for _ in range(20)))
    await eventually(lambda: occupancy(transport)[0] == idle(transport))
    assert max(opened) <= 4
    assert occupancy(transport)[2] == 0


async def test_idle_connections_are_closed_in_time(serve, connect):
    server = await serve()
    transport = connect(idle_timeout=1)
    await asyncio.gather(*(read(transport, get(server.url)) for _ in range(3)))
    assert occupancy(transport) == (3, 3, 0)
    await asyncio.sleep(0.5)
    await read(transport, get(server.url))
    await eventually(lambda: server.open == 1)
    await eventually(lambda: server.open == 0)
    assert await read(transport, get(server.url)) == b"ok"


async def test_only_so_many_are_kept_idle(serve, connect):
    server = await serve()
    transport = connect(max_idle=2)
    await asyncio.gather(*(read(transport, get(server.url)) for _ in range(6)))
    await eventually(lambda: occupancy(transport) == (2, 2, 0))
    await eventually(lambda: server.open == 2)


async def test_a_connection_that_the_service_closes_while_idle_is_forgotten(serve, transport):
    async def once(peer):
        await peer.answer()

    server = await serve(once)
    await read(transport, get(server.url))
    await eventually(lambda: occupancy(transport) == (0, 0, 0))
    await read(transport, httpx.Request("POST", server.url))
    assert server.connections == 2


async def test_a_service_that_moves_is_followed(serve, connect, names):
    """Its name resolves to another address: connections to the old one are let go when they are old."""
    old = await serve()
    new = await serve(host="127.0.0.2", port=old.port)
    transport = connect(max_age=1, resolve_interval=1)
    url = f"http://users.internal:{old.port}/"
    names["users.internal"] = ["127.0.0.1"]
    for _ in range(3):
        await read(transport, get(url))
    assert (old.connections, new.connections) == (1, 0)
    names["users.internal"] = ["127.0.0.2"]
    await asyncio.sleep(1.1)
    for _ in range(3):
        assert await read(transport, get(url)) == b"ok"
    assert (len(old.requests), len(new.requests)) == (3, 3)
    await eventually(lambda: old.open == 0)


async def test_the_next_address_is_tried_if_one_is_dead(serve, transport, names):
    server = await serve()
    names["users.internal"] = ["127.0.0.9", "127.0.0.1"]
    assert await read(transport, get(f"http://users.internal:{server.port}/")) == b"ok"


async def test_origins_do_not_share_connections(serve, connect):
    one, other = await serve(), await serve()
    transport = connect(max_connections=1)
    await asyncio.gather(read(transport, get(one.url)), read(transport, get(other.url)))
    assert (one.connections, other.connections) == (1, 1)
    assert set(transport.occupancy()) == {one.url, other.url}


async def test_closing_the_transport_ends_everything(serve, connect):
    async def silent(peer):
        await peer.request()
        await peer.hang()

    server, resting = await serve(silent), await serve()
    transport = connect(max_connections=1)
    await read(transport, get(resting.url))
    busy = asyncio.create_task(read(transport, get(server.url)))
    await eventually(lambda: len(server.requests) == 1)
    waiting = asyncio.create_task(read(transport, get(server.url)))
    await asyncio.sleep(0.01)
    await transport.aclose()
    with pytest.raises(httpx.ReadError):
        await busy
    with pytest.raises(httpx.ConnectError):
        await waiting
    for url in (server.url, "http://127.0.0.1:1"):
        with pytest.raises(httpx.ConnectError):
            await read(transport, get(url))
    await eventually(lambda: (server.open, resting.open) == (0, 0))


# TLS


def certificate(name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return cert.public_bytes(serialization.Encoding.PEM), pem


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """What a service called localhost shows, and what trusts it."""
    cert, key = certificate("localhost")
    path = tmp_path_factory.mktemp("tls") / "service.pem"
    path.write_bytes(cert + key)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(path)
    return shown, ssl.create_default_context(cadata=cert.decode())


async def test_tls(serve, connect, tls):
    shown, trusting = tls
    server = await serve(ssl=shown)
    transport = connect(trusting)
    url = f"https://localhost:{server.port}/"
    for _ in range(3):
        content = b"x" * 3_000_000
        assert await read(transport, httpx.Request("POST", url, content=content)) == b"ok"
        assert server.requests[-1].endswith(content)
    assert server.connections == 1


async def test_a_certificate_that_is_not_trusted(serve, transport, tls):
    server = await serve(ssl=tls[0])
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        await read(transport, get(f"https://localhost:{server.port}/"))
    assert phase_of(caught.value) is Phase.TLS
    assert occupancy(transport) == (0, 0, 0)
    assert server.requests == []


async def test_a_certificate_for_another_name(serve, connect, tls):
    shown, trusting = tls
    server = await serve(ssl=shown)
    with pytest.raises(httpx.ConnectError) as caught:
        await read(connect(trusting), get(f"https://127.0.0.1:{server.port}/"))
    assert phase_of(caught.value) is Phase.TLS


async def test_a_handshake_that_hangs(serve, connect):
    async def silent(peer):
        await peer.hang()

    server = await serve(silent)
    transport = connect(connect_timeout=0.1)
    with pytest.raises(httpx.ConnectTimeout) as caught:
        await read(transport, get(f"https://localhost:{server.port}/"))
    assert phase_of(caught.value) is Phase.TLS
    await eventually(lambda: server.ended == 1)


async def test_a_service_without_tls(serve, transport):
    async def plain(peer):
        await peer.read()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await serve(plain)
    with pytest.raises(httpx.ConnectError) as caught:
        await read(transport, get(f"https://localhost:{server.port}/"))
    assert phase_of(caught.value) is Phase.TLS


async def test_a_large_body_over_tls_is_held_back_and_complete(serve, connect, tls):
    shown, trusting = tls

    async def large(peer):
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n")
        for _ in range(200):
            await peer.send(b"x" * 100_000)

    server = await serve(large, ssl=shown)
    transport = connect(trusting, max_buffered="64KB")
    response = await transport.handle_async_request(get(f"https://localhost:{server.port}/"))
    received = 0
    async for piece in response.stream:
        received += len(piece)
        await asyncio.sleep(0)
    assert received == 20_000_000


# Settings


def test_settings_are_written_as_in_the_configuration():
    settings = TransportSettings.model_validate({"connect_timeout": "500ms", "max_connections": 20, "max_head": "16KB"})
    assert (settings.connect_timeout, settings.max_connections, settings.max_head) == (0.5, 20, 16384)


@pytest.mark.parametrize("wrong", [{"max_connections": 0}, {"max_head": "1B"}, {"max_idle": -1}, {"connections": 1}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValidationError):
        TransportSettings.model_validate(wrong)
