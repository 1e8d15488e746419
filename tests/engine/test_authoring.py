"""What `batched` promises to who writes a schema, on our executor and on graphql-core's."""

# ruff: noqa: N805 - a batched field takes parents

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import strawberry
from graphql import ExecutionResult, execute, parse
from strawberry.permission import BasePermission

from bff.engine import BreadthExecutor, Parents, StandardExecutor, batched

BOTH = pytest.mark.parametrize("executor", [BreadthExecutor, StandardExecutor])


class Record:
    def __init__(self, number: int) -> None:
        self.number = number


@strawberry.type
class Query:
    @strawberry.field(graphql_type=list["Thing"])
    def things(self, count: int = 3) -> list[Record]:
        return [Record(number) for number in range(count)]


CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def calls() -> list[Any]:
    CALLS.clear()
    return CALLS


@strawberry.input
class Range:
    low: int = 0
    high: int | None = strawberry.UNSET


class Refused(BasePermission):
    message = "Not for you"

    def has_permission(self, source: Any, info: strawberry.Info, **_: Any) -> bool:
        return source.number != 1


@strawberry.type
class Thing:
    number: int

    @batched
    async def doubled(parents: Parents[Record]) -> list[int]:
        CALLS.append([each.number for each in parents])
        await asyncio.sleep(0)
        return [each.number * 2 for each in parents]

    @batched(name="asText", description="In words.", deprecation_reason="Count yourself.", graphql_type=str | None)
    async def text(parents: Parents[Record], info: strawberry.Info) -> list[Any]:
        CALLS.append((info.field_name, info.python_name))
        return [ValueError("zero") if each.number == 0 else str(each.number) for each in parents]

    @batched
    def within(
        parents: Parents[Record], range: Range, some_numbers: list[int] | None = strawberry.UNSET
    ) -> list[list[int]]:
        CALLS.append((range, some_numbers))
        return [[range.low, each.number] for each in parents]

    @batched(permission_classes=[Refused])
    async def permitted(parents: Parents[Record]) -> list[int | None]:
        CALLS.append(len(parents))
        return [each.number for each in parents]

    @batched
    async def short(parents: Parents[Record]) -> list[int | None]:
        return [1 for _ in parents][1:]

    @batched
    async def nonsense(parents: Parents[Record]) -> list[int | None]:
        return {"not": "a list"}  # type: ignore[return-value]

    @batched
    def broken(parents: Parents[Record]) -> list[int | None]:
        raise RuntimeError("nothing works")

    @batched
    async def others(parents: Parents[Record]) -> list["list[Thing]"]:
        return [[Record(each.number + 10)] for each in parents]


SCHEMA = strawberry.Schema(query=Query, types=[Thing])


async def answer(text: str, executor: Any, **variables: Any) -> ExecutionResult:
    result = execute(SCHEMA._schema, parse(text), variable_values=variables, executor_class=executor)
    return result if isinstance(result, ExecutionResult) else await result


def messages(result: ExecutionResult) -> list[tuple[str, Any]]:
    return [(each.message, each.path) for each in result.errors or ()]


def test_a_field_has_the_type_of_one_result_and_the_options_of_strawberry() -> None:
    sdl = SCHEMA.as_str()
    assert "doubled: Int!" in sdl
    assert "within(range: Range!, someNumbers: [Int!]): [Int!]!" in sdl
    assert 'asText: String @deprecated(reason: "Count yourself.")' in sdl
    assert '"""In words."""' in sdl
    assert "others: [Thing!]!" in sdl


@BOTH
async def test_parents_of_a_level_are_one_call(executor: Any, calls: list[Any]) -> None:
    result = await answer("{ things { doubled others { doubled } } }", executor)
    assert result.data == {"things": [{"doubled": 2 * n, "others": [{"doubled": 2 * n + 20}]} for n in range(3)]}
    assert calls == [[0, 1, 2], [10, 11, 12]]


@BOTH
async def test_executions_at_once_do_not_share_a_call(executor: Any, calls: list[Any]) -> None:
    text = "query($n: Int!) { things(count: $n) { doubled } }"
    answers = await asyncio.gather(*(answer(text, executor, n=n) for n in (1, 2, 3)))
    assert [len(each.data["things"]) for each in answers if each.data] == [1, 2, 3]
    assert sorted(calls) == [[0], [0, 1], [0, 1, 2]]


@BOTH
async def test_an_exception_is_the_result_of_its_parent_alone(executor: Any) -> None:
    result = await answer("{ things { asText } }", executor)
    assert result.data == {"things": [{"asText": None}, {"asText": "1"}, {"asText": "2"}]}
    assert messages(result) == [("zero", ["things", 0, "asText"])]
    assert all(each == ("asText", "text") for each in CALLS)


@BOTH
async def test_arguments_are_those_that_strawberry_makes(executor: Any) -> None:
    result = await answer("{ things(count: 1) { within(range: {low: 7}) } }", executor)
    assert result.data == {"things": [{"within": [7, 0]}]}
    assert [(Range(low=7, high=strawberry.UNSET), strawberry.UNSET)] == CALLS
    result = await answer(
        "query($l: [Int!]) { things(count: 1) { within(range: {}, someNumbers: $l) } }", executor, l=[1]
    )
    assert CALLS[1:] == [(Range(low=0, high=strawberry.UNSET), [1])]


@BOTH
async def test_permissions_of_strawberry_are_asked_for_each_parent(executor: Any, calls: list[Any]) -> None:
    result = await answer("{ things { permitted } }", executor)
    assert result.data == {"things": [{"permitted": 0}, {"permitted": None}, {"permitted": 2}]}
    assert messages(result) == [("Not for you", ["things", 1, "permitted"])]
    assert calls == [2]


@BOTH
@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("short", "Thing.short returned 1 results for 2 parents"),
        ("nonsense", "Thing.nonsense must return a list, not dict"),
        ("broken", "nothing works"),
    ],
)
async def test_a_batch_that_fails_fails_for_everybody(executor: Any, field: str, message: str) -> None:
    result = await answer(f"{{ things(count: 2) {{ {field} }} }}", executor)
    assert result.data == {"things": [{field: None}, {field: None}]}
    assert [path for _, path in messages(result)] == [["things", 0, field], ["things", 1, field]]
    assert all(message in said for said, _ in messages(result))


async def test_who_waits_no_more_ends_a_batch_that_nobody_else_waits_for() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    @strawberry.type
    class Query:
        @batched
        async def slow(parents: Parents[Any]) -> list[int]:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return []

    schema = strawberry.Schema(query=Query)._schema
    result = execute(schema, parse("{ slow }"), executor_class=StandardExecutor)
    assert not isinstance(result, ExecutionResult)
    task = asyncio.ensure_future(result)
    await started.wait()
    task.cancel()
    await asyncio.wait_for(ended.wait(), 20)


def test_a_resolver_without_parents_or_a_type_is_refused_when_it_is_written() -> None:
    with pytest.raises(TypeError, match="nothing: a batched resolver takes the parents"):

        @batched
        def nothing() -> list[int]:
            return []

    with pytest.raises(TypeError, match=r"untyped: annotate what it returns as a list, or say `graphql_type=...`"):

        @batched
        def untyped(parents: Parents[Any]):  # type: ignore[no-untyped-def]
            return []


USER_CODE = """
import strawberry
from bff.engine import Parents, batched

class Record:
    name: str = "x"

@strawberry.type
class Order:
    id: strawberry.ID

    @batched
    async def names(parents: Parents[Record], info: strawberry.Info, first: int = 3) -> list[list[str]]:
        return [[each.name] * first for each in parents]

    @batched(graphql_type=str | None, description="One of them.")
    def name_of(parents: Parents[Record]) -> list[str | None]:
        return [parents[0].name, *(each.name for each in parents[1:])]
"""


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "Success"),
        ("\n    @batched(colour='red')\n    def bad(parents: Parents[Record]) -> list[int]: return []\n", "colour"),
        ("\n    @batched\n    def bad(parents: Parents[Record]) -> int: return 1\n", "incompatible type"),
        ("\n    @batched\n    def bad(parents: Parents[Record]) -> list[int]: return [parents[0].nam]\n", '"nam"'),
    ],
    ids=["right", "unknown option", "no list", "misspelt attribute"],
)
def test_mypy_understands_it(line: str, complaint: str, tmp_path: Path) -> None:
    source = tmp_path / "user_code.py"
    source.write_text(USER_CODE + line)
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\nplugins = strawberry.ext.mypy_plugin\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", ".mypy_cache", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert complaint in done.stdout + done.stderr
