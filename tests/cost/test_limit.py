"""What the gateway does with the cost of an operation, and with services that give more than was said."""

import asyncio
import sys
from types import ModuleType

import pytest
import strawberry

from bff.assembly import schema_modules
from bff.core.identity import Caller
from bff.core.telemetry import Telemetry
from bff.engine.executor import BreadthFirst, Guarded
from bff.graphql import GraphQLSettings
from bff.graphql.compose import compose
from bff.graphql.documents import Documents
from bff.graphql.endpoint import Endpoint
from bff.sdk import Cost, Info, ListSize, reads
from services.orders import list_orders
from services.products import product_by_id
from tests.harness import FOUR_SERVICES, gateway, operator
from tests.shop import order

DEAR = "{ users(first: 200) { nodes { orders(first: 200) { nodes { id } } } } }"


def estimate(document: str, variables: dict | None = None, *, of=None):
    schema = (of or compose(schema_modules(gateway().config)))._schema
    batch = dict.fromkeys(("users", "products", "orders", "payments"), 500)
    known = Documents(schema, GraphQLSettings(limits={"mode": "off"}, introspection=True), Telemetry(), max_batch=batch)
    drawn = known.document(document)
    return known.judge(drawn, drawn.operation(None), variables or {}, Caller())


# The number


def test_an_object_costs_one_and_a_page_as_many_as_are_asked_for():
    assert estimate('{ user(id: "usr_1") { name email } }').cost == 1
    assert estimate("{ users(first: 7) { nodes { name } } }").cost == 1 + 7
    assert estimate("{ users(first: 7) { nodes { name } edges { node { name } } } }").cost == 1 + 7 + 14
    assert estimate("{ users { pageInfo { hasNextPage } } }").cost == 2


def test_a_page_of_which_nothing_is_said_costs_its_default():
    assert estimate("{ users { nodes { name } } }").cost == 1 + 20
    assert estimate("query($n: Int) { users(first: $n) { nodes { name } } }".replace("Int)", "Int = 3)")).cost == 1 + 3


def test_a_list_costs_as_it_is_assumed_and_may_call_for_as_many_as_it_can_have():
    one = estimate('{ order(id: "ord_1") { items { product { name } } } }')
    assert (one.cost, one.calls) == (1 + 10 * 2, 2)
    page = estimate("{ orders(first: 11) { nodes { items { product { name } } } } }")
    assert page.by_source["products.product_by_id"] == 3  # 1,100 products, 500 a call


def test_a_write_costs_ten_more_and_calls_again():
    twice = estimate('mutation { a: cancelOrder(id: "1") { customer { name } } b: cancelOrder(id: "2") { id } }')
    assert (twice.cost, twice.calls) == (23, 3)


def test_the_query_of_the_readme_costs_what_the_docs_say():
    shop = estimate(FOUR_SERVICES, {"first": 10})
    assert (shop.cost, shop.calls, shop.waves) == (681, 9, 3)


def test_what_a_node_costs_is_read_off_its_id():
    by_id = "query($id: ID!) { node(id: $id) { ... on Order { customer { name } } ... on Product { name } } }"
    assert (estimate(by_id, {"id": "prd_1"}).calls, estimate(by_id, {"id": "ord_1"}).calls) == (1, 2)
    assert estimate(by_id, {"id": "nothing"}).calls == 0


def test_introspection_costs_nothing():
    assert estimate("{ __schema { types { name fields { name } } } __typename }").cost == 0


def test_skipped_fields_cost_nothing():
    document = "query($no: Boolean!) { me @skip(if: $no) { name } product(id: 1) { name } }"
    assert [estimate(document, {"no": each}).cost for each in (True, False)] == [1, 2]


def test_the_same_fields_asked_for_twice_are_paid_for_once():
    assert estimate("{ me { name } me { email } ...F } fragment F on Query { me { id } }").cost == 1


def test_a_number_is_remembered_for_the_variables_that_make_it():
    schema = compose(schema_modules(gateway().config))._schema
    known = Documents(schema, GraphQLSettings(), Telemetry(), max_batch={})
    document = known.document("query($n: Int!, $s: String) { users(first: $n, search: $s) { nodes { name } } }")
    operation = document.operation(None)
    one = operation.cost.estimate({"n": 3, "s": "a"})
    assert operation.cost.estimate({"n": 3, "s": "b"}) is one
    assert operation.cost.estimate({"n": 4}) is not one
    for n in range(500):
        operation.cost.estimate({"n": n})
    assert len(operation.cost._estimates) <= 64


def test_values_that_do_not_fit_are_left_to_those_who_check_them():
    for value in (None, "many", [1], {"a": 1}, True, -5, 2.5):
        assert estimate("query($n: Int!) { users(first: $n) { nodes { name } } }", {"n": value}).cost is not None
    for value in (None, 7, ["usr_1", None, 3], {"a": 1}):
        assert estimate("query($i: [ID!]!) { nodes(ids: $i) { id } }", {"i": value}).cost is not None


# The limit


async def test_what_costs_too_much_is_refused_before_any_call():
    shop = gateway()
    answer = await shop.query(DEAR, headers=operator())
    assert (answer.codes, answer.has_data, shop.services.calls) == (["COST_LIMIT_EXCEEDED"], False, [])
    assert answer.errors[0]["message"].startswith("The operation may cost 40401; 20000 are allowed.")
    assert (await shop.metrics("graphql_documents_over_limit_total"))[("rule", "cost"),] == 1


@pytest.mark.parametrize(("allowed", "codes"), [(11, []), (10, ["COST_LIMIT_EXCEEDED"])])
async def test_the_limit_is_what_is_still_allowed(allowed, codes):
    shop = gateway(graphql={"limits": {"cost": allowed}})
    answer = await shop.query("query($n: Int!) { users(first: $n) { nodes { name } } }", {"n": 10}, headers=operator())
    assert answer.codes == codes


async def test_measured_it_is_counted_and_answered_and_off_not_even_counted():
    for mode, count in (("measure", 1), ("off", 0)):
        shop = gateway(graphql={"limits": {"cost": 1, "modes": {"cost": mode}}})
        answer = await shop.query("{ users(first: 2) { nodes { name } } }", headers=operator())
        assert answer.codes == []
        assert (await shop.metrics("graphql_documents_over_limit_total"))[("rule", "cost"),] == count


async def test_the_cost_is_measured_and_stands_on_the_request_for_those_who_charge_it(monkeypatch):
    seen = []
    respond = Endpoint._respond

    async def watched(self, scope, *args):
        answer = await respond(self, scope, *args)
        seen.append(scope["bff.cost"])
        return answer

    monkeypatch.setattr(Endpoint, "_respond", watched)
    shop = gateway()
    await shop.query("{ users(first: 7) { nodes { name } } }", headers=operator())
    assert seen == [8]
    assert await shop.metrics("graphql_operation_cost_sum") == {(): 8}


# Lists without a bound


def module(**members) -> ModuleType:
    made = ModuleType("schema.made")
    for name, member in members.items():
        setattr(made, name, member)
    return made


def test_an_operation_with_a_list_of_which_nothing_is_said_has_no_number():
    @strawberry.type
    class Thing:
        words: list[str]
        named: str = "x"

    @strawberry.type
    class Query:
        things: list[Thing]
        pairs: list[list[int]] = strawberry.field(directives=[ListSize(at_most=3)])
        guessed: list[int] = strawberry.field(directives=[ListSize(assumed_size=3)])
        few: list[Thing] = strawberry.field(directives=[ListSize(at_most=3)])

    made = compose([module(Query=Query)])
    for document, lists in {
        "{ things { named } }": ("Query.things",),
        "{ few { words } }": ("Thing.words",),
        "{ pairs }": ("Query.pairs",),
        "{ guessed }": ("Query.guessed",),
        "{ few { named } things { words } }": ("Query.things", "Thing.words"),
    }.items():
        found = estimate(document, of=made)
        assert (found.cost, found.calls, found.unbounded) == (None, None, lists)
    assert estimate("{ few { named } }", of=made).cost == 3


async def test_it_is_refused_and_told_what_has_to_be_declared(monkeypatch):
    @strawberry.type
    class Query:
        @strawberry.field
        def words(self) -> list[str]:
            return ["a"]

    made = module(Query=Query)
    monkeypatch.setattr("bff.assembly.schema_modules", lambda _: [made])
    answer = await gateway().query("{ words }")
    assert answer.codes == ["COST_LIMIT_EXCEEDED"]
    assert "how long Query.words can get" in answer.errors[0]["message"]
    assert (await gateway(graphql={"limits": {"modes": {"cost": "measure"}}}).query("{ words }")).data == {
        "words": ["a"]
    }


def test_weights_count_for_types_fields_and_arguments():
    @strawberry.type(directives=[Cost(weight="4")])
    class Heavy:
        name: str = "x"
        dear: str = strawberry.field(directives=[Cost(weight="2.5")])

    @strawberry.type
    class Query:
        heavy: Heavy
        lighter: Heavy = strawberry.field(directives=[Cost(weight="1")])
        few: list[Heavy] = strawberry.field(directives=[ListSize(at_most=3)])

    made = compose([module(Query=Query)])
    documents = ["{ heavy { name } }", "{ lighter { name } }", "{ few { name } }", "{ few { dear } }"]
    assert [estimate(each, of=made).cost for each in documents] == [4, 1, 12, 20]
    assert '@cost(weight: "4")' in made.as_str()


def test_what_is_declared_stands_in_the_schema():
    sdl = compose(schema_modules(gateway().config)).as_str()
    assert "items: [OrderItem!]! @listSize(assumedSize: 10" in sdl
    page = '@listSize(assumedSize: 20, slicingArguments: ["first"], sizedFields: ["nodes", "edges"], requireOneSlicing'
    assert sdl.count(page) == 3
    assert "directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!]" in sdl
    assert "directive @cost(weight: String!) on" in sdl


# What is relied on is checked


def long_order(n: int, count: int) -> dict:
    return order(n) | {"items": [order(2)["items"][0] | {"product_id": f"prd_{i % 60 + 1}"} for i in range(count)]}


@pytest.mark.parametrize("executor", ["breadth", "standard"])
async def test_an_order_of_more_than_a_hundred_items_is_an_error_of_its_own_and_the_others_come(monkeypatch, executor):
    if executor == "standard":
        monkeypatch.setattr(BreadthFirst, "execute_operation", Guarded.execute_operation)
    shop = gateway()
    shop.services.orders.answers = lambda call: (
        200,
        {"items": [long_order(int(id[4:]), 101 if id == "ord_3" else 100) for id in call.ids]},
    )
    document = 'query { nodes(ids: ["ord_2", "ord_3"]) { id ... on Order { items { quantity } } } }'
    answer = await shop.query(document, headers=operator())
    assert answer.codes == ["UPSTREAM_BAD_RESPONSE"]
    assert answer.errors[0]["message"] == "Order.items has 101 items, and the gateway takes at most 100"
    assert answer.errors[0]["extensions"]["service"] == "orders"
    assert [len(each["items"]) if each else None for each in answer.data["nodes"]] == [100, None]


async def test_a_page_with_more_than_was_asked_for_is_cut_and_the_next_one_begins_there():
    shop = gateway()
    shop.services.orders.answers = lambda call: (200, {"items": [order(9), order(8), order(7)], "next_cursor": None})
    document = "{ orders(first: 2) { nodes { id } pageInfo { hasNextPage endCursor } } }"
    found = (await shop.query(document, headers=operator())).data["orders"]
    assert found == {
        "nodes": [{"id": "ord_9"}, {"id": "ord_8"}],
        "pageInfo": {"hasNextPage": True, "endCursor": "ord_8"},
    }


# Calls that nothing tells of


def hidden(name: str):
    return vars(sys.modules["services.products"])[name]


async def undeclared(monkeypatch, field) -> tuple[list, dict]:
    made = module(Query=strawberry.type(type("Query", (), {"secret": field, "__annotations__": {}})))
    modules = [*schema_modules(gateway().config), made]
    monkeypatch.setattr("bff.assembly.schema_modules", lambda _: modules)
    shop = gateway()
    await shop.client.post("/graphql", json={"query": "{ secret }"}, headers=operator())
    counted = {k[0][1]: v for k, v in (await shop.metrics("graphql_undeclared_calls_total")).items() if v}
    return [line for line in shop.log if line["event"] == "undeclared_calls"], counted


async def test_a_call_that_a_module_does_not_tell_of_is_logged_and_counted(monkeypatch):
    async def secret(self, info: Info) -> str:
        found = await info.context.load(hidden("product_by_id"), "prd_1")
        return found.name

    lines, counted = await undeclared(monkeypatch, strawberry.field(secret))
    assert counted == {"products.product_by_id": 1}
    assert [(line["call"], line["count"]) for line in lines] == [("products.product_by_id", 1)]


async def test_a_call_that_is_declared_is_not(monkeypatch):
    async def secret(self, info: Info) -> str:
        found = await info.context.load(hidden("product_by_id"), "prd_1")
        return found.name

    assert await undeclared(monkeypatch, strawberry.field(secret, metadata=reads(product_by_id))) == ([], {})


async def test_more_calls_than_the_code_shows_are_noticed_too(monkeypatch):
    async def secret(self, info: Info) -> str:
        load = info.context.call
        ask = list_orders
        await load(ask, 1, None, None)
        await load(ask, 1, None, None)
        return "x"

    _, counted = await undeclared(monkeypatch, strawberry.field(secret))
    assert counted == {"orders.list_orders": 1}


async def test_a_call_that_ends_meanwhile_loses_nothing_that_another_waits_for():
    """It lets what was read be read anew, and somebody may be waiting for the rest of the same batch."""
    shop = gateway(services={"users": {"max_batch": 1}})
    document = """{ a: user(id: "usr_1") { name } b: user(id: "usr_2") { name } orders(first: 1) { nodes { id } }
        products(first: 1) { nodes { id } } }"""

    async def slowly(_, call):
        await asyncio.sleep(0.05 if call.ids == ["usr_2"] else 0)

    async def later(_, call):
        await asyncio.sleep(0.02)

    shop.services.users.fail(slowly)
    shop.services.orders.fail(later)
    answer = await shop.query(document, headers=operator())
    assert (answer.errors, answer.data["a"], answer.data["b"]) == ([], {"name": "User 1"}, {"name": "User 2"})
