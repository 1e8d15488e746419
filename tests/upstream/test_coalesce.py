"""Identical reads under way share a call; and never does one caller get an answer that was fetched for another."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.config import ConfigError, load
from bff.core.errors import DeadlineExceeded, UpstreamBadResponse
from bff.core.identity import ANONYMOUS, Caller
from bff.core.telemetry import Telemetry
from bff.core.trace import Trace
from bff.upstream import Measures, Origin, Service, ServiceSettings, connect
from tests.harness import customer, gateway, operator
from tests.upstream.raw import eventually

ALICE, BOB = Caller("alice", credential="jwt"), Caller("bob", credential="jwt")
NOW = asyncio.get_running_loop
ADDED = {b"host", b"traceparent", b"x-request-id", b"request-timeout"}


class Network(httpx.AsyncBaseTransport):
    """A service that tells who asked for what, once the door is open."""

    def __init__(self, headers=(), pieces=None):
        self.headers, self.pieces = dict(headers), pieces
        self.requests, self.cancelled, self.closed = [], 0, 0
        self.door = asyncio.Event()
        self.error = None

    async def handle_async_request(self, request):
        self.requests.append(request)
        number = len(self.requests)
        try:
            async with asyncio.timeout_at(request.extensions["deadline"]):
                await self.door.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except TimeoutError:
            raise httpx.ReadTimeout("late", request=request) from None
        if self.error:
            raise self.error
        said = [f"{n.decode()}: {v.decode()}" for n, v in request.headers.raw if n not in ADDED]
        seen = "\n".join([request.method, request.extensions["target"].decode(), *said]).encode()
        stream = self.stream() if self.pieces else httpx.ByteStream(seen)
        length = {} if self.pieces else {"content-length": str(len(seen))}
        return httpx.Response(
            200, headers={"x-number": str(number)} | length | self.headers, stream=stream, request=request
        )

    def stream(self):
        network = self

        class Stream(httpx.AsyncByteStream):
            async def __aiter__(self):
                for piece in network.pieces:
                    yield piece

            async def aclose(self):
                network.closed += 1

        return Stream()


def service(network: Network, **said) -> Service:
    config = ServiceSettings.model_validate({"url": "http://x.internal", "coalesce": True} | said)
    telemetry = Telemetry()
    return connect("x", config, Measures(telemetry), telemetry, Random(1), network=network)  # noqa: S311


async def ask(service, caller=ALICE, target=b"/a", headers=(), content=b"", method="GET", seconds=5.0, *, whole=True):
    number = Random().getrandbits(64)  # noqa: S311
    trace = Trace(f"{number:032x}", f"{number:016x}", sampled=False)
    origin = Origin(caller, trace, f"request-{number}", NOW().time() + seconds)
    response = await service.send(method, target, list(headers), content, origin, whole=whole)
    return response.headers["x-number"], b"".join([piece async for piece in response.stream])


def asked(*coroutines):
    return [asyncio.ensure_future(each) for each in coroutines]


async def opened(network: Network, tasks, calls: int):
    await eventually(lambda: len(network.requests) >= calls)
    await asyncio.sleep(0.01)
    network.door.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_identical_reads_share_a_call_and_nothing_is_kept():
    network = Network()
    one = service(network)
    answers = await opened(network, asked(*(ask(one) for _ in range(20))), 1)
    assert len(set(answers)) == len(network.requests) == 1
    await ask(one)
    assert len(network.requests) == 2


async def test_without_the_setting_each_makes_its_own_call():
    network = Network()
    await opened(network, asked(*(ask(service(network, coalesce=False)) for _ in range(3))), 3)
    assert len(network.requests) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"caller": BOB},
        {"caller": ANONYMOUS},
        {"caller": Caller("alice", issuer="https://other", credential="jwt")},
        {"caller": Caller("alice", scopes=frozenset({"admin"}), credential="jwt")},
        {"target": b"/a?b"},
        {"headers": [(b"accept", b"text/html")]},
        {"content": b"body", "headers": [(b"content-length", b"4")]},
        {"method": "HEAD"},
    ],
)
async def test_what_differs_is_not_shared(other):
    network = Network()
    one = service(network)
    answers = await opened(network, asked(ask(one), ask(one, **other)), 2)
    assert {number for number, _ in answers} == {"1", "2"}


async def test_callers_share_where_answers_do_not_depend_on_them():
    network = Network()
    one = service(network, identity="none")
    answers = await opened(network, asked(ask(one), ask(one, BOB), ask(one, ANONYMOUS)), 1)
    assert len(set(answers)) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [ALICE, BOB, ANONYMOUS, Caller(None, "alice", credential="api_key"), Caller("alice", "app")]
            ),
            st.sampled_from(["GET", "HEAD", "POST", "PATCH"]),
            st.sampled_from([b"/a", b"/a?b=1", b"/a?b=2", b"/b"]),
            st.lists(st.tuples(st.sampled_from([b"accept", b"x-a"]), st.sampled_from([b"1", b"2"])), max_size=3),
            st.sampled_from([b"", b"1", b"2"]),
            st.booleans(),
        ),
        max_size=15,
    ),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_nobody_gets_an_answer_that_was_fetched_for_another(requests, for_anybody):
    async def check() -> None:
        network = Network()
        one = service(network, identity="none" if for_anybody else "forward")

        async def told(caller, method, target, headers, content, whole) -> None:
            length = [(b"content-length", b"%d" % len(content))] if content else []
            number, seen = await ask(one, caller, target, headers + length, content, method, whole=whole)
            sent = ([] if for_anybody else caller.headers) + headers + length
            lines = [method, target.decode(), *(f"{n.decode()}: {v.decode()}" for n, v in sent)]
            assert seen.decode().split("\n") == lines
            call = network.requests[int(number) - 1]
            assert b"".join(call.stream) == content  # and not of one that only looks the same
            assert for_anybody or call.extensions["origin"].caller == caller

        tasks = asked(*(told(*each) for each in requests))
        await asyncio.sleep(0)
        network.door.set()
        await asyncio.gather(*tasks)

    asyncio.run(check())


async def test_the_call_goes_on_when_its_leader_leaves_and_ends_when_all_have_left():
    network = Network()
    one = service(network)
    leader, follower = asked(ask(one), ask(one))
    await eventually(lambda: network.requests)
    leader.cancel()
    assert (await opened(network, [follower], 1))[0][0] == "1"
    network.door.clear()
    tasks = asked(ask(one), ask(one))
    await eventually(lambda: len(network.requests) == 2)
    for task in tasks:
        task.cancel()
    await eventually(lambda: network.cancelled == 1)


async def test_each_waits_no_longer_than_its_own_deadline():
    network = Network()
    one = service(network)
    leader, follower = asked(ask(one), ask(one, seconds=0.1))
    with pytest.raises(DeadlineExceeded):
        await follower
    assert (await opened(network, [leader], 1))[0][0] == "1"


async def test_when_the_leaders_time_is_over_the_others_ask_once_more():
    network = Network()
    one = service(network)
    leader, *followers = asked(ask(one, seconds=0.15), *(ask(one) for _ in range(5)))
    with pytest.raises(DeadlineExceeded):
        await leader
    answers = await opened(network, followers, 2)
    assert {number for number, _ in answers} == {"2"}


async def test_a_failure_is_shared_and_not_remembered():
    network = Network()
    one = service(network)
    network.error = httpx.RemoteProtocolError("nonsense", request=httpx.Request("GET", "http://x"))
    failures = await opened(network, asked(*(ask(one) for _ in range(5))), 1)
    assert [type(each) for each in failures] == [UpstreamBadResponse] * 5
    network.error = None
    assert (await ask(one))[0] == "2"


@pytest.mark.parametrize(
    ("headers", "caller", "shared"),
    [
        ({"set-cookie": "a=b"}, ALICE, False),
        ({"cache-control": "private"}, ALICE, True),
        ({"cache-control": "max-age=3, Private"}, ANONYMOUS, False),
        ({"vary": "accept, X-Kind"}, ALICE, False),
        ({"vary": "*"}, ALICE, False),
        ({"vary": "accept"}, ALICE, True),
    ],
)
async def test_an_answer_that_says_that_it_is_for_one_is_not_shared(headers, caller, shared):
    network = Network(headers)
    one = service(network, coalesce={"ignore": ["x-kind"]})
    kinds = [[(b"x-kind", b"%d" % n)] for n in range(3)]
    answers = await opened(network, asked(*(ask(one, caller, headers=each) for each in kinds)), 1)
    assert len({number for number, _ in answers}) == (1 if shared else 3)


@pytest.mark.parametrize(("most", "whole", "calls"), [("1KB", True, 3), ("4KB", True, 1), ("4KB", False, 3)])
async def test_an_answer_is_shared_that_is_whole_within_its_bound(most, whole, calls):
    network = Network(pieces=[b"x" * 500] * 4)
    one = service(network, coalesce={"max_answer": most})
    answers = await opened(network, asked(*(ask(one, whole=whole) for _ in range(3))), 1)
    assert len(network.requests) == calls
    assert {len(body) for _, body in answers} == {2000}


async def test_an_answer_that_comes_as_its_only_client_leaves_is_closed():
    network = Network(pieces=[b"x"])
    network.door.set()
    task = asyncio.ensure_future(ask(service(network), whole=False))
    await eventually(lambda: network.requests)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: network.closed + network.cancelled >= 1 or task.done())


async def test_who_reads_after_a_write_never_joins_a_read_from_before_it():
    network = Network()
    one = service(network)
    before, write = asked(ask(one), ask(one, method="POST", content=b"x", headers=[(b"content-length", b"1")]))
    await eventually(lambda: len(network.requests) == 2)
    network.door.set()
    await write
    network.door.clear()
    before = asyncio.ensure_future(ask(one))
    await eventually(lambda: len(network.requests) == 3)
    write = asyncio.ensure_future(ask(one, method="POST", content=b"x", headers=[(b"content-length", b"1")]))
    await eventually(lambda: len(network.requests) == 4)
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    after = asyncio.ensure_future(ask(one))
    await eventually(lambda: len(network.requests) == 5)
    assert {number for number, _ in await opened(network, [before, after], 5)} == {"3", "5"}


async def test_500_mixed_requests_for_50_products_make_at_most_50_reads():
    ignored = ["via", "x-forwarded-for", "x-forwarded-proto", "user-agent", "accept", "accept-encoding", "connection"]
    shop = gateway(services={"products": {"coalesce": {"ignore": ignored}}})

    async def slow(request, call):
        await asyncio.sleep(0.3)

    shop.services.products.fail(slow)
    callers = [{}, customer("usr_1"), customer("usr_2"), operator()]
    graphql, rest = [], []
    for number in range(250):
        id, headers = f"prd_{number % 50 + 1}", callers[number % 4]
        graphql.append(shop.query(f'{{ product(id: "{id}") {{ id }} }}', headers=headers))
        rest.append(shop.client_at(f"192.0.2.{number % 7}").get(f"/api/products?ids={id}", headers=headers))
    found = await asyncio.gather(*graphql, *rest)
    assert len(shop.services.products.calls) <= 50
    for number, answer in enumerate(found[:250]):
        assert (answer.data, answer.errors) == ({"product": {"id": f"prd_{number % 50 + 1}"}}, [])
    for number, answer in enumerate(found[250:]):
        assert [each["id"] for each in answer.json()["items"]] == [f"prd_{number % 50 + 1}"]
    counted = await shop.metrics("http_client_coalesced_reads_total")
    by_role = {
        dict(labels)["role"]: value for labels, value in counted.items() if dict(labels)["service"] == "products"
    }
    assert by_role == {"leader": 50, "follower": 450, "alone": 0}


@pytest.mark.parametrize("name", ["authorization", "Cookie", "if-none-match", "x-auth-subject", "a b", ""])
def test_a_header_that_says_who_asks_cannot_be_ignored(name):
    with pytest.raises(ConfigError):
        load("services: {x: {url: 'http://x'}}", overrides={"services": {"x": {"coalesce": {"ignore": [name]}}}})
