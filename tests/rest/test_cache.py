"""The HTTP cache, case by case: each test says which section of RFC 9111, or of which other one, it is about."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

import httpx
import pytest
from typer.testing import CliRunner

from bff.cli import main
from bff.console.purges import purged_by_all
from tests.harness import bearer, customer, gateway, operator
from tests.shop import Call

START = 1_800_000_000.0
TOKEN = "operators only"
OPERATOR = bearer(TOKEN)
ROUTES = [
    {
        "name": "products",
        "path": "/api/products/{rest*}",
        "service": "products",
        "rewrite": "/products/{rest}",
        "public": True,
        "cache": True,
    },
    {"name": "users", "path": "/api/users/{rest*}", "service": "users", "rewrite": "/users/{rest}", "cache": True},
]
PRODUCT, USER = "/api/products/prd_1", "/api/users/usr_1"


def date(seconds):
    return formatdate(seconds, usegmt=True)


class World:
    """A gateway whose routes cache, services that say what they are told to, and a clock that stands still."""

    def __init__(self, routes=ROUTES, **overrides):
        self.gateway = gateway(routes=routes, admin={"token": TOKEN}, **overrides)
        self.client = self.gateway.client
        self.cache = self.gateway.app.state.cache
        self.now = START
        self.gateway.app.state.shelf.clock = lambda: self.now
        self.calls: list[Call] = []
        self.gate: asyncio.Event | None = None
        self.says(cache_control="max-age=60")
        for service in (self.gateway.services.products, self.gateway.services.users):
            service.fail(self.behave)

    def says(self, status=200, body=b"one", **headers):
        """What services answer from now on; a header that is None is left out."""
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    async def behave(self, request, call):
        self.calls.append(call)
        if self.gate is not None:
            await self.gate.wait()
        given = {"date": date(self.now), "content-length": str(len(self.body))} | self.headers
        headers = {name: value for name, value in given.items() if value is not None}
        return httpx.Response(self.status, headers=headers, content=self.body)

    async def get(self, path=PRODUCT, method="GET", **headers):
        return await self.client.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    async def is_kept(self, path=PRODUCT, method="GET", **headers):
        """Whether this request is answered without a call."""
        before = len(self.calls)
        await self.get(path, method, **headers)
        return len(self.calls) == before

    async def purge(self, **what):
        answer = await self.gateway.admin.post("/-/cache/purge", json=what, headers=OPERATOR)
        return answer.status_code, answer.json()

    async def outcomes(self):
        counted = await self.gateway.metrics("bff_cache_requests_total")
        found = {}
        for labels, value in counted.items():
            outcome = dict(labels)["outcome"]
            found[outcome] = found.get(outcome, 0) + int(value)
        return {outcome: count for outcome, count in found.items() if count}


@pytest.fixture
def world():
    return World()


# What may be kept, and for how long

LIFETIMES = [
    ("4.2.1 max-age", {"cache_control": "max-age=60"}, 60),
    ("4.2.1 s-maxage goes before max-age", {"cache_control": "max-age=5, s-maxage=60"}, 60),
    ("4.2.1 max-age goes before Expires", {"cache_control": "max-age=60", "expires": date(START + 5)}, 60),
    ("4.2.1 Expires, from Date on", {"expires": date(START + 60)}, 60),
    ("5.3 Expires that is no date is the past", {"expires": "0"}, 0),
    ("4.2.1 of two the shorter", {"cache_control": "max-age=600, max-age=60"}, 60),
    ("4.2.1 one that makes no sense is none", {"cache_control": "max-age=a60"}, 0),
    ("5.2 names in any case, values quoted", {"cache_control": 'Public, MAX-AGE="60"'}, 60),
    ("1.2.2 a very large number", {"cache_control": "max-age=99999999999"}, 2**31),
    ("4.2.3 Age counts", {"cache_control": "max-age=100", "age": "40"}, 60),
    ("5.1 of several Ages the first", {"cache_control": "max-age=100", "age": "40, 99"}, 60),
    ("5.1 an Age that makes no sense is none", {"cache_control": "max-age=60", "age": "-40"}, 60),
    ("4.2.3 Date counts", {"cache_control": "max-age=100", "date": date(START - 40)}, 60),
    ("4.2.3 without a Date it is from now", {"cache_control": "max-age=60", "date": None}, 60),
    ("4.2.2 nothing is guessed", {"last_modified": date(START - 10**6)}, 0),
    ("5.2.2.5 no-store", {"cache_control": "max-age=60, no-store"}, 0),
    ("5.2.2.7 private", {"cache_control": "max-age=60, private"}, 0),
    ("5.2.2.4 no-cache", {"cache_control": "max-age=60, no-cache", "etag": '"1"'}, 0),
    ("7.3 Set-Cookie is one client's", {"cache_control": "max-age=60", "set_cookie": "a=b"}, 0),
    ("4.1 Vary: *", {"cache_control": "max-age=60", "vary": "*"}, 0),
    ("3 a failure is not worth it", {"cache_control": "max-age=60", "status": 500}, 0),
    ("3.3 nor is a part", {"cache_control": "max-age=60", "status": 206}, 0),
    ("3 404 with a lifetime", {"cache_control": "max-age=60", "status": 404}, 60),
    ("3 301 with a lifetime", {"cache_control": "max-age=60", "status": 301, "location": "/other"}, 60),
    ("nothing said", {}, 0),
]


@pytest.mark.parametrize(("said", "lasts"), [each[1:] for each in LIFETIMES], ids=[each[0] for each in LIFETIMES])
async def test_an_answer_is_given_out_for_as_long_as_it_says(world, said, lasts):
    world.says(**said)
    await world.get()
    if lasts:
        world.now += lasts - 1
        assert await world.is_kept()
        world.now += 2
    assert not await world.is_kept()


async def test_age_is_that_of_the_answer_and_no_header_of_the_connection_is_kept(world):
    """§5.1, §3.1."""
    world.says(cache_control="max-age=60", age="7", connection="x-hop", x_hop="1", x_kept="2")
    await world.get()
    world.now += 10
    headers = (await world.get()).headers
    assert (headers["age"], headers["cache-status"], headers["x-kept"]) == ("17", "bff; hit; ttl=43", "2")
    assert "x-hop" not in headers


async def test_fields_that_are_private_or_to_be_asked_about_are_left_out(world):
    """§5.2.2.4, §5.2.2.7, qualified."""
    world.says(cache_control='max-age=60, private="x-me", no-cache="x-now"', x_me="1", x_now="2")
    await world.get()
    headers = (await world.get()).headers
    assert len(world.calls) == 1
    assert not {"x-me", "x-now"} & set(headers)


# What a client may ask for (§5.2.1)

WISHES = [
    ("no-cache", 10, False),
    ("max-age=5", 10, False),
    ("max-age=20", 10, True),
    ("min-fresh=55", 10, False),
    ("min-fresh=40", 10, True),
    ("max-stale", 100, True),
    ("max-stale=50", 100, True),
    ("max-stale=30", 100, False),
    ("nonsense", 10, True),
]


@pytest.mark.parametrize(("wish", "later", "kept"), WISHES)
async def test_a_client_may_want_it_fresher_or_take_it_staler(world, wish, later, kept):
    await world.get()
    world.now += later
    assert await world.is_kept(cache_control=wish) is kept


@pytest.mark.parametrize("word", ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"])
async def test_a_client_does_not_get_what_must_not_be_stale(world, word):
    """§5.2.2.2, §5.2.2.8, §5.2.2.10, §4.2.4."""
    world.says(cache_control=f"max-age=60, {word}", etag='"1"')
    await world.get()
    world.now += 100
    assert not await world.is_kept(cache_control="max-stale")


async def test_what_is_not_kept_is_not_asked_for_where_the_client_says_so(world):
    """§5.2.1.7."""
    answer = await world.get(cache_control="only-if-cached")
    assert (answer.status_code, answer.json()["code"], world.calls) == (504, "DEADLINE_EXCEEDED", [])
    await world.get()
    assert (await world.get(cache_control="only-if-cached")).status_code == 200


async def test_a_request_that_says_no_store_leaves_nothing(world):
    """§5.2.1.5."""
    await world.get(cache_control="no-store")
    assert not await world.is_kept()


# Revalidation (§4.3)


async def test_a_stale_answer_is_brought_up_to_date_by_a_304(world):
    world.says(cache_control="max-age=60", etag='"1"', last_modified=date(START), x_count="1", content_type="text/a")
    await world.get()
    world.now += 100
    world.says(304, b"", cache_control="max-age=90", etag='"1"', x_count="2", content_type="text/b")
    answer = await world.get()
    call = world.calls[-1]
    assert (call.header("if-none-match"), call.header("if-modified-since")) == ('"1"', date(START))
    assert (answer.status_code, answer.text, answer.headers["x-count"]) == (200, "one", "2")
    assert answer.headers["content-type"] == "text/b"
    assert answer.headers["content-length"] == "3"
    assert answer.headers["cache-status"] == "bff; fwd=stale; fwd-status=304"
    world.now += 80
    assert await world.is_kept()
    assert await world.outcomes() == {"miss": 1, "revalidated": 1, "hit": 1}


async def test_an_answer_that_has_changed_takes_the_place_of_the_stale_one(world):
    world.says(cache_control="max-age=60", etag='"1"')
    await world.get()
    world.now += 100
    world.says(body=b"two", cache_control="max-age=60", etag='"2"')
    assert (await world.get()).text == "two"
    assert await world.is_kept()


async def test_a_304_about_another_answer_is_not_believed(world):
    """§4.3.4."""
    world.says(cache_control="max-age=60", etag='"1"')
    await world.get()
    world.now += 100
    answers = [(304, b"", {"etag": '"2"'}), (200, b"two", {"etag": '"2"'})]

    async def behave(request, call):
        status, body, headers = answers.pop(0)
        return httpx.Response(status, headers=headers | {"cache-control": "max-age=60"}, content=body)

    world.gateway.services.products.fail(behave)
    assert (await world.get()).text == "two"


CONDITIONS = [
    ({"if_none_match": '"1"'}, 304),
    ({"if_none_match": 'W/"1"'}, 304),
    ({"if_none_match": '"0", "1"'}, 304),
    ({"if_none_match": "*"}, 304),
    ({"if_none_match": '"0"'}, 200),
    ({"if_modified_since": date(START)}, 304),
    ({"if_modified_since": date(START - 1)}, 200),
    ({"if_modified_since": "yesterday"}, 200),
    ({"if_none_match": '"0"', "if_modified_since": date(START)}, 200),
]


@pytest.mark.parametrize(("asked", "status"), CONDITIONS)
async def test_a_client_that_has_it_already_is_told_so(world, asked, status):
    """RFC 9110 §13.1.2, §13.1.3, §13.2.2; from what is kept, and from what just came."""
    world.says(cache_control="max-age=60", etag='"1"', last_modified=date(START), vary="accept")
    for _ in range(2):
        answer = await world.get(**asked)
        assert answer.status_code == status
        assert (answer.headers["etag"], answer.headers["vary"]) == ('"1"', "accept")
        assert answer.content == (b"" if status == 304 else b"one")
        assert status == 200 or not {"content-length", "content-type"} & set(answer.headers)
    assert len(world.calls) == 1


async def test_conditions_that_only_the_service_can_judge_go_to_it(world):
    """RFC 9110 §13.1.1, §13.1.4."""
    await world.get()
    assert not await world.is_kept(if_match='"1"')
    assert world.calls[-1].header("if-match") == '"1"'


# Parts and heads

PARTS = [
    ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
    ("bytes=7-", 206, b"789", "bytes 7-9/10"),
    ("bytes=-2", 206, b"89", "bytes 8-9/10"),
    ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
    ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
    ("bytes=10-", 416, b"", "bytes */10"),
    ("bytes=-0", 416, b"", "bytes */10"),
    ("bytes=3-1", 200, b"0123456789", None),
    ("bytes=0-1,3-4", 200, b"0123456789", None),
    ("lines=0-1", 200, b"0123456789", None),
]


@pytest.mark.parametrize(("asked", "status", "body", "where"), PARTS)
async def test_a_part_is_cut_from_the_whole(world, asked, status, body, where):
    """RFC 9110 §14.2."""
    world.says(body=b"0123456789", cache_control="max-age=60")
    await world.get()
    answer = await world.get(range=asked)
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, where)
    assert (answer.headers["content-length"], len(world.calls)) == (str(len(body)), 1)


@pytest.mark.parametrize(
    ("condition", "status"), [('"1"', 206), ('"0"', 200), ('W/"1"', 200), (date(START), 206), (date(START + 1), 200)]
)
async def test_a_part_is_of_the_whole_that_the_client_means(world, condition, status):
    """RFC 9110 §13.1.5."""
    world.says(body=b"0123456789", cache_control="max-age=60", etag='"1"', last_modified=date(START))
    await world.get()
    assert (await world.get(range="bytes=0-1", if_range=condition)).status_code == status


async def test_a_part_of_what_is_not_kept_is_the_services_matter(world):
    world.says(206, b"01", cache_control="max-age=60", content_range="bytes 0-1/10")
    answer = await world.get(range="bytes=0-1")
    assert (answer.status_code, world.calls[0].header("range")) == (206, "bytes=0-1")
    world.says(cache_control="max-age=60")
    assert not await world.is_kept()


async def test_a_head_is_that_of_the_whole(world):
    """§4: a stored answer to GET may answer HEAD."""
    await world.get()
    answer = await world.get(method="HEAD")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "3")
    assert len(world.calls) == 1
    world.now += 100
    await world.get(method="HEAD")
    assert [each.method for each in world.calls] == ["GET", "HEAD"]


# Whose it is


async def test_vary_keeps_one_answer_for_each_value(world):
    """§4.1."""
    world.says(body=b"en", cache_control="max-age=60", vary="Accept-Language, accept")
    await world.get(accept_language="en")
    assert (await world.get(accept_language="de")).headers["cache-status"].startswith("bff; fwd=vary-miss")
    assert await world.is_kept(accept_language="en")
    assert await world.is_kept(accept_language="de")
    assert not await world.is_kept(accept_language="de", accept="text/html, text/plain")
    assert await world.is_kept(accept_language="de", accept="text/html,text/plain")
    assert not await world.is_kept()


async def test_an_answer_for_one_caller_is_not_anothers(world):
    """§3.5, and the caller is in the key wherever the answer may depend on it."""
    one, other = customer("usr_1"), customer("usr_2")
    assert not await world.is_kept(USER, **one)
    assert not await world.is_kept(USER, **one), "the service knows who asks: a lifetime is not enough"
    world.says(cache_control="public, max-age=60")
    assert not await world.is_kept(USER, **one)
    world.gateway.app.state.shelf.purge(None)
    assert not await world.is_kept(USER, **one)
    assert await world.is_kept(USER, **one)
    assert not await world.is_kept(USER, **other)
    assert not await world.is_kept(USER, **operator()), "the same subject with other scopes"


@pytest.mark.parametrize("word", ["public", "s-maxage=60", "must-revalidate"])
async def test_the_words_that_let_an_answer_for_a_known_caller_be_kept(world, word):
    """§3.5."""
    world.says(cache_control=f"max-age=60, {word}")
    await world.get(USER, **customer())
    assert await world.is_kept(USER, **customer())


async def test_where_no_answer_depends_on_the_caller_all_share_it(world):
    await world.get(**customer("usr_1"))
    assert await world.is_kept(**customer("usr_2"))
    assert await world.is_kept()


async def test_where_a_route_may_tell_the_service_who_asks_nobody_shares():
    named = {"request": {"headers": {"set": {"x-who": "{caller.subject}"}}}}
    world = World([{**ROUTES[0], **named}])
    world.says(cache_control="public, max-age=60")
    await world.get(**customer("usr_1"))
    assert world.calls[0].header("x-who") == "usr_1"
    assert await world.is_kept(**customer("usr_1"))
    assert not await world.is_kept(**customer("usr_2"))


async def test_a_cookie_is_a_caller_too(world):
    await world.get(cookie="session=1")
    assert await world.is_kept(cookie="session=1")
    assert not await world.is_kept(cookie="session=2")
    assert not await world.is_kept()


async def test_a_credential_is_checked_before_anything_kept_is_given_out(world):
    world.says(cache_control="public, max-age=60")
    await world.get(USER, **customer())
    assert (await world.get(USER)).status_code == 401
    assert (await world.get(USER, authorization="Bearer forged")).status_code == 401


# Stale on purpose (RFC 5861)


async def test_a_stale_answer_is_given_out_while_it_is_asked_for_anew(world):
    world.says(cache_control="max-age=60, stale-while-revalidate=30")
    await world.get()
    world.now += 70
    world.says(body=b"two", cache_control="max-age=60, stale-while-revalidate=30")
    answer = await world.get()
    assert (answer.text, answer.headers["cache-status"]) == ("one", "bff; hit; ttl=-10; detail=stale-while-revalidate")
    await asyncio.sleep(0.01)
    assert len(world.calls) == 2
    assert (await world.get()).text == "two"
    world.now += 91
    world.says(body=b"three", cache_control="max-age=60")
    assert (await world.get()).text == "three"


async def test_a_refresh_under_way_is_not_begun_again_and_its_failure_costs_nothing(world):
    world.says(cache_control="max-age=60, stale-while-revalidate=30")
    await world.get()
    world.now += 70
    world.gate = asyncio.Event()
    for _ in range(5):
        assert await world.get()
    await asyncio.sleep(0)
    world.says(503)
    world.gate.set()
    await asyncio.sleep(0.01)
    assert len(world.calls) == 2
    assert (await world.get()).text == "one"


@pytest.mark.parametrize("failure", [500, 502, 503, 504, None])
async def test_a_stale_answer_is_better_than_an_error_where_the_service_says_so(world, failure):
    world.says(cache_control="max-age=60, stale-if-error=30")
    await world.get()
    world.now += 70

    async def fails(request, call):
        if failure:
            return httpx.Response(failure, content=b"")
        raise httpx.ConnectError("no", request=request)

    world.gateway.services.products.fail(fails)
    answer = await world.get()
    assert (answer.text, answer.headers["cache-status"]) == ("one", "bff; hit; ttl=-10; detail=stale-if-error")
    world.now += 30
    assert (await world.get()).status_code >= 500


@pytest.mark.parametrize("word", ["must-revalidate", "s-maxage=60", "no-cache"])
async def test_nor_is_what_must_not_be_stale_given_out_on_errors(world, word):
    """§4.2.4."""
    world.says(cache_control=f"max-age=60, stale-if-error=99, stale-while-revalidate=99, {word}", etag='"1"')
    await world.get()
    world.now += 70
    world.says(503)
    assert (await world.get(cache_control="stale-if-error=99")).status_code == 502


# Many at a time


async def test_all_who_miss_the_same_share_one_call(world):
    world.gate = asyncio.Event()
    asking = [asyncio.create_task(world.get()) for _ in range(20)]
    await asyncio.sleep(0.02)
    world.gate.set()
    answers = await asyncio.gather(*asking)
    assert ({each.text for each in answers}, len(world.calls)) == ({"one"}, 1)
    assert sum("collapsed" in each.headers["cache-status"] for each in answers) == 19


async def test_what_cannot_be_kept_is_nobody_elses_and_nobody_waits_for_it_again(world):
    world.says(cache_control="private")
    world.gate = asyncio.Event()
    asking = [asyncio.create_task(world.get()) for _ in range(5)]
    await asyncio.sleep(0.02)
    world.gate.set()
    await asyncio.gather(*asking)
    assert len(world.calls) == 5
    world.gate = asyncio.Event()
    asking = [asyncio.create_task(world.get()) for _ in range(5)]
    await asyncio.sleep(0.02)
    assert len(world.calls) == 10, "side by side"
    world.gate.set()
    await asyncio.gather(*asking)


async def test_who_asked_first_may_leave_and_the_others_have_their_answer(world):
    world.gate = asyncio.Event()
    first, second = (asyncio.create_task(world.get()) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    await asyncio.sleep(0)
    world.gate.set()
    assert (await second).text == "one"
    assert len(world.calls) == 1


async def test_a_call_that_nobody_waits_for_ends(world):
    world.gate = asyncio.Event()
    only = asyncio.create_task(world.get())
    await asyncio.sleep(0.02)
    only.cancel()
    await asyncio.sleep(0.01)
    assert len(world.cache.fetches) == 0
    world.gate.set()
    assert (await world.get()).text == "one"


# Changes (§4.4) and purges


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_a_change_drops_what_was_kept_of_it_with_any_query_and_of_what_is_above(world, method):
    paths = [PRODUCT, f"{PRODUCT}?fields=name", "/api/products?limit=5", f"{PRODUCT}/parts", "/api/products/prd_2"]
    for path in paths:
        await world.get(path)
    await world.get(method=method)
    assert [await world.is_kept(path) for path in paths] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("named", "kept"),
    [("/products/prd_2", False), ("http://products.internal/products/prd_2", False), ("http://evil.example/x", True)],
)
@pytest.mark.parametrize("header", ["location", "content_location"])
async def test_a_change_drops_what_its_answer_names_at_the_same_service(world, header, named, kept):
    other = "/api/products/prd_2"
    await world.get(other)
    world.says(201, cache_control="max-age=60", **{header: named})
    await world.get(method="POST")
    assert await world.is_kept(other) is kept


@pytest.mark.parametrize(("status", "kept"), [(400, True), (409, True), (500, False), (204, False)])
async def test_what_was_refused_has_changed_nothing_and_what_failed_may_have(world, status, kept):
    await world.get()
    world.says(status, b"")
    await world.get(method="PUT")
    assert await world.is_kept() is kept


async def test_a_mutation_drops_what_rest_has_kept(world):
    world.says(cache_control="public, max-age=60")
    await world.get(USER, **customer())
    world.says(body=b'{"id":"usr_1","name":"New","email":"a@b.c","created_at":"2024-01-01T08:00:00Z"}')
    changed = await world.gateway.query(
        'mutation { updateUser(input: {id: "usr_1", name: "New"}) { __typename } }', headers=customer()
    )
    assert [each.method for each in world.calls] == ["GET", "PATCH"], changed.errors
    assert not await world.is_kept(USER, **customer())


@pytest.mark.parametrize(
    "what",
    [
        {"paths": [PRODUCT]},
        {"paths": [f"{PRODUCT}?any=query"]},
        {"paths": ["/api/products/*"]},
        {"paths": ["/*"]},
        {"tags": ["red"]},
        {"tags": ["blue"]},
        {"entities": ["products:prd_1"]},
        {"everything": True},
    ],
)
async def test_a_purge_drops_what_it_names(world, what):
    world.says(cache_control="max-age=60", surrogate_key="red green", cache_tag="blue,dark blue")
    await world.get()
    assert await world.purge(**what) == (200, {"purged": 1})
    assert not await world.is_kept()


@pytest.mark.parametrize(
    "what",
    [
        {"paths": ["/api/products"]},
        {"paths": ["/api/products/prd_1/*x"]},
        {"tags": ["re"]},
        {"entities": ["users:prd_1", "products:prd_2"]},
    ],
)
async def test_and_nothing_else(world, what):
    await world.get()
    assert await world.purge(**what) == (200, {"purged": 0})
    assert await world.is_kept()


async def test_a_purge_that_says_nothing_or_nonsense_is_told_what_to_say(world):
    assert await world.purge() == (
        400,
        {"detail": "Say what to purge: `paths`, `tags`, `entities`, or `everything: true`"},
    )
    assert (await world.purge(paths=["api"]))[0] == 422
    assert (await world.purge(path="/x"))[0] == 422
    assert (await world.purge(entities=["products"]))[0] == 422


def test_workers_purge_together():
    assert purged_by_all([{"purged": 1}, {"purged": 2}]) == {"purged": 3}


async def test_only_operators_purge(world):
    await world.get()
    for headers, status in (({}, 401), (bearer("guessed"), 401)):
        answer = await world.gateway.admin.post("/-/cache/purge", json={"everything": True}, headers=headers)
        assert answer.status_code == status
    assert await world.is_kept()
    assert (await gateway(routes=ROUTES).admin.post("/-/cache/purge", json={"everything": True})).status_code == 403


@pytest.mark.parametrize("coalesce", [False, True])
async def test_what_was_read_before_a_purge_is_given_to_nobody_who_asks_after_it(coalesce):
    world = World(services={"products": {"coalesce": coalesce}})
    world.gate = asyncio.Event()
    before = asyncio.create_task(world.get())
    await asyncio.sleep(0.02)
    await world.purge(tags=["any"])
    after = asyncio.create_task(world.get())
    await asyncio.sleep(0.02)
    assert len(world.calls) == 2
    world.gate.set()
    await asyncio.gather(before, after)
    assert (await world.get()).headers["cache-status"] == "bff; hit; ttl=60"


async def test_what_was_read_before_a_change_had_ended_is_not_kept(world):
    reading, world.gate = world.gate, asyncio.Event()
    gate = world.gate
    read = asyncio.create_task(world.get())
    await asyncio.sleep(0.02)
    world.gate = None
    await world.get(method="PUT")
    gate.set()
    await read
    assert reading is None
    assert not await world.is_kept()


async def test_the_command_purges_what_its_options_name(world, tmp_path, monkeypatch):
    await world.get()
    loop = asyncio.get_running_loop()
    config = tmp_path / "bff.yaml"
    config.write_text("admin: {port: 9999}\nservices: {any: {url: 'http://any.internal'}}\n")
    asked = []

    def post(url, *, headers, json):
        asked.append((str(url), json))
        purging = asyncio.run_coroutine_threadsafe(world.purge(**json), loop)
        status, body = purging.result()
        return httpx.Response(status, json=body, request=httpx.Request("POST", url))

    monkeypatch.setattr(httpx, "post", post)
    options = ["--path", "/api/products/*", "--tag", "sale", "--entity", "users:usr_1", "--config", str(config)]
    ran = await asyncio.to_thread(CliRunner().invoke, main, ["cache", "purge", *options])
    assert (ran.exit_code, ran.stdout) == (0, "1 answers dropped\n")
    assert asked[0][0] == "http://127.0.0.1:9999/-/cache/purge"
    assert not await world.is_kept()
    nothing = await asyncio.to_thread(CliRunner().invoke, main, ["cache", "purge", "--config", str(config)])
    assert (nothing.exit_code, nothing.stderr) == (1, "Say what to purge: --path, --tag, --entity or --all\n")


# Bounds


async def test_no_more_is_kept_than_there_is_room_for():
    world = World(cache={"max_size": 20_000, "max_answer": 2_000})
    world.says(body=b"x" * 1000, cache_control="max-age=60")
    for number in range(40):
        await world.get(f"/api/products/prd_{number}")
    assert await world.is_kept("/api/products/prd_39")
    assert not await world.is_kept("/api/products/prd_0")
    (size,) = (await world.gateway.metrics("bff_cache_bytes")).values()
    (gone,) = (await world.gateway.metrics("bff_cache_evictions_total")).values()
    assert 10_000 < size <= 20_000
    assert gone > 20


async def test_an_answer_that_is_too_large_is_passed_on_whole(world):
    world = World(cache={"max_answer": 100})
    world.says(body=b"0123456789" * 20, cache_control="max-age=60")
    answer = await world.get()
    assert (answer.content, answer.headers["cache-status"]) == (world.body, "bff; fwd=uri-miss; detail=size")
    assert not await world.is_kept()


async def test_variants_are_bounded(world):
    world.says(cache_control="max-age=60", vary="x-any")
    for number in range(100):
        await world.get(x_any=str(number))
    assert sum([await world.is_kept(x_any=str(number), cache_control="only-if-cached") for number in range(100)]) >= 32
    (kept,) = (await world.gateway.metrics("bff_cache_answers")).values()
    assert kept == 1


# Beside it


async def test_a_route_that_does_not_say_so_keeps_nothing():
    plain = gateway(admin={"token": TOKEN})
    assert plain.app.state.cache is None
    answer = await plain.client.get(PRODUCT)
    assert "cache-status" not in answer.headers
    assert (await plain.admin.post("/-/cache/purge", json={"everything": True}, headers=OPERATOR)).status_code == 404


async def test_the_access_line_says_what_the_cache_did(world):
    await world.get()
    await world.get()
    assert [line["cache"] for line in world.gateway.access] == ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl=60"]


async def test_a_services_own_cache_status_stays_before_ours(world):
    """RFC 9211 §2."""
    world.says(cache_control="max-age=60", cache_status="inner; hit")
    await world.get()
    assert (await world.get()).headers["cache-status"] == "inner; hit, bff; hit; ttl=60"
