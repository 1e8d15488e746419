"""Who uses what is counted by coordinate, route, client and day, and says whom a change of the schema would hurt."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from io import BytesIO
from random import Random
from types import SimpleNamespace

import pytest
from graphql import BreakingChangeType, TypeInfo, TypeInfoVisitor, Visitor, build_schema, parse, validate, visit
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bff.cli import main
from bff.config import ConfigError
from bff.core.identity import ANONYMOUS, Caller
from bff.core.telemetry import JsonLog
from bff.core.usage import Counts, Usage, UsageSettings, of_all
from bff.graphql.breaking import breaks
from bff.graphql.coordinates import Asks
from tests.engine.operations import written
from tests.harness import BFF_YAML, FOUR_SERVICES, bearer, customer, gateway, operator, partner, token
from tests.reloading import TEXT, Reloading, living, retired

A_DAY = 86_400
NOON = 1_764_072_000.0  # 2025-11-25


async def uses(gate, kind="graphql"):
    said = (await gate.admin.get("/-/usage")).json()
    return {(use.thing, use.client): use.count for use in Counts(said["days"]).uses(kind)}


async def test_fields_arguments_and_routes_are_counted_by_client():
    gate = gateway()
    for headers in (partner(), partner(), bearer(token(client_id="ios"))):
        await gate.query('{ user(id: "usr_1") { name } }', headers=headers)
    await gate.client.get("/api/products/prd_1")
    assert await uses(gate) == {
        (thing, client): count
        for thing in ("Query.user", "Query.user(id:)", "User.name")
        for client, count in (("partner", 2), ("ios", 1))
    }
    assert await uses(gate, "rest") == {("products", "anonymous"): 1}


async def test_what_was_counted_in_memory_outlives_a_change_of_how_it_is_kept(tmp_path):
    one = Reloading(tmp_path, TEXT + "observability: {usage: {days: 30}}\n")
    async with living(one.generations):
        for number, (old, new) in enumerate(
            [("days: 30", "days: 20"), ("days: 20", "max_entries: 100"), ("max_entries: 100", "path: usage.json")], 1
        ):
            assert (await one.client.get("/api/products/prd_1")).status_code == 200
            one.write(old, new)
            assert (await one.generations.reload("file")).outcome == "taken"
            await retired(one)
            assert await uses(one, "rest") == {("products", "anonymous"): number}
    assert [each.count for each in Counts.read(tmp_path / "usage.json").uses("rest")] == [3]


async def test_nothing_that_is_counted_is_about_a_person():
    gate = gateway()
    await gate.query("query Mine($id: ID!) { user(id: $id) { name } }", {"id": "usr_7"}, headers=operator())
    await gate.query("{ me { name } }", headers=customer("usr_3"))
    said = (await gate.admin.get("/-/usage")).text
    assert "usr_" not in said
    assert "https://id.internal" in said


async def test_what_is_refused_is_not_counted():
    gate = gateway()
    await gate.query("{ nonsense }")
    await gate.client.get("/api/orders/ord_1")  # needs a credential
    assert not await uses(gate)
    assert not await uses(gate, "rest")


async def test_usage_can_be_turned_off():
    gate = gateway(observability={"usage": {"enabled": False}})
    await gate.query(FOUR_SERVICES, headers=partner())
    assert not await uses(gate)


class Oracle(Visitor):
    """Fields with their arguments by coordinate, as graphql-core knows the types of what it visits."""

    def __init__(self, types):
        super().__init__()
        self.types, self.found = types, set()

    def enter_field(self, node, *_):
        if not node.name.value.startswith("__"):
            coordinate = f"{self.types.get_parent_type().name}.{node.name.value}"
            self.found |= {coordinate, *(f"{coordinate}({each.name.value}:)" for each in node.arguments or ())}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_what_an_operation_is_written_over_is_what_graphql_core_visits(seed):
    schema = shop_schema()
    document = parse(written(schema, Random(seed), schema.query_type, lambda _: True))  # noqa: S311
    types = TypeInfo(schema)
    oracle = Oracle(types)
    visit(document, TypeInfoVisitor(types, oracle))
    found = Asks(schema, document, document.definitions[0]).coordinates
    selected = {each for each in found if hasattr(schema.type_map[each.partition(".")[0]], "interfaces")}
    assert {each for each in selected if "." in each} == oracle.found
    assert len(found) == len(set(found))


@cache
def shop_schema():
    return gateway().app.state.execution.schema


SDL = """
directive @loud(times: Int! = 1) repeatable on FIELD | QUERY
interface Named { name: String }
type Product implements Named { name: String price(currency: Currency = EUR, exact: Boolean! = true): Int stock: Int! }
type Team implements Named { name: String }
union Found = Product | Team
enum Currency { EUR USD }
input Range { least: Int! = 0 most: Int inner: Range currency: Currency }
type Query { products(range: Range, first: Int): [Product!]! found: Found named: Named }
type Mutation { sell(id: ID!): Product }
schema { query: Query mutation: Mutation }
"""
SCHEMA = build_schema(SDL)
# What is written in place of what, and what change that is.
EDITS = {
    "TYPE_REMOVED": {"Currency": "Money"},
    "TYPE_CHANGED_KIND": {"union Found = Product | Team": "interface Found { name: String }"},
    "TYPE_REMOVED_FROM_UNION": {"= Product | Team": "= Product"},
    "VALUE_REMOVED_FROM_ENUM": {"EUR USD": "EUR"},
    "REQUIRED_INPUT_FIELD_ADDED": {"most: Int inner": "most: Int step: Int! inner"},
    "IMPLEMENTED_INTERFACE_REMOVED": {"Team implements Named": "Team"},
    "FIELD_REMOVED": {" stock: Int!": ""},
    "FIELD_CHANGED_KIND": {"stock: Int!": "stock: String!"},
    "REQUIRED_ARG_ADDED": {"first: Int)": "first: Int, after: ID!)"},
    "ARG_REMOVED": {", first: Int)": ")"},
    "ARG_CHANGED_KIND": {"first: Int)": "first: Boolean)"},
    "DIRECTIVE_REMOVED": {"directive @loud(times: Int! = 1) repeatable on FIELD | QUERY": ""},
    "DIRECTIVE_ARG_REMOVED": {"(times: Int! = 1)": ""},
    "REQUIRED_DIRECTIVE_ARG_ADDED": {"(times: Int! = 1)": "(times: Int! = 1, by: Int!)"},
    "DIRECTIVE_REPEATABLE_REMOVED": {" repeatable": ""},
    "DIRECTIVE_LOCATION_REMOVED": {"FIELD | QUERY": "QUERY"},
    "ROOT_REMOVED": {" mutation: Mutation": ""},
    "DEFAULT_REMOVED": {"exact: Boolean! = true": "exact: Boolean!"},
    "ONE_OF_ADDED": {"input Range {": "input Range @oneOf {", "least: Int! = 0": "least: Int"},
}
OPERATIONS = [
    "{ products { name stock price } }",
    "{ products(range: {most: 3, inner: {currency: USD}}) { price(currency: USD) } }",
    "query ($range: Range) { products(range: $range, first: 2) { name } }",
    "query ($currency: Currency) { products(range: {currency: $currency}) { price(currency: $currency) } }",
    "{ found { __typename ... on Product { name } ... on Team { name } } }",
    "{ named { name ... on Team { __typename } } }",
    "mutation { sell(id: 1) { name } }",
    "query @loud { products { name @loud(times: 2) @loud } }",
    "query ($range: Range = {most: 2}) { products(range: $range) { ...Part } } fragment Part on Product { stock }",
]


def edited(edits):
    text = SDL
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    return build_schema(text)


def test_each_kind_of_breaking_change_has_an_edit():
    assert {each.name for each in BreakingChangeType} <= EDITS.keys()


@pytest.mark.parametrize("kind", EDITS)
def test_what_a_change_breaks_is_among_those_that_it_hurts(kind):
    after = edited(EDITS[kind])
    found = breaks(SCHEMA, after)
    assert kind in {each.kind for each in found}
    hurts = frozenset().union(*(each.hurts for each in found))
    broken = [text for text in OPERATIONS if not executable(text, after)]
    for text in broken:
        document = parse(text)
        assert hurts & set(Asks(SCHEMA, document, document.definitions[0]).coordinates), text
    # Of what is answered in another way, and of values of variables, no validation knows.
    assert broken or kind == "FIELD_CHANGED_KIND"


def executable(text, schema):
    """Whether it is valid, and there is anything to execute it by."""
    document = parse(text)
    return not validate(schema, document) and schema.get_root_type(document.definitions[0].operation)


def test_nothing_breaks_where_nothing_has_changed_or_something_was_added():
    assert breaks(SCHEMA, SCHEMA) == []
    assert breaks(SCHEMA, build_schema(SDL.replace("stock: Int!", "stock: Int! weight: Int"))) == []


# What is kept


def counting(tmp_path, now=NOON, **settings):
    clock = SimpleNamespace(now=now)
    log = BytesIO()
    usage = Usage(UsageSettings(path=tmp_path / "usage.json", **settings), JsonLog(log), clock=lambda: clock.now)
    return usage, clock, log


PARTNER, OTHERS = Caller(consumer="partner", credential="api_key"), ANONYMOUS


async def test_counts_outlive_the_process_and_several_add_up(tmp_path):
    one, clock, _ = counting(tmp_path)
    other, *_ = counting(tmp_path)
    for each in (one, one, other):
        each.count("products", PARTNER)
    await asyncio.gather(one.write(), other.write())
    clock.now += A_DAY
    one.count("products", PARTNER)
    one.count("products", OTHERS)
    kept = await one.kept()
    assert [(use.client, use.count, use.last) for use in kept.uses("rest")] == [
        ("anonymous", 1, "2025-11-26"),
        ("partner", 4, "2025-11-26"),
    ]
    assert (await counting(tmp_path)[0].kept()).days == kept.days


async def test_days_are_forgotten(tmp_path):
    usage, clock, _ = counting(tmp_path, days=2)
    for _ in range(4):
        usage.count("products", PARTNER)
        await usage.write()
        clock.now += A_DAY
    clock.now -= A_DAY
    usage.count("products", PARTNER)
    assert sorted((await usage.kept()).days) == ["2025-11-27", "2025-11-28"]


async def test_past_the_bound_new_clients_are_others(tmp_path):
    usage, *_ = counting(tmp_path, max_entries=3)
    for number in range(1000):
        usage.count("products", Caller(consumer=f"client {number}"))
    kept = await usage.kept()
    assert len(kept) <= 4
    assert sum(use.count for use in kept.uses("rest")) == 1000
    assert max(use.count for use in kept.uses("rest") if use.client == "other") >= 990


async def test_what_cannot_be_written_is_kept_and_said(tmp_path):
    (tmp_path / "nowhere").touch()
    usage, _, log = counting(tmp_path / "nowhere")
    usage.count("products", PARTNER)
    await usage.write()
    assert json.loads(log.getvalue().splitlines()[-1])["event"] == "usage_not_written"
    (tmp_path / "nowhere").unlink()
    usage.count("products", PARTNER)
    assert [use.count for use in (await usage.kept()).uses("rest")] == [2]


def test_a_file_with_something_else_is_refused_at_the_start(tmp_path):
    path = tmp_path / "usage.json"
    path.write_text('{"version": 1, "days": {"2025-11-25": []}}')
    with pytest.raises(ConfigError, match=r"observability\.usage\.path: .*usage\.json holds no usage"):
        gateway(observability={"usage": {"path": str(path)}})


async def test_a_file_that_cannot_be_looked_at_is_refused_too_or_said_by_the_log(tmp_path):
    unusable = tmp_path / f"{'usage' * 60}.json"
    with pytest.raises(ConfigError, match=r"observability\.usage\.path: .*\.json: File name too long"):
        gateway(observability={"usage": {"path": str(unusable)}})
    usage, _, log = counting(tmp_path)
    (tmp_path / "usage.json").mkdir()
    usage.count("products", PARTNER)
    assert [use.count for use in (await usage.kept()).uses("rest")] == [1]
    assert json.loads(log.getvalue().splitlines()[-1])["event"] == "usage_not_written"


def test_what_several_workers_say_is_one():
    days = {"2025-11-25": {"rest": {"products": {"partner": 2}}}}
    more = {"2025-11-25": {"rest": {"products": {"partner": 3, "ios": 1}}}}
    said = [{"version": 1, "shared": False, "days": days}, {"version": 1, "shared": False, "days": more}]
    assert of_all(said)["days"]["2025-11-25"]["rest"]["products"] == {"partner": 5, "ios": 1}
    shared = of_all([each | {"shared": True} for each in said])
    assert shared["days"]["2025-11-25"]["rest"]["products"] == {"partner": 3, "ios": 1}


# What operators type


@pytest.fixture
def shop(tmp_path):
    config, schema, usage = tmp_path / "bff.yaml", tmp_path / "before.graphql", tmp_path / "usage.json"
    config.write_text(BFF_YAML)
    schema.write_text(bff("schema", "export", "-c", str(config)).stdout)
    counts = Counts()
    counts.add("2025-11-24", "graphql", "Product.barcode", "acme", 1204)
    counts.add("2025-11-25", "graphql", "Product.name", "acme", 3)
    usage.write_bytes(counts.encoded())
    return SimpleNamespace(config=str(config), schema=schema, usage=str(usage))


def bff(*arguments):
    return CliRunner().invoke(main, list(arguments))


def diff(shop, *arguments):
    return bff("schema", "diff", "--against", str(shop.schema), "-c", shop.config, *arguments)


def test_the_same_schema_breaks_nothing(shop):
    ran = diff(shop, "--usage", shop.usage)
    assert (ran.exit_code, ran.stdout) == (0, "Nothing breaks.\n")


def test_a_change_that_hurts_says_whom_how_often_and_when_last(shop):
    text = shop.schema.read_text().replace(
        "type Product implements Node {", "type Product implements Node {\n  barcode: String\n  shade: String"
    )
    shop.schema.write_text(text)
    ran = diff(shop, "--usage", shop.usage)
    assert ran.exit_code == 1
    assert "breaks  Field Product.barcode was removed." in ran.stdout
    assert "acme: 1,204 requests with Product.barcode, last on 2025-11-24" in ran.stdout
    assert "unused  Field Product.shade was removed." in ran.stdout
    assert "1 of 2 breaking changes would hurt somebody; others were not used since 2025-11-24." in ran.stdout
    told = json.loads(diff(shop, "--usage", shop.usage, "--json").stdout)
    assert [each["change"] for each in told] == ["FIELD_REMOVED", "FIELD_REMOVED"]
    assert told[0]["hurts"] == [{"what": "Product.barcode", "client": "acme", "requests": 1204, "last": "2025-11-24"}]


def test_a_change_that_nobody_would_notice_passes_only_with_usage(shop):
    text = shop.schema.read_text().replace(
        "type Product implements Node {", "type Product implements Node {\n  shade: String"
    )
    shop.schema.write_text(text)
    assert diff(shop, "--usage", shop.usage).exit_code == 0
    ran = diff(shop)
    assert ran.exit_code == 1
    assert "1 change breaks clients, if any use it." in ran.stdout


def test_what_is_no_usage_is_said_so(shop):
    assert "holds no usage" in diff(shop, "--usage", shop.config).stderr
    assert "No such file" in diff(shop, "--usage", "nowhere.json").stderr


def test_where_nothing_was_counted_yet_nothing_is_called_unused(shop, tmp_path):
    (tmp_path / "empty.json").write_bytes(Counts().encoded())
    ran = diff(shop, "--usage", str(tmp_path / "empty.json"))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "no usage is kept there yet" in ran.stderr


def test_usage_is_listed_by_client_and_what_is_unused(shop):
    ran = bff("usage", shop.usage, "--client", "acme", "-c", shop.config)
    assert ran.stdout.splitlines()[1].split() == ["graphql", "Product.barcode", "acme", "1204", "2025-11-24"]
    unused = bff("usage", shop.usage, "--unused", "-c", shop.config).stdout.splitlines()
    assert "Product.price" in unused
    assert "Product.name" not in unused
