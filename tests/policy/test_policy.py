"""What the schema demands of callers: the same on each way to it, before a service is asked, in part or as a whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from graphql import build_schema, parse, print_ast
from typer.testing import CliRunner

from bff.assembly import schema_of
from bff.cli import main
from bff.config import load
from bff.graphql.compose import SchemaError
from tests.graphql.test_defer import NEW, parts
from tests.harness import BFF_YAML, Gateway, bearer, gateway, token
from tests.live.socket import Socket
from tests.live.sse import EventStream
from tests.policy import vault

CONFIG = BFF_YAML.replace("services:\n", 'services:\n  vault: {url: "http://vault.internal"}\n', 1)
POLICIES = {
    "gold": "'gold' in caller.scopes",
    "known": "caller.subject == 'usr_1'",
    "staff": "'staff' in caller.scopes && caller.credential == 'jwt'",
}
CALLERS: dict[str, dict[str, str]] = {
    "nobody": {},
    "plain": bearer(token("usr_1", "x")),
    "other": bearer(token("usr_2", "staff boxes:read")),
    "gold": bearer(token("usr_2", "gold gems:read")),
    "staff": bearer(token("usr_1", "staff admin boxes:read boxes:write")),
    "pricing": bearer(token("usr_2", "gold gems:read prices:read")),
}
UNAUTHENTICATED, FORBIDDEN = "UNAUTHENTICATED", "FORBIDDEN"


@pytest.fixture(autouse=True)
def fifth(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "schema.vault", vault)
    vault.asked.clear()


def shop(mode: str = "filter", **overrides: Any) -> Gateway:
    graphql = {"authorization": mode, "defer": True, "batching": {"max_operations": 5}}
    return gateway(CONFIG, policies=POLICIES, graphql=graphql | overrides.pop("graphql", {}), **overrides)


# Ways in: each says what came of an operation as it would be over POST.

Result = dict[str, Any]
Way = Callable[[Gateway, str, Mapping[str, str], Mapping[str, Any]], Awaitable[Result]]


def checked(response: Any) -> Result:
    body: Result = response.json()
    if "data" not in body:
        (code,) = codes(body)
        assert response.status_code == {UNAUTHENTICATED: 401, FORBIDDEN: 403}[code]
        assert (code == FORBIDDEN) or response.headers["www-authenticate"].startswith('Bearer realm="')
    return body


async def post(one: Gateway, document: str, headers: Mapping[str, str], variables: Mapping[str, Any]) -> Result:
    return checked(await one.client.post("/graphql", json={"query": document, "variables": variables}, headers=headers))


async def get(one: Gateway, document: str, headers: Mapping[str, str], variables: Mapping[str, Any]) -> Result:
    params = {"query": document, "variables": json.dumps(variables)}
    return checked(await one.client.get("/graphql", params=params, headers=headers))


async def batch(one: Gateway, document: str, headers: Mapping[str, str], variables: Mapping[str, Any]) -> Result:
    """Beside one that anybody may ask, which is answered whatever becomes of the other."""
    body = [{"query": document, "variables": variables}, {"query": "{ open }"}]
    first, second = (await one.client.post("/graphql", json=body, headers=headers)).json()
    assert second == {"data": {"open": "open"}}
    return first


async def sse(one: Gateway, document: str, headers: Mapping[str, str], variables: Mapping[str, Any]) -> Result:
    async with EventStream(one.app, document, headers=headers, variables=variables) as stream:
        if stream.status != 200:
            body = await stream.body()
            return checked(SimpleNamespace(json=lambda: body, status_code=stream.status, headers=stream.headers))
        event = await stream.event()
        assert event
        return event.data


async def websocket(one: Gateway, document: str, headers: Mapping[str, str], variables: Mapping[str, Any]) -> Result:
    async with Socket(one.app, headers=headers) as socket:
        await socket.init()
        await socket.subscribe("1", document, variables=variables)
        heard = await socket.hear()
        return {"errors": heard["payload"]} if heard["type"] == "error" else heard["payload"]


async def graphql_core(one: Gateway, document: str, headers: Mapping[str, str], variables: Mapping[str, Any]) -> Result:
    """Parts are executed by graphql-core, all others by our executor."""
    deferred = document.replace("{", "{ ... @defer { late: __typename }", 1)
    received = await one.client.post(
        "/graphql", json={"query": deferred, "variables": variables}, headers={**headers, **NEW}
    )
    if not received.headers["content-type"].startswith("multipart"):
        return checked(received)
    return parts(received)[0]


EVERY: dict[str, Way] = {
    "POST": post, "GET": get, "batch": batch, "SSE": sse, "websocket": websocket, "@defer": graphql_core,
}  # fmt: skip


def codes(result: Result) -> list[str]:
    return [each["extensions"]["code"] for each in result.get("errors", ())]


def outcome(result: Result) -> dict[str, str] | str:
    """What is refused: everything, or what is at which path."""
    if "data" not in result:
        (code,) = codes(result)
        return code
    refused = {".".join(map(str, each["path"])): each["extensions"]["code"] for each in result.get("errors", ())}
    for path in refused:
        at = result["data"]
        for step in path.split("."):
            at = at[int(step) if step.isdigit() else step] if at is not None else None
        assert at is None
    return refused


ALL = dict.fromkeys(CALLERS, ())
ASKED = {
    "a field that needs a credential": ("{ closed }", {"nobody": ["closed"]}),
    "an enum that needs a credential": ("{ cut }", {"nobody": ["cut"]}),
    "a type with a policy": (
        '{ gem(id: "gem_1") { carats } }',
        {"nobody": ["gem"], "plain": ["gem"], "other": ["gem"]},
    ),
    "a field of it that needs scopes, too": (
        '{ gem(id: "gem_1") { price } }',
        {"nobody": ["gem"], "plain": ["gem"], "other": ["gem"], "gold": ["gem.price"]},
    ),
    "a page of it": (
        "{ gems { edges { node { carats } } } }",
        {"nobody": ["gems"], "plain": ["gems"], "other": ["gems"]},
    ),
    "an edge to it": (
        '{ box(id: "box_1") { maker gem { carats } } }',
        {"nobody": ["box"], "plain": ["box"], "other": ["box.gem"], "gold": ["box"], "pricing": ["box"]},
    ),
    "node": (
        'query ($id: ID! = "gem_1") { node(id: $id) { id ... on Box { maker } } }',
        {"nobody": ["node"], "plain": ["node"], "other": ["node"]},
    ),
    "nodes": (
        '{ nodes(ids: ["box_1", "gem_1"]) { __typename ... on Node { id } } }',
        {
            "nobody": ["nodes.0", "nodes.1"],
            "plain": ["nodes.0", "nodes.1"],
            "other": ["nodes.1"],
            "gold": ["nodes.0"],
            "pricing": ["nodes.0"],
        },
    ),
    "a union": (
        '{ things(ids: ["gem_1", "box_1"]) { ... on Gem { carats } ... on Box { id } } }',
        {
            "nobody": ["things.0", "things.1"],
            "plain": ["things.0", "things.1"],
            "other": ["things.0"],
            "gold": ["things.1"],
            "pricing": ["things.1"],
        },
    ),
}
SKIPPED = 'query ($no: Boolean = false) { open closed @include(if: $no) gem(id: "gem_1") @include(if: $no) { id } }'


@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("asked", ASKED)
async def test_what_is_not_for_a_caller_is_null_and_an_error_at_its_path_or_the_operation_is_refused(way, asked):
    document, refused = ASKED[asked]
    filtering, rejecting = shop(), shop("reject")
    for caller, headers in CALLERS.items():
        code = UNAUTHENTICATED if caller == "nobody" else FORBIDDEN
        paths = refused.get(caller, [])
        found = await EVERY[way](filtering, document, headers, {})
        assert outcome(found) == dict.fromkeys(paths, code), caller
        vault.asked.clear()
        found = await EVERY[way](rejecting, document, headers, {})
        assert outcome(found) == (code if paths else {}), caller
        assert not (paths and vault.asked), caller


@pytest.mark.parametrize("way", [post, batch, sse, websocket])
async def test_mutations_are_refused_before_anything_is_done(way):
    for mode in ("filter", "reject"):
        one = shop(mode)
        for caller, headers in CALLERS.items():
            vault.asked.clear()
            found = await way(one, 'mutation { put(id: "box_1") { id } }', headers, {})
            code = UNAUTHENTICATED if caller == "nobody" else FORBIDDEN
            expected: Any = {} if caller == "staff" else code if mode == "reject" else {"put": code}
            assert outcome(found) == expected
            assert bool(vault.asked) is (caller == "staff")


@pytest.mark.parametrize("way", [sse, websocket])
async def test_a_subscription_that_is_refused_never_begins(way):
    for mode in ("filter", "reject"):
        one = shop(mode)
        for caller, headers in CALLERS.items():
            vault.asked.clear()
            found = await way(one, "subscription { cutGems { carats } }", headers, {})
            may = caller in {"gold", "staff", "pricing"}
            assert codes(found) == ([] if may else [UNAUTHENTICATED if caller == "nobody" else FORBIDDEN])
            assert bool(vault.asked) is may


async def test_a_field_of_an_event_is_judged_like_any_other():
    found = await websocket(shop(), "subscription { cutGems { carats price } }", CALLERS["gold"], {})
    assert found["data"] == {"cutGems": {"carats": 3, "price": None}}
    assert codes(found) == [FORBIDDEN]
    found = await websocket(shop("reject"), "subscription { cutGems { carats price } }", CALLERS["gold"], {})
    assert outcome(found) == FORBIDDEN


async def test_what_an_interface_demands_its_types_and_their_fields_demand():
    document = "{ labelled { label } }"
    one = shop()
    assert outcome(await post(one, document, {}, {})) == {"labelled": UNAUTHENTICATED}
    # A Box needs its scope besides, and a label the policy, by whichever type it is reached.
    assert outcome(await post(one, document, CALLERS["plain"], {})) == {"labelled.0": FORBIDDEN}
    found = await post(one, document, CALLERS["other"], {})
    assert {each["path"][-1] for each in found["errors"]} == {"label"}
    assert outcome(await post(one, document, CALLERS["staff"], {})) == {}


async def test_what_is_deferred_is_judged_too():
    document = '{ open ... @defer { gem(id: "gem_1") { carats } } }'
    response = await shop().client.post("/graphql", json={"query": document}, headers=NEW)
    late = [each for part in parts(response) for each in part.get("incremental", ())]
    assert [each["data"] for each in late] == [{"gem": None}]
    assert codes(late[0]) == [UNAUTHENTICATED]
    response = await shop("reject").client.post("/graphql", json={"query": document}, headers=NEW)
    assert response.status_code == 401
    assert not vault.asked


async def test_what_is_not_asked_for_this_time_is_not_demanded_either():
    one = shop("reject")
    assert (await post(one, SKIPPED, {}, {}))["data"] == {"open": "open"}
    assert outcome(await post(one, SKIPPED, {}, {"no": True})) == UNAUTHENTICATED
    assert (await post(one, SKIPPED, {}, {}))["data"] == {"open": "open"}
    by_id = "query ($id: ID!) { node(id: $id) { id } }"
    assert outcome(await post(one, by_id, CALLERS["gold"], {"id": "gem_1"})) == {}
    assert outcome(await post(one, by_id, CALLERS["gold"], {"id": "box_1"})) == FORBIDDEN
    assert outcome(await post(one, by_id, CALLERS["gold"], {"id": "nothing_1"})) == {}


async def test_messages_name_what_is_missing_and_for_what():
    one = shop("reject")
    document = '{ closed gem(id: "gem_1") { price } box(id: "box_1") { id } }'
    (error,) = (await post(one, document, CALLERS["gold"], {}))["errors"]
    assert error["message"] == (
        "The operation is refused as a whole: Query.box needs the scope boxes:read; "
        "Gem.price needs the scope gems:read prices:read or admin"
    )
    (error,) = (await post(one, document, CALLERS["plain"], {}))["errors"]
    assert "Query.gem needs the policy gold or known staff" in error["message"]
    (error,) = (await post(one, document, {}, {}))["errors"]
    assert error["message"] == (
        "The operation is refused as a whole: Query.closed, Query.gem, Query.box, Gem.price need a credential: "
        "send an API key or a bearer token"
    )
    (error,) = (await post(shop(), '{ box(id: "box_1") { id } }', CALLERS["plain"], {}))["errors"]
    assert error["message"] == "This field needs the scope boxes:read"


async def test_a_refused_operation_says_in_its_head_which_scopes_would_do():
    one = shop("reject")
    response = await one.client.post(
        "/graphql", json={"query": '{ box(id: "box_1") { id } }'}, headers=CALLERS["plain"]
    )
    assert response.headers["www-authenticate"].startswith(
        'Bearer realm="bff", error="insufficient_scope", scope="boxes:read"'
    )


@pytest.mark.parametrize("way", EVERY)
async def test_the_audit_log_has_one_line_of_each_refusal(way):
    for mode in ("filter", "reject"):
        one = shop(mode)
        await EVERY[way](one, '{ gem(id: "gem_1") { carats } }', CALLERS["plain"], {})
        (line,) = [each for each in one.log if each["event"] == "audit"]
        assert (line["action"], line["code"]) == ("refused", FORBIDDEN)


async def test_a_policy_of_a_route_is_the_same_as_one_of_a_field():
    """Over REST, GraphQL and websocket; a websocket to a route of REST is judged like a request."""
    vip = {"name": "vip", "path": "/vip/{id}", "service": "products", "rewrite": "/products/{id}", "public": True}
    routes = [vip | {"policies": ["known", "staff"]}]
    for mode in ("filter", "reject"):
        one = shop(mode, routes=routes)
        for caller, headers in CALLERS.items():
            response = await one.client.get("/vip/prd_1", headers=headers)
            expected = {} if caller == "staff" else UNAUTHENTICATED if caller == "nobody" else FORBIDDEN
            assert (response.json().get("code") or {}) == expected
            assert response.status_code == {UNAUTHENTICATED: 401, FORBIDDEN: 403}.get(str(expected), 200)
            for way in EVERY.values():
                found = outcome(await way(one, "{ vip }", headers, {}))
                assert found in (expected, {"vip": expected} if expected else {}), (caller, way)


async def test_a_policy_says_nothing_of_one_who_is_not_there():
    """It is an expression that comes to nothing: neither an error of ours nor leave to pass."""
    one = gateway(CONFIG, policies=POLICIES | {"known": "caller.subject.startsWith('usr_')"})
    assert outcome(await post(one, "{ paper { label } }", {}, {})) == {"paper": UNAUTHENTICATED}
    assert outcome(await post(one, "{ paper { label } }", {"x-api-key": "bff_partner_key"}, {})) != {}


# The schema.


def test_the_exported_schema_says_it_with_the_definitions():
    sdl = schema_of(load(CONFIG, overrides={"policies": POLICIES})).as_str()
    build_schema(sdl)
    places = "on OBJECT | FIELD_DEFINITION | INTERFACE | SCALAR | ENUM"
    assert f"directive @authenticated {places}" in sdl
    assert f"directive @requiresScopes(scopes: [[String!]!]!) {places}" in sdl
    assert f"directive @policy(policies: [[String!]!]!) {places}" in sdl
    assert 'type Gem implements Node @policy(policies: [["gold"], ["known", "staff"]]) {' in sdl
    assert 'price: Int @requiresScopes(scopes: [["gems:read", "prices:read"], ["admin"]])' in sdl
    assert "closed: String @authenticated" in sdl
    assert "interface Labelled @authenticated {" in sdl
    assert 'type Box implements Labelled & Node @requiresScopes(scopes: [["boxes:read"]]) {' in sdl.replace(
        "Node & Labelled", "Labelled & Node"
    )
    assert print_ast(parse(sdl))


def test_a_policy_that_is_not_configured_is_an_error_at_load_and_in_check(tmp_path):
    some = {name: each for name, each in POLICIES.items() if name != "gold"}
    with pytest.raises(SchemaError, match="there is no policy `gold` in `policies`"):
        gateway(CONFIG, policies=some)
    path = tmp_path / "bff.yaml"
    path.write_text(CONFIG + 'policies: {golden: "true", known: "true", staff: "true"}\n')
    found = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert found.exit_code == 1
    assert "vault.Gem: there is no policy `gold` in `policies`; did you mean `golden`?" in found.output


def test_explain_says_what_is_needed(tmp_path):
    (tmp_path / "bff.yaml").write_text(CONFIG + "policies:\n" + "".join(f'  {k}: "{v}"\n' for k, v in POLICIES.items()))
    (tmp_path / "a.graphql").write_text(
        'query A($id: ID!) { closed gem(id: "gem_1") { price } node(id: $id) { ... on Box { id } } }'
    )
    run = ["explain", str(tmp_path / "a.graphql"), "--config", str(tmp_path / "bff.yaml")]
    said = CliRunner().invoke(main, run)
    assert (
        "needs a credential, boxes:read, gems:read prices:read or admin, policy gold or known staff" in said.output
    ), said.output
