"""The rules of `rules.txt`, and one that is made: what base64 makes of the classes that Java's gadget chains use."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

Part = Literal["value", "path", "agent", "upload"]
"""Where a rule looks: in values (of query, body, cookies and headers), the path, the client's name, a file's name."""

_GADGETS = [
    *("runtime", "processbuilder", "clonetransformer", "forclosure", "instantiatefactory", "instantiatetransformer"),
    *("invokertransformer", "prototypeclonefactory", "prototypeserializationfactory", "whileclosure", "getproperty"),
    *("filewriter", "xmldecoder"),
]
_SECTION = re.compile(r"\[([a-z-]+)\](?: (\w+))?")
_NAME = re.compile(r"«([a-z ]+)»")


class Rule(NamedTuple):
    """A pattern in RE2's syntax. The id begins with its category: `sql-union`."""

    id: str
    part: Part
    pattern: str


@cache
def rules() -> tuple[Rule, ...]:
    """All of them, category by category."""
    text = Path(__file__).with_name("rules.txt").read_text(encoding="utf-8")
    return (*_read(text), Rule("java-encoded", "value", "|".join(_encoded(_GADGETS))))


def _read(text: str) -> Iterator[Rule]:
    definitions: dict[str, str] = {}
    for paragraph in text.strip().split("\n\n"):
        head, *lines = paragraph.split("\n")
        if name := _NAME.fullmatch(head):
            definitions[name[1]] = f"(?:{'|'.join(' '.join(lines).split())})"
        elif section := _SECTION.fullmatch(head):
            part: Part = next(each for each in get_args(Part) if each == (section[2] or "value"))
            pattern = _NAME.sub(lambda name: definitions[name[1]], "|".join(lines))
            yield Rule(section[1], part, pattern)


def _encoded(words: list[str]) -> Iterator[str]:
    """What base64 makes of a word, wherever in the text it begins: the part that its neighbours do not touch."""
    for word in words:
        for spelling in (word, word.capitalize()):
            for before in range(3):
                text = b64encode(b" " * before + spelling.encode()).decode().rstrip("=")
                yield f"(?-i:{re.escape(text[(0, 2, 3)[before] : (before + len(spelling)) * 8 // 6])})"
