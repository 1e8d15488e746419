import json

import pytest

from bff.config import ConfigError, load
from tests.rest.changed import AUTH, Network, client, route

JSON = {"content-type": "application/json"}
XML = {"content-type": "application/xml; charset=utf-8"}
PAGE = {"items": [{"id": 1, "sku": "a", "stock": 3}, {"id": 2, "sku": "b", "stock": 0}], "next": None}


async def down(body, value=PAGE, **options):
    network = Network(headers=JSON, body=json.dumps(value).encode())
    answer = await client(route(f"response: {{body: {body}}}"), network).get("/api/x", **options)
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (
            "{rename: {sku: article}, drop: [stock]}",
            {"items": [{"id": 1, "article": "a"}, {"id": 2, "article": "b"}], "next": None},
        ),
        ("{drop: [items.stock, id, next]}", {"items": [{"sku": "a"}, {"sku": "b"}]}),
        (
            "{rename: {items.sku: article, next: cursor}, pick: [items.sku, next]}",
            {"items": [{"article": "a"}, {"article": "b"}], "cursor": None},
        ),
        ("{unwrap: items, drop: [stock, sku]}", [{"id": 1}, {"id": 2}]),
        ("{pick: [next], wrap: page}", {"page": {"next": None}}),
        ("{jmespath: 'items[?stock > `0`].{n: id}', wrap: data}", {"data": [{"n": 1}]}),
    ],
)  # fmt: skip
async def test_a_body_is_shaped(body, value):
    answer = await down(body)
    assert (answer.status_code, answer.json()) == (200, value)
    assert answer.headers["content-type"] == "application/json"


async def test_members_are_named_wherever_they_are_or_by_the_path_to_them():
    value = {"a": {"x": 1, "y": [{"x": 2}]}, "x": 3}
    assert (await down("{drop: [x]}", value)).json() == {"a": {"y": [{}]}}
    assert (await down("{drop: [a.x]}", value)).json() == {"a": {"y": [{"x": 2}]}, "x": 3}
    assert (await down("{rename: {a.y.x: z}}", value)).json() == {"a": {"x": 1, "y": [{"z": 2}]}, "x": 3}


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"content-type": "text/html"}, 200), ({"content-type": "application/problem+json"}, 404), (JSON, 404), ({}, 200)],
)
async def test_what_is_no_json_or_no_success_is_passed_on_as_it_is(headers, status):
    network = Network(status, headers, b'{"stock": 1}')
    answer = await client(route("response: {body: {drop: [stock]}}"), network).get("/api/x")
    assert (answer.status_code, answer.json()) == (status, {"stock": 1})
    assert answer.headers.get("content-type") == headers.get("content-type")


async def test_what_is_said_of_the_services_bytes_is_not_said_of_others():
    said = JSON | {"etag": '"v1"', "accept-ranges": "bytes", "content-md5": "x", "content-digest": "y", "x-kept": "z"}
    network = Network(headers=said, body=b'{"a": 1}')
    api = client(route("response: {body: {drop: [a]}}"), network)
    answer = await api.get(
        "/api/x", headers={"range": "bytes=0-1", "accept-encoding": "gzip", "if-none-match": 'W/"v1"'}
    )
    assert (answer.content, answer.headers["etag"], answer.headers["x-kept"]) == (b"{}", 'W/"v1"', "z")
    assert not {"accept-ranges", "content-md5", "content-digest"} & set(answer.headers)
    assert "range" not in network.given
    assert (network.given["accept-encoding"], network.given["if-none-match"]) == ("identity", 'W/"v1"')
    network.status, network.content = 304, b""
    again = await api.get("/api/x", headers={"if-none-match": 'W/"v1"'})
    assert (again.status_code, again.headers["etag"], again.content) == (304, 'W/"v1"', b"")


async def test_the_answer_to_head_has_no_length_of_another_body():
    network = Network(headers=JSON | {"content-length": "8"}, body=b"")
    answer = await client(route("response: {body: {drop: [a]}}"), network).head("/api/x")
    assert answer.status_code == 200
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, b"{"),
        (JSON, b"[" * 2000),
        (JSON, b'{"a":' * 150 + b"1" + b"}" * 150),
        (JSON | {"content-encoding": "gzip"}, b"\x1f\x8b"),
        (JSON, b'{"a": "' + b"x" * 3000 + b'"}'),
    ],
)
async def test_an_answer_that_cannot_be_shaped_is_the_services_fault(headers, body):
    for network in (Network(headers=headers, body=body), Network(headers=headers, chunks=[body[:5], body[5:]])):
        changes = "response: {max_body: 2KB, body: {unwrap: b}}"
        answer = await client(route(changes), network).get("/api/x", headers={"accept-encoding": "identity"})
        assert (answer.status_code, answer.json()["code"]) == (502, "UPSTREAM_BAD_RESPONSE")
        assert answer.json()["service"] == "any"


async def test_a_body_without_what_is_unwrapped_is_the_services_fault():
    answer = await client(route("response: {body: {unwrap: a.b}}"), Network(headers=JSON, body=b'{"a": 1}')).get(
        "/api/x"
    )
    assert (answer.status_code, answer.json()["detail"]) == (502, "A service's body has nothing under a.b")


async def test_a_large_answer_in_pieces_is_held_and_shaped():
    value = {"items": [{"id": n, "stock": n} for n in range(20_000)]}
    body = json.dumps(value).encode()
    network = Network(headers=JSON, chunks=[body[at : at + 60_000] for at in range(0, len(body), 60_000)])
    answer = await client(route("response: {body: {drop: [stock]}}"), network).get("/api/x")
    assert answer.json() == {"items": [{"id": n} for n in range(20_000)]}


async def test_a_services_failure_is_a_problem_before_anything_is_made_of_it():
    network = Network(500, JSON, b'{"stack": "secret"}')
    answer = await client(route("response: {body: {drop: [x]}, headers: {set: {x-a: b}}}"), network).get("/api/x")
    assert (answer.status_code, answer.json()["code"]) == (502, "UPSTREAM_ERROR")


# XML and forms.


async def test_a_service_speaks_xml_and_its_client_gets_json():
    network = Network(
        headers=XML | {"etag": '"1"'}, body=b'<receipt id="1"><line>tea</line><line>milk</line></receipt>'
    )
    answer = await client(route("response: {decode: xml}"), network).get(
        "/api/x", headers={"accept": "application/json"}
    )
    assert answer.json() == {"receipt": {"@id": "1", "line": ["tea", "milk"]}}
    assert (answer.headers["content-type"], answer.headers["etag"]) == ("application/json", 'W/"1"')
    assert network.given["accept"].startswith("application/xml")


async def test_a_refusal_in_xml_is_json_too_and_shaped_it_is_not():
    changes = "response: {decode: xml, body: {unwrap: receipt}}"
    answer = await client(route(changes), Network(404, XML, b"<error>none</error>")).get("/api/x")
    assert (answer.status_code, answer.json()) == (404, {"error": "none"})
    answer = await client(route(changes), Network(200, XML, b"<receipt><id>1</id></receipt>")).get("/api/x")
    assert answer.json() == {"id": "1"}


@pytest.mark.parametrize("body", [b"<a>", b"<!DOCTYPE a><a/>", b'<?xml version="1.0" encoding="ebcdic-cp-us"?><a/>'])
async def test_what_is_no_xml_that_is_read_here_is_the_services_fault(body):
    answer = await client(route("response: {decode: xml}"), Network(headers=XML, body=body)).get("/api/x")
    assert (answer.status_code, answer.json()["code"]) == (502, "UPSTREAM_BAD_RESPONSE")


async def up(changes, body, kind="application/json", status=200):
    network = Network()
    answer = await client(route(f"request: {{{changes}}}"), network).post(
        "/api/x", content=body, headers={"content-type": kind}
    )
    assert answer.status_code == status, answer.text
    if status != 200:
        assert network.asked == 0
        return answer.json()
    assert int(network.given["content-length"]) == len(network.body)
    return network.given["content-type"], network.body


async def test_a_client_sends_json_and_its_service_gets_xml():
    kind, body = await up(
        "encode: xml, root: order", b'{"item": ["tea", "milk"], "@id": 7, "paid": true, "note": null}'
    )
    assert kind == "application/xml"
    assert body.partition(b"\n")[2] == (
        b'<order id="7"><item>tea</item><item>milk</item><paid>true</paid><note/></order>'
    )


async def test_a_client_sends_a_form_and_its_service_gets_json():
    form = "application/x-www-form-urlencoded; charset=utf-8"
    kind, body = await up("decode: form, lists: [tag]", b"name=t%C3%A9+1&tag=a&x=1&x=2&empty=", form)
    assert kind == "application/json"
    assert json.loads(body) == {"name": "té 1", "tag": ["a"], "x": ["1", "2"], "empty": ""}


async def test_json_becomes_a_form():
    kind, body = await up("encode: form", b'{"a": ["x y", 1], "b": true}')
    assert (kind, body) == ("application/x-www-form-urlencoded", b"a=x+y&a=1&b=true")


async def test_a_requests_body_is_shaped():
    _, body = await up("body: {rename: {article: sku}, drop: [admin]}", b'{"article": "a", "admin": true}')
    assert json.loads(body) == {"sku": "a"}


@pytest.mark.parametrize(
    ("changes", "body", "detail"),
    [
        ("encode: xml", b"{", "The body is no JSON"),
        ("encode: xml", b'{"a b": 1}', "a member whose name is no name in XML"),
        ("encode: xml", b'{"a": "\\u0000"}', "a character that XML has not"),
        ("encode: xml", b'{"a": [[1]]}', "a list in a list"),
        ("encode: xml", b'{"a":' * 150 + b"1" + b"}" * 150, "nested more than 100 deep"),
        ("encode: form", b"[1]", "is no object, as a form is"),
        ("body: {unwrap: data}", b"{}", "has nothing under data"),
        ("body: {drop: [x]}", b"[" * 900 + b"]" * 900, "nested more than 100 deep"),
    ],
)
async def test_a_body_that_cannot_be_made_anew_is_the_clients_fault(changes, body, detail):
    problem = await up(changes, body, status=400)
    assert problem["code"] == "BAD_REQUEST"
    assert detail in problem["detail"]


async def test_a_body_of_another_kind_is_refused_before_it_is_sent():
    assert (await up("decode: form", b"{}", status=415))["detail"] == (
        "The body has to be application/x-www-form-urlencoded"
    )
    assert (await up("body: {drop: [x]}", b"a=b", "text/plain", status=415))["code"] == "UNSUPPORTED_MEDIA_TYPE"


async def test_a_form_of_too_many_fields_is_refused():
    body = b"&".join([b"a=1"] * 1001)
    problem = await up("decode: form", body, "application/x-www-form-urlencoded", 400)
    assert "1000 fields" in problem["detail"]


async def test_a_body_to_be_made_anew_is_held_within_the_routes_bound():
    changes = "max_body: 1KB, request: {body: {drop: [x]}}"
    answer = await client(route(changes)).post(
        "/api/x", content=iter_of(b'{"a": "' + b"x" * 2000 + b'"}'), headers=JSON
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def iter_of(body):
    yield body[:5]
    yield body[5:]


async def test_a_request_without_a_body_needs_none():
    network = Network(headers=JSON)
    answer = await client(route("request: {encode: xml}"), network).get("/api/x")
    assert (answer.status_code, network.body) == (200, b"")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("response: {body: {jmespath: 'a['}}", "must be a JMESPath expression"),
        ("response: {body: {rename: {a: b.c}}}", "must become a name, not a path"),
        ("response: {body: {drop: [a..b]}}", "a path with an empty name"),
        ("response: {decode: json, encode: json}", "is json like `decode`"),
        ("response: {decode: yaml}", "must be"),
        ("response: {lists: [a]}", "needs `decode: xml` or `decode: form`"),
        ("request: {root: a}", "needs `encode: xml`"),
        ("request: {encode: xml, root: 'a b'}", "must"),
        ("request: {body: {dropp: [a]}}", "did you mean `drop`?"),
    ],
)
def test_a_transformation_that_makes_no_sense_ends_the_start(changes, message):
    with pytest.raises(ConfigError) as error:
        load(f"{AUTH}\nroutes:\n" + route(changes))
    assert message in str(error.value)


def test_a_body_that_is_made_anew_cannot_be_held_to_a_document_as_well():
    with pytest.raises(ConfigError) as error:
        load(f"{AUTH}\nroutes:\n" + route("validate: request, request: {body: {drop: [x]}}"))
    assert "cannot be with a `request` body that is made anew" in str(error.value)
