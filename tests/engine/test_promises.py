"""What the executor promises, one promise a test; `test_fuzz` compares it with graphql-core at large."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, build_schema, execute, execute_sync, parse
from strawberry.scalars import JSON

from bff.engine import GUARD, RECORD, BreadthExecutor, Parents, StandardExecutor, batched

BOTH = pytest.mark.parametrize("executor", [BreadthExecutor, StandardExecutor], ids=["breadth", "standard"])


class Counting(BreadthExecutor):
    fallbacks: list[str] = []  # noqa: RUF012
    on_fallback = fallbacks.append


@pytest.fixture(autouse=True)
def fallbacks() -> list[str]:
    Counting.fallbacks.clear()
    return Counting.fallbacks


def answer(sdl: str, root: Any, text: str, executor: Any = Counting, **variables: Any) -> ExecutionResult:
    """Of synchronous resolvers: an awaitable would be a failure."""
    result = execute(build_schema(sdl), parse(text), root, variable_values=variables, executor_class=executor)
    assert isinstance(result, ExecutionResult)
    return result


async def soon(schema: Any, text: Any, executor: Any = Counting, root: Any = None, **variables: Any) -> ExecutionResult:
    document = parse(text) if isinstance(text, str) else text
    inner = schema if isinstance(schema, GraphQLSchema) else schema._schema
    result = execute(inner, document, root, variable_values=variables, executor_class=executor)
    return result if isinstance(result, ExecutionResult) else await result


def paths(result: ExecutionResult) -> list[list[str | int] | None]:
    return [error.path for error in result.errors or ()]


class Boom(Exception):
    pass


# Nulls.


@BOTH
@pytest.mark.parametrize(
    ("type", "value", "data", "at"),
    [
        ("Int", None, {"x": None}, []),
        ("Int!", None, None, [["x"]]),
        ("[Int]", [1, None], {"x": [1, None]}, []),
        ("[Int!]", [1, None], {"x": None}, [["x", 1]]),
        ("[Int!]!", [1, None], None, [["x", 1]]),
        ("[Int]!", None, None, [["x"]]),
        ("[[Int!]]", [[1], [2, None], None], {"x": [[1], None, None]}, [["x", 1, 1]]),
        ("[[Int!]!]", [[1], [None]], {"x": None}, [["x", 1, 0]]),
        ("[[Int!]!]!", [[1], [None]], None, [["x", 1, 0]]),
        ("[[[Int!]!]]", [[[1], [None]], [[2]]], {"x": [None, [[2]]]}, [["x", 0, 1, 0]]),
        ("[[Int]!]", [[1], None], {"x": None}, [["x", 1]]),
    ],
)
def test_a_null_travels_up_to_the_nearest_place_that_may_be_null(type, value, data, at, executor):
    result = answer(f"type Query {{ x: {type} }}", {"x": value}, "{ x }", executor)
    assert (result.data, paths(result)) == (data, at)


@BOTH
def test_a_null_in_one_object_leaves_its_neighbours_alone(executor):
    sdl = "type Query { all: [A] } type A { id: Int below: B } type B { strict: Int! }"
    root = {"all": [{"id": n, "below": {"strict": None if n == 1 else n}} for n in range(3)]}
    result = answer(sdl, root, "{ all { id below { strict } } }", executor)
    assert result.data == {
        "all": [{"id": 0, "below": {"strict": 0}}, {"id": 1, "below": None}, {"id": 2, "below": {"strict": 2}}]
    }
    assert paths(result) == [["all", 1, "below", "strict"]]


@BOTH
def test_one_null_has_one_error_and_what_is_under_it_has_none(executor):
    sdl = "type Query { a: A } type A { soft: Int one: Int! two: Int! after: Int }"
    failing = {name: Boom(name) for name in ("soft", "one", "two", "after")}
    result = answer(sdl, {"a": failing}, "{ a { soft one two after } }", executor)
    assert result.data == {"a": None}
    assert [error.message for error in result.errors or ()] == ["soft", "one"]


# Errors.


@BOTH
def test_errors_are_listed_as_the_response_is_read_with_all_their_locations(executor):
    sdl = "type Query { a: [A] b: Int } type A { x: Int y: Int }"
    boom = {"x": Boom("x"), "y": Boom("y")}
    text = "{\n  b\n  a { y x }\n  a { x }\n}"
    result = answer(sdl, {"a": [boom, boom], "b": Boom("b")}, text, executor)
    assert [(each.message, each.path, [(at.line, at.column) for at in each.locations]) for each in result.errors] == [
        ("b", ["b"], [(2, 3)]),
        ("y", ["a", 0, "y"], [(3, 7)]),
        ("x", ["a", 0, "x"], [(3, 9), (4, 7)]),
        ("y", ["a", 1, "y"], [(3, 7)]),
        ("x", ["a", 1, "x"], [(3, 9), (4, 7)]),
    ]


@BOTH
def test_the_error_that_a_resolver_raised_is_kept_with_its_extensions(executor):
    def fail(_info):
        raise GraphQLError("Refused", extensions={"code": "FORBIDDEN"})

    (error,) = answer("type Query { x: Int }", {"x": fail}, "{ x }", executor).errors
    assert (error.message, error.extensions, error.path) == ("Refused", {"code": "FORBIDDEN"}, ["x"])


@BOTH
@pytest.mark.parametrize(
    ("type", "good", "bad"),
    [
        ("Int", 2**31 - 1, 2**31),
        ("Int", 7, "seven"),
        ("Float", 0.5, float("nan")),
        ("Float", 3, float("inf")),
        ("String", "a", {"no": "text"}),
        ("Boolean", True, "yes"),
        ("ID", "usr_1", 1.5),
        ("Color", "RED", "MAUVE"),
    ],
)
def test_a_leaf_that_its_type_cannot_say_is_null_with_an_error_for_it_alone(type, good, bad, executor):
    sdl = f"enum Color {{ RED }} type Query {{ x: [{type}] }}"
    result = answer(sdl, {"x": [good, bad, None, good]}, "{ x }", executor)
    assert result.data == {"x": [good, None, None, good]}
    assert paths(result) == [["x", 1]]


@BOTH
def test_values_become_what_their_type_says(executor):
    values = {"i": [1.0, True], "s": [1, "a"], "d": [7]}
    result = answer("type Query { i: [Int] s: [String] d: [ID] }", values, "{ i s d }", executor)
    assert repr(result.data) == "{'i': [1, 1], 's': ['1', 'a'], 'd': ['7']}"


# Selections.


@BOTH
def test_fields_asked_for_twice_are_merged_in_the_order_of_their_first_mention(executor):
    sdl = "type Query { a: A } type A { x: Int y: Int b: A }"
    root = {"a": {"x": 1, "y": 2, "b": {"x": 3, "y": 4}}}
    text = "{ a { b { y } x } ...F a { b { x } } } fragment F on Query { a { y ... on A { b { z: y } } } }"
    result = answer(sdl, root, text, executor)
    assert repr(result.data) == "{'a': {'b': {'y': 4, 'z': 4, 'x': 3}, 'x': 1, 'y': 2}}"


@BOTH
def test_a_document_is_planned_anew_for_other_values_of_its_conditions(executor):
    sdl = "type Query { a: A } type A { x: Int y: Int }"
    schema, document = (
        build_schema(sdl),
        parse(
            """query ($x: Boolean!, $y: Boolean = false) { a { x @skip(if: $x) ...F @include(if: $y) } }
            fragment F on A { y }"""
        ),
    )
    for _ in range(2):
        for variables, keys in (
            ({"x": True}, []),
            ({"x": False}, ["x"]),
            ({"x": True, "y": True}, ["y"]),
            ({"x": False, "y": True}, ["x", "y"]),
        ):
            root = {"a": {"x": 1, "y": 2}}
            result = execute(schema, document, root, variable_values=variables, executor_class=executor)
            assert list(result.data["a"]) == keys


@BOTH
def test_arguments_of_a_planned_document_are_those_of_each_request(executor):
    schema = build_schema("type Query { x(n: Int = 5, in: In): String } input In { k: [Int] = [1] }")
    document = parse("query ($n: Int, $k: [Int]) { x(n: $n, in: {k: $k}) }")
    root = {"x": lambda _info, **arguments: str(arguments)}
    seen = [
        execute(schema, document, root, variable_values=variables, executor_class=executor).data["x"]
        for variables in ({}, {"n": 1}, {"n": None, "k": [2]}, {"n": 1})
    ]
    assert seen == [
        "{'n': 5, 'in': {'k': [1]}}",
        "{'n': 1, 'in': {'k': [1]}}",
        "{'n': None, 'in': {'k': [2]}}",
        "{'n': 1, 'in': {'k': [1]}}",
    ]


@BOTH
def test_what_a_resolver_does_to_its_arguments_is_not_seen_by_the_next(executor):
    @strawberry.type
    class Query:
        @strawberry.field
        def sizes(self, value: JSON, ids: list[int]) -> list[int]:
            value["seen"] = True
            ids.append(0)
            return [len(value), len(ids)]

    schema, document = strawberry.Schema(query=Query)._schema, parse("{ sizes(value: {}, ids: [1]) }")
    for _ in range(3):
        assert execute(schema, document, executor_class=executor).data == {"sizes": [1, 2]}


def test_the_plan_of_a_document_goes_with_it():
    schema = build_schema("type Query { x: Int }")
    for _ in range(50):
        execute(schema, parse("{ x }"), {"x": 1}, executor_class=Counting)
    gc.collect()
    assert len(schema.extensions["engine.plans"]) == 0


# Interfaces and unions.


class Cat:
    name = "Tom"


class Dog:
    name = "Rex"


def zoo(*, records: bool) -> GraphQLSchema:
    schema = build_schema(
        """interface Pet { name: String } type Cat implements Pet { name: String }
        type Dog implements Pet { name: String barks: Boolean } union Any = Cat | Dog
        type Query { pets: [Pet!] any: [Any] dog: [Dog] }"""
    )
    for kind in (Cat, Dog):
        if records:
            schema.type_map[kind.__name__].extensions[RECORD] = kind
        schema.type_map[kind.__name__].is_type_of = lambda value, _info, kind=kind: isinstance(value, kind)
    return schema


@BOTH
@pytest.mark.parametrize("records", [True, False])
async def test_each_object_has_the_fields_of_its_own_type(records, executor):
    root = {"pets": [Cat(), Dog(), Cat()], "any": [Dog(), None, Cat()]}
    text = "{ pets { __typename name ... on Dog { k: name } } any { ... on Pet { name } ... on Cat { __typename } } }"
    result = await soon(zoo(records=records), text, executor, root)
    assert result.errors is None
    assert result.data == {
        "pets": [
            {"__typename": "Cat", "name": "Tom"},
            {"__typename": "Dog", "name": "Rex", "k": "Rex"},
            {"__typename": "Cat", "name": "Tom"},
        ],
        "any": [{"name": "Rex"}, None, {"name": "Tom", "__typename": "Cat"}],
    }


@BOTH
@pytest.mark.parametrize("records", [True, False])
async def test_an_object_of_no_type_or_another_is_an_error_for_it_alone(records, executor):
    root = {"any": [Cat(), SimpleNamespace(name="?"), Dog()], "dog": [Dog(), Cat()]}
    result = await soon(zoo(records=records), "{ any { __typename } dog { name } }", executor, root)
    assert result.data == {"any": [{"__typename": "Cat"}, None, {"__typename": "Dog"}], "dog": [{"name": "Rex"}, None]}
    assert paths(result) == [["any", 1], ["dog", 1]]


# Batched fields.


@strawberry.type
class Node:
    id: int


class Calls(list[Any]):
    pass


def library(resolve: Any, **options: Any) -> strawberry.Schema:
    """`all { id twice }` of five nodes, where `twice` is resolved for all of them by `resolve`."""
    holder = strawberry.type(
        type("Item", (Node,), {"__annotations__": {}, "twice": batched(graphql_type=int | None, **options)(resolve)})
    )

    def items(self: Any) -> Any:
        return [holder(id=n) for n in range(5)]

    def nested(self: Any) -> Any:
        return [[holder(id=1)], [], [holder(id=2), holder(id=3)]]

    query = type(
        "Query",
        (),
        {
            "__annotations__": {},
            "all": strawberry.field(items, graphql_type=list[holder]),
            "nested": strawberry.field(nested, graphql_type=list[list[holder]]),
        },
    )
    return strawberry.Schema(query=strawberry.type(query))


async def doubled(calls: Calls, parents: Parents[Node]) -> list[int]:
    calls.append([each.id for each in parents])
    await asyncio.sleep(0)
    return [each.id * 2 for each in parents]


@BOTH
async def test_a_batched_field_is_called_once_for_its_level(executor):
    calls = Calls()

    async def twice(parents: Parents[Node]) -> list[int]:
        return await doubled(calls, parents)

    result = await soon(library(twice), "{ all { twice } nested { twice } }", executor)
    assert result.data == {
        "all": [{"twice": n * 2} for n in range(5)],
        "nested": [[{"twice": 2}], [], [{"twice": 4}, {"twice": 6}]],
    }
    if executor is BreadthExecutor:
        assert sorted(calls) == [[0, 1, 2, 3, 4], [1, 2, 3]]
    else:  # which gathers who asks in the same tick: neighbours in a list, but not lists of different lengths
        assert [0, 1, 2, 3, 4] in calls


@BOTH
async def test_a_batched_field_is_called_once_for_each_place_in_the_document_with_its_arguments(executor):
    seen = []

    async def twice(parents: Parents[Node], info: strawberry.Info, by: int = 2) -> list[int]:
        seen.append((len(parents), by, info.field_name))
        return [each.id * by for each in parents]

    result = await soon(library(twice), "query ($n: Int!) { all { a: twice b: twice(by: $n) } }", executor, n=3)
    assert result.data["all"][4] == {"a": 8, "b": 12}
    assert sorted(seen) == [(5, 2, "twice"), (5, 3, "twice")]


async def test_a_batched_field_may_be_synchronous_and_needs_no_loop_then():
    def twice(parents: Parents[Node]) -> list[int]:
        return [each.id * 2 for each in parents]

    result = execute_sync(library(twice)._schema, parse("{ all { twice } }"), executor_class=BreadthExecutor)
    assert result.data == {"all": [{"twice": n * 2} for n in range(5)]}


@BOTH
async def test_an_exception_among_the_results_is_the_error_of_its_parent_alone(executor):
    async def twice(parents: Parents[Node]) -> list[int | Exception]:
        return [Boom("odd") if each.id % 2 else each.id for each in parents]

    result = await soon(library(twice), "{ all { twice } }", executor)
    assert [each["twice"] for each in result.data["all"]] == [0, None, 2, None, 4]
    assert paths(result) == [["all", 1, "twice"], ["all", 3, "twice"]]


@BOTH
@pytest.mark.parametrize("wrong", ["raises", "too few", "too many", "no list"])
async def test_a_batch_that_fails_or_does_not_fit_is_an_error_for_each_parent_and_shifts_nobody(wrong, executor):
    async def twice(parents: Parents[Node]) -> list[int]:
        if wrong == "raises":
            raise Boom("all of it")
        return {"too few": [1], "too many": [1] * 9, "no list": "12345"}[wrong]

    result = await soon(library(twice), "{ all { id twice } }", executor)
    assert result.data == {"all": [{"id": n, "twice": None} for n in range(5)]}
    assert paths(result) == [["all", n, "twice"] for n in range(5)]


async def test_what_a_batch_does_to_its_list_of_parents_shifts_nobody():
    async def twice(parents: Parents[Node]) -> list[int]:
        parents.reverse()
        return [0] * len(parents)

    result = await soon(library(twice), "{ all { id twice } }")
    assert [each["id"] for each in result.data["all"]] == [0, 1, 2, 3, 4]


# Guards.


@pytest.mark.parametrize(("executor", "times"), [(BreadthExecutor, 1), (StandardExecutor, 5)])
async def test_a_guard_judges_once_for_a_node_and_nothing_is_resolved_that_it_refuses(executor, times):
    calls, judged = Calls(), []

    async def twice(parents: Parents[Node]) -> list[int]:
        return await doubled(calls, parents)

    def guard(info: Any) -> None:
        judged.append(info.field_name)
        raise Boom("no")

    schema = library(twice)._schema
    schema.type_map["Item"].fields["twice"].extensions[GUARD] = guard
    result = await soon(schema, "{ all { id twice } }", executor)
    assert result.data == {"all": [{"id": n, "twice": None} for n in range(5)]}
    assert [error.message for error in result.errors] == ["no"] * 5
    assert (calls, len(judged)) == ([], times)


@BOTH
async def test_a_guard_that_breaks_lets_nobody_pass(executor):
    schema = build_schema("type Query { x: Int }")

    def guard(info: Any) -> None:
        info.nothing_of_the_kind  # noqa: B018

    schema.query_type.fields["x"].extensions[GUARD] = guard
    result = await soon(schema, "{ x }", executor, {"x": 1})
    assert result.data == {"x": None}


# Mutations.


@BOTH
async def test_mutations_run_one_after_the_other_each_to_its_end(executor):
    log = []

    async def step(_info: Any, name: str) -> Any:
        log.append(f"{name} begins")
        await asyncio.sleep(0)

        async def below(_info: Any) -> str:
            await asyncio.sleep(0)
            log.append(f"{name} ends")
            return name

        return {"name": below}

    schema = build_schema(
        "type Query { x: Int } type Mutation { step(name: String!): Step } type Step { name: String }"
    )
    text = 'mutation { a: step(name: "a") { name } b: step(name: "b") { name } c: step(name: "c") { name } }'
    result = await soon(schema, text, executor, {"step": step})
    assert list(result.data) == ["a", "b", "c"]
    assert log == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]


@BOTH
async def test_after_a_mutation_that_leaves_no_data_none_is_begun(executor):
    begun = []

    async def step(_info: Any, name: str) -> str:
        begun.append(name)
        if name == "b":
            raise Boom("b")
        return name

    schema = build_schema("type Query { x: Int } type Mutation { step(name: String!): String! }")
    text = 'mutation { a: step(name: "a") b: step(name: "b") c: step(name: "c") }'
    result = await soon(schema, text, executor, {"step": step})
    assert (result.data, paths(result), begun) == (None, [["b"]], ["a", "b"])


# Waiting.


def test_nothing_waits_where_no_resolver_does():
    assert answer("type Query { x: [Int] }", {"x": [1]}, "{ x }").data == {"x": [1]}


@BOTH
async def test_awaitables_are_awaited_wherever_they_turn_up(executor):
    async def late(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    schema = build_schema("type Query { a: A list: [A] } type A { x: Int xs: [Int!] }")
    root = {
        "a": late({"x": late(1), "xs": [late(1), 2, late(3)]}),
        "list": [late({"x": 1}), {"x": late(2)}, late(None), late(Boom("item"))],
    }
    result = await soon(schema, "{ a { x xs } list { x } }", executor, root)
    assert result.data == {"a": {"x": 1, "xs": [1, 2, 3]}, "list": [{"x": 1}, {"x": 2}, None, None]}
    assert paths(result) == [["list", 3]]


async def test_what_can_wait_together_does():
    """Ten resolvers side by side, none of which ends before all have begun."""
    everybody = asyncio.Barrier(10)

    async def meet(_info: Any) -> int:
        await everybody.wait()
        return 1

    schema = build_schema("type Query { one: A two: [A] } type A { x: Int y: Int }")
    meeting = {"x": meet, "y": meet}
    root = {"one": meeting, "two": [meeting] * 4}
    result = await asyncio.wait_for(soon(schema, "{ one { x y } two { x y } }", root=root), 5)
    assert result.errors is None


async def test_nobody_waits_for_the_slowest_of_its_neighbours():
    """The first object's children wait for what follows from the second's."""
    reached = asyncio.Event()

    def item(n: int) -> Any:
        async def child(_info: Any) -> Any:
            if n == 0:
                await asyncio.wait_for(reached.wait(), 5)
            return {"x": x}

        def x(_info: Any) -> int:
            if n == 1:
                reached.set()
            return n

        return {"child": child}

    schema = build_schema("type Query { all: [A] } type A { child: B } type B { x: Int }")
    result = await soon(schema, "{ all { child { x } } }", root={"all": [item(0), item(1)]})
    assert result.errors is None


@BOTH
async def test_items_of_an_async_iterable_are_those_of_a_list(executor):
    async def numbers(_info: Any) -> AsyncIterator[int]:
        for n in range(3):
            await asyncio.sleep(0)
            yield n

    schema = build_schema("type Query { x: [Int!] }")
    result = await soon(schema, "{ x }", executor, {"x": numbers})
    assert result.data == {"x": [0, 1, 2]}


@BOTH
@pytest.mark.parametrize("wrong", [None, "text", Boom("value"), 2**40])
async def test_an_endless_iterable_ends_with_the_first_error_that_leaves_no_list(wrong, executor):
    closed = []

    async def numbers(_info: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield 1
                yield wrong
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    schema = build_schema("type Query { x: [Int!] y: Int }")
    result = await asyncio.wait_for(soon(schema, "{ x y }", executor, {"x": numbers, "y": 1}), 5)
    assert result.data == {"x": None, "y": 1}
    assert paths(result) == [["x", 1]]
    assert closed


@BOTH
async def test_an_iterable_that_breaks_off_is_an_error_of_its_list(executor):
    async def numbers(_info: Any) -> AsyncIterator[int]:
        yield 1
        raise Boom("broken off")

    def lazily(_info: Any) -> Any:
        yield 1
        raise Boom("broken off")

    schema = build_schema("type Query { x: [Int] y: [Int] z: [Int] }")
    result = await soon(schema, "{ x y z }", executor, {"x": numbers, "y": [5], "z": lazily})
    assert result.data == {"x": None, "y": [5], "z": None}
    assert sorted(paths(result)) == [["x"], ["z"]]


# Ends.


class Patient:
    """Resolvers that wait until they are cancelled."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0

    async def wait(self, _info: Any = None) -> None:
        self.begun += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def has_begun(self, times: int) -> None:
        while self.begun < times:  # noqa: ASYNC110 - whoever is to begin does it in this loop
            await asyncio.sleep(0)


def others() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_when_the_execution_is_cancelled_so_is_every_resolver_and_no_task_is_left():
    patient = Patient()
    schema = build_schema("type Query { x: Int y: Int all: [A] } type A { x: Int y: Int }")
    slow = {"x": patient.wait, "y": patient.wait}
    root = {**slow, "all": [slow, slow]}
    task = asyncio.ensure_future(soon(schema, "{ x y all { x y } }", root=root))
    await patient.has_begun(6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (patient.cancelled, others()) == (6, set())


async def test_when_a_batch_is_cancelled_with_its_execution_no_task_is_left():
    patient = Patient()

    async def twice(parents: Parents[Node]) -> list[int]:
        await patient.wait()
        return []

    task = asyncio.ensure_future(soon(library(twice), "{ all { a: twice b: twice } }"))
    await patient.has_begun(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (patient.begun, patient.cancelled, others()) == (2, 2, set())


@pytest.mark.filterwarnings("error")
async def test_coroutines_that_nobody_awaits_any_more_are_closed(recwarn):
    async def late(_info: Any) -> int:
        return 1

    schema = build_schema("type Query { a: A } type A { late: Int strict: Int! }")
    result = await soon(schema, "{ a { late strict } }", root={"a": {"late": late, "strict": None}})
    gc.collect()
    assert result.data == {"a": None}
    assert [str(each.message) for each in recwarn] == []


async def test_nobody_is_waited_for_once_nothing_of_it_can_be_seen():
    patient = Patient()

    async def fail(_info: Any) -> None:
        await asyncio.sleep(0)
        raise Boom("strict")

    schema = build_schema("type Query { slow: Int strict: Int! }")
    result = await asyncio.wait_for(soon(schema, "{ slow strict }", root={"slow": patient.wait, "strict": fail}), 5)
    assert result.data is None
    assert (patient.begun, patient.cancelled, others()) == (1, 1, set())


# What is left to graphql-core.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("query @own { x }", "operation directive"),
        ("{ x @own }", "custom directive"),
        ("{ ...F } fragment F on Query { ... @own { x } }", "custom directive"),
        ("{ ... @defer(if: false) { x } }", "defer or stream"),
        ("query ($if: Boolean = true) { x @include(if: $if) }", "unfit directive arguments"),
    ],
)
def test_what_is_not_supported_is_executed_by_graphql_core_and_told(text, reason, fallbacks):
    sdl = "directive @own on FIELD | QUERY | INLINE_FRAGMENT type Query { x: Int }"
    for _ in range(2):
        result = answer(sdl, {"x": 1}, text, **({"if": None} if "$if" in text else {}))
        assert result.data == ({"x": 1} if "$if" not in text else None)
    assert fallbacks == [reason, reason]


def test_middleware_is_not_forgotten(fallbacks):
    def twice(following, source, info, **arguments):
        return following(source, info, **arguments) * 2

    schema = build_schema("type Query { x: Int }")
    result = execute(schema, parse("{ x }"), {"x": 1}, middleware=[twice], executor_class=Counting)
    assert result.data == {"x": 2}
    assert fallbacks == ["middleware"]


def test_nothing_that_is_supported_is_left_to_graphql_core(fallbacks):
    sdl = "type Query { a: [Query] x: Int e: E } enum E { A }"
    answer(
        sdl,
        {"a": [{"x": 1}]},
        "{ __schema { types { name } } a { ...F @skip(if: false) } } fragment F on Query { x e }",
    )
    assert fallbacks == []
