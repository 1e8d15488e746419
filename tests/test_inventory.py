"""A fifth service is two files and one entry: it works, it is batched, and a gateway without it has no trace of it."""

import sys
from pathlib import Path

import pytest

import schema
import services
from bff.assembly import schema_modules
from bff.graphql.compose import compose
from tests.harness import BFF_YAML, gateway, operator
from tests.shop import FakeService, refused

READS = '''\
"""Inventory service: what can be shipped."""

from bff.sdk import Page, Record, Upstream, batch


class Availability(Record):
    product_id: str
    in_stock: int


@batch("inventory")
async def availability_by_product(inventory: Upstream, ids: list[str]) -> dict[str, Availability]:
    page = await inventory.get("/availability", Page[Availability], product_ids=ids)
    return {each.product_id: each for each in page.items}
'''

EDGE = '''\
"""What can be shipped, on products."""

import strawberry

from bff.sdk import Column, Info, Parents, batched, extend
from schema.products import Product
from services import inventory, products


@strawberry.type
class Availability:
    in_stock: int


@extend(Product)
class ProductAvailability:
    @batched(graphql_type=Availability | None)
    async def availability(parents: Parents[products.Product], info: Info) -> Column[inventory.Availability]:
        return await info.context.load_many(inventory.availability_by_product, [each.id for each in parents])
'''

ENTRY = '  inventory: {url: "http://inventory.internal"}\n'
CONFIG = BFF_YAML.replace("services:\n", f"services:\n{ENTRY}", 1)

PRODUCTS = "{ products(first: 50) { nodes { id availability { inStock } } } }"
PURCHASES = """{ users(first: 5) { nodes { orders(first: 3) { nodes { items {
  product { id availability { inStock } } } } } } } }"""


def availability(call):
    """Of every product but the third."""
    ids = call.query["product_ids"].split(",")
    return 200, {"items": [{"product_id": id, "in_stock": int(id[4:]) * 2} for id in ids if id != "prd_3"]}


@pytest.fixture
def fifth(tmp_path, monkeypatch):
    """The two files, in folders of their own that belong to the packages for as long as the test runs."""
    for package, text in ((services, READS), (schema, EDGE)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "inventory.py").write_text(text, "utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield
    for package in (services, schema):
        sys.modules.pop(f"{package.__name__}.inventory", None)
        vars(package).pop("inventory", None)


def shop_with_inventory(**overrides):
    shop = gateway(CONFIG, **overrides)
    shop.services.inventory = FakeService("inventory", availability)
    return shop


def sdl(shop):
    return compose(schema_modules(shop.config)).as_str()


def asked(service):
    return [call.query["product_ids"].split(",") for call in service.calls]


def test_it_is_about_36_lines():
    assert len([line for line in (READS + EDGE + ENTRY).splitlines() if line]) <= 36


async def test_products_have_the_new_field_and_one_without_a_record_has_null(fifth):
    answer = await shop_with_inventory().query(PRODUCTS)
    assert answer.errors == []
    found = {each["id"]: each["availability"] for each in answer.data["products"]["nodes"]}
    assert len(found) == 50
    assert found["prd_7"] == {"inStock": 14}
    assert found["prd_3"] is None


async def test_a_whole_list_asks_the_new_service_once(fifth):
    shop = shop_with_inventory()
    await shop.query(PRODUCTS)
    assert asked(shop.services.inventory) == [[f"prd_{n}" for n in range(1, 51)]]
    assert len(shop.services.calls) == 1


async def test_deep_in_a_query_it_is_one_call_more_with_each_product_once(fifth):
    shop = shop_with_inventory()
    answer = await shop.query(PURCHASES, headers=operator())
    assert answer.errors == []
    (ids,) = asked(shop.services.inventory)
    assert len(ids) == len(set(ids)) > 1
    assert len(shop.services.calls) == 3
    products = [
        item["product"]
        for user in answer.data["users"]["nodes"]
        for order in user["orders"]["nodes"]
        for item in order["items"]
    ]
    assert len(products) > len(ids)
    assert all(
        each["availability"] == {"inStock": int(each["id"][4:]) * 2}
        for each in products
        if each and each["id"] != "prd_3"
    )


async def test_its_batches_are_as_large_as_its_entry_says(fifth):
    shop = shop_with_inventory(services={"inventory": {"max_batch": 20}})
    await shop.query(PRODUCTS)
    assert sorted(map(len, asked(shop.services.inventory))) == [10, 20, 20]


async def test_while_it_is_down_only_its_field_is_missing(fifth):
    shop = shop_with_inventory()
    shop.services.inventory.fail(refused)
    answer = await shop.query("{ products(first: 2) { nodes { name availability { inStock } } } }")
    assert answer.data["products"]["nodes"] == [{"name": f"Product {n}", "availability": None} for n in (1, 2)]
    assert set(answer.codes) == {"UPSTREAM_UNAVAILABLE"}


async def test_a_gateway_composed_without_it_has_no_trace_of_it(fifth):
    before = sdl(gateway())
    shop = shop_with_inventory()
    assert "availability: Availability\n" in sdl(shop)
    without = gateway()
    assert sdl(without) == before
    assert "vailability" not in before
    answer = await without.query(PRODUCTS)
    assert answer.codes == ["GRAPHQL_VALIDATION_FAILED"]
    assert (await shop.query(PRODUCTS)).errors == []


def test_it_adds_one_type_and_one_field_and_changes_nothing_else(fifth):
    without, within = (sdl(shop).split("\n\n") for shop in (gateway(), shop_with_inventory()))
    (changed,) = (part for part in without if part not in within)
    added = [part for part in within if part not in without]
    assert changed.startswith("type Product implements Node {")
    assert len(added) == 2
    assert "type Availability {\n  inStock: Int!\n}" in added
    assert any(part.replace("  availability: Availability\n", "") == changed for part in added)


def test_no_older_module_speaks_of_it():
    for package in (services, schema):
        for path in Path(package.__file__).parent.glob("*.py"):
            assert "inventory" not in path.read_text("utf-8"), path
