"""Plans: made once for a document, kept as long as it lives, watched by who wants to."""

# ruff: noqa: N805 - a batched field takes parents

import gc
import weakref
from typing import Any, get_args

import msgspec
import pytest
import strawberry
from graphql import ExecutionResult, GraphQLSchema, build_schema, execute, execute_sync, parse
from strawberry.extensions import SchemaExtension

from bff.engine import (
    GUARD,
    RECORD,
    BreadthExecutor,
    Field,
    Parents,
    Pending,
    Reason,
    StandardExecutor,
    batched,
    kernels,
    then,
    unpacked,
)
from bff.engine.kernels import MAX_COMPILED_KEYS
from bff.engine.plans import MAX_VARIANTS, Plans
from tests.engine.synthetic import DogRecord


class Dog(DogRecord):
    pass


def dogs(count: int) -> list[Dog]:
    return [Dog(str(n), f"dog {n}", None, n, None, None, None, None) for n in range(count)]


@strawberry.type
class Animal:
    id: strawberry.ID
    label: str

    @batched
    async def name(parents: Parents[Dog]) -> list[str]:
        return [each.id for each in parents]

    @strawberry.field
    async def slowly(self) -> str:
        return "slow"


@strawberry.type
class Query:
    @strawberry.field(graphql_type=list[Animal])
    def animals(self, count: int = 3) -> list[Dog]:
        return dogs(count)


def schema() -> GraphQLSchema:
    return strawberry.Schema(query=Query)._schema


async def answer(schema: GraphQLSchema, document: Any, executor: Any, **variables: Any) -> ExecutionResult:
    document = parse(document) if isinstance(document, str) else document
    result = execute(schema, document, variable_values=variables, executor_class=executor)
    return result if isinstance(result, ExecutionResult) else await result


async def test_fields_are_wrapped_when_they_are_planned_and_called_once_for_each_node() -> None:
    planned, called = [], []

    class Watched(BreadthExecutor):
        @staticmethod
        def wrap(field: Field, resolve: Any) -> Any:
            planned.append(field.full_name)

            def watched(run: Any, objects: list[Any], place: Any) -> Any:
                values = resolve(run, objects, place)

                def end(values: list[Any]) -> list[Any]:
                    called.append((field.full_name, len(values), isinstance(pending, Pending)))
                    return values

                pending = values
                return then(values, end)

            return watched

    built, document = schema(), parse("{ animals { label name slowly } }")
    for _ in range(2):
        result = await answer(built, document, Watched)
        assert result.data == {"animals": [{"label": f"dog {n}", "name": str(n), "slowly": "slow"} for n in range(3)]}
    fields = ["Query.animals", "Animal.label", "Animal.name", "Animal.slowly"]
    assert planned == fields
    # The values of an async resolver that is asked object by object are awaitables: only a batch is awaited as a whole.
    expected = [("Query.animals", 1, False), ("Animal.label", 3, False), ("Animal.slowly", 3, False)]
    assert sorted(called) == sorted([*expected, ("Animal.name", 3, True)] * 2)


async def test_who_watches_does_not_watch_others() -> None:
    class Watched(BreadthExecutor):
        @staticmethod
        def wrap(field: Field, resolve: Any) -> Any:
            return lambda run, objects, place: [None] * len(objects)

    built, document = schema(), parse("{ animals { id } }")
    assert (await answer(built, document, Watched)).data is None
    assert (await answer(built, document, BreadthExecutor)).data == {"animals": [{"id": str(n)} for n in range(3)]}


async def test_variants_of_an_operation_are_bounded_and_each_is_right() -> None:
    names = [f"v{n}" for n in range(6)]
    fields = " ".join(f"{name}: id @include(if: ${name})" for name in names)
    document = parse(
        f"query({', '.join(f'${name}: Boolean!' for name in names)}) {{ animals(count: 1) {{ {fields} }} }}"
    )
    built = schema()
    for number in [*range(64), *range(64)]:
        chosen = {name: bool(number >> index & 1) for index, name in enumerate(names)}
        result = await answer(built, document, BreadthExecutor, **chosen)
        assert result.data == {"animals": [{name: "0" for name in names if chosen[name]}]}
    ((_, operation),) = built.extensions["engine.plans"]._operations.values()
    assert len(operation._variants) == MAX_VARIANTS


async def test_plans_go_with_their_documents() -> None:
    built = schema()
    document = parse("{ animals { name } }")
    await answer(built, document, BreadthExecutor)
    plans: Plans = built.extensions["engine.plans"]
    assert len(plans) == 1
    del document
    gc.collect()
    assert len(plans) == 0


class Packed(BreadthExecutor):
    packed = True


NAMES = {
    "more than are worth compiling": [f"k{n}" for n in range(MAX_COMPILED_KEYS + 1)],
    "what every object of Python has": ["__class__", "__init__", "__eq__", "__slots__", "__dict__", "__doc__"],
    "what every Struct has": ["__struct_config__", "__struct_fields__", "__struct_encode_fields__", "__match_args__"],
    "words of Python's own": ["class", "def", "None", "lambda", "self", "mro", "_"],
    "what attributes of rows are called": ["v1", "v0"],
}


@pytest.mark.parametrize("executor", [BreadthExecutor, Packed])
@pytest.mark.parametrize("keys", NAMES.values(), ids=NAMES)
async def test_objects_have_the_names_that_are_asked_for_whatever_they_mean(executor: Any, keys: list[str]) -> None:
    text = f"{{ animals(count: 2) {{ {' '.join(f'{key}: id' for key in keys)} }} }}"
    result = await answer(schema(), text, executor)
    right = {"animals": [dict.fromkeys(keys, "0"), dict.fromkeys(keys, "1")]}
    assert msgspec.json.decode(msgspec.json.encode(result.data)) == unpacked(result.data) == right
    assert list(unpacked(result.data)["animals"][0]) == keys
    assert type(result.data) is dict


async def test_nothing_is_left_of_packed_rows_and_their_classes_once_nobody_has_them() -> None:
    result = await answer(schema(), "{ animals(count: 1) { once: id only: name } }", Packed)
    kind = weakref.ref(type(result.data["animals"][0]))
    del result
    kernels.structs.cache_clear()
    gc.collect()
    assert kind() is None


def test_the_class_of_a_record_is_looked_at_once_and_is_type_of_never() -> None:
    sdl = "interface Node { id: ID } type A implements Node { id: ID } type B implements Node { id: ID } "
    built = build_schema(sdl + "type Query { nodes: [Node] a: A }")

    class RecordA:
        id = "a"

    class RecordB:
        id = "b"

    def never(*_: Any) -> bool:
        raise AssertionError

    for name, record in (("A", RecordA), ("B", RecordB)):
        type_: Any = built.type_map[name]
        type_.extensions[RECORD] = record
        type_.is_type_of = never
    root = {"nodes": [RecordA(), RecordB(), None, RecordA()], "a": RecordB()}
    text = "{ nodes { __typename id } a { id } }"
    result = execute_sync(built, parse(text), root, executor_class=BreadthExecutor)
    found = [each and (each["__typename"], each["id"]) for each in (result.data or {})["nodes"]]
    assert found == [("A", "a"), ("B", "b"), None, ("A", "a")]
    assert [each.message.partition(" but")[0] for each in result.errors or ()] == ["Expected value of type 'A'"]


@pytest.mark.parametrize("executor", [BreadthExecutor, StandardExecutor])
def test_a_guard_refuses_before_arguments_are_made_and_each_parent_has_its_error(executor: Any) -> None:
    built = build_schema("type Query { all: [T] } type T { x(n: Int!): Int! }")
    asked = []

    def refuse(info: Any) -> None:
        asked.append(info.path.as_list())
        raise PermissionError("No")

    built.type_map["T"].fields["x"].extensions[GUARD] = refuse  # type: ignore[attr-defined]
    document = parse("query($n: Int) { all { x(n: $n) } }")
    result = execute_sync(built, document, {"all": [{}, {}]}, executor_class=executor)
    assert result.data == {"all": [None, None]}
    assert [(each.message, each.path) for each in result.errors or ()] == [
        ("No", ["all", 0, "x"]),
        ("No", ["all", 1, "x"]),
    ]
    assert asked == ([["all", 0, "x"]] if executor is BreadthExecutor else [["all", 0, "x"], ["all", 1, "x"]])


@pytest.mark.parametrize("executor", [BreadthExecutor, StandardExecutor])
async def test_a_resolver_that_somebody_has_put_another_round_is_not_gone_round(executor: Any) -> None:
    built = schema()
    field = built.type_map["Animal"].fields["label"]  # type: ignore[attr-defined]
    own = field.resolve
    field.resolve = lambda source, info, **arguments: own(source, info, **arguments).upper()
    result = await answer(built, "{ animals(count: 1) { label } }", executor)
    assert result.data == {"animals": [{"label": "DOG 0"}]}


async def test_it_works_below_the_pipeline_of_strawberry_and_middleware_is_told_as_a_reason() -> None:
    told: list[Reason] = []

    class Telling(BreadthExecutor):
        on_fallback = told.append

    class Shout(SchemaExtension):
        def resolve(self, next_: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
            value = next_(root, info, *args, **kwargs)
            return value.upper() if isinstance(value, str) else value

    text = "{ animals(count: 1) { label } }"
    quiet = strawberry.Schema(query=Query, execution_context_class=Telling)
    loud = strawberry.Schema(query=Query, execution_context_class=Telling, extensions=[Shout])
    assert (await quiet.execute(text)).data == {"animals": [{"label": "dog 0"}]}
    assert told == []
    assert (await loud.execute(text)).data == {"animals": [{"label": "DOG 0"}]}
    assert told == ["middleware"]
    assert set(told) <= set(get_args(Reason))


async def test_each_event_of_a_subscription_is_executed() -> None:
    told: list[Reason] = []

    class Telling(BreadthExecutor):
        on_fallback = told.append

    @strawberry.type
    class Subscription:
        @strawberry.subscription(graphql_type=Animal)
        async def born(self) -> Any:
            for each in dogs(2):
                yield each

    built = strawberry.Schema(query=Query, subscription=Subscription, execution_context_class=Telling)
    events = [event.data async for event in await built.subscribe("subscription { born { name label } }")]  # type: ignore[union-attr]
    assert events == [{"born": {"name": str(n), "label": f"dog {n}"}} for n in range(2)]
    assert told == []


def test_what_is_nested_deeper_than_the_stack_is_an_error_and_no_crash() -> None:
    built = build_schema("type Query { deeper: Query x: Int }")
    root: dict[str, Any] = {"x": 1}
    root["deeper"] = root
    chain = [f"fragment F{n} on Query {{ deeper {{ ...F{n + 1} }} }}" for n in range(2000)]
    text = "\n".join(["{ ...F0 }", *chain, "fragment F2000 on Query { x }"])
    result = execute_sync(built, parse(text), root, executor_class=BreadthExecutor)
    assert result.errors
    assert isinstance(result.data, dict)


async def test_a_stream_whose_only_late_item_is_lost_is_lost() -> None:
    sdl = "type Query { strict: [T!] loose: [T] } type T { x: Int! }"

    async def late(_info: Any) -> int:
        raise ValueError("late")

    async def stream(_info: Any) -> Any:
        yield {"x": 1}
        yield {"x": late}

    root = {"strict": stream, "loose": stream}
    result = await _with_root(build_schema(sdl), "{ strict { x } loose { x } }", root)
    assert result.data == {"strict": None, "loose": [{"x": 1}, None]}
    assert [each.path for each in result.errors or ()] == [["strict", 1, "x"], ["loose", 1, "x"]]


async def _with_root(schema: GraphQLSchema, text: str, root: Any) -> ExecutionResult:
    result = execute(schema, parse(text), root, executor_class=BreadthExecutor)
    return result if isinstance(result, ExecutionResult) else await result
