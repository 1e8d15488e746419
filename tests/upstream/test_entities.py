"""The entity cache: one for both fronts, by who asks; and what of it goes when something changes."""

from __future__ import annotations

import asyncio

import httpx
import orjson
import pytest

from tests.harness import Answer, bearer, customer, gateway, operator, token
from tests.shop import Call, Refusal, answer

START = 1_800_000_000.0
TOKEN = "operators only"
KEPT = {name: {"cache": {"entities": True}} for name in ("users", "products", "orders")}
PRODUCT = "/api/products/prd_1"
BATCH = "/api/products?ids="


class World:
    """A gateway that keeps what services say is good for a minute, and a clock that stands still."""

    def __init__(self, services=KEPT, **overrides):
        self.gateway = gateway(services=services, admin={"token": TOKEN}, **overrides)
        self.client, self.services = self.gateway.client, self.gateway.services
        self.shelf = self.gateway.app.state.shelf
        self.now = START
        if self.shelf is not None:
            self.shelf.clock = lambda: self.now
        self.gate: asyncio.Event | None = None
        self.changed: dict[str, str] = {}
        self.says()
        for service in self.services.four:
            service.fail(self.behave)

    def says(self, status=None, body=None, kind="application/json", **headers):
        """What services answer from now on, beside what they have to say; a header that is None is left out."""
        self.status, self.body, self.kind = status, body, kind
        given = {"cache_control": "max-age=60"} | headers
        self.headers = {name.replace("_", "-"): value for name, value in given.items() if value is not None}

    async def behave(self, request: httpx.Request, call: Call):
        service = getattr(self.services, call.service)
        if self.status:
            status, value = self.status, {"title": "no"}
        elif self.body is not None:
            status, value = 200, self.body
        else:
            try:
                status, value = service.answers(call)
            except Refusal:
                return None
            for id, name in self.changed.items():
                for record in value.get("items", [value]):
                    record.update({"name": name} if record["id"] == id else {})
        if self.gate is not None:
            await self.gate.wait()
        return answer(status, value, self.kind, **self.headers)

    async def get(self, path=PRODUCT, method="GET", headers=None, **more):
        return await self.client.request(method, path, headers=headers, **more)

    async def asked(self, path=PRODUCT, headers=None):
        """The ids or paths that the service is asked for by this request."""
        self.gateway.forget()
        response = await self.get(path, headers=headers)
        assert response.status_code == 200
        return [each for call in self.services.calls for each in call.ids or [call.path]]

    async def names(self, *ids, headers=None) -> Answer:
        """Of products or users, by GraphQL."""
        field = "product" if ids[0].startswith("prd") else "user"
        document = " ".join(f'{id}: {field}(id: "{id}") {{ name }}' for id in ids)
        return await self.gateway.query(f"{{ {document} }}", headers=headers)

    async def names_ask(self, *ids, headers=None):
        """The ids that the service is asked for by these."""
        self.gateway.forget()
        assert (await self.names(*ids, headers=headers)).errors == []
        return [each for call in self.services.calls for each in call.ids]

    async def purge(self, **what):
        response = await self.gateway.admin.post("/-/cache/purge", json=what, headers=bearer(TOKEN))
        return response.status_code, response.json()

    async def count(self, name, **labels):
        found = await self.gateway.metrics(name)
        return sum(value for each, value in found.items() if labels.items() <= dict(each).items())


@pytest.fixture
def world():
    return World()


# One cache for both fronts


async def test_what_graphql_has_read_rest_does_not_ask_for(world):
    assert await world.names_ask("prd_1", "prd_2") == ["prd_1", "prd_2"]
    world.now += 20
    response = await world.get()
    assert world.services.targets == ["GET /products?ids"]
    assert response.json() == orjson.loads((await gateway().client.get(PRODUCT)).content)
    assert response.headers["content-type"] == "application/json"
    assert (response.headers["cache-control"], response.headers["age"]) == ("max-age=60", "20")
    assert response.headers["cache-status"] == "bff-entities; hit; ttl=40"
    assert world.gateway.access[-1]["cache"] == "hit; ttl=40"


async def test_what_rest_has_read_graphql_does_not_ask_for(world):
    assert await world.asked() == ["/products/prd_1"]
    assert await world.names_ask("prd_2", "prd_1") == ["prd_2", "prd_1"]  # how lists look is not known yet
    assert await world.asked("/api/products/prd_3") == ["/products/prd_3"]
    assert await world.names_ask("prd_3", "prd_4", "prd_1") == ["prd_4"]
    assert await world.names_ask("prd_1", "prd_2", "prd_3", "prd_4") == []


async def test_a_batch_asks_for_what_is_missing_only_and_gives_all_in_their_order(world):
    first = (await world.get(f"{BATCH}prd_5,prd_7")).json()
    response = await world.get(f"{BATCH}prd_7,prd_6,prd_5,prd_8,prd_7")
    assert [call.ids for call in world.services.calls] == [["prd_5", "prd_7"], ["prd_6", "prd_8"]]
    assert [each["id"] for each in response.json()["items"]] == ["prd_7", "prd_6", "prd_5", "prd_8"]
    assert response.headers["cache-status"] == "bff-entities; fwd=partial; detail=2"
    assert int(response.headers["content-length"]) == len(response.content)
    assert (await world.get(f"{BATCH}prd_5,prd_7")).json() == first
    assert await world.asked(f"{BATCH}prd_8,prd_5,prd_6") == []


async def test_a_query_over_services_makes_the_calls_that_are_needed(world):
    document = "{ me { name orders(first: 3) { nodes { items { product { name } } } } } }"
    first = await world.gateway.query(document, headers=customer("usr_2"))
    assert first.errors == []
    world.gateway.forget()
    again = await world.gateway.query(document, headers=customer("usr_2"))
    assert again.data == first.data
    assert world.services.targets == ["GET /orders?user_ids"]


@pytest.mark.parametrize("around", ["list", "object", "nulls"])
async def test_lists_come_as_services_have_them(world, around):
    records = [{"id": "prd_1", "n": 1}, {"id": "prd_2", "n": 2}]
    value = {"list": records, "object": {"items": records}, "nulls": {"items": records, "next_cursor": None, "a": None}}
    world.says(body=orjson.dumps(value[around]))
    await world.get(f"{BATCH}prd_1,prd_2")
    assert (await world.get(f"{BATCH}prd_2")).json() == (
        records[1:] if around == "list" else value[around] | {"items": records[1:]}
    )
    assert len(world.services.calls) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"items": [{"id": "prd_1"}], "total": 1}',
        b'{"items": [{"id": "prd_1"}, {"id": "prd_1"}]}',
        b'{"items": [{"id": "prd_1"}, {"id": "prd_9"}]}',
        b'{"items": [{"id": "prd_1"}, null]}',
        b'{"items": [{"id": null}]}',
        b'{"items": {"id": "prd_1"}}',
        b'{"data": []}',
        b'["prd_1"]',
        b'{"items": [{"id": "prd_1"}',
        b"",
    ],
)
async def test_what_is_no_list_of_the_records_that_were_asked_for_passes_as_it_is(world, body):
    world.says(body=body)
    for _ in range(2):
        assert (await world.get(f"{BATCH}prd_1,prd_2")).content == body
    assert len(world.services.calls) == 2


async def test_a_service_that_comes_to_answer_otherwise_is_asked_for_all(world):
    await world.get(f"{BATCH}prd_1,prd_2")
    world.gateway.forget()
    world.says(body=b'[{"id": "prd_3"}]')
    assert (await world.get(f"{BATCH}prd_1,prd_3")).content == b'[{"id": "prd_3"}]'
    assert [call.ids for call in world.services.calls] == [["prd_3"], ["prd_1", "prd_3"]]


# What there is not, and what fails


async def test_that_there_is_no_record_is_asked_anew_each_time(world):
    assert (await world.names("prd_1", "prd_99")).data == {"prd_1": {"name": "Product 1"}, "prd_99": None}
    assert await world.names_ask("prd_1", "prd_99") == ["prd_99"]
    for _ in range(2):
        assert (await world.get("/api/products/prd_99")).status_code == 404
    assert world.services.targets[1:] == ["GET /products/prd_99"] * 2


async def test_a_refusal_of_what_is_missing_is_not_one_of_what_is_there(world):
    """A service may say 404 where none of the records exists."""
    await world.names("prd_1")
    world.gateway.forget()

    async def refuses(_, call):
        return answer(404, {"title": "none"}) if call.ids == ["prd_99"] else answer(200, {"items": [{"id": "prd_1"}]})

    world.services.products.fail(refuses)
    assert (await world.get(f"{BATCH}prd_1,prd_99")).json() == {"items": [{"id": "prd_1"}]}
    assert [call.ids for call in world.services.calls] == [["prd_99"], ["prd_1", "prd_99"]]


async def test_failures_are_told_and_not_kept(world):
    await world.names("prd_1")
    world.says(status=503)
    assert (await world.names("prd_1", "prd_2")).codes == ["UPSTREAM_ERROR", "UPSTREAM_ERROR"]
    assert (await world.names("prd_1")).errors == []
    assert (await world.get("/api/products/prd_2")).status_code == 502
    world.says()
    assert (await world.get("/api/products/prd_2")).status_code == 200


# For how long, and whether at all


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"cache_control": "max-age=60"}, 60),
        ({"cache_control": "max-age=5, s-maxage=60"}, 60),
        ({"cache_control": "max-age=100", "age": "40"}, 60),
        ({"cache_control": "public, max-age=60", "vary": "Accept, Accept-Encoding, Origin"}, 60),
        ({"cache_control": None}, 0),
        ({"cache_control": None, "expires": "Fri, 31 Dec 2100 23:59:59 GMT"}, 0),
        ({"cache_control": "max-age=0"}, 0),
        ({"cache_control": "max-age=many"}, 0),
        ({"cache_control": "max-age=60, no-store"}, 0),
        ({"cache_control": "max-age=60, no-cache"}, 0),
        ({"cache_control": "max-age=60, private"}, 0),  # the service says who asks does not matter
        ({"set_cookie": "a=b"}, 0),
        ({"vary": "*"}, 0),
        ({"vary": "accept-language"}, 0),
        ({"content_encoding": "own"}, 0),
    ],
)
@pytest.mark.parametrize("path", [PRODUCT, f"{BATCH}prd_1"])
async def test_it_is_kept_as_long_as_the_service_says(world, path, headers, seconds):
    world.says(**headers)
    await world.get(path)
    for passed, kept in ((seconds - 1, seconds > 0), (1, False)):
        world.now += passed
        before = len(world.services.calls)
        await world.get(path)
        assert (len(world.services.calls) == before) is kept


@pytest.mark.parametrize("kind", ["text/html", "application/problem+json", "application/vnd.api+json"])
async def test_only_json_is_kept(world, kind):
    world.says(kind=kind)
    await world.get()
    assert await world.asked() == ["/products/prd_1"]


async def test_an_object_with_another_id_is_no_record_of_this_path(world):
    world.says(body=b'{"id": "prd_2"}')
    await world.get()
    assert await world.asked() == ["/products/prd_1"]
    assert await world.asked("/api/products/prd_2") == ["/products/prd_2"]
    assert await world.asked("/api/products/prd_2") == []


@pytest.mark.parametrize(
    "asked",
    [
        {"cache-control": "no-cache"},
        {"cache-control": "max-age=0"},
        {"pragma": "no-cache"},
        {"if-none-match": '"1"'},
        {"range": "bytes=0-1"},
        {"cookie": "a=b"},
        {"x-version": "2"},
        {"accept": "application/xml, application/json;q=0.5"},
    ],
)
async def test_who_asks_for_something_else_is_given_what_the_service_says(world, asked):
    await world.get()
    assert await world.asked(headers=asked) == ["/products/prd_1"]


async def test_what_a_client_wants_kept_nowhere_is_not_kept(world):
    await world.get(headers={"cache-control": "no-store"})
    assert await world.asked() == ["/products/prd_1"]


async def test_a_header_of_a_clients_own_has_answers_of_its_own(world):
    for version in ("1", "2"):
        assert await world.asked(headers={"x-version": version}) == ["/products/prd_1"]
        assert await world.asked(headers={"x-version": version}) == []


@pytest.mark.parametrize("target", ["?fields=id", "?ids=prd_2&x=1", "/", "?ids=", "?ids=,", "?ids=a%2Cb"])
async def test_other_targets_pass(world, target):
    assert len(await world.asked(PRODUCT)) == 1
    for _ in range(2):
        world.gateway.forget()
        await world.get(PRODUCT + target)
        assert len(world.services.calls) == 1


async def test_a_service_that_does_not_say_so_keeps_nothing():
    world = World(services={"products": {"cache": {"entities": False}}})
    assert world.shelf is None
    await world.names("prd_1")
    assert await world.asked() == ["/products/prd_1"]
    status, told = await world.purge(everything=True)
    assert (status, told["detail"]) == (
        404,
        "Nothing is kept: no route says `cache: true`, and no service `cache: {entities: true}`",
    )


# Whose it is


@pytest.mark.parametrize("private", [", private", ""])
async def test_nobody_is_given_what_another_may_see(world, private):
    world.says(cache_control=f"max-age=60{private}")
    assert (await world.names("usr_1", "usr_2", headers=operator())).errors == []
    world.gateway.forget()
    assert (await world.get("/api/users/usr_2", headers=customer("usr_1"))).status_code == 404
    found = await world.names("usr_1", "usr_2", headers=customer("usr_2"))
    assert found.data["usr_2"] == {"name": "User 2"}
    assert found.data["usr_1"] is None
    assert len(world.services.calls) == 2
    for who in (customer("usr_1"), customer("usr_2"), operator()):
        await world.names("usr_1", "usr_2", headers=who)
    world.gateway.forget()
    assert (await world.names("usr_2", headers=customer("usr_2"))).data == {"usr_2": {"name": "User 2"}}
    assert world.services.calls == []


async def test_scopes_tell_callers_apart(world):
    await world.names("usr_1", headers=operator())
    assert await world.names_ask("usr_1", headers=bearer(token("usr_1", "users:read"))) == ["usr_1"]
    assert await world.names_ask("usr_1", headers=operator()) == []


async def test_where_services_do_not_know_who_asks_it_is_everybodys(world):
    await world.names("prd_1", headers=customer("usr_1"))
    assert await world.names_ask("prd_1", headers=customer("usr_2")) == []
    assert await world.asked() == []


async def test_a_route_that_tells_a_service_who_asks_has_answers_for_each():
    route = {"name": "told", "path": "/told/{rest*}", "service": "products", "rewrite": "/products/{rest}"}
    told = {"request": {"headers": {"set": {"x-for": "{caller.subject}"}}}}
    world = World(routes=[route | told])
    for who in ("usr_1", "usr_2"):
        assert await world.asked("/told/prd_1", headers=customer(who)) == ["/products/prd_1"]
    assert await world.asked("/told/prd_1", headers=customer("usr_1")) == []


async def test_a_token_of_the_gateways_own_is_no_difference():
    world = World(services={"users": {"cache": {"entities": True}, "identity": "signed"}}, auth={"signing": {}})
    world.says(body=b'{"items":[{"id":"usr_1","name":"x","email":"","created_at":"2024-01-01T08:00:00Z"}]}')
    assert await world.names_ask("usr_1", headers=customer()) == ["usr_1"]
    assert await world.names_ask("usr_1", headers=customer()) == []


# What changes


async def test_a_change_over_either_front_counts_for_both(world):
    me = customer("usr_1")
    for change in ("rest", "graphql"):
        await world.names("usr_1", headers=me)
        await world.get("/api/users/usr_1", headers=me)
        world.changed = {"usr_1": change}
        if change == "rest":
            await world.get("/api/users/usr_1", "PATCH", headers=me, json={"name": change})
        else:
            document = 'mutation { updateUser(input: {id: "usr_1", name: "x"}) { name } }'
            assert (await world.gateway.query(document, headers=me)).errors == []
        assert (await world.get("/api/users/usr_1", headers=me)).json()["name"] == change
        assert (await world.names("usr_1", headers=me)).data == {"usr_1": {"name": change}}


async def test_what_is_done_to_a_record_drops_it_and_no_other(world):
    for each in ("ord_1", "ord_251"):
        await world.get(f"/api/orders/{each}", headers=customer("usr_1"))
    await world.get("/api/orders/ord_1/cancel", "POST", headers=customer("usr_1"))
    assert await world.asked("/api/orders/ord_1", headers=customer("usr_1")) == ["/orders/ord_1"]
    assert await world.asked("/api/orders/ord_251", headers=customer("usr_1")) == []


async def test_what_a_change_of_a_deep_path_drops_is_no_more_than_could_be_kept(world):
    told = []
    world.shelf.on_purge.append(told.append)
    world.says(status=500)
    await world.get("/api/products" + "/a" * 2000, method="POST")
    (tags,) = told
    assert ("at", "products", "/products") in tags
    assert sum(len(part) for tag in tags for part in tag) < 10_000


async def test_a_change_that_was_refused_drops_nothing(world):
    await world.get()
    world.says(status=409)
    await world.get(method="PUT")
    world.says()
    assert await world.asked() == []


@pytest.mark.parametrize("path", [PRODUCT, f"{BATCH}prd_1,prd_2"])
@pytest.mark.parametrize("what", ["change", "purge"])
async def test_a_read_under_way_while_its_record_changes_is_not_kept(world, path, what):
    world.gate = gate = asyncio.Event()
    read = asyncio.create_task(world.get(path))
    await asyncio.sleep(0.02)
    world.gate = None
    if what == "change":
        await world.get(method="PUT", json={})
    else:
        await world.purge(entities=["products:prd_1"])
    gate.set()
    await read
    assert await world.asked() == ["/products/prd_1"]
    if path != PRODUCT:
        assert await world.asked("/api/products/prd_2") == []


@pytest.mark.parametrize(
    "what",
    [
        {"paths": [PRODUCT]},
        {"paths": [f"{PRODUCT}?any=query"]},
        {"paths": ["/api/products/*"]},
        {"paths": ["/api/*"]},
        {"paths": ["/*"]},
        {"tags": ["red"]},
        {"entities": ["products:prd_1"]},
        {"everything": True},
    ],
)
@pytest.mark.parametrize("front", ["rest", "graphql"])
async def test_a_purge_drops_what_it_names(world, what, front):
    world.says(surrogate_key="red green")
    read = world.get() if front == "rest" else world.names("prd_1")
    await read
    status, told = await world.purge(**what)
    assert (status, told["purged"] >= 1) == (200, True)
    assert await world.asked() == ["/products/prd_1"]


@pytest.mark.parametrize(
    "what",
    [
        {"paths": ["/api/products", "/api/users/prd_1", "/api/users/*", "/products/prd_1", "/api/products/prd_1/*x"]},
        {"paths": ["/api/products/prd_2/*"], "tags": ["re"]},
        {"entities": ["users:prd_1", "products:prd_2"]},
    ],
)
async def test_and_nothing_else(world, what):
    await world.get()
    assert await world.purge(**what) == (200, {"purged": 0})
    assert await world.asked() == []


# Beside the HTTP cache, and in bounds


async def test_an_http_cache_before_it_knows_how_old_a_record_is_and_by_which_tags_it_goes():
    route = {"name": "products", "path": "/api/products/{rest*}", "service": "products", "rewrite": "/products/{rest}"}
    world = World(routes=[route | {"public": True, "cache": True}])
    world.says(surrogate_key="red")
    await world.names("prd_1")
    world.now += 50
    first = await world.get()
    assert first.headers["cache-status"] == "bff-entities; hit; ttl=10, bff; fwd=uri-miss; fwd-status=200; stored"
    assert (await world.get()).headers["cache-status"].endswith("bff; hit; ttl=10")
    assert await world.purge(tags=["red"]) == (200, {"purged": 2})
    assert await world.asked() == ["/products/prd_1"]
    assert await world.count("bff_cache_answers", cache="http") == 1
    assert await world.count("bff_cache_answers", cache="entity") == 2  # with how lists look


async def test_of_several_the_one_that_is_good_for_the_shortest_time_says_how_long_all_are(world):
    me = customer("usr_1")
    for headers, id in (
        ({"cache_control": "max-age=60"}, "ord_1"),
        ({"cache_control": "private, max-age=90"}, "ord_251"),
    ):
        world.says(**headers)
        await world.get(f"/api/orders?ids={id}", headers=me)
    world.now += 10
    told = (await world.get("/api/orders?ids=ord_1,ord_251", headers=me)).headers
    assert (told["cache-control"], told["age"]) == ("private, max-age=60", "10")
    assert told["cache-status"] == "bff-entities; hit; ttl=50"


async def test_no_more_is_kept_than_there_is_room_for():
    world = World(cache={"max_size": 20_000, "max_answer": 1000})
    for number in range(1, 41):
        await world.get(f"/api/products/prd_{number}")
    assert await world.asked("/api/products/prd_40") == []
    assert await world.asked("/api/products/prd_1") == ["/products/prd_1"]
    assert 5_000 < await world.count("bff_cache_bytes", cache="entity") <= 20_000
    assert await world.count("bff_cache_evictions_total", cache="entity") > 20
    assert len((await world.get(f"{BATCH}{','.join(f'prd_{n}' for n in range(1, 20))}")).json()["items"]) == 19
    world.gateway.forget()
    assert len((await world.get(f"{BATCH}{','.join(f'prd_{n}' for n in range(1, 20))}")).json()["items"]) == 19
    assert len(world.services.calls) == 1


async def test_it_is_counted_by_record_and_seen_in_the_waterfall(world):
    await world.names("prd_1", "prd_2")
    found = await world.names("prd_1", "prd_3", headers={"x-explain": "1"})
    counted = {each: await world.count("bff_cache_requests_total", outcome=each) for each in ("hit", "miss")}
    assert counted == {"hit": 1, "miss": 3}
    (row,) = found.response.json()["extensions"]["explain"]["waterfall"]
    assert (row["keys"], row["cached"], len(row["attempts"])) == (2, 1, 1)
    found = await world.names("prd_1", "prd_3", headers={"x-explain": "1"})
    (row,) = found.response.json()["extensions"]["explain"]["waterfall"]
    assert (row["cached"], row["status"], row["attempts"]) == (2, 200, [])


async def test_many_who_miss_the_same_ask_once_where_reads_are_shared():
    world = World(services={"products": {"cache": {"entities": True}, "coalesce": {"ignore": ["user-agent"]}}})
    world.gate = asyncio.Event()
    reads = [asyncio.create_task(world.get()) for _ in range(5)]
    await asyncio.sleep(0.02)
    world.gate.set()
    for each in await asyncio.gather(*reads):
        assert each.json()["id"] == "prd_1"
    assert len(world.services.calls) == 1
    assert await world.asked() == []
