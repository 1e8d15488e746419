"""HTTP/2 as clients see it: many requests on one connection, within bounds, and what must never come of any bytes."""

import asyncio
import gc
import json
import random
import subprocess

import h2.errors
import httpx
import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from bff.core.certificates import CERTIFICATE, Observed
from bff.core.telemetry import Telemetry
from bff.server import Tls, TlsSettings
from bff.server.stream import Stream
from tests.harness import BFF_YAML, gateway, operator
from tests.server.conftest import served
from tests.server.h2.conftest import ASK, Client
from tests.server.test_connection import Echo, body, read_all, start
from tests.upstream.raw import eventually

Codes = h2.errors.ErrorCodes


@pytest.fixture
def echo():
    return Echo()


def post(length=None):
    return [(":method", "POST"), *ASK[1:], *([("content-length", str(length))] if length is not None else [])]


async def mirror(scope, receive, send):
    await send(start())
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send(body(message["body"], more=more))


async def test_a_request_comes_as_it_was_sent(http2, echo):
    client = await (await http2(echo))()
    asked = [
        *ASK[:3],
        (":path", "/a%20b%2F?c=%zz&d"),
        ("x-two", "1"),
        ("x-two", "2"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ]
    assert await client.answer(client.ask(asked)) == (200, {}, b"GET /a%20b%2F")
    (scope,) = echo.scopes
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b/", b"/a%20b%2F")
    assert (scope["query_string"], scope["scheme"], scope["http_version"]) == (b"c=%zz&d", "https", "2")
    assert scope["headers"] == [
        (b"host", b"localhost"), (b"x-two", b"1"), (b"x-two", b"2"), (b"cookie", b"a=1; b=2"),
    ]  # fmt: skip
    assert scope["client"][0] == "127.0.0.1"


async def test_requests_go_side_by_side_and_answers_come_as_they_are_ready(http2):
    order = []

    async def app(scope, receive, send):
        wait = int(scope["query_string"])
        await asyncio.sleep(wait / 100)
        order.append(wait)
        await send(start())
        await send(body(b"%d" % wait))

    client = await (await http2(app))()
    numbers = [client.ask([*ASK[:3], (":path", f"/?{wait}")]) for wait in (20, 10, 0)]
    assert [(await client.answer(number))[2] for number in numbers] == [b"20", b"10", b"0"]
    assert order == [0, 10, 20]


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_bodies_of_any_size_go_both_ways(http2, size):
    client = await (await http2(mirror))()
    data, sent = random.Random(size).randbytes(size), 0  # noqa: S311
    number = client.ask(post(), ended=False)
    while sent < size:
        await client.until(lambda: client.h2.local_flow_control_window(number) > 0)
        piece = data[sent : sent + min(client.h2.local_flow_control_window(number), 16384)]
        client.h2.send_data(number, piece)
        client.flush()
        sent += len(piece)
    client.h2.end_stream(number)
    client.flush()
    status, _, answer = await client.answer(number)
    assert (status, answer == data) == (200, True)


async def test_a_body_that_nobody_reads_is_held_back_and_holds_back_no_other_stream(http2, echo):
    release = asyncio.Event()

    async def app(scope, receive, send):
        if scope["method"] == "POST":
            await release.wait()
        await echo(scope, receive, send)

    client = await (await http2(app))()
    number = client.ask(post(), ended=False)
    await client.until(lambda: client.h2.local_flow_control_window(number) == 64 * 1024)
    for _ in range(4):
        client.h2.send_data(number, b"x" * 16384)
    client.flush()
    assert client.h2.local_flow_control_window(number) == 0
    assert (await client.answer(client.ask()))[0] == 200
    assert client.h2.local_flow_control_window(number) == 0
    release.set()
    await client.until(lambda: client.h2.local_flow_control_window(number) > 0)
    client.h2.end_stream(number)
    client.flush()
    assert (await client.answer(number))[0] == 200
    assert echo.bodies == [b"", b"x" * 65536]


async def test_an_answer_waits_for_a_client_that_takes_little_and_not_for_ever(http2):
    sent = []

    async def app(scope, receive, send):
        await send(start())
        for _ in range(100):
            await send(body(b"x" * 1000, more=True))
            sent.append(1)

    client = await (await http2(app, write_timeout=0.2))(window=2500)
    number = client.ask()
    await client.until(lambda: len(client.bodies[number]) == 2500)
    assert len(sent) == 2
    await client.until(lambda: number in client.resets)
    assert client.resets[number] == Codes.CANCEL
    assert len(client.bodies[number]) == 2500


async def test_an_answer_without_a_body_is_one_frame(http2):
    async def app(scope, receive, send):
        await send(start(204 if scope["method"] == "GET" else 200, (b"content-length", b"5")))
        await send(body(b"hello"))

    client = await (await http2(app))()
    assert (await client.answer(client.ask()))[::2] == (204, b"")
    status, headers, content = await client.answer(client.ask([(":method", "HEAD"), *ASK[1:]]))
    assert (status, headers, content) == (200, {b"content-length": b"5"}, b"")


@pytest.mark.parametrize("pieces", [[b"ok"], [b"o", b"k"], [b""]])
async def test_what_goes_beside_an_answer_is_sent_before_and_after_it(http2, pieces):
    async def app(scope, receive, send):
        exchange = scope["bff.exchange"]
        exchange.hint(103, [(b"link", b"</a.css>")])
        exchange.trail([(b"x-sum", b"abc")])
        await send(start(200))
        for each in pieces[:-1]:
            await send(body(each, more=True))
        await send(body(pieces[-1]))
        exchange.hint(103, [(b"link", b"too late")])

    client = await (await http2(app))()
    number = client.ask()
    assert (await client.answer(number))[::2] == (200, b"".join(pieces))
    assert client.headers[number][0] == [(b":status", b"103"), (b"link", b"</a.css>")]
    assert [e.headers for e in client.events if isinstance(e, h2.events.TrailersReceived)] == [[(b"x-sum", b"abc")]]


async def test_trailers_end_a_request_and_go_beside_it(http2, echo):
    client = await (await http2(echo))()
    number = client.ask(post(), b"hello", ended=False)
    client.h2.send_headers(number, [("x-trailer", "1")], end_stream=True)
    client.flush()
    assert (await client.answer(number))[0] == 200
    assert echo.bodies == [b"hello"]
    assert all(name != b"x-trailer" for scope in echo.scopes for name, _ in scope["headers"])
    assert echo.scopes[0]["bff.exchange"].trailers == [(b"x-trailer", b"1")]


async def test_a_client_that_waits_for_leave_gets_it(http2, echo):
    client = await (await http2(echo))()
    number = client.ask([*post(), ("expect", "100-continue")], ended=False)
    await client.until(lambda: client.headers[number])
    assert dict(client.headers[number][0])[b":status"] == b"100"
    client.h2.send_data(number, b"hello", end_stream=True)
    client.flush()
    assert (await client.answer(number))[0] == 200


async def test_an_answer_before_the_end_of_the_body_spares_the_client_the_rest(http2):
    async def app(scope, receive, send):
        await send(start(413))
        await send(body(b"too large"))

    client = await (await http2(app))()
    number = client.ask(post(), b"x" * 1000, ended=False)
    await client.until(lambda: number in client.resets)
    assert client.bodies[number] == b"too large"
    assert client.resets[number] == Codes.NO_ERROR
    assert (await client.answer(client.ask()))[0] == 413


async def test_bodies_that_nobody_reads_take_no_room_from_later_ones(http2, echo):
    async def app(scope, receive, send):
        if scope["raw_path"] == b"/upload":
            await mirror(scope, receive, send)
            return
        await send(start(401))
        await send(body())

    client = await (await http2(app))()
    for _ in range(40):
        assert (await client.answer(client.ask(post(), b"x" * 16000)))[0] == 401
        number = client.ask(post(), b"x" * 16000, ended=False)
        await client.until(lambda number=number: number in client.resets or number in client.over)
    for _ in range(40):
        number = client.ask([(":method", "POST"), *ASK[1:3], (":path", "/upload")], b"y" * 16000)
        assert (await client.answer(number))[2] == b"y" * 16000


async def test_nothing_is_left_to_the_collector(http2):
    connect = await http2(mirror)
    client = await connect()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await client.answer(client.ask(post(), b"hello"))
        await asyncio.sleep(0.05)
        assert [each for each in gc.get_objects() if isinstance(each, Stream)] == []
    finally:
        gc.enable()


# Who leaves.


async def test_a_reset_is_a_disconnect(http2):
    heard = []

    async def app(scope, receive, send):
        await read_all(receive)
        scope["bff.exchange"].on_leave(lambda: heard.append("left"))
        heard.append((await receive())["type"])

    client = await (await http2(app))()
    number = client.ask()
    await asyncio.sleep(0.05)
    client.h2.reset_stream(number, Codes.CANCEL)
    client.flush()
    await eventually(lambda: sorted(heard) == ["http.disconnect", "left"])


async def test_the_end_of_the_connection_is_a_disconnect_for_all(http2):
    heard = []

    async def app(scope, receive, send):
        await read_all(receive)
        heard.append((await receive())["type"])

    client = await (await http2(app))()
    for _ in range(3):
        client.ask()
    await asyncio.sleep(0.05)
    client.writer.transport.abort()
    await eventually(lambda: heard == ["http.disconnect"] * 3)


async def test_an_app_that_fails_breaks_off_its_own_stream_alone(http2, echo):
    async def app(scope, receive, send):
        if scope["raw_path"] == b"/fails":
            await send(start())
            await send(body(b"part", more=True))
            raise ValueError
        await echo(scope, receive, send)

    client = await (await http2(app))()
    number = client.ask([*ASK[:3], (":path", "/fails")])
    assert await client.answer(number) is None
    assert client.resets[number] == Codes.INTERNAL_ERROR
    assert (await client.answer(client.ask()))[0] == 200


# Bounds.


async def test_only_so_many_requests_are_under_way_on_one_connection(http2):
    release, running, most = asyncio.Event(), 0, 0

    async def app(scope, receive, send):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        await send(start())
        await send(body())

    client = await (await http2(app))()
    client.h2.remote_settings.max_concurrent_streams = 1000
    client.h2.remote_settings.acknowledge()
    numbers = []
    for _ in range(120):
        number = client.h2.get_next_available_stream_id()
        client.h2._open_streams = 0
        client.h2.streams.clear()
        numbers.append(number)
        block = client.h2.encoder.encode(ASK)
        client.h2.highest_outbound_stream_id = number
        client.raw(HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
    await eventually(lambda: running == 100)
    await asyncio.sleep(0.1)
    assert most == 100
    release.set()


async def test_who_keeps_to_the_number_of_requests_is_never_refused(http2):
    """The next comes with the answer of one before it, whose task may not have ended by then."""

    async def app(scope, receive, send):
        await send(start())
        await send(body())
        await asyncio.sleep(0.2)

    client = await (await http2(app))()
    for _ in range(3):
        numbers = [client.ask() for _ in range(100)]
        assert {(await client.answer(number))[0] for number in numbers} == {200}
    assert client.resets == {}


async def test_resetting_what_was_just_asked_for_ends_the_connection(http2):
    """CVE-2023-44487: no stream is open for long, and the work of each goes on."""
    begun = 0

    async def app(scope, receive, send):
        nonlocal begun
        begun += 1
        await asyncio.sleep(0.5)

    client = await (await http2(app))()
    for _ in range(2000):
        number = client.ask()
        client.h2.reset_stream(number, Codes.CANCEL)
        client.flush()
    assert await client.closed() == Codes.ENHANCE_YOUR_CALM
    assert begun <= 100


@pytest.mark.parametrize(
    "made",
    [
        lambda _: PingFrame(0, b"12345678").serialize(),
        lambda _: SettingsFrame(0, {3: 10}).serialize(),
        lambda number: DataFrame(number, b"").serialize(),
        lambda _: bytes([0, 0, 5, 0x2, 0, 0, 0, 0, 1]) + b"\0\0\0\0\1",
        lambda _: bytes([0, 0, 1, 0x77, 0, 0, 0, 0, 0]) + b"x",
    ],
    ids=["pings", "settings", "empty data", "priorities", "unknown frames"],
)
async def test_a_flood_of_what_costs_nothing_ends_the_connection(http2, made):
    async def app(scope, receive, send):
        await read_all(receive)

    client = await (await http2(app))()
    number = client.ask(post(), ended=False)
    client.raw(made(number) * 5000)
    assert await client.closed() == Codes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("empty", [True, False])
async def test_a_head_that_never_ends_ends_the_connection(http2, echo, empty):
    client = await (await http2(echo))()
    client.raw(HeadersFrame(1, client.h2.encoder.encode(ASK), flags=[]).serialize())
    client.raw(ContinuationFrame(1, b"" if empty else b"\x00\x01a\x01b" * 3000).serialize() * 1000)
    assert await client.closed() == Codes.ENHANCE_YOUR_CALM
    assert echo.scopes == []


async def test_a_head_that_is_large_once_it_is_unpacked_ends_the_connection(http2, echo):
    """One entry of the table, said again and again in a byte each."""
    client = await (await http2(echo, max_headers="8KB"))()
    block = client.h2.encoder.encode([*ASK, ("x-large", "x" * 3000)])
    client.raw(HeadersFrame(1, block + b"\xbe" * 8000, flags=["END_HEADERS", "END_STREAM"]).serialize())
    assert await client.closed() in {Codes.COMPRESSION_ERROR, Codes.ENHANCE_YOUR_CALM}
    assert echo.scopes == []


async def test_who_asks_for_nothing_is_closed_in_time(http2, echo):
    connect = await http2(echo, head_timeout=0.1, keep_alive=0.2)
    assert await (await connect()).closed() == Codes.NO_ERROR
    client = await connect()
    await client.answer(client.ask())
    assert await client.closed() == Codes.NO_ERROR


async def test_one_connection_too_many_takes_the_place_of_one_that_rests_or_goes(http2):
    release = asyncio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await send(start())
        await send(body())

    connect = await http2(app, max_connections=10)
    resting, *busy = [await connect() for _ in range(10)]
    numbers = [client.ask() for client in busy]
    await asyncio.sleep(0.05)
    late = await connect()
    await resting.until(lambda: resting.ended)
    numbers.append(late.ask())
    await asyncio.sleep(0.05)
    assert await (await connect()).closed() == Codes.ENHANCE_YOUR_CALM
    release.set()
    for client, number in zip([*busy, late], numbers, strict=True):
        assert (await client.answer(number))[0] == 200


async def test_a_client_may_be_made_to_wait(http2):
    async def app(scope, receive, send):
        asyncio.get_running_loop().call_later(0.3, scope["bff.exchange"].hold())
        await send(start())
        await send(body())

    client = await (await http2(app))()
    assert (await client.answer(client.ask()))[0] == 200
    began = asyncio.get_running_loop().time()
    assert (await client.answer(client.ask()))[0] == 200
    assert asyncio.get_running_loop().time() - began > 0.2


# What is no request.


@pytest.mark.parametrize(
    "asked",
    [
        ASK[1:],
        ASK[:3],
        [*ASK[:2], ASK[3]],
        [*ASK[:3], (":path", "")],
        [*ASK[:3], (":path", "a")],
        [*ASK[:3], (":path", "/a b")],
        [*ASK[:3], (":path", "/a#b")],
        [*ASK, (":path", "/b")],
        [*ASK, (":protocol", "websocket")],
        [*ASK, ("x-a", "1"), (":authority", "other")],
        [*ASK, ("host", "other")],
        [*ASK, ("X-Upper", "1")],
        [*ASK, ("x a", "1")],
        [*ASK, ("x-a", "1\r\nx-b: 2")],
        [*ASK, ("x-a", " 1")],
        [*ASK, ("x-a", "1\x01")],
        [*ASK, ("connection", "close")],
        [*ASK, ("transfer-encoding", "chunked")],
        [*ASK, ("upgrade", "websocket")],
        [*ASK, ("content-length", "1"), ("content-length", "2")],
        [*ASK, ("content-length", "-1")],
        [(":method", "GE T"), *ASK[1:]],
    ],
    ids=lambda asked: " ".join(f"{name}={value}" for name, value in asked[-2:]),
)
async def test_a_malformed_request_is_refused_and_the_connection_goes_on(http2, echo, asked):
    client = await (await http2(echo))()
    number = client.ask(asked)
    assert (await client.answer(number))[0] == 400
    assert echo.requests == []
    assert (await client.answer(client.ask()))[0] == 200


@pytest.mark.parametrize(("said", "sent"), [(3, b"hello"), (10, b"hello"), (5, b"")])
async def test_a_body_that_is_not_as_long_as_it_says_is_refused(http2, echo, said, sent):
    client = await (await http2(echo))()
    number = client.ask(post(said), ended=False)
    client.raw(DataFrame(number, sent, flags=["END_STREAM"]).serialize())
    await client.until(lambda: client.headers[number])
    assert dict(client.headers[number][0])[b":status"] == b"400"
    assert echo.bodies == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (DataFrame(99, b"x").serialize(), Codes.PROTOCOL_ERROR),
        (RstStreamFrame(99, 8).serialize(), Codes.PROTOCOL_ERROR),
        (bytes([0, 0, 0, 0x8, 0, 0, 0, 0, 0]), Codes.FRAME_SIZE_ERROR),
        (bytes([0, 0, 4, 0x8, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Codes.PROTOCOL_ERROR),
        (bytes([0, 0, 4, 0x8, 0, 0, 0, 0, 0, 127, 255, 255, 255]), Codes.FLOW_CONTROL_ERROR),
        (bytes([0, 0, 1, 0x6, 0, 0, 0, 0, 0, 0]), Codes.FRAME_SIZE_ERROR),
        (bytes([0xFF, 0, 0, 0x0, 0, 0, 0, 0, 1]), Codes.FRAME_SIZE_ERROR),
        (bytes([0, 0, 4, 0x5, 4, 0, 0, 0, 1, 0, 0, 0, 2]), Codes.PROTOCOL_ERROR),
        (bytes([0, 0, 0, 0x9, 4, 0, 0, 0, 1]), Codes.PROTOCOL_ERROR),
        (bytes([0, 0, 2, 0x1, 5, 0, 0, 0, 1, 0xFF, 0xFF]), Codes.COMPRESSION_ERROR),
        (bytes([0, 0, 1, 0x1, 5, 0, 0, 0, 2, 0x82]), Codes.PROTOCOL_ERROR),
        (HeadersFrame(1, b"", flags=[]).serialize() + PingFrame(0, b"12345678").serialize(), Codes.PROTOCOL_ERROR),
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection_with_its_code(http2, echo, data, code):
    client = await (await http2(echo))()
    client.raw(data)
    assert await client.closed() == code
    assert echo.scopes == []


async def test_any_bytes_end_in_a_closed_connection_and_no_error(http2, echo, caplog):
    connect = await http2(echo, head_timeout=0.2)
    rng = random.Random(7)  # noqa: S311
    for _ in range(30):
        client = await connect()
        size = rng.randrange(30)
        client.raw(bytes([0, 0, size, rng.randrange(10), rng.randrange(256), 0, 0, 0, rng.randrange(4)]))
        client.raw(rng.randbytes(size + 20))
        client.writer.write_eof() if client.writer.can_write_eof() else None
        await client.until(lambda client=client: client.ended)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# The end.


async def test_at_the_end_requests_under_way_are_answered_and_clients_told(http2):
    release = asyncio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await send(start())
        await send(body(b"in time"))

    connect = await http2(app)
    client = await connect()
    number = client.ask()
    await asyncio.sleep(0.05)
    connect.server.should_exit = True
    await client.until(lambda: client.goaways)
    assert client.goaways[0] == (2**31 - 1, Codes.NO_ERROR)
    release.set()
    assert (await client.answer(number))[2] == b"in time"
    await client.until(lambda: client.ended)
    assert client.goaways[-1] == (number, Codes.NO_ERROR)


async def test_a_connection_whose_certificate_is_revoked_is_ended_once_what_is_under_way_is_answered(serve, authority):
    """And the certificate came with every stream of it."""
    release, seen = asyncio.Event(), []

    async def app(scope, receive, send):
        seen.append(scope["state"][CERTIFICATE].serial)
        await release.wait()
        await send(start())
        await send(body(b"in time"))

    telemetry = Telemetry()
    pair, partner = authority.issue("server", names=("DNS:localhost",)), authority.issue("partner")
    settings = {**pair.settings, "client_ca": str(authority.path), "crl": str(authority.revoked("crl.pem"))}
    tls = Tls(TlsSettings(**settings), ("h2", "http/1.1"), Observed(telemetry), telemetry)
    connect = await serve(app, tls=tls)
    made = await connect(ssl=authority.client(partner, alpn=("h2",)), server_hostname="localhost")
    client = Client(made.reader, made.writer)
    numbers = [client.ask(), client.ask()]
    await eventually(lambda: len(seen) == 2)
    assert set(seen) == {partner.certificate.serial_number}
    authority.revoked("crl.pem", partner)
    assert await tls.context.look()
    tls._judge_again()
    await client.until(lambda: client.goaways)
    release.set()
    assert [(await client.answer(number))[2] for number in numbers] == [b"in time"] * 2
    assert await client.closed() == Codes.NO_ERROR


# The whole gateway, and clients of others.


@pytest.fixture
def whole(authority):
    pair = authority.issue("server", names=("DNS:localhost",))
    return gateway(BFF_YAML, server={"tls": pair.settings, "http2": True})


async def test_curl_gets_graphql_and_rest_over_one_connection(whole, authority):
    token = operator()["authorization"]
    async with served(whole.app, tls=whole.app.state.tls) as connect:
        base = f"https://localhost:{connect.port}"
        query = json.dumps({"query": '{ user(id: "usr_1") { id } }'})
        more = ["-H", f"authorization: {token}", "-w", "%{http_version} %{num_connects}\n", "-sS", "--http2"]
        ran = await asyncio.to_thread(
            subprocess.run,
            [
                "curl", "--cacert", str(authority.path), *more, f"{base}/api/users/usr_1",
                "--next", "--cacert", str(authority.path), *more, f"{base}/graphql",
                "-H", "content-type: application/json", "-d", query,
            ],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert '"data":{"user":{"id":"usr_1"}}' in ran.stdout
    assert [line[-3:] for line in ran.stdout.splitlines()] == ["2 1", "2 0"]


async def test_a_body_that_does_not_say_its_length_reaches_graphql_and_services(whole, authority, tmp_path):
    token = operator()["authorization"]
    (tmp_path / "query").write_text(json.dumps({"query": '{ user(id: "usr_1") { id } }'}))
    (tmp_path / "change").write_text(json.dumps({"name": "New"}))
    async with served(whole.app, tls=whole.app.state.tls) as connect:
        base = f"https://localhost:{connect.port}"

        async def curl(*arguments):
            given = ["--http2", "-sS", "--cacert", str(authority.path), "-H", f"authorization: {token}"]
            given += ["-H", "content-type: application/json", "-H", "content-length:", *arguments]
            ran = await asyncio.to_thread(
                subprocess.run, ["curl", *given], capture_output=True, text=True, timeout=20, check=False
            )
            return ran.stdout

        answer = await curl("-T", str(tmp_path / "query"), "-X", "POST", f"{base}/graphql")
        assert json.loads(answer)["data"] == {"user": {"id": "usr_1"}}
        whole.services.forget()
        await curl("-T", str(tmp_path / "change"), "-X", "PATCH", f"{base}/api/users/usr_1")
        (call,) = whole.services.calls
        assert json.loads(call.body) == {"name": "New"}
        large = tmp_path / "large"
        large.write_bytes(b"x" * 3_000_000)
        assert json.loads(await curl("-T", str(large), "-X", "PATCH", f"{base}/api/users/usr_1"))["status"] == 413


async def test_an_error_is_the_same_problem_as_over_http1(whole, authority):
    async with served(whole.app, tls=whole.app.state.tls) as connect:
        url = f"https://localhost:{connect.port}/nothing"
        command = ["curl", "-sS", "-D-", "--cacert", str(authority.path), "--http2", url]
        ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20, check=False)
        async with httpx.AsyncClient(verify=authority.client()) as client:
            other = await client.get(url)
    assert ran.stdout.startswith("HTTP/2 404")
    problem = json.loads(ran.stdout.rpartition("\n\n")[2])
    assert problem | {"request_id": ""} == other.json() | {"request_id": ""}
