"""Where values come from besides the file: `${VAR}`, `{file: path}`, and variables that override a key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from bff.core.loading import shape
from bff.core.loading.document import (
    MAX_LENGTH,
    ConfigError,
    Node,
    Path,
    Place,
    Problem,
    merged,
    node_of,
    parse,
    scalar,
)
from bff.core.loading.explain import did_you_mean

PREFIX = "BFF__"
MAX_SECRET = 64 * 1024

_VARIABLE = re.compile(
    r"\$(?P<escaped>\$)\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<then>[-?])(?P<rest>[^}]*))?\}|(?P<bad>\$\{)"
)


def read_text(path: FilePath) -> str:
    """A configuration file's text, with or without a byte order mark.

    Raises:
        ConfigError: it can't be read, or is larger than any configuration.
    """
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_LENGTH + 1)
        if len(content) > 4 * MAX_LENGTH:
            raise ConfigError.of(str(path), f"is longer than {MAX_LENGTH} characters")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError.of(str(path), f"can't be read: {_reason(error)}") from None


def read_secret(path: FilePath) -> str:
    """A mounted secret, without the newline that editors and `echo` end it with.

    Raises:
        OSError: it can't be read, or is something that could be read for ever.
        ValueError: it is no text, or longer than any secret.
    """
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    with path.open("rb") as file:
        content = file.read(MAX_SECRET + 1)
    if len(content) > MAX_SECRET:
        raise ValueError(f"it is longer than {MAX_SECRET} bytes")
    return content.decode().removesuffix("\n").removesuffix("\r")


@dataclass
class Resolver:
    """Replaces what stands for a value by the value.

    Args:
        environ: the variables.
        directory: what a relative path of `{file: path}` starts from.
        problems: where what can't be replaced is added.
        read: reads a secret's file.
    """

    environ: Mapping[str, str]
    directory: FilePath
    problems: list[Problem]
    read: Callable[[FilePath], str] = read_secret

    def resolved(self, node: Node) -> Node:
        if isinstance(node.value, dict):
            node = replace(node, value={key: self.resolved(each) for key, each in node.value.items()})
            named = node.child("file")
            return self._from_file(node, named) if named and len(node.children()) == 1 else node
        if isinstance(node.value, list):
            return replace(node, value=[self.resolved(each) for each in node.value])
        if isinstance(node.value, str) and "${" in node.value:
            return self._interpolated(node, node.value)
        return node

    def _interpolated(self, node: Node, text: str) -> Node:
        """A value out of variables means what it would mean without quotes: inside of { } they can't be left out."""
        before, taken = len(self.problems), list[str]()
        result = _VARIABLE.sub(lambda match: self._variable(match, node, taken), text)
        if len(self.problems) > before:
            return replace(node, value=None, broken=True)
        if all(match["escaped"] for match in _VARIABLE.finditer(text)):
            return replace(node, value=result, text=result)
        return _taken(node, result, " ".join(taken)) if taken else replace(node, value=scalar(result), text=result)

    def _variable(self, match: re.Match[str], node: Node, taken: list[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["bad"]:
            usage = "has a `${` that is none of ${VAR}, ${VAR:-default} and ${VAR:?message}; `$${` stands for the text"
            self._problem(node, usage)
            return ""
        name, then, rest = match["name"], match["then"], match["rest"]
        found = self.environ.get(name)
        if found is not None and (found or not then):
            taken.append(f"${{{name}}}")
            return found
        if then == "-":
            return rest
        self._problem(node, f"the environment has no {name}" + (f": {rest}" if rest else ""))
        return ""

    def _from_file(self, node: Node, named: Node) -> Node:
        name = named.words
        if named.broken or name is None:
            if not named.broken:
                self._problem(named, "must be the path of a file that holds the value")
            return replace(node, value=None, broken=True)
        try:
            text = self.read(self.directory / name)
        except (OSError, ValueError) as error:
            self._problem(named, f"can't be read: {_reason(error)}")
            return replace(node, value=None, broken=True)
        return _taken(node, text, name)

    def _problem(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.place, node.path, message))


def _taken(node: Node, text: str, source: str) -> Node:
    """A value from elsewhere is never none: a secret that came out empty must not pass for one that nobody set."""
    value = scalar(text)
    return replace(node, value=text if value is None else value, text=text, hidden=source)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8 text"
    return str(getattr(error, "strerror", None) or error).lower()


def overridden(root: Node, model: Any, resolver: Resolver) -> Node:
    """The tree with every variable `BFF__SECTION__KEY` in it; the shorter go first, so that the longer refine them."""
    for name in sorted(name for name in resolver.environ if name.startswith(PREFIX)):
        path = _path(name, root, model, resolver.problems)
        if path is None:
            continue
        try:
            value = _value(resolver.environ[name], Place(name), path, resolver)
        except ConfigError as error:
            resolver.problems.extend(error.problems)
            continue
        root = _with(root, path, value, ())
    return root


def _value(text: str, place: Place, path: Path, resolver: Resolver) -> Node:
    """A variable's text: one scalar, whatever it holds, unless it begins like a list, a mapping or a quotation."""
    if not text.startswith(("[", "{", '"', "'")):
        return Node(scalar(text) if text else "", place, path, text=text)
    node = parse(text, place.source, resolver.problems, place=place, path=path)
    return resolver.resolved(node)


def _path(name: str, root: Node, model: Any, problems: list[Problem]) -> Path | None:
    """The keys that a variable's name stands for, in any case; `_` stands for hyphens too, which it can't have."""
    path: Path = ()
    node: Node | None = root
    parts = name.removeprefix(PREFIX).split("__")
    for at, part in enumerate(parts):
        known = _keys(node, shape.at(model, path))
        key = known.get(part.casefold())
        if key is None:
            near = did_you_mean(part.casefold(), known, lambda word: _spelled(parts, at, word))  # noqa: B023  # called now
            problems.append(Problem(Place(name), (), f"fits no key{near}"))
            return None
        path = (*path, key)
        node = node.child(key) if node else None
    return path


def _spelled(parts: list[str], at: int, word: str) -> str:
    return PREFIX + "__".join([*parts[:at], word.upper(), *parts[at + 1 :]])


def _keys(node: Node | None, annotation: Any) -> dict[str, str | int]:
    there = [key for key, _ in node.children()] if node else []
    return {str(key).replace("-", "_").casefold(): key for key in [*shape.fields(annotation), *there]}


def _with(node: Node, path: Path, value: Node, walked: Path) -> Node:
    """The tree with one more value in it, and the mappings on the way to it that were not there."""
    if not path:
        return merged(node, value)
    key, *rest = path
    child = node.child(key) or node_of({}, value.place, (*walked, key))
    changed = _with(child, tuple(rest), value, (*walked, key))
    if isinstance(node.value, list) and isinstance(key, int):
        return replace(node, value=[*node.value[:key], changed, *node.value[key + 1 :]])
    entries = node.value if isinstance(node.value, dict) else {}
    return replace(node, value={**entries, str(key): changed})
