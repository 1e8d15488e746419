"""Server-sent events as bytes: what they say, however they are cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.upstream.sse import Event, Reader, TooLargeError


def read(*chunks: bytes, limit: int = 2000) -> list[Event]:
    reader = Reader(limit)
    return [event for chunk in chunks for event in reader.read(chunk)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: one\n\n", [("message", b"one", b"")]),
        (b"data:one\n\n", [("message", b"one", b"")]),
        (b"data:  one\n\n", [("message", b" one", b"")]),
        (b"data: one\ndata: two\n\n", [("message", b"one\ntwo", b"")]),
        (b"data\n\n", [("message", b"", b"")]),
        (b"data:\ndata:\n\n", [("message", b"\n", b"")]),
        (b"event: status\ndata: one\n\n", [("status", b"one", b"")]),
        (b"event: status\n\ndata: one\n\n", [("message", b"one", b"")]),
        (b"id: 7\ndata: one\n\ndata: two\n\n", [("message", b"one", b"7"), ("message", b"two", b"7")]),
        (b"id: 7\n\ndata: one\n\n", [("message", b"one", b"7")]),
        (b"id: 7\ndata: one\n\nid\ndata: two\n\n", [("message", b"one", b"7"), ("message", b"two", b"")]),
        (b"id: a\0b\ndata: one\n\n", [("message", b"one", b"")]),
        (b"id: " + b"7" * 1025 + b"\ndata: one\n\n", [("message", b"one", b"")]),
        (b": a comment\n\n:\n\ndata: one\n\n", [("message", b"one", b"")]),
        (b"nonsense: x\nretry\ndata: one\n\n", [("message", b"one", b"")]),
        (b"\xef\xbb\xbfdata: one\n\n", [("message", b"one", b"")]),
        (b"data: one\n\n\xef\xbb\xbfdata: two\n\n", [("message", b"one", b"")]),
        (
            b"data: one\r\n\r\ndata: two\r\rdata: three\n\n",
            [("message", each, b"") for each in (b"one", b"two", b"three")],
        ),
        (b"data: not whole", []),
        (b"data: not whole\n", []),
        (b"", []),
    ],
)
def test_a_stream_is_read_as_the_standard_has_it(text, events):
    assert read(text) == events
    assert read(*(text[at : at + 1] for at in range(len(text)))) == events


@given(
    st.lists(st.sampled_from([b"data: x", b"id: 3", b"event: e", b"\n", b"\r", b"\r\n", b":", b" ", b"\xef\xbb\xbf"])),
    st.data(),
)
def test_it_does_not_matter_where_a_stream_is_cut(parts, data):
    text = b"".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[one:other] for one, other in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(*[piece for piece in pieces if piece]) == (read(text) if text else [])


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20))
def test_whatever_comes_is_read_or_too_large(chunks):
    reader = Reader(limit=200)
    try:
        for chunk in chunks:
            list(reader.read(chunk))
            assert len(reader._rest) <= 200
    except TooLargeError:
        pass


@pytest.mark.parametrize(
    "text", [b"data: " + b"x" * 200, b"data: " + b"x" * 200 + b"\n\n", b"data: xxxxxxxxx\n" * 20, b"x" * 200]
)
def test_an_event_has_a_bound(text):
    with pytest.raises(TooLargeError):
        read(text, limit=150)
    assert isinstance(read(text, limit=500), list)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        (b"retry: 2500\n", 2.5),
        (b"retry: -1\n", None),
        (b"retry: 1.5\n", None),
        (b"retry: 99999999999\n", None),
        (b"", None),
    ],
)
def test_the_wait_that_a_service_asks_for_is_read(text, wait):
    reader = Reader(1000)
    list(reader.read(text or b"\n"))
    assert reader.wait == wait
