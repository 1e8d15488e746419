import sys

import pytest

from bff.core.errors import MethodNotAllowed, NotFound
from bff.core.expressions import Expression
from bff.core.request import RequestView
from bff.core.route import Condition, Route
from bff.edge.routing import Matcher, RouteSettings, Routing, route
from bff.edge.routing.conditions import conflicts


def at(path, *methods, name=None, **more):
    return Route(name=name or path, path=path, methods=frozenset(methods) or None, **more)


def asked(path, *headers, method="GET", query=b"", kind="http"):
    scope = {"type": kind, "raw_path": path, "path": path.decode(), "headers": headers, "query_string": query}
    return scope | ({"method": method} if kind == "http" else {})


ROUTES = [
    at("/api/payments/{rest*}"),
    at("/api/payments/{id}/receipt", "GET"),
    at("/api/payments/{id}/{part}", "GET"),
    at("/api/payments/{id}", "GET", "PATCH"),
    at("/api/payments/search", "GET"),
    at("/api/users/{rest*}", "GET", "PATCH"),
    at("/health", "GET"),
]


def found(path, routes=ROUTES):
    matches = Matcher(routes).matches("GET", path, RequestView(asked(path)))
    return (matches[0].route.path, matches[0].captured) if matches else None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/api/payments/search", ("/api/payments/search", {})),
        (b"/api/payments/pay_1", ("/api/payments/{id}", {"id": b"pay_1"})),
        (b"/api/payments/pay_1/receipt", ("/api/payments/{id}/receipt", {"id": b"pay_1"})),
        (b"/api/payments/pay_1/items", ("/api/payments/{id}/{part}", {"id": b"pay_1", "part": b"items"})),
        (b"/api/payments/a/b/c", ("/api/payments/{rest*}", {"rest": b"a/b/c"})),
        (b"/api/payments/search/x/y", ("/api/payments/{rest*}", {"rest": b"search/x/y"})),
        (b"/api/payments/pay_1/", ("/api/payments/{rest*}", {"rest": b"pay_1/"})),
        (b"/health", ("/health", {})),
        (b"/health/", None),
        (b"/api/payment", None),
        (b"/API/users", None),
        (b"/", None),
    ],
)
def test_the_most_specific_template_wins(path, expected):
    assert found(path) == expected
    assert found(path, ROUTES[::-1]) == expected


@pytest.mark.parametrize(("path", "rest"), [(b"/api/users", b""), (b"/api/users/", b""), (b"/api/users/u/x", b"u/x")])
def test_the_rest_may_be_empty(path, rest):
    assert found(path) == ("/api/users/{rest*}", {"rest": rest})


def test_an_encoded_letter_is_that_letter_in_literals_and_stays_as_it_came_in_captures():
    assert found(b"/%61pi/us%65rs/us%72_1%20x") == ("/api/users/{rest*}", {"rest": b"us%72_1%20x"})


def test_encoded_delimiters_are_not_delimiters():
    routes = [at("/a%2fb"), at("/c:d")]
    assert found(b"/a%2Fb", routes) == ("/a%2fb", {})
    assert found(b"/a/b", routes) is None
    assert found(b"/c%3Ad", routes) is None


def test_a_literal_that_leads_nowhere_does_not_hide_a_captured_segment():
    routes = [at("/a/b/c"), at("/a/{x}/d")]
    assert found(b"/a/b/d", routes) == ("/a/{x}/d", {"x": b"b"})


TENANTS = {
    "paths": lambda n: at(f"/api/r{n}/{{id}}"),
    "hosts": lambda n: at("/api/{kind}/{id}", hosts=(f"t{n}.example.com",)),
    "wild hosts": lambda n: at("/api/{kind}/{id}", hosts=(f"*.t{n}.example.com",)),
    "headers": lambda n: at("/api/{kind}/{id}", conditions=(Condition("headers", "x-tenant", (f"t{n}",)),)),
    "parameters": lambda n: at("/api/{kind}/{id}", conditions=(Condition("query", "tenant", (f"t{n}",)),)),
}


@pytest.mark.parametrize("kind", TENANTS)
def test_a_look_up_does_not_get_slower_with_the_number_of_routes(kind):
    """Counted in lines of Python that are run, which is the same each time."""
    host = b"x.t7.example.com" if kind == "wild hosts" else b"t7.example.com"
    scope = asked(b"/api/r7/x", (b"host", host), (b"x-tenant", b"t7"), query=b"tenant=t7")

    def steps(count):
        matcher, lines = Matcher([at("/{rest*}"), *map(TENANTS[kind], range(count))]), 0

        def trace(frame, event, argument):
            nonlocal lines
            lines += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            (match,) = matcher.matches("GET", b"/api/r7/x", RequestView(scope))
        finally:
            sys.settrace(before)
        assert match.route == TENANTS[kind](7)
        return lines

    assert steps(10) == steps(1000)


BETA = Condition("headers", "x-stage", ("beta-1", "beta-2"))
ANY_BETA = Condition("headers", "x-stage", ("beta-*",))
ALPHA = Condition("headers", "x-stage", ("alpha-*",))
STABLE = Condition("headers", "x-stage", ("stable",))
IOS = Condition("query", "client", ("ios",))
GOLD = Expression("caller.tier == 'gold'", frozenset({"caller"}))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (at("/a/{x}", "GET"), at("/a/{y}", "GET"), True),
        (at("/a/{x}", "GET"), at("/a/{y}", "POST"), False),
        (at("/a/{x}", "GET"), at("/a/{y}"), True),
        (at("/a/{x}", "GET"), at("/a/{x}", "HEAD"), True),
        (at("/a/{x}", "GET"), at("/a/b", "GET"), False),
        (at("/a/{x}/c"), at("/a/b/{y}"), False),
        (at("/a/{x}"), at("/a/{x*}"), False),
        (at("/a/{x*}"), at("/a/{y*}"), True),
        (at("/%61"), at("/a"), True),
        (at("/a", hosts=("x.example",)), at("/a"), False),
        (at("/a", hosts=("x.example",)), at("/a", hosts=("*.example",)), False),
        (at("/a", hosts=("x.example", "y.example")), at("/a", hosts=("z.example", "y.example")), True),
        (at("/a", hosts=("x.example",)), at("/a", hosts=("y.example",)), False),
        (at("/a", conditions=(BETA,)), at("/a"), False),
        (at("/a", conditions=(BETA,)), at("/a", conditions=(STABLE,)), False),
        (at("/a", conditions=(BETA,)), at("/a", conditions=(ANY_BETA,)), True),
        (at("/a", conditions=(BETA,)), at("/a", conditions=(ANY_BETA,), priority=1), False),
        (at("/a", conditions=(BETA,)), at("/a", conditions=(IOS,)), True),
        (at("/a", conditions=(BETA,)), at("/a", conditions=(BETA, IOS)), False),
        (at("/a", conditions=(ANY_BETA,)), at("/a", conditions=(ALPHA,)), False),
        (at("/a", when=GOLD), at("/a", when=GOLD), True),
        (at("/a", when=GOLD), at("/a"), False),
    ],
)
def test_routes_of_which_neither_is_more_specific_are_a_conflict(one, other, alike):
    assert list(conflicts([one, at("/else"), other])) == ([(one, other)] if alike else [])


async def ask(method, path, routes=ROUTES, kind="http"):
    """The scope that reached the app, or the messages that were sent instead."""
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope)

    async def send(message):
        sent.append(message)

    scope = asked(path, method=method, kind=kind)
    await Routing(app, Matcher(routes))(scope, None, send)
    return reached[0] if reached else sent


async def test_the_route_and_what_it_captured_are_in_the_scope():
    scope = await ask("PATCH", b"/api/users/usr_1")
    assert scope["bff.route"].path == "/api/users/{rest*}"
    assert scope["bff.captured"] == {"rest": b"usr_1"}


async def test_head_is_answered_where_get_is():
    assert (await ask("HEAD", b"/health"))["bff.route"].path == "/health"


async def test_a_websocket_is_routed_as_the_get_that_it_begins_with():
    assert (await ask(None, b"/health", kind="websocket"))["bff.route"].path == "/health"


async def test_an_unknown_path_is_not_found():
    with pytest.raises(NotFound):
        await ask("GET", b"/nowhere")


async def test_a_method_that_no_route_of_the_path_has_is_answered_with_all_that_they_have():
    routes = [at("/a/{x}", "GET"), at("/a/{y}", "PUT"), at("/a/{rest*}", "PATCH"), at("/b", "DELETE")]
    with pytest.raises(MethodNotAllowed) as refused:
        await ask("DELETE", b"/a/1", routes)
    assert refused.value.headers == {"allow": "GET, HEAD, OPTIONS, PATCH, PUT"}


async def test_a_method_may_be_answered_by_a_less_specific_route_of_the_same_path():
    assert (await ask("POST", b"/api/payments/pay_1/receipt"))["bff.route"].path == "/api/payments/{rest*}"


async def test_options_is_forwarded_where_a_route_takes_it_and_answered_here_where_none_does():
    assert (await ask("OPTIONS", b"/api/payments/x"))["bff.route"].path == "/api/payments/{rest*}"
    start, _ = await ask("OPTIONS", b"/health")
    assert (start["status"], start["headers"]) == (204, [(b"allow", b"GET, HEAD, OPTIONS")])


def settings(**given):
    return RouteSettings(**{"name": "r", "path": "/a/{x}", "service": "s"} | given)


def test_a_route_takes_over_everything_that_was_set():
    built = route(
        settings(
            rewrite="/b/{x}",
            methods=["GET", "PUT"],
            public=True,
            scopes={"read": ["a:read"], "write": ["a:write"]},
            cost=2,
            max_body="1KB",
            timeout="10s",
            errors="relay",
        )
    )
    assert built == Route(
        name="r",
        path="/a/{x}",
        methods=frozenset({"GET", "PUT"}),
        service="s",
        rewrite="/b/{x}",
        public=True,
        read_scopes=frozenset({"a:read"}),
        write_scopes=frozenset({"a:write"}),
        cost=2,
        max_body=1024,
        timeout=10.0,
        relay_errors=True,
    )


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        ({"path": "a"}, "path", "begin with /"),
        ({"path": "/a//b"}, "path", "empty segment"),
        ({"path": "/a/{x*}/b"}, "path", "only at its end"),
        ({"path": "/a/{x}/{x}"}, "path", "one name"),
        ({"path": "/a/{x}.json"}, "path", "{x}.json"),
        ({"path": "/a/../b"}, "path", ".."),
        ({"path": "/a b"}, "path", "a b"),
        ({"rewrite": "b/{x}"}, "rewrite", "must be a path"),
        ({"rewrite": "/b/{query.x}"}, "rewrite", "only be in the query"),
        ({"rewrite": "/b?c={y}"}, "rewrite", "{query.term}"),
        ({"rewrite": "/b?c=a#b"}, "rewrite", "must be a path"),
        ({"rewrite": "/b/{y}"}, "rewrite", "{y}"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_load(given, where, what):
    ((keys, complaint),) = settings(**given).problems()
    assert keys == (where,)
    assert what in complaint


@pytest.mark.parametrize("path", ["/", "/a", "/a/{x}", "/a/{rest*}", "/{rest*}", "/a%20b/{x}/c"])
def test_sound_templates_pass(path):
    assert not list(settings(path=path).problems())


def test_what_only_method_and_path_decide_is_remembered():
    matcher = Matcher(ROUTES)
    matches = matcher.matches("GET", b"/api/users/u", RequestView(asked(b"/api/users/u")))
    assert matcher.known == {("GET", b"/api/users/u"): matches}
    assert not matcher.matches("POST", b"/api/users/u", RequestView(asked(b"/api/users/u")))
    assert len(matcher.known) == 1


ALWAYS = Expression("path != ''", frozenset({"path"}))


@pytest.mark.parametrize("other", [{"conditions": (BETA,)}, {"hosts": ("b.example",)}, {"when": ALWAYS}])
def test_what_something_else_decides_is_looked_up_each_time(other):
    matcher = Matcher([at("/a", name="other", **other), at("/a", name="any")])
    for headers, name in (((), "any"), (((b"x-stage", b"beta-1"), (b"host", b"b.example")), "other")) * 2:
        found = matcher.matches("GET", b"/a", RequestView(asked(b"/a", *headers)))
        assert found[0].route.name == ("other" if "when" in other else name)
    assert not matcher.known


def test_paths_that_are_remembered_have_a_bound():
    matcher = Matcher(ROUTES)
    for number in range(5000):
        path = b"/api/users/%d" % number
        assert matcher.matches("GET", path, RequestView(asked(path)))
    long = b"/api/users/" + b"u" * 300
    assert matcher.matches("GET", long, RequestView(asked(long)))
    assert len(matcher.known) <= 2048
    assert max(len(path) for _, path in matcher.known) <= 256
