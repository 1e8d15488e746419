"""Documents by what stands for them: registered by their hash, or written down by an application's build."""

from __future__ import annotations

import json
from hashlib import sha256

import orjson
import pytest
from graphql import parse, print_ast
from typer.testing import CliRunner

from bff.cli import main
from bff.graphql.trusted import DocumentsError
from tests.harness import gateway, operator

FRAGMENTS = "fragment Item on Product { id ...Price }", "fragment Price on Product { price { amount } }"
NEWER = {"accept": "application/graphql-response+json"}
CHEAP = "query Cheap($first: Int = 2) { products(first: $first) { nodes { id } } }"
ME = "query Me { me { id } }"
DEEP = 'query Deep { order(id: "ord_1") { customer { orders { nodes { customer { id } } } } } }'


def hash_of(text):
    return sha256(text.encode()).hexdigest()


def persisted(text, **more):
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash_of(text)}}} | more


ME_ID = hash_of(print_ast(parse(ME)))
"""Of one operation among others in a file: as it is printed."""


@pytest.fixture
def operations(tmp_path):
    folder = tmp_path / "operations"
    folder.mkdir()
    (folder / "cheap.graphql").write_text(CHEAP)
    (folder / "both.graphql").write_text(f"# the caller\n{ME}\n{DEEP}")
    (folder / "item.gql").write_text(FRAGMENTS[0])
    (folder / "price.gql").write_text(FRAGMENTS[1])
    (folder / "item.graphql").write_text('query Item { product(id: "prd_1") { ...Item } }')
    return folder


def trusting(path, mode, **more):
    return gateway(profile="production", graphql={"documents": {"path": str(path), "mode": mode} | more})


async def ask(shop, body=None, path="/graphql", **headers):
    response = await shop.client.post(path, json=body or {}, headers=operator() | headers)
    found = response.json()
    return response.status_code, found.get("data"), [error["extensions"]["code"] for error in found.get("errors", ())]


@pytest.mark.parametrize("headers", [{}, NEWER])
async def test_a_document_is_registered_by_its_hash_and_then_known_by_it(headers):
    shop = gateway(profile="production")
    asked = await shop.client.post("/graphql", json=persisted(CHEAP), headers=headers)
    assert asked.status_code == 200
    assert asked.json()["errors"] == [
        {"message": "PersistedQueryNotFound", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}
    ]
    expected = {"products": {"nodes": [{"id": "prd_1"}, {"id": "prd_2"}]}}
    assert await ask(shop, persisted(CHEAP, query=CHEAP), **headers) == (200, expected, [])
    assert await ask(shop, persisted(CHEAP), **headers) == (200, expected, [])
    assert (await ask(shop, persisted(CHEAP, variables={"first": 1})))[1] == {"products": {"nodes": [{"id": "prd_1"}]}}


@pytest.mark.parametrize("headers", [{}, NEWER])
async def test_a_hash_that_is_not_that_of_the_text_registers_nothing(headers):
    shop = gateway()
    assert await ask(shop, persisted(CHEAP, query=ME), **headers) == (400, None, ["PERSISTED_QUERY_HASH_MISMATCH"])
    assert (await ask(shop, persisted(CHEAP)))[2] == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_a_document_that_cannot_be_executed_is_not_registered():
    shop = gateway()
    assert (await ask(shop, persisted("{ nothing }", query="{ nothing }")))[2] == ["GRAPHQL_VALIDATION_FAILED"]
    assert (await ask(shop, persisted("{ nothing }")))[2] == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_no_more_hashes_are_known_than_documents_are_remembered():
    shop = gateway(graphql={"memory": {"max_documents": 10}, "ide": False})
    texts = [f"query Q{n} {{ __typename }}" for n in range(50)]
    for text in texts:
        await ask(shop, persisted(text, query=text))
    assert len(shop.app.state.execution._documents._registered) == 10
    assert (await ask(shop, persisted(texts[0])))[2] == ["PERSISTED_QUERY_NOT_FOUND"]
    assert (await ask(shop, persisted(texts[-1])))[1] == {"__typename": "Query"}


async def test_where_hashes_are_off_clients_are_told_to_send_none():
    shop = gateway(graphql={"apq": False})
    response = await shop.client.post("/graphql", json=persisted(CHEAP))
    assert response.json()["errors"][0]["message"] == "PersistedQueryNotSupported"
    assert (await ask(shop, persisted(ME, query=ME)))[1] == {"me": {"id": "usr_1"}}
    assert (await ask(shop, persisted(ME)))[2] == ["PERSISTED_QUERY_NOT_FOUND"]


@pytest.mark.parametrize(
    "extension", [1, {}, {"version": 2, "sha256Hash": "a"}, {"version": 1}, {"version": 1, "sha256Hash": 5}, []]
)
async def test_a_hash_that_is_none_is_a_bad_request(extension):
    status, _, codes = await ask(gateway(), {"query": ME, "extensions": {"persistedQuery": extension}})
    assert (status, codes) == (400, ["BAD_REQUEST"])


async def test_a_hash_may_be_sent_by_get_where_pages_of_other_sites_cannot():
    shop = gateway(profile="production")
    query = {"extensions": orjson.dumps(persisted(CHEAP)["extensions"]).decode()}
    await ask(shop, persisted(CHEAP, query=CHEAP))
    refused = await shop.client.get("/graphql", params=query)
    assert refused.json()["errors"][0]["extensions"]["code"] == "CSRF_PREVENTION_FAILED"
    answered = await shop.client.get("/graphql", params=query, headers={"content-type": "application/json"})
    assert len(answered.json()["data"]["products"]["nodes"]) == 2


@pytest.mark.parametrize("mode", ["off", "log", "enforce"])
async def test_a_trusted_document_is_served_by_its_id_wherever_clients_put_it(operations, mode):
    shop = trusting(operations, mode)
    hash = hash_of(CHEAP)
    expected = (200, {"products": {"nodes": [{"id": "prd_1"}, {"id": "prd_2"}]}}, [])
    for body, path in [
        ({"documentId": hash}, "/graphql"),
        ({"documentId": f"sha256:{hash}"}, "/graphql"),
        ({"id": hash}, "/graphql"),
        (persisted(CHEAP), "/graphql"),
        (persisted(CHEAP, query=CHEAP), "/graphql"),
        ({}, f"/graphql/{hash}"),
        ({"variables": {"first": 2}}, f"/graphql/{hash}"),
        ({"query": CHEAP}, "/graphql"),
    ]:
        assert await ask(shop, body, path) == expected, (body, path)
    for path in (f"/graphql?documentId={hash}", f"/graphql?id={hash}", f"/graphql/{hash}?variables=%7B%7D"):
        answer = await shop.client.get(path)
        assert answer.json()["data"] == expected[1], path


async def test_fragments_come_from_any_file_and_text_may_be_spaced_in_any_way(operations):
    shop = trusting(operations, "enforce")
    texts = [
        'query Item { product(id: "prd_1") { ...Item } } ' + " ".join(FRAGMENTS),
        f"{ME} {DEEP}",
        f"#\n{CHEAP}",
        "query  Me{me{id}}",
    ]
    for text in texts:
        status, data, codes = await ask(shop, {"query": text, "operationName": parse(text).definitions[0].name.value})
        assert (status, codes) == (200, []), text
        assert data


@pytest.mark.parametrize("headers", [{}, NEWER])
async def test_where_they_are_enforced_nothing_else_is_executed(operations, headers):
    shop = trusting(operations, "enforce")
    hash = hash_of("{ __typename }")
    for body in (
        {"query": "{ __typename }"},
        {"query": "{"},
        {"query": CHEAP.replace("id", "id name")},
        {"documentId": hash},
        persisted("{ __typename }"),
        persisted("{ __typename }", query="{ __typename }"),
        persisted("{ __typename }"),
        {"documentId": hash, "query": "{ __typename }"},
    ):
        assert await ask(shop, body, **headers) == (400, None, ["QUERY_NOT_IN_SAFELIST"]), body
    assert await ask(shop, persisted(CHEAP, query=ME)) == (400, None, ["PERSISTED_QUERY_HASH_MISMATCH"])
    assert await ask(shop, {"query": CHEAP, "id": ME_ID}) == (200, {"me": {"id": "usr_1"}}, [])
    assert shop.access[-2]["code"] == "PERSISTED_QUERY_HASH_MISMATCH"
    assert sum((await shop.metrics("graphql_untrusted_documents_total")).values()) == 8


async def test_where_ids_are_required_the_text_of_a_trusted_document_is_refused_too(operations):
    shop = trusting(operations, "enforce", require_id=True)
    assert await ask(shop, {"query": CHEAP}) == (400, None, ["PERSISTED_QUERY_ID_REQUIRED"])
    assert (await ask(shop, {"documentId": ME_ID}))[1] == {"me": {"id": "usr_1"}}


async def test_log_serves_what_is_not_trusted_and_says_so_once_for_each_document(operations):
    shop = trusting(operations, "log")
    for _ in range(3):
        assert (await ask(shop, {"query": "query Own { __typename }"}))[1] == {"__typename": "Query"}
    await ask(shop, {"query": CHEAP})
    lines = [line for line in shop.log if line["event"] == "untrusted document"]
    assert [(line["hash"], line["operations"]) for line in lines] == [(hash_of("query Own { __typename }"), ["Own"])]
    assert sum((await shop.metrics("graphql_untrusted_documents_total")).values()) == 3


async def test_trusted_documents_are_exempt_from_what_bounds_strangers_but_their_variables_are_not(operations):
    many = (
        "query Many($ids: [ID!]!) { nodes(ids: $ids) { id } " + " ".join(f"a{n}: __typename" for n in range(60)) + "}"
    )
    (operations / "many.graphql").write_text(many)
    shop = gateway(graphql={"documents": {"path": str(operations), "mode": "log"}, "limits": {"depth": 3}})
    assert (await ask(shop, {"query": DEEP}))[2] == []
    assert (await ask(shop, {"query": DEEP.replace("customer { id }", "id customer { id }")}))[2] == ["MAX_DEPTH_LIMIT"]
    assert (await ask(shop, {"id": hash_of(many), "variables": {"ids": ["prd_1"]}}))[2] == []
    assert (await ask(shop, {"id": hash_of(many), "variables": {"ids": ["prd_1"] * 201}}))[2] == ["MAX_LIST_SIZE_LIMIT"]


@pytest.mark.parametrize("kind", ["apollo", "relay"])
async def test_the_manifest_that_build_writes_is_one_that_the_gateway_reads(operations, tmp_path, kind):
    manifest = tmp_path / "manifest.json"
    ran = CliRunner().invoke(main, ["documents", "build", str(operations), "--format", kind, "--output", str(manifest)])
    assert ran.exit_code == 0, ran.output
    written = json.loads(manifest.read_text())
    if kind == "apollo":
        assert [(each["name"], each["type"]) for each in written["operations"]] == [
            (name, "query") for name in ("Cheap", "Deep", "Item", "Me")
        ]
        written = {each["id"]: each["body"] for each in written["operations"]}
    assert all(id == hash_of(text) for id, text in written.items())
    shop = trusting(manifest, "enforce")
    for id, text in written.items():
        status, data, codes = await ask(shop, {"documentId": id})
        assert (status, codes) == (200, []), text
        assert ("__typename" in orjson.dumps(data).decode()) is (kind == "apollo")
        assert await ask(shop, {"query": text}) == (200, data, [])


async def test_ids_of_a_manifest_are_whatever_its_tool_made(tmp_path):
    (tmp_path / "relay.json").write_text(json.dumps({"9a0364b9e99bb480dd25e1f0284c8555": ME}))
    shop = trusting(tmp_path / "relay.json", "enforce")
    for body in ({"id": "9a0364b9e99bb480dd25e1f0284c8555"}, {"documentId": hash_of(ME)}, {"query": ME}):
        assert (await ask(shop, body))[1] == {"me": {"id": "usr_1"}}
    by_extension = {"persistedQuery": {"version": 1, "sha256Hash": "9a0364b9e99bb480dd25e1f0284c8555"}}
    assert (await ask(shop, {"extensions": by_extension}))[1] == {"me": {"id": "usr_1"}}


WRONG = {
    "no such thing": (None, "there is no such file or folder"),
    "an empty folder": ({}, "there is no .graphql file and no manifest"),
    "a document that does not parse": ({"a.graphql": "query {"}, "a.graphql:1:8: Syntax Error"),
    "a document that does not fit": (
        {"a.graphql": "query A { nothing }"},
        "a.graphql: A: Cannot query field 'nothing'",
    ),
    "a fragment that is nowhere": ({"a.graphql": "query A { ...F }"}, "a.graphql: A: there is no fragment F"),
    "a name that is taken": (
        {"a.graphql": "query A { __typename }", "b.graphql": "query A { me { id } }"},
        "b.graphql: A is defined in",
    ),
    "a type": ({"a.graphql": "type A { b: Int }"}, "a.graphql: there may be operations and fragments alone"),
    "a circle": (
        {"a.graphql": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }"},
        "Fragments spread each other in a circle",
    ),
    "introspection": ({"a.graphql": "query A { __schema { types { name } } }"}, "Introspection is off"),
    "no JSON": ({"a.json": "{"}, "a.json: Expecting"),
    "a list": ({"a.json": "[]"}, "a.json: is no manifest"),
    "another format": ({"a.json": '{"format": "x", "version": 1}'}, "a.json: is neither a manifest of the format"),
    "no operations": ({"a.json": '{"format": "apollo-persisted-query-manifest", "version": 1}'}, "has no list of"),
    "an id that is none": ({"a.json": '{"": "{ __typename }"}'}, "has an entry that is no id"),
    "bytes": ({"a.graphql": b"\xff"}, "a.graphql: 'utf-8'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_gateway_does_not_start_with_documents_that_it_could_not_serve(tmp_path, case):
    files, message = WRONG[case]
    folder = tmp_path / "operations"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DocumentsError) as refused:
        trusting(folder, "log")
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1, "each problem is said once"


def test_check_says_what_is_wrong_with_trusted_documents(operations):
    (operations / "wrong.graphql").write_text("query Wrong { nothing }")
    ran = CliRunner().invoke(main, ["check"], env={"BFF__GRAPHQL__DOCUMENTS__PATH": str(operations)})
    assert ran.exit_code == 1
    assert ran.stderr == f"{operations}/wrong.graphql: Wrong: Cannot query field 'nothing' on type 'Query'.\n"


def test_build_says_what_is_wrong_and_writes_nothing(operations, tmp_path):
    (operations / "wrong.graphql").write_text("query Wrong { nothing }")
    output = tmp_path / "manifest.json"
    ran = CliRunner().invoke(main, ["documents", "build", str(operations), "--output", str(output)])
    assert ran.exit_code == 1
    assert "Wrong: Cannot query field 'nothing'" in ran.stderr
    assert not output.exists()
