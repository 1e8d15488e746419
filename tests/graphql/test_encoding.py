"""Answers are JSON that says what the scalars came to, and nothing that is none is sent."""

import json
import math
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.graphql.encoding import encoded

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda parts: st.lists(parts) | st.dictionaries(texts, parts),
)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "of its own"


class Level(IntEnum):
    HIGH = 3


class Count(int):
    pass


class Share(float):
    pass


@given(values)
def test_what_is_sent_is_read_as_what_it_was(value: Any) -> None:
    sent = json.loads(encoded(value))
    assert sent == value
    assert repr(sent) == repr(value)  # true is no 1, and 1.0 neither


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (Text("a"), b'"a"'),
        (Count(5), b"5"),
        (Share(0.5), b"0.5"),
        (Level.HIGH, b"3"),
        ([Text("é")], '["é"]'.encode()),
        (math.nan, b"null"),
        (-math.inf, b"null"),
        (2**70, b"1180591620717411303424"),
        (Decimal("1.10"), b'"1.10"'),
    ],
    ids=repr,
)
def test_values_of_classes_of_their_own_are_sent_as_what_they_are(value: Any, sent: bytes) -> None:
    assert encoded(value) == sent


@pytest.mark.parametrize("value", [object(), 1j, {None: 1}, "\ud800", {"a": ["\udfff"]}], ids=ascii)
def test_what_json_cannot_say_is_an_error_and_never_sent(value: Any) -> None:
    with pytest.raises((TypeError, UnicodeEncodeError)):
        encoded({"data": value})
