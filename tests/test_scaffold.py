"""`bff new service`: what it writes passes the project's own checks, composes, and touches nothing else."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bff.config import load
from bff.scaffold import ScaffoldError, new_service
from bff.scaffold.entry import with_entry

PROJECT = Path(__file__).parents[1]
SERVICES = ("users", "products", "orders", "payments")

# Names and shapes that are legal in OpenAPI and awkward in Python.
AWKWARD = {
    "openapi": "3.0.3",
    "info": {"title": 'Ship"""ments\n and \\ more'},
    "paths": {
        "/v1/shipments/{id}": {"get": {"responses": {}}},
        "/v1/shipments": {
            "parameters": [{"$ref": "#/components/parameters/Ids"}],
            "get": {
                "parameters": [
                    {"name": "orderIds", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "carrier", "in": "query", "schema": {"$ref": "#/components/schemas/carrier-kind"}},
                    {"name": "class", "in": "query", "schema": {"type": "string"}},
                    {"name": "ids", "in": "header", "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {
                                        "data-set": {"type": "array", "items": {"$ref": "#/components/schemas/node"}}
                                    },
                                }
                            }
                        }
                    }
                },
            },
        },
    },
    "components": {
        "parameters": {"Ids": {"name": "ids", "in": "query", "explode": False, "schema": {"type": "array"}}},
        "schemas": {
            "carrier-kind": {"type": "string", "enum": ["in-house", "in house", "3rd", 'quo"te', "line\nend", ""]},
            "node": {
                "allOf": [
                    {"$ref": "#/components/schemas/Stamped"},
                    {
                        "required": ["id", "class", "carrier", "weight", "price", "tree", "part"],
                        "properties": {
                            "note": {"type": "string", "nullable": True},
                            "id": {"type": "integer"},
                            "orderId": {"type": "string", "nullable": True},
                            "class": {"type": "string"},
                            "date": {"type": "string", "format": "date"},
                            "due": {"type": "string", "format": "date"},
                            "carrier": {"$ref": "#/components/schemas/carrier-kind"},
                            "weight": {"type": "number"},
                            "price": {"allOf": [{"$ref": "#/components/schemas/Price"}], "nullable": True},
                            "tree": {"$ref": "#/components/schemas/Tree"},
                            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                            "anything": {},
                            "either": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
                            "part": {"type": "object", "properties": {"x-y": {"type": "boolean"}}},
                            '"""\nimport os': {"type": "string"},
                        },
                    },
                ]
            },
            "Stamped": {
                "type": "object",
                "required": ["createdAt"],
                "properties": {"createdAt": {"type": "string", "format": "date-time"}},
            },
            "Price": {
                "type": "object",
                "properties": {"amount": {"type": "number"}, "currency": {"type": "string"}},
            },
            "Tree": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "under": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
                },
            },
        },
    },
}
SHAPES = {
    "availability": {
        "type": "object",
        "required": ["product_id", "in_stock"],
        "properties": {"product_id": {"type": "string"}, "in_stock": {"type": "integer"}},
    }
}


def listing(record, parameters, *, path="/things", schemas=None):
    """A small document: one list path."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Things"},
        "paths": {
            path: {
                "get": {
                    "parameters": [{"name": each, "in": "query", "schema": {"type": "string"}} for each in parameters],
                    "responses": {
                        "200": {"content": {"application/json": {"schema": {"type": "array", "items": record}}}}
                    },
                }
            }
        },
        "components": {"schemas": schemas or {}},
    }


def availability(*parameters):
    reference = {"$ref": "#/components/schemas/availability"}
    return listing(reference, parameters, path="/availability", schemas=SHAPES)


def document(folder, data):
    path = folder / "openapi.json"
    path.write_text(json.dumps(data), "utf-8")
    return path


def checkout(folder):
    """A project as a team has it, without any service yet."""
    (folder / "bff").symlink_to(PROJECT / "bff")
    for part in ("services", "schema"):
        (folder / part).mkdir()
        for name in ("__init__.py", "money.py"):
            shutil.copy(PROJECT / part / name, folder / part / name)
    return folder


def tool(folder, *command):
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=110, check=False
    )


def composed(folder, names):
    """The SDL of all the services, from an interpreter that imports this checkout's modules and not the project's."""
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from importlib import import_module\n"
        "from bff.graphql.compose import compose\n"
        f"print(compose([import_module('schema.' + name) for name in {list(names)!r}]).as_str())"
    )
    result = tool(folder, "-c", code)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = checkout(tmp_path_factory.mktemp("checkout"))
    for name in SERVICES:
        new_service(name, root=folder, openapi=PROJECT / "contracts" / f"{name}.yaml")
    new_service("reviews", root=folder)
    new_service("inventory", root=folder, openapi=document(folder, availability("product_ids")))
    new_service("shipments", root=folder, openapi=document(folder, AWKWARD))
    return folder


@pytest.fixture(scope="module")
def sdl(written):
    return composed(written, [*SERVICES, "reviews", "inventory", "shipments"])


def source(folder, path):
    return (folder / path).read_text("utf-8")


def test_what_is_written_passes_lint_and_format(written):
    for command in (["check"], ["format", "--check", "--diff"]):
        config = ["--no-cache", "--config", str(PROJECT / "pyproject.toml")]
        result = tool(written, "-m", "ruff", *command, *config, "services", "schema")
        assert result.returncode == 0, result.stdout + result.stderr


def test_what_is_written_passes_strict_types(written):
    config = ["--config-file", str(PROJECT / "pyproject.toml"), "--follow-imports", "silent"]
    result = tool(written, "-m", "mypy", *config, "services", "schema")
    assert result.returncode == 0, result.stdout + result.stderr


def test_types_of_the_contracts_are_those_of_the_schema(sdl):
    order = re.search(r"\ntype Order implements Node[^{]* \{(.*?)\n\}", sdl, re.DOTALL)[1]
    for field in ("id: ID!", "status: OrderStatus!", "placedAt: DateTime!", "items: [OrderItem!]!", "total: Money!"):
        assert f"  {field}" in order
    assert re.search(r"enum PaymentMethod \{\s+CARD\s+SEPA\s+PAYPAL\s+INVOICE\s+\}", sdl)
    assert "orders(first: Int! = 20, after: String, status: OrderStatus): OrderConnection!" in sdl
    assert "products(first: Int! = 20, after: String, category: String, q: String): ProductConnection!" in sdl


@pytest.mark.parametrize(("name", "prefix"), [("users", "usr"), ("products", "prd"), ("orders", "ord")])
def test_the_prefix_is_that_of_the_example_id(written, name, prefix):
    assert f'@entity("{prefix}",' in source(written, f"schema/{name}.py")


def test_new_types_are_behind_a_scope(written):
    assert 'scopes=["reviews:read"]' in source(written, "schema/reviews.py")
    assert '@strawberry.type(directives=[RequiresScopes(scopes=[["inventory:read"]])])' in source(
        written, "schema/inventory.py"
    )


@pytest.mark.parametrize(
    ("security", "said"),
    [
        ([{"oauth": ["things:read", "shop"]}], 'scopes=["things:read", "shop"]'),
        ([{"oauth": ["a"], "more": ["b"]}, {"oauth": ["admin"]}], 'RequiresScopes(scopes=[["a", "b"], ["admin"]])'),
        ([{"key": []}], 'scopes=["things:read"]'),
        ([], 'scopes=["things:read"]'),
        ([{"oauth": ['"); import os; ("']}], 'scopes=["things:read"]'),
        ("nonsense", 'scopes=["things:read"]'),
    ],
)
def test_scopes_are_those_that_the_document_names(tmp_path, security, said):
    for where in ("document", "operation"):
        record = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
        data = listing(record, ["ids"])
        (data if where == "document" else data["paths"]["/things"]["get"])["security"] = security
        (tmp_path / where).mkdir()
        root = checkout(tmp_path / where)
        new_service("things", root=root, openapi=document(tmp_path, data))
        assert said in source(root, "schema/things.py")
        assert "import os" not in source(root, "schema/things.py")


def test_the_record_of_a_contract_decodes_and_is_read_by_id_and_by_key(written):
    code = """
import sys, asyncio; sys.path.insert(0, '.')
import msgspec
from services import orders, payments, shipments
order = {'id': 'ord_1', 'user_id': 'usr_1', 'status': 'paid', 'placed_at': '2026-01-01T00:00:00Z', 'items': [],
         'total': {'amount': '19.90', 'currency': 'EUR'}}
payment = {'id': 'pay_1', 'order_id': 'ord_1', 'user_id': 'usr_1', 'status': 'captured', 'method': 'card',
           'created_at': '2026-01-01T00:00:00Z', 'amount': {'amount': '19.90', 'currency': 'EUR'}}
shipment = {'id': 7, 'class': 'a', 'carrier': '3rd', 'weight': 1.5, 'price': None, 'tree': {}, 'part': {'x-y': True},
            'createdAt': '2026-01-01T00:00:00Z', 'orderId': 'ord_1'}
class Service:
    def __init__(self, answer): self.answer = answer
    async def get(self, path, into, **query):
        print(path, sorted(query))
        return msgspec.convert(self.answer, into, strict=False)
def read(batch, answer, *keys, **more): return asyncio.run(batch.fetch(Service(answer), list(keys), **more))
pages = read(orders.orders_by_user, {'items': [order], 'next_cursors': {'usr_1': 'ord_1'}}, 'usr_1', 'usr_2', limit=3)
assert [page.items[0].id for page in pages.values() if page.items] == ['ord_1'], pages
assert pages['usr_1'].next_cursor == 'ord_1' and pages['usr_2'].items == []
assert read(orders.order_by_id, {'items': [order]}, 'ord_1', 'ord_2').keys() == {'ord_1'}
assert [p.id for p in read(payments.payments_by_order, {'items': [payment]}, 'ord_1')['ord_1']] == ['pay_1']
found = read(shipments.node_record_by_id, {'data-set': [shipment]}, '7')['7']
assert found.created_at.year == 2026 and found.class_ == 'a' and found.part.x_y and found.note is None
lost = shipment | {'orderId': None}
found = read(shipments.node_records_by_order, {'data-set': [shipment, lost]}, 'ord_1')
assert {key: len(value) for key, value in found.items()} == {'ord_1': 1}, found
"""
    result = tool(written, "-c", code)
    assert result.returncode == 0, result.stderr
    assert "/orders ['cursor', 'limit', 'user_ids']" in result.stdout
    assert "/v1/shipments ['orderIds']" in result.stdout


def test_edges_are_suggested_for_own_keys_to_known_types_and_work_when_taken(written, tmp_path):
    folder = tmp_path / "taken"
    shutil.copytree(written, folder, symlinks=True)
    assert "@extend" not in source(folder, "schema/products.py"), "a product holds nobody's key"
    for path in (folder / "schema").glob("*.py"):
        text, mark, suggested = path.read_text("utf-8").partition("# Edges that the keys")
        code = re.sub(r"(?m)^# ?", "", suggested.partition("\n#\n")[2]) if mark else ""
        path.write_text(text + code, "utf-8")
    sdl = composed(folder, [*SERVICES, "inventory", "shipments"])
    assert re.search(r"type Order implements Node[^{]* \{.*?\n  user: User\n", sdl, re.DOTALL)
    assert re.search(r"type OrderItem \{.*?\n  product: Product\n", sdl, re.DOTALL)
    assert "  orders(first: Int! = 10, after: String): OrderConnection!" in sdl
    assert "  payments: [Payment!]!" in sdl
    assert re.search(r"type Product implements Node[^{]* \{.*?\n  availability: Availability\n", sdl, re.DOTALL)
    config = ["--config-file", str(PROJECT / "pyproject.toml"), "--follow-imports", "silent"]
    result = tool(folder, "-m", "mypy", *config, "schema")
    assert result.returncode == 0, result.stdout


def test_no_edge_is_suggested_to_a_type_that_the_gateway_does_not_have(tmp_path):
    new_service("orders", root=checkout(tmp_path), openapi=PROJECT / "contracts" / "orders.yaml")
    assert "extend" not in source(tmp_path, "schema/orders.py")


def test_a_limit_for_all_keys_together_makes_no_read_by_key(tmp_path):
    thing = {"type": "object", "properties": {"id": {"type": "string"}, "shop_id": {"type": "string"}}}
    data = listing(thing, ["ids", "shop_ids", "limit"])
    new_service("things", root=checkout(tmp_path), openapi=document(tmp_path, data))
    text = source(tmp_path, "services/things.py")
    assert "async def things_by_shop" not in text
    assert "# There is no read by shop_ids" in text


def test_a_list_that_the_contract_wants_repeated_is_pointed_out(written):
    text = source(written, "services/shipments.py")
    assert "wants orderIds=a&orderIds=b" in text
    assert "wants ids=" not in text


@pytest.mark.parametrize(("kind", "is_money"), [("string", True), ("number", True), ("integer", False)])
def test_money_is_the_shared_one_unless_it_is_counted_in_cents(tmp_path, kind, is_money):
    price = {"type": "object", "properties": {"amount": {"type": kind}, "currency": {"type": "string"}}}
    data = listing({"type": "object", "properties": {"id": {"type": "string"}, "price": price}}, ["ids"])
    new_service("things", root=checkout(tmp_path), openapi=document(tmp_path, data))
    assert ("from services.money import Money" in source(tmp_path, "services/things.py")) is is_money


@pytest.mark.parametrize(
    "name", ["money", "class", "match", "Users", "my-service", "1st", "", "a" * 41, "../x", "a__b"]
)
def test_a_name_that_cannot_be_a_module_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ScaffoldError, match="can't be a service's name"):
        new_service(name, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["ftp://x", 'http://x"}', "http://x y", "http://x\n", "x"])
def test_a_url_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(ScaffoldError, match="can't be a service's URL"):
        new_service("reviews", root=tmp_path, url=url)


@pytest.mark.parametrize("there", ["services/reviews.py", "schema/reviews.py"])
def test_a_file_that_is_there_stays_as_it_is(tmp_path, there):
    path = checkout(tmp_path) / there
    path.write_text("mine", "utf-8")
    with pytest.raises(ScaffoldError, match="is there already"):
        new_service("reviews", root=tmp_path)
    assert path.read_text("utf-8") == "mine"
    assert len(list(tmp_path.glob("*/reviews.py"))) == 1


def test_a_name_in_the_singular_beside_its_plural_is_refused(tmp_path):
    new_service("reviews", root=checkout(tmp_path))
    with pytest.raises(ScaffoldError, match="plural"):
        new_service("review", root=tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"swagger": "2.0"}, "isn't an OpenAPI 3.0 or 3.1 document"),
        ([], "isn't an OpenAPI 3.0 or 3.1 document"),
        ({"openapi": "3.1.0"}, "GET /things"),
        ({"openapi": "3.1.0", "paths": {"/things": {"get": {"responses": 3}}}}, "GET /things"),
        (listing({"type": "object", "properties": {"id": {"type": "string"}}}, []), "GET /things"),
        (listing({"$ref": "#/components/schemas/gone"}, ["ids"]), "leads nowhere"),
        (listing({"$ref": "other.yaml#/Thing"}, ["ids"]), "leads nowhere"),
        (
            listing({"$ref": "#/components/schemas/a"}, ["ids"], schemas={"a": {"$ref": "#/components/schemas/a"}}),
            "itself",
        ),
    ],
)
def test_a_document_that_will_not_do_is_refused_with_the_reason(tmp_path, data, message):
    with pytest.raises(ScaffoldError, match=re.escape(message)):
        new_service("things", root=checkout(tmp_path), openapi=document(tmp_path, data))
    assert not (tmp_path / "services" / "things.py").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openapi: [", "isn't YAML"),
        ("openapi: 3.1.0\n" + "#" * 1_100_000, "longer than"),
        ("{" + '"a": {' * 100_000, "isn't YAML|nested|longer"),
        ("\x00", "isn't YAML"),
    ],
)
def test_a_text_that_is_no_document_is_refused_with_the_reason(tmp_path, text, message):
    path = tmp_path / "openapi.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ScaffoldError, match=message):
        new_service("things", root=tmp_path, openapi=path)


def test_a_document_that_unfolds_without_end_is_refused(tmp_path):
    schemas = {
        f"s{at}": {"allOf": [{"$ref": f"#/components/schemas/s{at + 1}"}] * 2, "properties": {}} for at in range(40)
    } | {"s40": {"type": "object", "properties": {"id": {"type": "string"}}}}
    data = listing({"$ref": "#/components/schemas/s0"}, ["ids"], schemas=schemas)
    with pytest.raises(ScaffoldError, match="larger than"):
        new_service("things", root=tmp_path, openapi=document(tmp_path, data))


def test_the_entry_is_added_to_the_projects_own_configuration_and_nothing_else_changes(tmp_path):
    before = source(PROJECT, "bff.yaml")
    config = checkout(tmp_path) / "bff.yaml"
    config.write_text(before, "utf-8")
    written = new_service("reviews", root=tmp_path, url="http://127.0.0.1:8106", config=config)
    assert written == [tmp_path / "services/reviews.py", tmp_path / "schema/reviews.py", config]
    after = config.read_text("utf-8")
    added = '  reviews: {url: "http://127.0.0.1:8106"}\n'
    assert after.replace(added, "") == before
    assert list(load(after).services) == [*SERVICES, "reviews"]


ENTRY = 'x: {url: "http://x"}'


@pytest.mark.parametrize(
    "text",
    [
        "services:\n    a: {url: b}  # c\n«    X\n»\n# d\nroutes: []\n",
        "services:\n  a:\n    url: b\n  # b: {url: c}\n«  X\n»routes: []\n",
        "services:\n  a: {url: b}«\n  X\n»",
        "services:\r\n  a: {url: b}\r\n«  X\r\n»routes: []\r\n",
        "services:\n  a:\n    url: |\n      b\n«  X\n»routes: []\n",
        "services: { a: {url: b}«, X» }  # c\n",
        "services: {«X»}\n",
        "services:  # none yet\n«  X\n»# later\nroutes: []\n",
        "# nothing yet\n«services:\n  X\n»",
        "admin: {port: 1}\n«\nservices:\n  X\n»",
    ],
)
def test_comments_and_formatting_of_the_configuration_stay(text):
    before = re.sub("«.*»", "", text, flags=re.DOTALL)
    after = re.sub("[«»]", "", text).replace("X", ENTRY)
    assert with_entry(before, "x", "http://x") == after
    assert yaml.safe_load(after)["services"]["x"] == {"url": "http://x"}


@pytest.mark.parametrize(
    "text", ["services: [", "services: 3\n", "{services: {a: {url: b}}}\n", "- 1\n", "services: *a\n"]
)
def test_where_the_entry_cannot_be_added_it_is_printed(tmp_path, capsys, text):
    config = checkout(tmp_path) / "bff.yaml"
    config.write_text(text, "utf-8")
    written = new_service("x", root=tmp_path, url="http://x", config=config)
    if config in written:
        assert yaml.safe_load(config.read_text("utf-8"))["services"]["x"] == {"url": "http://x"}
    else:
        assert ENTRY in capsys.readouterr().err
        assert config.read_text("utf-8") == text


def test_a_service_that_is_configured_already_is_refused(tmp_path):
    config = checkout(tmp_path) / "bff.yaml"
    config.write_text("services: {x: {url: 'http://y'}}", "utf-8")
    with pytest.raises(ScaffoldError, match="there is a service x already"):
        new_service("x", root=tmp_path, config=config)
    assert not (tmp_path / "services" / "x.py").exists()
