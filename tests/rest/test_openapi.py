"""The gateway's own OpenAPI document: what services say of themselves, as clients of the routes have it."""

import re
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.config import ConfigError
from bff.core.route import Route
from bff.rest.openapi.paths import outer
from tests.harness import gateway, partner
from tests.running import ROOT
from tests.shop import NAMES

CONTRACTS = {name: {"openapi": str(ROOT / "contracts" / f"{name}.yaml")} for name in NAMES}
TIERS = {"partner": {"rate": ["1000/minute"], "entitlements": "some"}}


async def document(running, **request):
    answer = await running.client.get("/openapi.json", **request)
    assert answer.status_code == 200
    return answer.json()


def operations(found):
    return {(method.upper(), path) for path, item in found["paths"].items() for method in item}


def references(found):
    if isinstance(found, dict):
        yield from [found["$ref"]] if isinstance(found.get("$ref"), str) else []
        found = list(found.values())
    if isinstance(found, list):
        for each in found:
            yield from references(each)


async def test_every_operation_of_a_service_is_where_the_routes_have_it():
    found = await document(gateway(services=CONTRACTS))
    expected = set()
    for name in NAMES:
        contract = yaml.safe_load((ROOT / "contracts" / f"{name}.yaml").read_text())
        expected |= {
            (m.upper(), f"/api{p}") for p, item in contract["paths"].items() for m in item if m != "parameters"
        }
    assert operations(found) == expected
    for each in references(found):
        _, _, kind, name = each.split("/")
        assert name in found["components"][kind], each
    assert schemathesis.openapi.from_dict(found).get_all_operations()


async def test_it_says_what_is_needed_and_what_the_gateway_answers():
    found = await document(gateway(services=CONTRACTS))
    placing = found["paths"]["/api/orders"]["post"]
    assert placing["security"] == [{"token": ["orders:write"]}, {"key": ["orders:write"]}]
    assert found["paths"]["/api/products"]["get"]["security"][0] == {}
    assert found["components"]["securitySchemes"].keys() == {"token", "key"}
    assert {"201", "400", "401", "403", "413", "422", "429", "502", "503", "504", "default"} <= placing[
        "responses"
    ].keys()
    limited = found["components"]["responses"]["RateLimited"]
    assert {"x-request-id", "RateLimit", "RateLimit-Policy", "Retry-After"} == limited["headers"].keys()
    assert {"RateLimit", "x-request-id"} <= placing["responses"]["201"]["headers"].keys()
    assert "RateLimit" not in str(await document(gateway(services=CONTRACTS, limits={"mode": "off"})))
    assert "X-Auth-Subject" not in str(found), "what services are told inside is nobody else's business"


async def test_without_documents_the_routes_are_described_as_they_are():
    found = await document(gateway())
    assert ("GET", "/api/products/{rest}") in operations(found)
    assert ("PATCH", "/api/users") in operations(found)
    assert "/graphql" not in found["paths"]


@pytest.mark.parametrize(
    ("path", "rewrite", "inner", "expected"),
    [
        ("/api/users/{rest*}", "/users/{rest}", "/users", "/api/users"),
        ("/api/users/{rest*}", "/users/{rest}", "/users/{id}/avatar", "/api/users/{id}/avatar"),
        ("/api/users/{rest*}", "/users/{rest}", "/orders", None),
        ("/api/users/{id}", "/users/{id}", "/users/{userId}", "/api/users/{userId}"),
        ("/api/users/{id}", "/users/{id}", "/users/{id}/avatar", None),
        ("/api/users/{rest*}", None, "/api/users/{id}", "/api/users/{id}"),
        ("/me", "/users/usr_1", "/users/{id}", "/me"),
        ("/{tenant}/users/{id}", "/users/{id}", "/users/{id}", "/{tenant}/users/{id}"),
        ("/x/{rest*}", "/a/{rest}/b", "/a/{id}/c/b", "/x/{id}/c"),
        ("/search", "/products?q={query.term}", "/products", "/search"),
        ("/{id}/of/{x}", "/a/{x}", "/a/{id}", None),
    ],
)
def test_a_rewrite_is_read_the_other_way_round(path, rewrite, inner, expected):
    place = outer(Route("r", path, service="s", rewrite=rewrite), inner)
    assert (place and place.path) == expected


async def test_of_two_routes_the_one_that_answers_is_described(tmp_path):
    receipts = {"name": "receipts", "path": "/api/payments/{id}/receipt", "methods": ["GET"], "service": "payments"}
    routes = [
        {"name": "all", "path": "/api/payments/{rest*}", "service": "payments", "rewrite": "/payments/{rest}"},
        receipts | {"rewrite": "/payments/{id}/receipt", "scopes": {"read": ["receipts:read"]}},
        {"name": "find", "path": "/find", "service": "products", "rewrite": "/products?q={query.term}"}
        | {"methods": ["GET"], "public": True, "headers": {"x-beta": "1"}},
    ]
    found = (await document(gateway(services=CONTRACTS, routes=routes)))["paths"]
    assert found["/api/payments/{id}/receipt"]["get"]["security"][0] == {"token": ["receipts:read"]}
    assert found["/api/payments/{id}/refund"]["post"]["security"][0] == {"token": []}
    assert [each["name"] for each in found["/find"]["get"]["parameters"]] == ["term"]
    assert "headers[x-beta] = 1" in found["/find"]["get"]["description"]


OLD = """
openapi: 3.0.3
info: {title: Pets, version: "1"}
paths:
  /pets/{petId}:
    parameters: [{$ref: '#/components/parameters/petId'}]
    get:
      responses:
        "200": {description: a pet, content: {application/json: {schema: {$ref: '#/components/schemas/Pet'}}}}
        "500": {description: ours}
components:
  parameters:
    petId: {name: petId, in: path, required: true, schema: {type: integer, minimum: 0, exclusiveMinimum: true}}
  schemas:
    Pet:
      oneOf: [{$ref: '#/components/schemas/Cat'}]
      discriminator: {propertyName: kind, mapping: {cat: '#/components/schemas/Cat'}}
    Cat: {type: object, properties: {name: {type: string, nullable: true}}}
    Unused: {type: object}
"""


def pets(tmp_path: Path, text: str = OLD, **more):
    path = tmp_path / "pets.yaml"
    path.write_text(text)
    route = {"name": "pets", "path": "/pets/{rest*}", "service": "pets", "public": True}
    return gateway(services={"pets": {"url": "http://pets.internal", "openapi": str(path)}}, routes=[route | more])


async def test_a_document_of_3_0_is_one_of_3_1_here(tmp_path):
    found = await document(pets(tmp_path))
    schemas = found["components"]["schemas"]
    assert schemas.keys() == {"Problem", "pets.Pet", "pets.Cat"}
    assert schemas["pets.Cat"]["properties"]["name"] == {"type": ["string", "null"]}
    assert schemas["pets.Pet"]["discriminator"]["mapping"] == {"cat": "#/components/schemas/pets.Cat"}
    getting = found["paths"]["/pets/{petId}"]["get"]
    assert getting["parameters"][0]["schema"] == {"type": "integer", "exclusiveMinimum": 0}
    assert "500" not in getting["responses"]
    assert "500" in (await document(pets(tmp_path, errors="relay")))["paths"]["/pets/{petId}"]["get"]["responses"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("swagger: '2.0'", "no OpenAPI 3.0 or 3.1"),
        ("openapi: 3.1.0\npaths: {/a: {$ref: 'other.yaml'}}", "bundle it"),
        ("openapi: 3.1.0\npaths: {a: {}}", "does not begin with /"),
        ("openapi: 3.1.0\npaths: [", "pets.yaml:"),
        (OLD.replace("in: path, ", ""), "a parameter of GET /pets/{petId} without"),
        ("openapi: 3.1.0\npaths: {/a: {get: []}}", "not built as"),
        ("openapi: 3.1.0\npaths: []", "not built as"),
    ],
)
def test_a_document_that_cannot_be_used_is_an_error_at_the_start(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=re.escape("services.pets.openapi")) as refused:
        pets(tmp_path, text)
    assert complaint in str(refused.value)


def test_a_document_that_is_not_there_is_an_error_at_the_start():
    with pytest.raises(ConfigError, match=re.escape("services.users.openapi")):
        gateway(services={"users": {"openapi": "/nowhere.yaml"}})


# Who sees what.


async def test_production_has_no_document_unless_it_is_turned_on():
    for path in ("/openapi.json", "/docs", "/docs/assets/docs.js"):
        assert (await gateway(profile="production").client.get(path)).status_code == 404
    on = gateway(
        profile="production", openapi={"enabled": True, "path": "/api/openapi.json", "page": None, "public": False}
    )
    assert (await on.client.get("/api/openapi.json")).status_code == 401
    assert (await on.client.get("/api/openapi.json", headers=partner())).status_code == 200
    assert (await on.client.get("/docs")).status_code == 404


async def test_a_partner_sees_what_it_is_entitled_to_and_of_the_rest_not_even_the_types():
    table = {"some": ["GET /api/products/**", "!GET /api/products/export"]}
    running = gateway(services=CONTRACTS, entitlements=table, tiers=TIERS)
    seen = await document(running, headers=partner())
    assert operations(seen) == {("GET", "/api/products"), ("GET", "/api/products/{id}")}
    assert {name.partition(".")[0] for name in seen["components"]["schemas"]} == {"Problem", "products"}
    assert len(operations(await document(running))) == 18
    nothing = gateway(services=CONTRACTS, entitlements={"some": ["Product.*"]}, tiers=TIERS)
    assert (await document(nothing, headers=partner()))["paths"] == {}


async def test_the_document_is_not_sent_again_to_those_who_have_it():
    running = gateway(services=CONTRACTS, entitlements={"some": ["GET /api/users/*"]}, tiers=TIERS)
    first = await running.client.get("/openapi.json")
    again = {"if-none-match": first.headers["etag"]}
    assert (await running.client.get("/openapi.json", headers=again)).status_code == 304
    assert (await running.client.get("/openapi.json", headers=again | partner())).status_code == 200
    assert "Authorization" in first.headers["vary"]


SEGMENTS = st.sampled_from(["users", "products", "orders", "payments", "*", "**", "prd_1", "~", "export", "cancel"])
ENTRIES = st.builds(
    lambda deny, method, segments: f"{deny}{method} /api/{'/'.join(segments)}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["GET", "POST", "PATCH", "*"]),
    st.lists(SEGMENTS, min_size=1, max_size=3),
)


@given(table=st.lists(ENTRIES, max_size=5))
@settings(max_examples=60, deadline=None)
async def test_visible_means_allowed_and_what_is_denied_is_not_in_the_document(table):
    key_sees_all = {"rate": ["1000000/minute"], "entitlements": "some"}
    scopes = {name: {"read": [], "write": []} for name in NAMES}
    running = gateway(
        services=CONTRACTS,
        entitlements={"some": table},
        tiers={"partner": key_sees_all},
        routes=[
            {"name": name, "path": f"/api/{name}/{{rest*}}", "service": name, "rewrite": f"/{name}/{{rest}}"}
            for name in scopes
        ],
        limits={"mode": "off"},
    )
    everything = operations(await document(running))
    seen = operations(await document(running, headers=partner()))
    for method, path in everything:
        answer = await running.client.request(method, re.sub(r"\{\w+\}", "~", path), headers=partner())
        refused = answer.status_code == 403 and answer.json().get("detail", "").endswith("entitled to")
        assert refused != ((method, path) in seen)


async def test_allow_names_the_methods_that_the_services_document_has():
    for path, allow in (("/api/users", "GET, HEAD, OPTIONS"), ("/api/users/usr_1", "GET, HEAD, OPTIONS, PATCH")):
        routed = gateway(
            services=CONTRACTS,
            routes=[
                {
                    "name": "users",
                    "path": "/api/users/{rest*}",
                    "methods": ["GET", "PATCH"],
                    "service": "users",
                    "rewrite": "/users/{rest}",
                }
            ],
        )
        answer = await routed.client.delete(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allow)
        assert (await routed.client.options(path)).headers["allow"] == allow


async def test_the_page_is_served_whole_and_its_policy_is_strict():
    running = gateway()
    page = await running.client.get("/docs")
    assert page.status_code in {200, 404}  # where it was never made, it says how
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "https://" not in page.text
    missing = await running.client.get("/docs/assets/nothing.js")
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
