import asyncio
import contextlib
import functools
import io
import json
import random
import re

import httpx
import pytest
import uvicorn

from bff.config import ServerSettings
from bff.core.errors import UpstreamUnavailable
from bff.core.identity import Caller
from bff.core.requests import Requests
from bff.core.route import Front, Route
from bff.core.telemetry import JsonLog, Telemetry
from bff.core.under_way import UnderWay
from bff.edge.errors import Errors
from bff.edge.guard import Guard
from bff.edge.observe import ObservabilitySettings, Observe
from bff.edge.routing import Matcher, Routing
from bff.fronts import Fronts
from bff.rest.proxy import Passthrough
from bff.rest.redirects import outward
from bff.server import connections
from bff.upstream.client import Service
from bff.upstream.target import Addressed
from bff.upstream.transport import Transport, TransportSettings
from tests.upstream.raw import Server, eventually

CALLER = Caller(subject="usr_1", consumer="shop", scopes=frozenset({"users:read"}), credential="jwt")
ROUTES = [
    Route("users", "/api/users/{rest*}", service="users", rewrite="/users/{rest}", max_body=1024 * 1024, timeout=60),
    Route("receipt", "/api/payments/{id}/receipt", service="users", rewrite="/v1/{id}/of/{id}", timeout=60),
    Route("relayed", "/relayed/{rest*}", service="users", relay_errors=True, timeout=60),
    Route("root", "/root/{rest*}", service="users", rewrite="/{rest}", timeout=60),
    Route("small", "/small", service="users", max_body=10, timeout=60),
    Route("large", "/large", service="users", max_body=10**9, timeout=60),
    Route("hosted", "/hosted", service="users", hosts=("gateway.example",)),
    Route("brief", "/brief", service="users", timeout=0.6),
]


async def nothing_else(scope, receive, send):
    pytest.fail("every request here has a route")


def gateway(network, base="http://users.internal:8101", *, told=lambda origin: origin.caller.lines, log=None):
    """The edge's layers as they are, with a caller put in by hand where auth would."""
    url = httpx.URL(base)
    passthrough = Passthrough({"users": Service("users", (url,), Addressed(network, url), told)})
    fronts = Fronts(nothing_else, {Front.REST: passthrough})

    async def authenticated(scope, receive, send):
        scope["bff.caller"] = CALLER
        await fronts(scope, receive, send)

    telemetry = Telemetry(log=JsonLog(log or io.BytesIO()))
    app = Guard(Routing(authenticated, Matcher(ROUTES)), max_headers=65536, max_body=1 << 30)
    chance, settings = random.Random(1), ObservabilitySettings()  # noqa: S311
    return Observe(Errors(app, telemetry), settings, telemetry, chance, Requests(settings.requests, chance), UnderWay())


class Network(httpx.AsyncBaseTransport):
    """A service that keeps what it is sent and gives one answer."""

    def __init__(self, status=200, headers=(), body=b"ok"):
        self.answer = (status, headers, body)
        self.error = None

    async def handle_async_request(self, request):
        self.request = request
        self.target = request.extensions["target"]
        self.body = b"".join([part async for part in request.stream])
        if self.error:
            raise self.error
        status, headers, body = self.answer
        return httpx.Response(status, headers=headers, content=body)


@pytest.fixture
def network():
    return Network()


async def ask(network, method="GET", path="/api/users", *, base="http://users.internal:8101", **options):
    identity = {name: options.pop(name) for name in ("told",) if name in options}
    transport = httpx.ASGITransport(gateway(network, base, **identity), client=("10.0.0.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="https://gateway.example") as client:
        return await client.request(method, path, **options)


# What goes up.


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/users", b"/users"),
        ("/api/users/", b"/users"),
        ("/api/users?limit=2", b"/users?limit=2"),
        ("/api/users/usr_1/orders/", b"/users/usr_1/orders/"),
        ("/api/users/a%20b%3Fc%3a?x=%2f&y=%zz&x=1", b"/users/a%20b%3Fc%3a?x=%2f&y=%zz&x=1"),
        ("/api/payments/pay_1/receipt", b"/v1/pay_1/of/pay_1"),
        ("/relayed/a/b", b"/relayed/a/b"),
        ("/root", b"/"),
        ("/root/x", b"/x"),
    ],
)
async def test_the_path_is_rewritten_and_all_else_of_the_target_stays_byte_for_byte(network, path, target):
    raw_path, _, query = path.encode().partition(b"?")
    sent = scope() | {"raw_path": raw_path, "query_string": query}
    statuses = []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        statuses.append(message.get("status"))

    await gateway(network)(sent, receive, send)
    assert statuses[0] == 200
    assert network.target == target


async def test_the_services_own_path_comes_before_the_rewritten_one(network):
    await ask(network, base="http://users.internal/base/")
    assert network.target == b"/base/users"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_passes(network, method):
    assert (await ask(network, method)).status_code == 200
    assert network.request.method == method


async def test_ordinary_headers_pass_cookies_and_repeated_ones_too(network):
    sent = [("accept", "text/csv"), ("cookie", "a=b"), ("x-tag", "1"), ("x-tag", "2"), ("if-none-match", '"e"')]
    await ask(network, headers=sent)
    assert [header for header in network.request.headers.multi_items() if header in sent] == sent


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "x-api-key",
        "x-auth-subject",
        "X-Auth-Scopes",
        "x-auth-anything",
        "x_auth_subject",
        "x-auth_subject",
        "x-user-id",
        "X_User_Roles",
        "x-internal-auth",
        "x-forwarded-user",
        "x-forwarded-for",
        "x_forwarded_for",
        "x-forwarded-prefix",
        "forwarded",
        "x-real-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-authenticated-userid",
        "X_Authenticated_Scope",
        "x-consumer-username",
        "x-credential-identifier",
        "x-request-id",
        "traceparent",
        "tracestate",
        "x-http-method-override",
        "x-original-url",
        "proxy",
        "proxy-authorization",
        "te",
        "upgrade",
        "keep-alive",
        "trailer",
    ],
)
async def test_a_client_cannot_say_who_it_is_where_from_or_what_else_it_means(network, name):
    await ask(network, headers={name: "6.6.6.6 forged"})
    assert "forged" not in str(network.request.headers.raw)


async def test_identity_trace_and_connection_are_told_by_the_gateway_alone(network):
    trace_id = "a" * 32
    forged = {
        "x-auth-subject": "usr_2",
        "x-forwarded-for": "6.6.6.6",
        "via": "1.0 cdn",
        "connection": "x-forwarded-for",
    }
    await ask(network, headers={**forged, "traceparent": f"00-{trace_id}-{'b' * 16}-01", "x-request-id": "req-1"})
    sent = network.request.headers
    assert sent.get_list("host") == ["users.internal:8101"]
    assert sent.get_list("x-auth-subject") == ["usr_1"]
    assert sent.get_list("x-auth-consumer") == ["shop"]
    assert sent.get_list("x-auth-scopes") == ["users:read"]
    assert sent.get_list("x-forwarded-for") == ["10.0.0.7"]
    assert sent.get_list("x-forwarded-proto") == ["https"]
    # A client writes into Host what it likes; a service that makes links of it would make the client's.
    assert "gateway.example" not in str(sent.multi_items())
    assert sent.get_list("via") == ["1.0 cdn, 1.1 bff"]
    assert sent.get_list("x-request-id") == ["req-1"]
    (traceparent,) = sent.get_list("traceparent")
    assert traceparent.split("-")[1] == trace_id
    assert traceparent.split("-")[2] != "b" * 16


@pytest.mark.parametrize(
    ("address", "path", "forwarded"),
    [
        ("10.0.0.7", "/api/users", "for=10.0.0.7;proto=https"),
        ("2001:db8::7", "/api/users", 'for="[2001:db8::7]";proto=https'),
        ("10.0.0.7", "/hosted", 'for=10.0.0.7;host="gateway.example";proto=https'),
    ],
)
async def test_where_a_request_came_from_is_told_in_the_words_of_the_standard_too(network, address, path, forwarded):
    """Its host only where the route is asked for at that one: else it is whatever a client writes there."""
    transport = httpx.ASGITransport(gateway(network), client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://gateway.example") as client:
        await client.get(path, headers={"forwarded": "for=6.6.6.6", "x-forwarded-host": "evil.example"})
    sent = network.request.headers
    assert sent.get_list("forwarded") == [forwarded]
    assert sent.get_list("x-forwarded-host") == (["gateway.example"] if "host=" in forwarded else [])


async def test_a_service_that_is_not_trusted_is_not_told_who_calls(network):
    await ask(network, told=lambda _: b"")
    assert not [name for name in network.request.headers if name.startswith("x-auth")]


async def test_headers_that_connection_names_go_no_further(network):
    await ask(network, headers={"connection": "close, X-Hop", "x-hop": "1", "x-kept": "1"})
    assert not {"connection", "x-hop"} & set(network.request.headers)
    assert network.request.headers["x-kept"] == "1"


async def test_a_length_that_connection_names_still_frames_the_body(network):
    await ask(network, "POST", content=b"abc", headers={"connection": "content-length"})
    assert network.body == b"abc"
    assert {"content-length", "transfer-encoding"} & set(network.request.headers)


async def test_a_body_that_came_at_once_keeps_its_length(network):
    await ask(network, "POST", content=b"abc")
    assert (network.body, network.request.headers.get_list("content-length")) == (b"abc", ["3"])
    assert "transfer-encoding" not in network.request.headers


async def test_a_body_without_length_is_streamed(network):
    async def parts():
        for part in (b"a", b"b", b"c"):
            yield part

    await ask(network, "POST", content=parts())
    assert (network.body, network.request.headers["transfer-encoding"]) == (b"abc", "chunked")


@pytest.mark.parametrize(
    ("method", "length"), [("POST", ["0"]), ("PUT", ["0"]), ("PATCH", ["0"]), ("GET", []), ("DELETE", [])]
)
async def test_where_a_body_is_expected_its_absence_is_said(network, method, length):
    bare = httpx.Request(method, "http://gateway/api/users", headers={"host": "gateway"}, stream=httpx.ByteStream(b""))
    assert (await httpx.ASGITransport(gateway(network)).handle_async_request(bare)).status_code == 200
    assert network.request.headers.get_list("content-length") == length
    assert "transfer-encoding" not in network.request.headers


async def test_a_coded_body_that_came_at_once_gets_its_length(network):
    messages = [{"type": "http.request", "body": b"abc", "more_body": False}]

    async def receive():
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(_):
        pass

    coded = [(b"host", b"gateway"), (b"transfer-encoding", b"chunked")]
    await gateway(network)(scope() | {"method": "POST", "headers": coded}, receive, send)
    assert (network.body, network.request.headers.get_list("content-length")) == (b"abc", ["3"])
    assert "transfer-encoding" not in network.request.headers


async def parts(*sizes):
    for size in sizes:
        yield b"a" * size


@pytest.mark.parametrize("content", [b"a" * 11, parts(11), parts(5, 5, 1)], ids=["announced", "at once", "in parts"])
async def test_a_body_larger_than_its_route_allows_is_refused(network, content):
    answer = await ask(network, "POST", "/small", content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("content", [b"a" * 10, parts(10), parts(5, 5)], ids=["announced", "at once", "in parts"])
async def test_a_body_of_just_what_its_route_allows_passes(network, content):
    assert (await ask(network, "POST", "/small", content=content)).status_code == 200
    assert len(network.body) == 10


# What comes down.


async def test_an_answer_is_relayed_as_it_is():
    headers = [("content-type", "text/csv"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("etag", '"e"')]
    answer = await ask(Network(201, headers, b"a,b"))
    assert (answer.status_code, answer.content) == (201, b"a,b")
    assert answer.headers["content-length"] == "3"
    assert [header for header in answer.headers.multi_items() if header in headers] == headers


async def test_an_encoded_answer_is_not_decoded_on_its_way():
    body = b"\x1f\x8b not really gzip"

    class Encoded(Network):
        async def handle_async_request(self, request):
            return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(body))

    transport = httpx.ASGITransport(gateway(Encoded()))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        client.stream("GET", "/api/users") as answer,
    ):
        assert b"".join([part async for part in answer.aiter_raw()]) == body


async def test_hop_by_hop_headers_and_what_tells_about_the_inside_stop_here():
    inside = {
        "connection": "close, x-hop",
        "x-hop": "1",
        "keep-alive": "timeout=5",
        "upgrade": "h2c",
        "proxy-authenticate": "x",
        "server": "secret/1.0",
        "x-powered-by": "secret",
        "x-request-id": "theirs",
        "x-kept": "1",
    }
    answer = await ask(Network(headers=inside), headers={"x-request-id": "ours"})
    assert {name for name in answer.headers if name in inside} == {"x-request-id", "x-kept"}
    assert answer.headers.get_list("x-request-id") == ["ours"]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 412, 422])
async def test_what_a_service_refuses_is_relayed_in_its_own_words(status):
    answer = await ask(Network(status, {"content-type": "text/plain"}, b"no"))
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (status, b"no", "text/plain")


@pytest.mark.parametrize(
    ("path", "location", "seen"),
    [
        ("/api/users/1", "http://users.internal:8101/v2/users/1/orders?a=b#c", "/api/users/1/orders?a=b#c"),
        ("/api/users", "https://USERS.internal:8101/v2/users/usr_9", "/api/users/usr_9"),
        ("/api/users?page=2", "http://users.internal:8101/v2/users/?page=2", "/api/users/?page=2"),
        ("/api/payments/p/receipt", "http://users.internal:8101/v2/v1/p/of/p?as=pdf", "/api/payments/p/receipt?as=pdf"),
        ("/root/x/y", "http://users.internal:8101/v2/z", "/root/z"),
        # Nowhere that this route leads.
        ("/api/users/1", "http://users.internal:8101/v2/usersX", None),
        ("/api/users/1", "http://users.internal:8101/admin", None),
        ("/api/payments/p/receipt", "http://users.internal:8101/v2/v1/q/of/q", None),
        # Not the service's address.
        ("/api/users/1", "https://elsewhere.example/v2/users/1", "https://elsewhere.example/v2/users/1"),
        ("/api/users/1", "/users/2", "/users/2"),
        ("/api/users/1", "http://[", "http://["),
    ],
)
@pytest.mark.parametrize("status", [201, 302])
async def test_where_a_service_points_to_itself_its_clients_are_pointed_to_the_route(status, path, location, seen):
    network = Network(status, [("Location", location), ("X-Other", "1")])
    got = await ask(network, path=path, base="http://users.internal:8101/v2")
    assert (got.status_code, got.headers.get("location"), got.headers["x-other"]) == (status, seen, "1")


async def test_a_service_of_several_deployments_may_point_to_any_of_them():
    addresses = [httpx.URL(f"http://{each}.internal/v2") for each in ("one", "two")]
    headers = [(b"location", b"http://two.internal/v2/users/9"), (b"content-location", b"http://three.internal/v2")]
    request = {"bff.route": ROUTES[0], "bff.captured": {"rest": b"/1"}, "raw_path": b"/api/users/1"}
    seen = outward(headers, addresses, b"/users/1", request)
    assert seen == [(b"location", b"/api/users/9"), (b"content-location", b"http://three.internal/v2")]


async def test_a_services_own_limit_is_relayed_with_when_to_come_back():
    answer = await ask(Network(429, {"retry-after": "7"}))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize("status", [500, 502, 503, 599])
async def test_a_services_failure_is_replaced_by_a_problem(status):
    answer = await ask(Network(status, {"content-type": "text/html"}, b"Traceback: secret"))
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (502, "application/problem+json")
    assert (problem["code"], problem["service"]) == ("UPSTREAM_ERROR", "users")
    assert "secret" not in answer.text


async def test_a_failure_that_is_a_problem_already_is_passed_on():
    kind = "Application/Problem+JSON; charset=utf-8"
    answer = await ask(Network(503, {"content-type": kind}, b'{"title":"theirs"}'))
    assert (answer.status_code, answer.json()) == (503, {"title": "theirs"})


async def test_a_route_may_have_failures_relayed():
    answer = await ask(Network(500, {"content-type": "text/plain"}, b"boom"), path="/relayed")
    assert (answer.status_code, answer.content) == (500, b"boom")


async def test_a_service_that_cannot_be_reached_is_a_problem_without_its_address(network):
    network.error = httpx.ConnectError("10.1.2.3 refused", request=None)
    answer = await ask(network)
    assert (answer.status_code, answer.json()["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert "10.1.2.3" not in answer.text


async def test_what_the_policies_of_a_service_raise_is_the_answer(network):
    network.error = UpstreamUnavailable("users", retry_after=3)
    answer = await ask(network)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


# On real connections, by our own protocol and by uvicorn's, since any ASGI server should do.

PROTOCOLS = {"ours": connections(ServerSettings()), "uvicorns": "httptools"}


@pytest.fixture(params=PROTOCOLS)
def running(request):
    """A service that follows a script, a gateway before it, and what opens connections to the gateway."""
    return functools.partial(on_connections, PROTOCOLS[request.param])


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


@contextlib.asynccontextmanager
async def on_connections(protocol, script, log=None):
    service = await Server(script).start()
    transport = Transport(TransportSettings(max_buffered=64 * 1024, connect_timeout=20))
    app = gateway(transport, service.url, log=log)
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, ws="none", http=protocol, date_header=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    writers = []

    async def connect(head=b"GET /api/users HTTP/1.1\r\nhost: gateway\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(head)
        return reader, writer

    try:
        yield connect, service
    finally:
        for writer in writers:
            writer.transport.abort()
        server.should_exit = server.force_exit = True
        await serving
        await transport.aclose()
        await service.stop()


def code(head, body):
    assert b"application/problem+json" in head
    return json.loads(body)["code"]


async def answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return head, await reader.readexactly(int(length[1])) if length else b""


async def test_an_answer_passes_on_piece_by_piece_as_it_comes(running):
    go_on = asyncio.Event()

    async def script(peer):
        await peer.answer(HEAD % 6 + b"abc")
        await go_on.wait()
        await peer.send(b"def")
        await peer.hang()

    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, _ = await connect()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"abc"
        go_on.set()
        assert await reader.readexactly(3) == b"def"


async def test_a_body_passes_up_piece_by_piece_as_it_comes(running):
    arrived = asyncio.Queue()

    async def script(peer):
        await peer.head()
        received = b""
        while len(received) < 6:
            received += await peer.read()
            arrived.put_nowait(received)
        await peer.send(HEAD % 0)

    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, writer = await connect(b"PUT /api/users/1 HTTP/1.1\r\nhost: g\r\ncontent-length: 6\r\n\r\nabc")
        assert await arrived.get() == b"abc"
        writer.write(b"def")
        assert await arrived.get() == b"abcdef"
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_service_that_does_not_read_makes_the_client_wait(running):
    done = asyncio.Event()

    async def script(peer):
        await peer.head()
        await done.wait()

    size = 64 * 1024 * 1024
    head = b"POST /large HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n"
    async with running(script) as (connect, _), asyncio.timeout(20):
        _, writer = await connect(head)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < size:
                writer.write(b"10000\r\n" + b"a" * 65536 + b"\r\n")
                sent += 65536
                async with asyncio.timeout(0.5):
                    await writer.drain()
        assert sent < size / 2
        done.set()


async def test_a_client_that_does_not_read_makes_the_service_wait(running):
    sent = 0

    async def script(peer):
        nonlocal sent
        await peer.answer(HEAD % 10**9)
        while True:
            await peer.send(b"a" * 65536)
            sent += 65536

    async with running(script) as (connect, _), asyncio.timeout(20):
        await connect()
        await eventually(lambda: sent)
        before = 0
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 64 * 1024 * 1024


async def gone(peer, left):
    """Set `left` once the gateway has closed the connection."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await peer.hang()
    left.set()


async def access_line(log):
    await eventually(log.getvalue)
    return json.loads(log.getvalue())


async def test_a_client_that_leaves_while_the_service_thinks_cancels_the_call(running):
    asked, left, log = asyncio.Event(), asyncio.Event(), io.BytesIO()

    async def script(peer):
        await peer.request()
        asked.set()
        await gone(peer, left)

    async with running(script, log) as (connect, _), asyncio.timeout(20):
        _, writer = await connect()
        await asked.wait()
        writer.close()
        await left.wait()
        assert (await access_line(log))["status"] == 499


class Silent(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        await asyncio.Event().wait()


def scope():
    return {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "scheme": "http",
        "path": "/api/users",
        "raw_path": b"/api/users",
        "query_string": b"",
        "headers": [(b"host", b"gateway")],
    }


async def test_a_client_that_left_is_the_end_of_its_request_and_not_of_the_task_that_served_it():
    async def receive():
        return {"type": "http.disconnect"}

    async with asyncio.timeout(20):
        await gateway(Silent())(scope(), receive, None)
    assert asyncio.current_task().cancelling() == 0


async def test_a_task_that_is_cancelled_from_outside_ends_as_cancelled():
    serving = asyncio.create_task(gateway(Silent())(scope(), asyncio.Event().wait, None))
    await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_client_that_leaves_after_its_body_cancels_the_call(running):
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(peer):
        await peer.request()
        asked.set()
        await gone(peer, left)

    async with running(script) as (connect, _), asyncio.timeout(20):
        _, writer = await connect(b"POST /api/users HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\na")
        await asyncio.sleep(0.05)
        writer.write(b"b")
        await asked.wait()
        writer.close()
        await left.wait()


async def test_a_client_that_leaves_in_the_middle_of_its_body_never_makes_it_look_whole(running):
    arrived, left, log, received = asyncio.Event(), asyncio.Event(), io.BytesIO(), b""

    async def script(peer):
        nonlocal received
        await peer.head()
        with contextlib.suppress(ConnectionError):
            while data := await peer.read():
                received += data
                arrived.set()
        left.set()

    head = b"POST /api/users HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with running(script, log) as (connect, _), asyncio.timeout(20):
        _, writer = await connect(head)
        await arrived.wait()
        writer.close()
        await left.wait()
        assert received == b"3\r\nabc\r\n"
        assert (await access_line(log))["status"] == 499


async def test_a_client_that_leaves_in_the_middle_of_its_answer_cancels_the_call(running):
    left = asyncio.Event()

    async def script(peer):
        await peer.answer(HEAD % 6 + b"abc")
        await gone(peer, left)

    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, writer = await connect()
        await reader.readuntil(b"abc")
        writer.close()
        await left.wait()


@pytest.mark.parametrize("head", [HEAD % 6, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n"])
async def test_an_answer_that_breaks_off_is_never_ended_cleanly(running, head):
    async def script(peer):
        await peer.answer(head + b"abc")
        await asyncio.sleep(0.05)
        peer.reset()

    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, _ = await connect()
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        rest = await reader.read()
        assert b"abc" in rest
        assert not rest.endswith(b"0\r\n\r\n")


async def test_a_connection_serves_request_after_request(running):
    async def script(peer):
        while True:
            await peer.answer(HEAD % 2 + b"ok")

    async with running(script) as (connect, service), asyncio.timeout(20):
        reader, writer = await connect()
        for _ in range(5):
            _, body = await answer(reader)
            assert body == b"ok"
            writer.write(b"POST /api/users HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\nabc")
        await answer(reader)
        assert service.connections == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_body_ends_where_its_head_does(running, status):
    async def script(peer):
        while True:
            await peer.answer(
                b"HTTP/1.1 " + status + b'\r\netag: "e"\r\n' + b"content-length: 5\r\n" * (b"304" in status) + b"\r\n"
            )

    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, writer = await connect()
        head, body = await answer(reader)
        assert head.startswith(b"HTTP/1.1 " + status)
        assert body == b""
        writer.write(b"GET /api/users HTTP/1.1\r\nhost: g\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 " + status)


async def test_the_length_in_the_answer_to_head_is_kept(running):
    async def script(peer):
        await peer.answer(HEAD % 1234)
        await peer.hang()

    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, _ = await connect(b"HEAD /api/users HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n")
        assert b"content-length: 1234\r\n" in await reader.read()


async def test_a_services_date_stays_and_is_the_only_one(running):
    async def script(peer):
        await peer.answer(b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")

    async with running(script) as (connect, _), asyncio.timeout(20):
        head, _ = await answer((await connect())[0])
        assert re.findall(rb"\r\ndate: ([^\r]*)", head) == [b"Thu, 01 Jan 1970 00:00:00 GMT"]


async def test_a_body_that_grows_too_large_under_way_is_refused_and_never_looks_whole(running):
    received = b""

    async def script(peer):
        nonlocal received
        await peer.head()
        with contextlib.suppress(ConnectionError):
            while data := await peer.read():
                received += data

    head = b"POST /small HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n"
    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, writer = await connect(head)
        await asyncio.sleep(0.05)
        writer.write(b"6\r\nabcdef\r\n")
        head, body = await answer(reader)
        assert head.startswith(b"HTTP/1.1 413")
        assert code(head, body) == "PAYLOAD_TOO_LARGE"
        assert b"0\r\n\r\n" not in received


@pytest.mark.parametrize("sent", [b"", b"3\r\nabc\r\n"], ids=["nothing", "a part"])
async def test_a_body_that_never_ends_is_cut_off_at_the_deadline(running, sent):
    async def script(peer):
        await peer.head()
        await peer.hang()

    head = b"POST /brief HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n"
    async with running(script) as (connect, _), asyncio.timeout(20):
        reader, _ = await connect(head + sent)
        head, _ = await answer(reader)
        assert head.startswith(b"HTTP/1.1 504")
