"""Whatever is asked, the breadth-first executor answers what graphql-core's does.

Over a schema with everything in it, in which all is as its types say but for mishaps, and over one whose values break
every promise; `test_fuzz_gateway` does the same over the shipped one. 2,000 operations in each normal run; `make fuzz`
makes it 20,000 (`-m fuzz`), and `FUZZ_SEED` begins elsewhere.
"""

import os
from random import Random
from typing import Any

import pytest
from graphql import (
    DocumentNode,
    FieldDefinitionNode,
    GraphQLSchema,
    Visitor,
    parse,
    print_ast,
    print_schema,
    validate,
    visit,
)
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis_graphql import from_schema
from hypothesis_graphql import nodes as literals

from tests.engine import menagerie, oracle, synthetic
from tests.engine.documents import executions
from tests.engine.operations import harder, written

# Graphql-core drops awaitables that it does not need any more. That we do not is judged with each operation.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SEED = int(os.environ.get("FUZZ_SEED", "0"))
NORMAL, LONG = 200, 2000


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return synthetic.schema()


def at_once(name: str) -> bool:
    """Fields that no event loop is needed for."""
    return not name.lower().endswith(("later", "together"))


def anything(_name: str) -> bool:
    return True


FLAVOURS = {"at_once": (at_once, oracle.compare_strictly), "with_waiting": (anything, oracle.compare)}


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_operations_of_our_own_are_answered_as_by_graphql_core(schema: GraphQLSchema, flavour: str, part: int) -> None:
    assert fuzz(schema, flavour, SEED + part, NORMAL) >= NORMAL


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_operations_of_hypothesis_are_answered_as_by_graphql_core(schema: GraphQLSchema, flavour: str) -> None:
    assert fuzz_from_outside(schema, flavour, SEED, NORMAL) >= NORMAL


@pytest.mark.parametrize("flavour", menagerie.FLAVOURS)
def test_values_that_break_every_promise_are_answered_as_by_graphql_core(flavour: str) -> None:
    fuzz_menagerie(flavour, SEED, NORMAL)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flavour", menagerie.FLAVOURS)
def test_values_that_break_every_promise_are_answered_as_by_graphql_core_at_length(flavour: str) -> None:
    fuzz_menagerie(flavour, SEED + 1000, LONG)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_twenty_thousand_operations_are_answered_as_by_graphql_core(schema: GraphQLSchema, flavour: str) -> None:
    for part in range(4):
        fuzz(schema, flavour, SEED + 1000 + part, LONG)
    fuzz_from_outside(schema, flavour, SEED + 1000, LONG)


def fuzz(schema: GraphQLSchema, flavour: str, number: int, count: int) -> int:
    """Executes at least `count` operations; how many."""
    allowed, compare = FLAVOURS[flavour]
    random = Random(number)  # noqa: S311
    done = 0
    while done < count:
        root = schema.mutation_type if random.random() < 0.1 else schema.query_type
        assert root is not None
        text = written(schema, random, root, allowed)
        done += _executed(schema, text, random, compare)
    _nothing_left_to_graphql_core()
    return done


def fuzz_menagerie(flavour: str, number: int, count: int) -> None:
    schema = menagerie.build(flavour)._schema
    compare = oracle.compare_strictly if flavour == "sync" else oracle.compare
    oracle.Fuzzed.fallbacks.clear()
    for document, variables in executions(schema, number, count):
        compare(schema, document, variables)
    left, oracle.Fuzzed.fallbacks[:] = oracle.Fuzzed.fallbacks.copy(), []
    # Graphql-core refuses a null in @skip and @include better than we could; there is nothing else that it is left.
    assert set(left) <= {"unfit directive arguments"}
    assert len(left) < count / 100


def fuzz_from_outside(schema: GraphQLSchema, flavour: str, number: int, count: int) -> int:
    allowed, compare = FLAVOURS[flavour]
    done = 0

    @seed(number)
    @settings(
        max_examples=count // 2,  # each is executed up to four times
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(from_schema(_sdl(schema, allowed), custom_scalars=_SCALARS), st.integers(0, 2**31))
    def run(text: str, luck: int) -> None:
        nonlocal done
        if done < count:
            done += _executed(schema, text, Random(luck), compare)  # noqa: S311

    run()
    _nothing_left_to_graphql_core()
    return done


_SCALARS = {"JSON": st.just(literals.String("x")), "DateTime": st.just(literals.String("2020-01-01T00:00:00Z"))}


def _executed(schema: GraphQLSchema, text: str, random: Random, compare: Any) -> int:
    document = parse(text)
    if validate(schema, document):
        return 0
    compare(schema, document, {})
    case = harder(schema, random, text)
    if case is None:
        return 1
    for variables in case.variables:
        compare(schema, case.document, variables)
    return 1 + len(case.variables)


def _nothing_left_to_graphql_core() -> None:
    assert oracle.Fuzzed.fallbacks == []


def _sdl(schema: GraphQLSchema, allowed: Any) -> str:
    class Only(Visitor):
        def enter_field_definition(self, node: FieldDefinitionNode, *_: Any) -> Any:
            return None if allowed(node.name.value) else self.REMOVE

    document: DocumentNode = visit(parse(print_schema(schema)), Only())
    return print_ast(document)
