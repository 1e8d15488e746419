"""Conditions of routes over the whole gateway: which route answers whom, and that nobody gets past what it asks for."""

from hashlib import sha256

import pytest

from bff.config import ConfigError
from tests.harness import PARTNER, bearer, customer, gateway, partner, token
from tests.shop import Services

TO = {"service": "products", "public": True}


def routes(*given):
    """Routes to /to/NAME of a service."""
    return {"routes": [{"path": "/it", "rewrite": f"/to/{each['name']}", **TO, **each} for each in given]}


async def route_of(running, method="GET", path="/it", **request):
    answer = await running.client.request(method, path, **request)
    if not running.services.calls:
        return answer.status_code
    call = running.services.calls[-1]
    running.services.forget()
    return call.path.removeprefix("/to/")


SAYINGS = [
    ({"headers": {"x-client": "ios"}}, {"headers": {"x-client": "ios"}}, {"headers": {"x-client": "iOS"}}),
    ({"headers": {"X-Client": ["ios", "ios/*"]}}, {"headers": {"x-client": "ios/17"}}, {"headers": {"x-client": "io"}}),
    ({"headers": {"x-client": "*"}}, {"headers": {"x-client": ""}}, {}),
    ({"headers": {"x-a": "b*d"}}, {"headers": {"x-a": "bd"}}, {"headers": {"x-a": "b"}}),
    ({"query": {"v": "2"}}, {"params": {"v": "2"}}, {"params": {"v": "1"}}),
    ({"query": {"a b": "c d"}}, {"path": "/it?a+b=c%20d"}, {"path": "/it?a+b=c%2520d"}),
    ({"cookies": {"beta": "1"}}, {"headers": {"cookie": 'a=b; beta="1"'}}, {"headers": {"cookie": "beta=2"}}),
    ({"hosts": ["shop.example"]}, {"headers": {"host": "SHOP.example.:8000"}}, {"headers": {"host": "ashop.example"}}),
    ({"hosts": ["*.shop.example"]}, {"headers": {"host": "a.b.shop.example"}}, {"headers": {"host": "shop.example"}}),
    ({"hosts": ["[::1]"]}, {"headers": {"host": "[::1]:8000"}}, {"headers": {"host": "[::2]"}}),
    ({"when": "method == 'GET' && path == '/it'"}, {}, {"method": "POST"}),
    ({"when": "headers['x-a'] == '1' && query.v in ['2', '3']"}, {"headers": {"x-a": "1"}, "path": "/it?v=3"}, {}),
    ({"when": "'beta' in cookies"}, {"headers": {"cookie": "beta="}}, {"headers": {"cookie": "b=beta"}}),
    ({"when": "host.endsWith('.example')"}, {}, {"headers": {"host": "elsewhere"}}),
    ({"when": "caller.tier == 'partner'"}, {"headers": partner()}, {"headers": customer()}),
    ({"when": "caller.credential == 'anonymous'"}, {}, {"headers": partner()}),
    ({"when": "body.kind == 'beta'"}, {"method": "POST", "json": {"kind": "beta"}}, {"method": "POST", "json": []}),
    ({"when": "body.size() > 1"}, {"method": "POST", "json": [1, 2]}, {"method": "POST", "content": b"[1, 2]"}),
    (
        {"when": "caller.tier == 'partner' && body.items.exists(i, i.n > 1)"},
        {"method": "POST", "json": {"items": [{"n": 2}]}, "headers": partner()},
        {"method": "POST", "json": {"items": [{"n": 2}]}},
    ),
]


@pytest.mark.parametrize(("said", "met", "unmet"), SAYINGS)
async def test_a_route_with_a_condition_goes_first_where_it_holds(said, met, unmet):
    running = gateway(**routes({"name": "all"}, {"name": "some", **said}))
    assert await route_of(running, **met) == "some"
    assert await route_of(running, **unmet) == "all"


@pytest.mark.parametrize(("said", "met", "unmet"), SAYINGS)
async def test_where_nothing_else_is_there_a_condition_that_does_not_hold_is_not_found(said, met, unmet):
    running = gateway(**routes({"name": "some", **said}))
    assert await route_of(running, **met) == "some"
    assert await route_of(running, **unmet) == 404


async def test_the_order_is_template_then_host_then_conditions_then_priority():
    ordered = [
        {"name": "named", "hosts": ["a.shop.example"], "priority": -1},
        {"name": "nearer", "hosts": ["*.shop.example"]},
        {"name": "farther", "hosts": ["*.example"], "headers": {"x-a": "1"}, "priority": 9},
        {"name": "three", "headers": {"x-a": "1"}, "query": {"v": "2"}, "when": "true"},
        {"name": "two", "headers": {"x-a": "1"}, "query": {"v": "2"}},
        {"name": "preferred", "query": {"v": "2"}, "priority": 1},
        {"name": "one", "headers": {"x-a": "1"}},
        {"name": "none"},
        {"name": "captured", "path": "/{any}", "hosts": ["a.shop.example"], "headers": {"x-a": "1"}, "priority": 9},
    ]
    left = list(ordered)
    while left:
        running = gateway(**routes(*reversed(left)))
        found = await route_of(running, path="/it?v=2", headers={"host": "a.shop.example", "x-a": "1"})
        assert found == left.pop(0)["name"]


async def test_a_less_specific_template_answers_where_the_conditions_of_the_more_specific_do_not_hold():
    running = gateway(**routes({"name": "beta", "headers": {"x-beta": "1"}}, {"name": "rest", "path": "/{rest*}"}))
    assert await route_of(running, headers={"x-beta": "1"}) == "beta"
    assert await route_of(running) == "rest"


async def test_allow_names_the_methods_of_routes_whose_conditions_hold():
    running = gateway(
        **routes(
            {"name": "get", "methods": ["GET"]},
            {"name": "put", "methods": ["PUT"], "headers": {"x-beta": "1"}},
            {"name": "patch", "methods": ["PATCH"], "when": "caller.tier == 'partner'"},
        )
    )
    plain = await running.client.post("/it")
    beta = await running.client.options("/it", headers={"x-beta": "1"})
    assert (plain.status_code, plain.headers["allow"]) == (405, "GET, HEAD, OPTIONS, PATCH")
    assert (beta.status_code, beta.headers["allow"]) == (204, "GET, HEAD, OPTIONS, PATCH, PUT")
    assert await route_of(running, "HEAD") == "get"


# Who may pass is judged by the route that answers, and by no other.


async def test_scopes_and_cost_are_those_of_the_route_that_the_caller_gets():
    text = routes(
        {"name": "gold", "when": "caller.tier == 'partner'", "public": False, "scopes": {"read": ["rare"]}, "cost": 7},
        {"name": "plain", "public": False, "scopes": {"read": ["orders:read"]}, "cost": 3},
    )
    running = gateway(**text)
    assert await route_of(running) == 401
    assert await route_of(running, headers=partner()) == 403
    assert await route_of(running, headers=bearer(token(scope="users:read"))) == 403
    assert await route_of(running, headers=customer()) == "plain"
    answer = await running.client.get("/it", headers=customer())
    assert "r=994" in answer.headers["ratelimit"]
    # The route that goes first is public; those whom it is not for still need what theirs asks for.
    public = routes({"name": "gold", "when": "caller.tier == 'partner'"}, {"name": "plain", "public": False, "cost": 3})
    running = gateway(**public)
    assert await route_of(running) == 401
    assert await route_of(running, headers=partner()) == "gold"


async def test_a_bad_credential_is_refused_whatever_the_conditions_say():
    running = gateway(**routes({"name": "guest", "when": "caller.credential == 'anonymous'"}))
    assert await route_of(running, headers={"x-api-key": PARTNER + "x"}) == 401


async def test_a_body_is_read_for_no_one_who_may_not_pass():
    taken = []

    async def body():
        taken.append(1)
        yield b'{"kind": "beta"}'

    closed = {"public": False, "scopes": {"write": ["orders:write"]}}
    running = gateway(
        **routes({"name": "beta", "when": "body.kind == 'beta'", **closed}, {"name": "plain", **closed}),
        tiers={"default": {"rate": ["1/minute"]}},
    )
    json = {"content-type": "application/json"}
    assert await route_of(running, "POST", content=body(), headers=json) == 401
    assert await route_of(running, "POST", content=body(), headers=json | partner()) == 403
    assert await route_of(running, "POST", content=body(), headers=json | customer()) == "beta"
    before = len(taken)
    assert await route_of(running, "POST", content=body(), headers=json | customer()) == 429
    assert len(taken) == before


@pytest.mark.parametrize("differing", [{"public": False}, {"cost": 2}, {"max_body": "1KB"}, {"firewall": "block"}])
def test_routes_that_the_body_decides_between_have_to_agree_on_what_is_judged_before(differing):
    given = {"name": "beta", "when": "body.kind == 'beta'"}
    for other in ({"name": "plain"}, {"name": "rest", "path": "/{rest*}"}):
        with pytest.raises(ConfigError, match=f"beta has a condition over the body.*{other['name']}.*agree"):
            gateway(**routes(given, other | differing))
    gateway(**routes(given, {"name": "elsewhere", "path": "/other", **differing}))
    gateway(**routes(given | {"methods": ["POST"]}, {"name": "reads", "methods": ["GET"], **differing}))
    gateway(**routes(given | {"hosts": ["a.example"]}, {"name": "host", "hosts": ["b.example"], **differing}))


async def test_a_body_that_was_read_goes_on_as_it_came():
    running = gateway(**routes({"name": "beta", "when": "body.kind == 'beta'"}, {"name": "plain"}))
    for content in (b'{ "kind":"beta" }', b'{"kind":', b"[" * 5000, b"", b'"\xff"'):
        answer = await running.client.post("/it", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 404  # the service's own
        assert running.services.calls[-1].body == content


async def test_a_body_beyond_the_routes_bound_is_refused():
    running = gateway(**routes({"name": "beta", "when": "body.kind == 'beta'", "max_body": "1KB"}))
    big = b'{"kind": "beta", "more": "' + b"x" * 1024 + b'"}'

    async def chunks():
        yield big

    for content in (big, chunks()):
        answer = await running.client.post("/it", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert not running.services.calls


async def test_entitlements_are_judged_whatever_the_conditions():
    key = {"consumer": "acme", "hash": "sha256:" + sha256(b"acme").hexdigest(), "entitlements": "none"}
    running = gateway(
        **routes({"name": "gold", "when": "caller.consumer == 'acme'"}, {"name": "plain"}),
        entitlements={"none": ["GET /api/**"]},
        auth={"api_keys": [key]},
    )
    assert await route_of(running, headers={"x-api-key": "acme"}) == 403


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([{"name": "a"}, {"name": "b"}], "a and b could both match /it"),
        ([{"name": "a", "query": {"x": "1"}}, {"name": "b", "headers": {"y": "2"}}], "a and b could both match /it"),
        ([{"name": "a", "headers": {"x": "a*b*c"}}], "one `\\*` at most"),
        ([{"name": "a", "hosts": ["Example.com/x"]}], "hosts"),
        ([{"name": "a", "headers": {"a b": "x"}}], "headers"),
        ([{"name": "a", "when": "callr.tier == 'x'"}], "there is no callr"),
        ([{"name": "a", "query": {"v": 2}}], "query.v"),
    ],
)
def test_conditions_that_cannot_work_are_refused_at_load(given, complaint):
    with pytest.raises(ConfigError, match=complaint):
        gateway(**routes(*given))


# What the service is asked for.


@pytest.mark.parametrize(
    ("path", "rewrite", "asked", "target"),
    [
        ("/search", "/products?q={query.term}", "/search?term=a%26b&v=2", "/products?q=a%26b"),
        ("/search", "/products?q={query.term}&n={query.n}&k=1", "/search?term=x", "/products?q=x&k=1"),
        ("/search", "/products?q={query.term}", "/search", "/products"),
        ("/search", "/products?q={query.term}", "/search?term=a&term=b", "/products?q=a"),
        ("/search", "/products?q={query.term}", "/search?te%72m=a;b=c", "/products?q=a%3Bb=c"),
        ("/of/{id}", "/products?id={id}&all", "/of/a&admin=1+2", "/products?id=a%26admin%3D1%2B2&all"),
        ("/of/{rest*}", "/products?at={rest}", "/of/a/b?x=y", "/products?at=a/b"),
        ("/of/{id}", "/products/{id}", "/of/a%20b?x=%79", "/products/a%20b?x=%79"),
    ],
)
async def test_a_rewrite_may_have_a_query_of_its_own(path, rewrite, asked, target):
    seen = []

    class Seeing(Services):
        async def handle_async_request(self, request):
            seen.append(request.extensions["target"].decode())
            return await super().handle_async_request(request)

    running = gateway(routes=[{"name": "r", "path": path, "rewrite": rewrite, **TO}], network=Seeing)
    await running.client.get(asked)
    assert seen == [target]
