import pytest

from bff.config import ConfigError, load
from tests.harness import customer
from tests.rest.changed import AUTH, Network, client


def redirecting(to, status=308, extra=""):
    redirect = f'redirect: {{to: "{to}", status: {status}}}'
    return f'- {{name: legacy, path: "/v0/{{rest*}}", public: true, {redirect}{extra}}}'


@pytest.mark.parametrize(
    ("to", "asked", "location"),
    [
        ("/api/{rest}", "/v0/users/usr_1", "/api/users/usr_1"),
        ("/api/{rest}", "/v0/a%20b/c?x=%2f&y=1", "/api/a%20b/c?x=%2f&y=1"),
        ("/{rest}", "/v0", "/"),
        ("https://www.example.com/{rest}", "/v0/a?b=c", "https://www.example.com/a?b=c"),
        ("https://www.example.com", "/v0/a", "https://www.example.com"),
        ("/find?q={query.term}", "/v0/a?term=t%20%26x=1&y=2", "/find?q=t%20%26x%3D1"),
        ("/a/{query.n}?", "/v0/a?n=%2F%2Fevil.example", "/a/%2F%2Fevil.example"),
        ("/find?id={rest}", "/v0/a&b=c/d", "/find?id=a%26b%3Dc%2Fd"),
    ],
)
async def test_a_route_redirects(to, asked, location):
    network = Network()
    answer = await client(redirecting(to), network).post(asked, content=b"x")
    assert (answer.status_code, answer.headers["location"], answer.content) == (308, location, b"")
    assert network.asked == 0


@pytest.mark.parametrize("path", ["/v0/%2f/evil.example", "/v0//evil.example", "/v0/%5cevil.example"])
async def test_no_path_leads_to_another_host(path):
    assert (await client(redirecting("/{rest}")).get(path)).status_code == 400


async def test_an_empty_value_never_makes_the_next_one_a_host():
    answer = await client(redirecting("/{query.a}/{query.b}")).get("/v0/x?a=&b=evil.example")
    assert answer.status_code == 400


async def test_a_request_without_what_the_address_is_made_of_is_refused():
    answer = await client(redirecting("/find?q={query.term}")).get("/v0/x")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


async def test_a_route_that_is_not_public_wants_a_credential_before_it_redirects():
    routes = '- {name: legacy, path: "/v0/{rest*}", redirect: {to: "/api/{rest}"}}'
    assert (await client(routes).get("/v0/x")).status_code == 401
    assert (await client(routes).get("/v0/x", headers=customer())).headers["location"] == "/api/x"


def direct(response):
    return f'- {{name: fixed, path: "/at/{{name}}", public: true, response: {response}}}'


async def test_a_route_answers_by_itself():
    network = Network()
    routes = direct("{status: 503, headers: {set: {retry-after: '60', x-why: maintenance}}, body: Back soon.}")
    answer = await client(routes, network).get("/at/x")
    assert (answer.status_code, answer.text, network.asked) == (503, "Back soon.", 0)
    assert (answer.headers["retry-after"], answer.headers["x-why"]) == ("60", "maintenance")
    assert (answer.headers["content-type"], answer.headers["content-length"]) == ("text/plain; charset=utf-8", "10")
    assert answer.headers["x-content-type-options"] == "nosniff"
    alone = await client(routes, network).head("/at/x")
    assert (alone.status_code, alone.headers["content-length"], alone.content) == (503, "10", b"")


async def test_an_answer_without_a_body():
    answer = await client(direct("{status: 204}")).get("/at/x")
    assert (answer.status_code, answer.content, answer.headers.get("content-length")) == (204, b"", None)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("application/json", '{"hello": "{query.q}", "who": "{name}"}', '{"hello": "<b>\\"x\\"\\n", "who": "ann"}'),
        ("text/html", "<p>{query.q}</p>", "<p>&lt;b&gt;&quot;x&quot;\n</p>"),
        ("text/plain", "{query.q}", '<b>"x"\n'),
    ],
)
async def test_a_value_in_a_body_is_text_of_it_and_nothing_more(kind, body, text):
    routes = direct(f"{{status: 200, headers: {{set: {{content-type: {kind}}}}}, body: '{body}'}}")
    answer = await client(routes).get("/at/ann?q=%3Cb%3E%22x%22%0A")
    assert answer.text == text
    assert int(answer.headers["content-length"]) == len(text)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("", "needs one of `service`, `redirect` and `response.status`"),
        ('service: any, redirect: {to: "/x"}', "needs one of"),
        ("service: any, response: {status: 200}", "needs one of"),
        ("service: any, response: {body: text}", "can be text only without a `service`"),
        ('rewrite: /x, redirect: {to: "/x"}', "needs a `service`"),
        ('request: {headers: {set: {a: b}}}, redirect: {to: "/x"}', "needs a `service`"),
        ("response: {status: 200, decode: xml}", "needs a `service`"),
        ("response: {status: 204, body: x}", "cannot be sent with 204"),
        ("response: {status: 200, headers: {set: {content-type: text/css}}, body: 'a{query.b}'}", "in JSON, HTML and"),
        ('redirect: {to: "//evil.example"}', "must be a path"),
        ('redirect: {to: "{query.to}"}', "must be a path"),
        ('redirect: {to: "https://{query.host}/x"}', "must be a path"),
        ('redirect: {to: "https://www.example.com{query.x}"}', "must be a path"),
        ('redirect: {to: "https://user@www.example.com/"}', "must be a path"),
        ('redirect: {to: "javascript:alert(1)"}', "must be a path"),
        ('redirect: {to: "/{query.x}/y", status: 200}', "must be"),
        ('redirect: {to: "/{rest}"}', "uses {rest}, which `path` does not capture"),
        ("service: anyy", "did you mean `any`?"),
    ],
)
def test_a_route_that_leads_nowhere_or_to_two_places_ends_the_start(route, message):
    with pytest.raises(ConfigError) as error:
        load(f"{AUTH}\nroutes:\n- {{name: r, path: /x, {route}}}")
    assert message in str(error.value)
