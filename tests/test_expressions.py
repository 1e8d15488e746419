"""Expressions: wrong ones are found at load, and no value makes one fail or run for long."""

from __future__ import annotations

import time

import pytest

from bff.config import ConfigError, load
from bff.core.expressions import Expression, of_caller
from bff.core.identity import ANONYMOUS, Caller
from tests.harness import customer, gateway, partner

CALLER = Caller("usr_1", "app", frozenset({"a:read", "a:write"}), tier="gold", credential="jwt")


def holds(source: str, caller: Caller = CALLER) -> bool:
    return Expression(source, frozenset({"caller"})).holds({"caller": of_caller(caller)})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("true", True),
        ("'a:read' in caller.scopes", True),
        ("'b' in caller.scopes || caller.tier == 'gold'", True),
        ("caller.scopes.exists(scope, scope.startsWith('a:'))", True),
        ("caller.scopes.exists(s, s == 'x') && caller.scopes.all(s, s != 'x')", False),
        ("caller.subject.matches('^usr_[0-9]+$')", True),
        ("caller.credential == 'anonymous'", False),
        ("'.exists(x, a.all(' == caller.subject // a comment with .map(", False),
    ],
)
def test_an_expression_is_judged_by_the_caller(source, expected):
    assert holds(source) is expected


@pytest.mark.parametrize(
    "source", ["caller.nothing == 1", "caller.subject > 1", "caller.subject", "1", "caller.subject.startsWith('a')"]
)
def test_what_does_not_come_to_true_does_not_hold(source):
    assert not holds(source, ANONYMOUS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "an expression (CEL): at character 1"),
        ("caller.tier ==", "an expression (CEL): at character 15"),
        ("caler.tier == 'gold'", "an expression over caller; there is no caler"),
        ("lookup(caller.tier)", "there is no function lookup"),
        ("caller.scopes.exists(a, caller.scopes.exists(b, a == b))", "without a loop inside another"),
        ("caller.subject.matches(caller.tier)", "patterns are written in it"),
        ("(" * 900 + "true" + ")" * 900, "an expression (CEL)"),
        ("true" + " " * 2000, "at most 2000 characters"),
    ],
)
def test_a_wrong_expression_is_an_error_of_the_configuration_that_names_its_key(source, message):
    with pytest.raises(ConfigError) as refused:
        load(
            "services: {users: {url: 'http://users.internal'}}",
            overrides={"graphql": {"introspection": source}},
        )
    assert "graphql.introspection" in str(refused.value)
    assert message in str(refused.value)


def test_the_longest_list_of_scopes_is_looked_through_at_once():
    many = Caller("usr_1", scopes=frozenset(f"scope-{n}" for n in range(2000)))
    begun = time.process_time()
    assert not holds("caller.scopes.exists(s, s.matches('^(a+)+$'))", many)
    assert time.process_time() - begun < 0.5


async def test_who_may_ask_for_the_schema_is_decided_by_the_expression():
    shop = gateway(profile="production", graphql={"introspection": "caller.tier == 'partner'"})
    ask = "{ __schema { queryType { name } } }"
    answer = await shop.query(ask, headers=partner())
    assert answer.data == {"__schema": {"queryType": {"name": "Query"}}}
    for headers in ({}, customer()):
        answer = await shop.query(ask, headers=headers)
        assert answer.codes == ["INTROSPECTION_DISABLED"]
        assert not answer.has_data
    assert (await shop.query("{ __typename }")).data == {"__typename": "Query"}
    refused = await shop.query("{ produkt(id: 1) { id } }", headers=partner())
    assert "Did you mean" not in refused.response.text, "what is remembered for all tells no more than all may know"
