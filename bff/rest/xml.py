"""XML as JSON and back, by the mapping in docs/transformation.md: no DTD, no entities, and no deeper than allowed."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from bff.rest.shape import MAX_DEPTH, ShapeError

ATTRIBUTE: Final = "@"
TEXT: Final = "#text"
_MAX_ATTRIBUTES: Final = 100
# XML 1.0, productions 4 and 4a of its fifth edition, with a colon only between a prefix and a name.
_START = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NCNAME = f"[{_START}][{_START}.0-9\u00b7\u0300-\u036f\u203f-\u2040-]*"
_NAME: Final = re.compile(f"{_NCNAME}(?::{_NCNAME})?")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IN_TEXT: Final = {"\r": "&#13;"}
_IN_ATTRIBUTES: Final = {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}


def from_xml(document: bytes, lists: Collection[str] = ()) -> dict[str, Any]:
    """What JSON has for a document.

        from_xml(b'<order id="1"><item>tea</item><item>milk</item></order>')
        {"order": {"@id": "1", "item": ["tea", "milk"]}}

    Args:
        document: in UTF-8, UTF-16, ISO-8859-1 or ASCII, as its declaration says.
        lists: names of elements that are a list also where there is one of them only.

    Raises:
        ShapeError: it is no XML, has a DTD, or is nested too deep.
    """
    reading = _Reading(frozenset(lists))
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = 64 * 1024
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.text
    parser.StartDoctypeDeclHandler = reading.doctype
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise ShapeError(
            f"is no XML: {expat.ErrorString(error.code)} in line {error.lineno}, column {error.offset}"
        ) from None
    except (LookupError, ValueError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError("is in an encoding that is not read here") from None
    return reading.root


class _Element:
    """One that has begun and not ended."""

    __slots__ = ("members", "nested", "parts")

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members
        self.nested = False
        self.parts: list[str] = []

    def value(self) -> Any:
        text = "".join(self.parts)
        if not self.members:
            return text
        # Between elements it is how the document is laid out.
        if text and not (self.nested and not text.strip()):
            self.members[TEXT] = text
        return self.members


class _Reading:
    def __init__(self, lists: frozenset[str]) -> None:
        self.root: dict[str, Any] = {}
        self._lists = lists
        self._open: list[_Element] = []

    def start(self, _name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise ShapeError(f"is nested more than {MAX_DEPTH} deep")
        if len(attributes) > _MAX_ATTRIBUTES:
            raise ShapeError(f"has an element with more than {_MAX_ATTRIBUTES} attributes")
        if self._open:
            self._open[-1].nested = True
        self._open.append(_Element({ATTRIBUTE + name: value for name, value in attributes.items()}))

    def end(self, name: str) -> None:
        value = self._open.pop().value()
        members = self._open[-1].members if self._open else self.root
        if name not in members:
            members[name] = [value] if name in self._lists else value
        elif isinstance(members[name], list):
            members[name].append(value)
        else:
            members[name] = [members[name], value]

    def text(self, data: str) -> None:
        if self._open:
            self._open[-1].parts.append(data)

    def doctype(self, *_: object) -> None:
        raise ShapeError("has a DTD, which is not read here")


def to_xml(value: Any, root: str = "root") -> bytes:
    """The document for what JSON has, the other way round.

    An object with one member that is no list is the root element with its name; anything else is put into `root`.

    Raises:
        ShapeError: it has a name or a character that XML has not, or lists in lists.
    """
    if isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        if not isinstance(inner, list) and not name.startswith((ATTRIBUTE, TEXT)):
            root, value = name, inner
    if isinstance(value, list):
        value = {"item": value}
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    _write(root, value, parts)
    return "".join(parts).encode()


def _write(name: str, value: Any, parts: list[str]) -> None:
    _check_name(name)
    if not isinstance(value, dict):
        text = _text(value)
        parts.append(f"<{name}>{escape(text, _IN_TEXT)}</{name}>" if text else f"<{name}/>")
        return
    parts.append(f"<{name}")
    inside: list[str] = []
    for key, each in value.items():
        if key.startswith(ATTRIBUTE):
            _check_name(key[1:])
            parts.append(f' {key[1:]}="{escape(_text(each), _IN_ATTRIBUTES)}"')
        elif key == TEXT:
            inside.append(escape(_text(each), _IN_TEXT))
        elif isinstance(each, list):
            for item in each:
                if isinstance(item, list):
                    raise ShapeError("has a list in a list, which XML has not")
                _write(key, item, inside)
        else:
            _write(key, each, inside)
    parts += [">", *inside, f"</{name}>"] if inside else ["/>"]


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise ShapeError("has a member whose name is no name in XML")


@lru_cache(1024)
def _is_name(name: str) -> bool:
    if name.isascii() or not _NAME.fullmatch(name):
        return _NAME.fullmatch(name) is not None
    try:  # the editions before the fifth, which many still read by, have fewer
        expat.ParserCreate().Parse(f"<{name}/>", True)
    except expat.ExpatError:
        return False
    return True


def _text(value: Any) -> str:
    if isinstance(value, str):
        if _NOT_XML.search(value):
            raise ShapeError("has a character that XML has not")
        return value
    if isinstance(value, dict | list):
        raise ShapeError("has an attribute or text that is an object or a list")
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return str(value)
