import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rest.shape import ShapeError
from bff.rest.xml import from_xml, to_xml


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (b"<a/>", {"a": ""}),
        (b"<a> x </a>", {"a": " x "}),
        (b"<a>1</a>", {"a": "1"}),
        (b'<a b="1"/>', {"a": {"@b": "1"}}),
        (b'<a b="1">x</a>', {"a": {"@b": "1", "#text": "x"}}),
        (b"<a>\n  <b>1</b>\n  <b/>\n</a>", {"a": {"b": ["1", ""]}}),
        (b"<a>x<b/>y</a>", {"a": {"b": "", "#text": "xy"}}),
        (b"<a><![CDATA[<b>&]]></a>", {"a": "<b>&"}),
        (b"<a>&lt;&#65;&#x20AC;</a>", {"a": "<A\u20ac"}),
        (b'<s:a xmlns:s="urn:s"><s:b/></s:a>', {"s:a": {"@xmlns:s": "urn:s", "s:b": ""}}),
        (b"<a><!-- no --><?pi no?>x</a>", {"a": "x"}),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe9</a>'.encode("latin-1"), {"a": "\xe9"}),
        ("<a>\u20ac</a>".encode("utf-16"), {"a": "\u20ac"}),
    ],
)
def test_a_document_is_read_by_the_mapping(document, value):
    assert from_xml(document) == value


def test_elements_may_be_lists_wherever_they_are():
    assert from_xml(b"<a><b>1</b></a>", ["b"]) == {"a": {"b": ["1"]}}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<a>",
        b"<a></b>",
        b"<a/><b/>",
        b"<a>&b;</a>",
        b"<!DOCTYPE a><a/>",
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1:1/x"> %b;]><a/>',
        b"<a>" * 101 + b"</a>" * 101,
        b"<a " + b" ".join(b'b%d="1"' % n for n in range(101)) + b"/>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"<a>\xff</a>",
        b"<a>\x00</a>",
    ],
)
def test_what_is_dangerous_or_no_xml_is_refused(document):
    with pytest.raises(ShapeError):
        from_xml(document)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ({"a": {"@b": '1\n"<', "c": ["x", None], "#text": "t&"}}, b'<a b="1&#10;&quot;&lt;"><c>x</c><c/>t&amp;</a>'),
        ({"a": {}}, b"<a/>"),
        ({"a": 1, "b": 1.5}, b"<root><a>1</a><b>1.5</b></root>"),
        ([1, True], b"<root><item>1</item><item>true</item></root>"),
        ({"a": [1, 2]}, b"<root><a>1</a><a>2</a></root>"),
        ("x", b"<root>x</root>"),
        ({"@a": "b"}, b'<root a="b"/>'),
        ({"a": "x\r\n"}, b"<a>x&#13;\n</a>"),
    ],
)  # fmt: skip
def test_json_is_written_by_the_mapping(value, document):
    assert to_xml(value).partition(b"\n")[2] == document


@pytest.mark.parametrize(
    "value",
    [{"": 1}, {"a b": 1}, {"1a": 1}, {"a><b": 1}, {"a": {"@": 1}}, {"a": {"@b c": 1}}, {"a": {"@b": [1]}},
     {"a": {"#text": {}}}, {"a": "\x00"}, {"a": "\ud800"}, {"a": "\ufffe"}, {"a": {"b": [[1]]}}],
)  # fmt: skip
def test_json_that_xml_has_no_room_for_is_refused(value):
    with pytest.raises(ShapeError):
        to_xml(value)


NAMES = st.from_regex(r"[A-Za-z_\u00e9][A-Za-z0-9_.\u00e9-]{0,5}(:[a-z][a-z0-9]{0,3})?", fullmatch=True)
PLAIN = st.characters(codec="utf-8", exclude_characters="\ufffe\uffff", exclude_categories=["Cs", "Cc"])
TEXT = st.text(PLAIN | st.sampled_from("\t\n\r <&\"']>"))
VISIBLE = TEXT.filter(str.strip)


def elements(inner):
    """An element with members: one alone, or at least two in a list."""
    members = st.dictionaries(NAMES, inner | st.lists(inner, min_size=2, max_size=3), max_size=3)
    attributes = st.dictionaries(NAMES.map("@{}".format), TEXT, max_size=3)
    texts = st.fixed_dictionaries({}, optional={"#text": VISIBLE})
    return st.builds(lambda a, b, c: a | b | c, attributes, members, texts).filter(lambda value: set(value) - {"#text"})


VALUES = st.dictionaries(NAMES, st.recursive(TEXT, elements, max_leaves=20), min_size=1, max_size=1)


@given(VALUES)
def test_what_was_written_is_read_as_it_was(value):
    assert from_xml(to_xml(value)) == value


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(ANY)
def test_whatever_json_it_is_xml_comes_of_it_or_a_refusal(value):
    try:
        document = to_xml(value)
    except ShapeError:
        return
    from_xml(document)
