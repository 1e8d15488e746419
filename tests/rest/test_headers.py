import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.config import ConfigError, load
from bff.rest.templates import Text, as_header, as_html, as_json, as_url
from tests.harness import customer
from tests.rest.changed import AUTH, Network, client, route


async def asked(changes, path="/api/x", **options):
    network = Network()
    answer = await client(route(changes), network).get(path, **options)
    assert answer.status_code == 200, answer.text
    return network.given


async def answered(changes, network, **options):
    answer = await client(route(changes), network).get("/api/x", **options)
    assert answer.status_code == 200
    return answer.headers


async def test_a_header_is_set_in_place_of_the_clients():
    given = await asked("request: {headers: {set: {X-Source: mobile}}}", headers={"x-source": "forged"})
    assert given["x-source"] == "mobile"


@pytest.mark.parametrize("name", ["x-account", "X_Account", "x_account"])
async def test_a_set_header_leaves_nothing_of_the_clients_even_where_it_has_no_value_itself(name):
    changes = 'request: {headers: {set: {x-account: "{caller.subject}"}}}'
    assert "x-account" not in {each.replace("_", "-") for each in await asked(changes, headers={name: "victim"})}
    given = await asked(changes, headers={name: "victim", **customer()})
    assert given["x-account"] == "usr_1"
    assert "victim" not in given.values()


async def test_a_client_cannot_rename_its_way_to_a_header_that_is_set():
    changes = 'request: {headers: {rename: {x-mine: x-account}, set: {x-account: "{caller.subject}"}}}'
    assert "x-account" not in await asked(changes, headers={"x-mine": "victim"})


async def test_headers_are_added_removed_and_renamed():
    changes = "request: {headers: {add: {x-tag: b}, remove: [cookie, x-internal-*, x-secret*], rename: {x-old: x-new}}}"
    given = await asked(
        changes, headers={"x-tag": "a", "cookie": "a=b", "x-secret-one": "1", "x-secret": "2", "x-old": "3"}
    )
    assert given["x-tag"] == "b"  # the last of two
    assert not {"cookie", "x-secret-one", "x-secret", "x-old"} & set(given)
    assert given["x-new"] == "3"


async def test_only_what_a_route_allows_goes_on_and_what_the_gateway_says_stays():
    given = await asked("request: {headers: {allow: [accept, x-a*]}}", headers={"x-app": "1", "x-b": "2", **customer()})
    assert (given["x-app"], given["x-auth-subject"]) == ("1", "usr_1")
    assert not {"x-b", "user-agent"} & set(given)
    assert {"x-request-id", "traceparent"} <= set(given)


async def test_answers_lose_and_gain_headers():
    headers = {"x-internal-host": "db1", "x-kept": "1", "x-old": "2", "cache-control": "no-store"}
    changes = (
        'response: {headers: {remove: [x-internal-*], rename: {x-old: x-new}, set: {cache-control: "max-age=60"}, '
        'add: {x-for: "{caller.subject}"}}}'
    )
    found = await answered(changes, Network(headers=headers), headers=customer())
    assert (found["x-kept"], found["x-new"], found["cache-control"], found["x-for"]) == (
        "1",
        "2",
        "max-age=60",
        "usr_1",
    )
    assert not {"x-internal-host", "x-old"} & set(found)


async def test_templates_have_what_a_request_and_its_caller_say():
    places = {
        "x-1": "{rest}", "x-2": "{query.q}", "x-3": "{header.X-App}", "x-4": "{cookie.theme}", "x-5": "{caller.tier}",
        "x-6": "{request.method} {request.path} at {request.host}", "x-7": "{request.id}", "x-8": "{query.none}",
    }  # fmt: skip
    changes = f"request: {{headers: {{set: {json.dumps(places)}}}}}"
    headers = {"x-app": "shop", "cookie": "theme=dark", "x-request-id": "r-1", **customer()}
    given = await asked(changes, "/api/a%20b/c?q=t%C3%A9", headers=headers)
    assert [given.get(name) for name in places] == [
        "a b/c", "t%C3%A9", "shop", "dark", "default", "GET /api/a b/c at gateway.example", "r-1", None,
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["a%0d%0aset-cookie:%20a=b", "a%0aX-Auth-Subject:%20admin", "%00", "a%E2%80%A8b"])
async def test_no_value_begins_a_header_of_its_own(value):
    given = await asked('request: {headers: {set: {x-q: "{query.q}"}}}', f"/api/x?q={value}")
    assert given["x-q"].isprintable()
    assert given["x-q"].isascii()
    found = await client(route('response: {headers: {set: {x-q: "{query.q}"}}}')).get(f"/api/x?q={value}")
    assert "set-cookie" not in found.headers


@given(st.text())
def test_a_value_is_never_more_than_text_of_its_place(value):
    header = as_header(value)
    assert header == header.strip()
    assert header.isascii()
    assert header.isprintable()
    assert not set("/?#&:") & set(as_url(value))
    assert not set("<>\"'") & set(as_html(value))


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_value_stays_inside_its_string(value):
    assert json.loads(f'{{"a": "{as_json(value)}", "b": 1}}') == {"a": value, "b": 1}


def test_braces_around_no_name_are_text():
    assert Text('{"a": 1} { } {1}').names == ()


REFUSED = {
    "{caller.password}": "there is no {caller.password}",
    "{body.id}": "there is no {body.id}",
    "{nothing}": "uses {nothing}, which `path` does not capture",
    "{header.authorization}": "that header goes no further",
    "{header.X-Api-Key}": "that header goes no further",
    "{header.x-user-id}": "that header goes no further",
    "{header.cookie}": "that header goes no further",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_template_over_what_there_is_not_or_must_not_be_ends_the_start(text):
    with pytest.raises(ConfigError) as error:
        load(f"{AUTH}\nroutes:\n" + route(f'request: {{headers: {{set: {{x-a: "{text}"}}}}}}'))
    assert "routes[0].request.headers.set.x-a" in str(error.value)
    assert REFUSED[text] in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("request: {headers: {set: {x-auth-subject: me}}}", "the gateway itself sees to"),
        ("request: {headers: {set: {x-forwarded-for: me}}}", "the gateway itself sees to"),
        ("request: {headers: {set: {Content-Length: '1'}}}", "the gateway itself sees to"),
        ("request: {headers: {set: {host: a}}}", "the gateway itself sees to"),
        ("request: {headers: {add: {connection: close}}}", "the gateway itself sees to"),
        ("request: {headers: {rename: {x-a: x-auth-subject}}}", "cannot become x-auth-subject"),
        ("request: {headers: {rename: {x-a: x_user_id}}}", "cannot become x_user_id"),
        ("response: {headers: {set: {access-control-allow-origin: '*'}}}", "the gateway itself sees to"),
        ("response: {headers: {set: {transfer-encoding: chunked}}}", "the gateway itself sees to"),
        ('request: {headers: {set: {x-user-id: "{query.id}"}}}', "says who calls, and {query.id} is whatever a client"),
        ('request: {headers: {set: {x-user-id: "{header.x-id}"}}}', "says who calls"),
        ("request: {headers: {set: {x a: b}}}", "must"),
        ("request: {headers: {set: {x-a: 1, x-b: [2]}}}", "must be text"),
        ("request: {header: {}}", "headers"),
    ],
)
def test_a_change_that_cannot_be_made_ends_the_start(changes, message):
    with pytest.raises(ConfigError) as error:
        load(f"{AUTH}\nroutes:\n" + route(changes))
    assert message in str(error.value)


@pytest.mark.parametrize("service", ["identity: signed", "forward_credentials: true"])
def test_a_service_is_never_sent_two_credentials(service):
    text = AUTH.replace('any: {url: "http://any.internal"}', f'any: {{url: "http://any.internal", {service}}}')
    with pytest.raises(ConfigError) as error:
        load(f"{text}\nroutes:\n" + route("request: {headers: {set: {Authorization: Basic x}}}"))
    assert "routes[0].request.headers.set.Authorization: services.any is sent one already" in str(error.value)


async def test_an_identity_header_of_another_gateway_may_be_made_of_the_caller():
    changes = 'request: {headers: {set: {x-user-id: "{caller.subject}", authorization: "Bearer inside"}}}'
    given = await asked(changes, headers={"x-user-id": "victim", **customer()})
    assert (given["x-user-id"], given["authorization"]) == ("usr_1", "Bearer inside")
    assert "x-user-id" not in await asked(changes, headers={"x-user-id": "victim"})
