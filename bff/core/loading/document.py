"""A configuration as it was written: a tree of values that know their place, from YAML 1.2 or Python values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from bff.core.settings import Key

MAX_LENGTH = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 100_000

Path = tuple[Key, ...]
Scalar = str | int | float | bool | None

# libyaml where PyYAML was built with it, which is nearly everywhere: ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# The core schema of YAML 1.2.2 (§10.3.2), save that infinity and NaN are words: no setting takes them.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(?=[.eE])(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, order=True)
class Place:
    """Where something was written: a line of a file, or a source without lines, such as an environment variable."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass
class Node:
    """One value of the configuration.

    Attributes:
        value: what it is; nodes again inside lists and mappings.
        place: where it stands; for the value of a key, where the key does.
        path: the keys it was written under, also when it was later applied elsewhere, as `defaults` are.
        text: a plain scalar as it was written, so that `012` is still itself where text is wanted.
        hidden: what it was taken from (`${TOKEN}`, a secret's file) if a report must not show it.
        broken: whether a problem with it has been reported, so that what follows from that need not be.
    """

    value: Scalar | list[Node] | dict[str, Node]
    place: Place
    path: Path
    text: str | None = None
    hidden: str = ""
    broken: bool = False

    @property
    def words(self) -> str | None:
        """What it is where text is wanted; None if it is empty, or no scalar."""
        if isinstance(self.value, str | int | float):
            return self.value if isinstance(self.value, str) else self.text
        return None

    def children(self) -> list[tuple[Key, Node]]:
        if isinstance(self.value, dict):
            return list(self.value.items())
        return list(enumerate(self.value)) if isinstance(self.value, list) else []

    def child(self, key: Key) -> Node | None:
        if isinstance(self.value, dict):
            return self.value.get(key) if isinstance(key, str) else None
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None

    def data(self) -> Any:
        """Only the values, as JSON would have them."""
        if isinstance(self.value, dict):
            return {key: node.data() for key, node in self.value.items()}
        return [node.data() for node in self.value] if isinstance(self.value, list) else self.value


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it is, and in words what to do about it."""

    place: Place
    path: Path
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, [str(self.place), dotted(self.path), self.message]))


class ConfigError(Exception):
    """The configuration can't be used. The message has a line for each problem, in the order of the file's lines.

    Attributes:
        problems: the same, one by one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        once = {str(problem): problem for problem in problems}
        self.problems = sorted(once.values(), key=lambda each: (not each.place.line, each.place, str(each)))
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def of(cls, source: str, message: str) -> ConfigError:
        """The error when it is the source itself, of which nothing can be used."""
        return cls([Problem(Place(source), (), message)])


def dotted(path: Path) -> str:
    """`("routes", 3, "cost")` as people write it: `routes[3].cost`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def scalar(text: str) -> Scalar:
    """What a plain scalar means in YAML 1.2: `on`, `off`, `yes`, `no`, dates and times are words."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def node_of(value: object, place: Place, path: Path = ()) -> Node:
    """The tree for Python values, all written in the same place."""
    if isinstance(value, Mapping):
        return Node({str(key): node_of(each, place, (*path, str(key))) for key, each in value.items()}, place, path)
    if isinstance(value, list | tuple):
        return Node([node_of(each, place, (*path, at)) for at, each in enumerate(value)], place, path)
    known = isinstance(value, str | int | float) or value is None
    return Node(value if known else str(value), place, path)  # type: ignore[arg-type]  # narrowed by `known`


def merged(below: Node, above: Node) -> Node:
    """Mappings key by key, everything else replaced; a key without content leaves what is below as it is."""
    if not isinstance(below.value, dict):
        return above
    if above.value is None:
        return replace(below, place=above.place, path=above.path)
    if not isinstance(above.value, dict):
        return above
    both = {key: merged(below.value[key], node) if key in below.value else node for key, node in above.value.items()}
    # A line is where people look, rather than a variable or a profile that adds to what stands there.
    place = below.place if below.place.line and not above.place.line else above.place
    return replace(above, place=place, value=below.value | both)


def legible(node: Node, problems: list[Problem]) -> Node:
    """The tree without halves of surrogate pairs, which is what Python makes of a variable that is not UTF-8."""
    if isinstance(node.value, dict):
        return replace(node, value={_whole(key): legible(each, problems) for key, each in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[legible(each, problems) for each in node.value])
    if not isinstance(node.value, str) or node.value == _whole(node.value):
        return node
    problems.append(Problem(node.place, node.path, "is not UTF-8 text"))
    return replace(node, value=None, broken=True)


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()


def parse(text: str, source: str, problems: list[Problem], *, place: Place | None = None, path: Path = ()) -> Node:
    """The tree of a YAML text, which has one document; what can be said without giving up goes to `problems`.

    Args:
        text: the YAML.
        source: what to call it, with a line, in errors.
        problems: where duplicate keys and the like are added.
        place: the one place for all of it, when its own lines mean nothing to the reader.
        path: the keys that it is the value of.

    Raises:
        ConfigError: it is not YAML, or larger or deeper than any configuration.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError([Problem(place or Place(source), path, f"is longer than {MAX_LENGTH} characters")])
    try:
        return _Reader(text, source, problems, place).document(path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = place or Place(source, mark.line + 1 if mark else 1)
        raise ConfigError([Problem(at, (), f"isn't YAML: {error.problem or error.context}{_hint(text, at)}")]) from None
    except (yaml.YAMLError, ValueError) as error:  # characters that YAML has no room for
        reason = str(getattr(error, "reason", "")) or "it has characters that YAML doesn't allow"
        raise ConfigError([Problem(place or Place(source), (), f"isn't YAML: {reason}")]) from None


def _hint(text: str, at: Place) -> str:
    line = text.splitlines()[at.line - 1 : at.line]
    return "; write ${...} in quotes inside of { } or [ ]" if line and "${" in line[0] else ""


class _Reader:
    """Builds nodes from PyYAML's events, so that every bound holds before anything is built."""

    def __init__(self, text: str, source: str, problems: list[Problem], place: Place | None) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._source = source
        self._problems = problems
        self._place = place
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def document(self, path: Path) -> Node:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return Node({}, self._place or Place(self._source, 1), path)
        event = next(self._events)
        node = self._node(event, self._at(event), path)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise ConfigError([Problem(self._at(event), (), "a second document begins here; there may be only one")])
        return node

    def _at(self, event: Any) -> Place:
        return self._place or Place(self._source, event.start_mark.line + 1)

    def _node(self, event: Any, place: Place, path: Path) -> Node:
        self._bound(place, path)
        if isinstance(event, yaml.AliasEvent):
            return self._copy(self._anchored(event, place, path), path)
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(place, path)
        else:
            node = self._mapping(place, path)
        if event.tag not in (None, "!"):
            self._problem(node, f"has the tag {event.tag}; leave it out, tags mean nothing here")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any, place: Place, path: Path) -> Node:
        if not event.style:
            return Node(scalar(event.value), place, path, text=event.value)
        return Node(event.value, place, path)

    def _sequence(self, place: Place, path: Path) -> Node:
        items: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, self._at(event), (*path, len(items))))
        return Node(items, place, path)

    def _mapping(self, place: Place, path: Path) -> Node:
        node, entries = Node({}, place, path), dict[str, Node]()
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            at = self._at(event)
            key = self._key(event, at, path)
            value = self._node(next(self._events), at, (*path, key))
            if key == "<<":
                self._problem(value, "YAML 1.2 has no merge keys; say it once under `defaults`")
            elif key in entries:
                self._problem(
                    value,
                    f"is there twice, the first time in line {entries[key].place.line}"
                    if entries[key].place.line
                    else "is there twice",
                )
            else:
                entries[key] = value
        node.value = entries
        return node

    def _key(self, event: Any, at: Place, path: Path) -> str:
        """Keys are text, whatever they look like: `on`, `404` and `null` too."""
        if not isinstance(event, yaml.ScalarEvent):
            raise ConfigError([Problem(at, path, "a key must be text; write `key: value`, and templates in quotes")])
        return str(event.value)

    def _anchored(self, event: Any, place: Place, path: Path) -> Node:
        if event.anchor not in self._anchors:
            raise ConfigError(
                [Problem(place, path, f"*{event.anchor} has no anchor &{event.anchor} that ends before it")]
            )
        return self._anchors[event.anchor]

    def _copy(self, node: Node, path: Path) -> Node:
        """An alias means the same as its anchor, and counts as much, so a few lines can't unfold into millions."""
        self._bound(node.place, path)
        if isinstance(node.value, dict):
            return replace(node, path=path, value={k: self._copy(each, (*path, k)) for k, each in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, path=path, value=[self._copy(each, (*path, at)) for at, each in enumerate(node.value)])
        return replace(node, path=path)

    def _bound(self, place: Place, path: Path) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise ConfigError([Problem(place, (), f"more than {MAX_NODES} values, aliases unfolded")])
        if len(path) > MAX_DEPTH:
            raise ConfigError([Problem(place, (), f"nested more than {MAX_DEPTH} deep")])

    def _problem(self, node: Node, message: str) -> None:
        node.broken = True
        self._problems.append(Problem(node.place, node.path, message))
