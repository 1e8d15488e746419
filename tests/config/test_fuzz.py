"""Whatever is in a file or a variable, loading it gives settings or a `ConfigError`, and soon."""

from __future__ import annotations

from contextlib import suppress

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bff.core.loading import ConfigError, load
from tests.config.tree import Tree

WORDS = st.sampled_from(
    [
        "server",
        "port",
        "token",
        "file",
        "services",
        "users",
        "url",
        "http://a",
        "routes",
        "path",
        "/a",
        "service",
        "defaults",
        "tiers",
        "rate",
        "1/second",
        "retry",
        "attempts",
        "claims",
        "${A}",
        "${",
        "$${",
        "${A:-b}",
        "~",
        "on",
        "true",
        "1",
        "<<",
    ]
)
VALUES = st.recursive(
    WORDS
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4),
    lambda inside: (
        st.lists(inside, max_size=4) | st.dictionaries(WORDS | st.integers() | st.text(max_size=4), inside, max_size=4)
    ),
    max_leaves=20,
)
SYNTAX = st.lists(
    WORDS
    | st.sampled_from(
        [*list("{}[]:,-?&*!|>'\"%@`#\t\n "), "\n  ", ": ", "- ", "&a ", "*a ", "\x00", "�", "\ufeff", "---\n"]
    ),
    max_size=40,
).map("".join)
ENVIRON = st.dictionaries(
    st.lists(
        st.sampled_from(["BFF", "server", "PORT", "TOKEN", "ROUTES", "0", "services", "users", "URL", ""]), max_size=5
    ).map("__".join),
    SYNTAX | st.text(max_size=8),
    max_size=3,
)
modest = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def loaded_or_refused(text, environ):
    with suppress(ConfigError):
        assert isinstance(load(Tree, text, environ={"A": "a", **environ}).config, Tree)


@modest
@given(SYNTAX | st.text(), ENVIRON)
def test_no_text_does_anything_else(text, environ):
    loaded_or_refused(text, environ)


@modest
@given(st.dictionaries(WORDS, VALUES, max_size=5), ENVIRON)
def test_no_yaml_does_anything_else(value, environ):
    loaded_or_refused(yaml.safe_dump(value, allow_unicode=True), environ)


@modest
@given(st.dictionaries(st.sampled_from(sorted(Tree.model_fields)), VALUES, max_size=3))
def test_no_value_in_the_place_of_a_section_does_anything_else(value):
    with suppress(ConfigError):
        assert isinstance(load(Tree, "", overrides=value).config, Tree)
