"""YAML 1.2, and what a file may not do to whoever reads it."""

from __future__ import annotations

import time

import pytest

from bff.core.loading import ConfigError, load
from bff.core.loading.document import MAX_LENGTH, parse
from tests.config.tree import Tree


def data(text):
    problems = []
    node = parse(text, "bff.yaml", problems)
    assert not problems
    return node.data()


def refused(text):
    with pytest.raises(ConfigError) as error:
        load(Tree, text)
    return str(error.value)


def test_only_true_and_false_are_booleans():
    assert data("[on, off, yes, no, y, n, On, NO]") == ["on", "off", "yes", "no", "y", "n", "On", "NO"]
    assert data("[true, True, FALSE, false]") == [True, True, False, False]
    assert load(Tree, "mode: off").config.mode == "off"


def test_a_key_is_text_whatever_it_looks_like():
    assert data("{on: 1, 404: 2, null: 3, true: 4}") == {"on": 1, "404": 2, "null": 3, "true": 4}


def test_scalars_are_those_of_the_core_schema():
    assert data("[1, -2, 012, 0o12, 0x1F, 1.5, 1e3, .5]") == [1, -2, 12, 10, 31, 1.5, 1000.0, 0.5]
    assert data("[~, null, NULL, '1', \"true\", '']") == [None, None, None, "1", "true", ""]
    words = ["12:30:45", "2026-01-01", "1_000", ".inf", ".nan", "0b1", "9" * 30, "1e999", "=", "<"]
    assert data(f"[{', '.join(words)}]") == words


def test_an_empty_file_is_an_empty_mapping():
    assert [data(text) for text in ("", "# nothing\n")] == [{}, {}]
    assert load(Tree, "---\n").config == Tree()


def test_a_duplicate_key_is_refused_with_both_lines():
    text = "server:\n  port: 1\n  host: a\n  port: 2\n"
    assert refused(text) == "bff.yaml:4: server.port: is there twice, the first time in line 2"


def test_every_duplicate_is_reported_at_once():
    text = "mode: off\nmode: off\nserver: {port: 1, port: 2}\n"
    assert refused(text).splitlines() == [
        "bff.yaml:2: mode: is there twice, the first time in line 1",
        "bff.yaml:3: server.port: is there twice, the first time in line 3",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", "bff.yaml:2: isn't YAML: did not find expected ',' or ']'"),
        ("a: b: c", "bff.yaml:1: isn't YAML: mapping values are not allowed in this context"),
        ("\ta: 1", "bff.yaml:1: isn't YAML: found character that cannot start any token"),
        ("token: {a: ${TOKEN}}", "bff.yaml:1: isn't YAML: did not find expected ',' or '}'; write ${...} in quotes"),
        ("a: \x00", "bff.yaml: isn't YAML: "),
        ("a: 1\n---\nb: 2\n", "bff.yaml:2: a second document begins here; there may be only one"),
        (
            "server: !!python/object:os.system {}",
            "bff.yaml:1: server: has the tag tag:yaml.org,2002:python/object:os.sys",
        ),
        ("server:\n  <<: {port: 1}", "bff.yaml:2: server.<<: YAML 1.2 has no merge keys; say it once under `defaults`"),
        ("a: *x", "bff.yaml:1: a: *x has no anchor &x that ends before it"),
        ("a: &x [*x]", "bff.yaml:1: a[0]: *x has no anchor &x that ends before it"),
        ("? [a]\n: 1", "bff.yaml:1: a key must be text"),
        ("{{ name }}: 1", "bff.yaml:1: a key must be text"),
        ("- a", "bff.yaml:1: must be a mapping of sections"),
        ("just words", "bff.yaml:1: must be a mapping of sections"),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_line(text, message):
    assert refused(text).startswith(message)


def test_half_a_surrogate_pair_is_refused():
    assert "bff.yaml:1" in refused('token: "\\ud800"')


def test_a_variable_that_is_not_utf_8_is_refused_by_name():
    bad = b"\xff".decode(errors="surrogateescape")
    with pytest.raises(ConfigError) as error:
        load(Tree, "mode: ${MODE}", environ={"MODE": bad, "BFF__TOKEN": bad})
    assert str(error.value).splitlines() == [
        "bff.yaml:1: mode: is not UTF-8 text",
        "BFF__TOKEN: token: is not UTF-8 text",
    ]


def test_an_alias_means_the_same_as_its_anchor():
    config = load(Tree, "services: {a: &a {url: 'http://a', timeout: 3s}, b: *a}").config
    assert config.services["a"] == config.services["b"]


def test_aliases_that_unfold_into_millions_are_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    began = time.monotonic()
    assert "more than 100000 values, aliases unfolded" in refused("\n".join(lines))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 10_000, "- " * 10_000, "\n".join(" " * n + "a:" for n in range(900))]
)
def test_nesting_is_bounded(text):
    assert "nested more than 32 deep" in refused(text)


def test_nesting_by_aliases_is_bounded():
    lines = ["a0: &a0 [[[[[[[[x]]]]]]]]", *(f"a{n}: &a{n} [[[[[[[[*a{n - 1}]]]]]]]]" for n in range(1, 100))]
    assert "nested more than 32 deep" in refused("\n".join(lines))


def test_a_file_is_bounded():
    assert refused("#" * (MAX_LENGTH + 1)) == f"bff.yaml: is longer than {MAX_LENGTH} characters"
