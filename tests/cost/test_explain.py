"""`bff explain` says at a glance what an operation does, and fails a build where it does too much."""

import json

import pytest
from typer.testing import CliRunner

from bff.cli import main
from tests.harness import BFF_YAML, FOUR_SERVICES

TREE = """\
query Shop: cost 681, at most 9 calls in 3 waves
needs orders:read payments:read users:read
                      AT MOST  COST  WAVE  CALLS
users(first: $first)        1   681     1      1  users.list_users
  nodes                    10   680
    orders(first: 3)       10   670     2      1  orders.orders_by_user
      nodes                30   660
        total              30     0
        items           3,000   600
          product       3,000   300     3      6  products.product_by_id
            price       3,000     0
        payment            30    30     3      1  payments.payment_by_order
"""


@pytest.fixture
def bff(tmp_path):
    (tmp_path / "bff.yaml").write_text(BFF_YAML)
    (tmp_path / "operations" / "more").mkdir(parents=True)

    def run(*arguments: str, **files: str):
        for name, text in files.items():
            (tmp_path / "operations" / "more" / f"{name}.graphql").write_text(text)
        folder = str(tmp_path / "operations")
        return CliRunner().invoke(main, ["explain", folder, "--config", str(tmp_path / "bff.yaml"), *arguments])

    return run


def test_the_tree_shows_waves_calls_cost_and_scopes(bff):
    found = bff(shop=FOUR_SERVICES)
    assert (found.output, found.exit_code) == (TREE, 0)


def test_fields_that_ask_together_are_one_call(bff):
    lines = bff(a='{ me { name } user(id: "usr_2") { name } }').output.splitlines()
    assert lines[0] == "query: cost 2, at most 1 call in 1 wave"
    assert lines[-1].endswith("users.user_by_id (with one above)")


def test_variables_are_taken_or_else_their_defaults_or_else_the_largest(bff):
    text = "query A($n: Int!, $m: Int! = 3) { users(first: $n) { nodes { orders(first: $m) { nodes { id } } } } }"
    assert bff(a=text).output.startswith("query A: cost 1,001,")
    assert bff("--variables", '{"n": 2, "m": 1}', a=text).output.startswith("query A: cost 7,")


def test_of_an_id_that_is_not_known_the_worst_type_counts(bff):
    text = "query A($id: ID!) { node(id: $id) { ... on Order { customer { name } } ... on Product { name } } }"
    assert bff(a=text).output.startswith("query A: cost 2, at most 2 calls in 2 waves")


def test_json_says_the_same(bff):
    (found,) = json.loads(bff("--json", shop=FOUR_SERVICES).output)
    assert (found["operation"], found["cost"], found["calls"], found["waves"]) == ("Shop", 681, 9, 3)
    assert found["needs"] == [{"scopes": [["orders:read", "payments:read", "users:read"]]}]
    assert found["calls_by_read"]["products.product_by_id"] == 6
    assert found["fields"][0] == {
        "depth": 0, "field": "Query.users", "key": "users", "at_most": 1, "cost": 681, "wave": 1,
        "reads": ["users.list_users"],
    }  # fmt: skip


def test_a_build_fails_for_each_operation_over_its_budget_and_names_it(bff):
    assert bff("--budget", "calls=9,cost=681", shop=FOUR_SERVICES).exit_code == 0
    over = bff("--budget", "calls=8,cost=680", shop=FOUR_SERVICES, small="query Me { me { id } }")
    assert over.exit_code == 1
    assert [line.partition("more/")[2] for line in over.output.splitlines()] == [
        "shop.graphql: query Shop: calls 9, 8 allowed",
        "shop.graphql: query Shop: cost 681, 680 allowed",
    ]


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        ([], "{ users {", "a.graphql:1: Syntax Error"),
        ([], "{ nothing }", "a.graphql:1: Cannot query field 'nothing'"),
        (["--operation", "No"], "{ me { id } }", "There is no operation named No in"),
        (["--variables", "{"], "{ me { id } }", "--variables is not well-formed JSON"),
        (["--variables", "[]"], "{ me { id } }", "--variables must be a JSON object"),
        (["--budget", "money=3"], "{ me { id } }", "write it as calls=12,cost=5000"),
    ],
)
def test_what_is_wrong_is_said(bff, arguments, text, said):
    found = bff(*arguments, a=text)
    assert found.exit_code == 1
    assert said in found.output
