"""pydantic's errors in plain English, with the place where each value was written and a guess at what was meant."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import ErrorDetails

from bff.core.loading import shape
from bff.core.loading.document import Node, Path, Problem
from bff.core.settings import Secret

_LONGEST_QUOTE = 60

# What a value must be, by pydantic's name of the error.
_KINDS = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_LENGTHS = {
    "too_short": "must have at least {min_length} of them",
    "too_long": "must have at most {max_length} of them",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
}
# Whose value would tell nothing, or too much.
_UNQUOTED = {*_LENGTHS, "malformed_secret"}
# YAML 1.1 took these for booleans, and people still do.
_ONCE_BOOLEAN = {"on": "true", "yes": "true", "off": "false", "no": "false"}


def did_you_mean(word: str, known: Iterable[str], spelled: Callable[[str], str] = str) -> str:
    """The end of a message: `; did you mean ...?` where a known word is near, else nothing."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean `{spelled(near[0])}`?" if near else ""


def explained(errors: Sequence[ErrorDetails], root: Node, model: Any) -> list[Problem]:
    """One problem for each value with errors, whatever the number of types it could have been of."""
    by_path = defaultdict[Path, list[ErrorDetails]](list)
    for error in errors:
        path = locate(root, error["loc"])[0]
        by_path[(*path, str(error["loc"][-1])) if error["type"] == "missing" else path].append(error)
    return [
        Problem(node.place, (*node.path, *path[len(known) :]), _message(found, node, model, path))
        for path, found in by_path.items()
        for known, node in [locate(root, path)]
        if not node.broken and not _explained_further_down(path, found, by_path)
    ]


def locate(root: Node, loc: Iterable[Any]) -> tuple[Path, Node]:
    """The deepest value on the way to `loc`; parts that are no keys are pydantic's names for the types it tried."""
    path: Path = ()
    for key in loc:
        child = root.child(key)
        if child is not None:
            path, root = (*path, key), child
    return path, root


def _explained_further_down(path: Path, found: list[ErrorDetails], paths: Iterable[Path]) -> bool:
    """Whether these only say that a mapping is no text, say, while as a mapping it has an error of its own."""
    only_kinds = all(error["type"] in _KINDS for error in found)
    return only_kinds and any(len(other) > len(path) and other[: len(path)] == path for other in paths)


def _message(errors: list[ErrorDetails], node: Node, model: Any, path: Path) -> str:
    first = errors[0]
    if first["type"] == "missing":
        return "is required"
    if first["type"] == "extra_forbidden":
        return "unknown key" + did_you_mean(str(path[-1]), shape.fields(shape.at(model, path[:-1])))
    if first["type"] in ("value_error", "assertion_error"):
        message = first["msg"].partition(", ")[2]
        return message.replace(node.text, Secret.SHOWN) if node.hidden and node.text else message
    annotation = shape.at(model, path)
    requirements = dict.fromkeys(_requirement(each, annotation) for each in errors)
    message = " or ".join(requirements).replace(" or must be ", " or ")
    if first["loc"][-1] == "[key]":
        return f"the name {message}"
    quotable = all(error["type"] not in _UNQUOTED for error in errors)
    return message + _quoted(node) + _guess(errors, node) if quotable else message


def _requirement(error: ErrorDetails, annotation: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    words = re.sub("^(Input|String|Value) should ", "must ", error["msg"])
    if kind in _KINDS:
        words = f"must be {_KINDS[kind]}" + (_range(annotation) if _KINDS[kind].endswith("number") else "")
    elif kind in _BOUNDS:
        name, comparison = _BOUNDS[kind]
        words = f"must be {comparison} {_written(context[name], annotation)}"
    elif kind in _LENGTHS:
        words = "must not be empty" if context.get("min_length") == 1 else _LENGTHS[kind].format(**context)
    elif kind in ("literal_error", "enum"):
        words = f"must be {context['expected'].replace(chr(39), '')}"
    return words


def _range(annotation: Any) -> str:
    bounds = {
        name: value
        for each in shape.metadata(annotation)
        for name, _ in _BOUNDS.values()
        if (value := getattr(each, name, None)) is not None
    }
    if {"ge", "le"} <= bounds.keys():
        return f" from {bounds['ge']} to {bounds['le']}"
    return "".join(f" of {words} {bounds[name]}" for name, words in _BOUNDS.values() if name in bounds)


def _written(bound: Any, annotation: Any) -> str:
    """A bound as people write such values: `100ms` where the field is a duration."""
    text = TypeAdapter(annotation).dump_python(bound, mode="json", warnings=False)
    return f"{text:g}" if isinstance(text, float) else str(text)


def _quoted(node: Node) -> str:
    if node.hidden:
        return f", not what {node.hidden} holds"
    if node.value is None:
        return ", but is empty"
    if isinstance(node.value, dict | list):
        return f", not {'a mapping' if isinstance(node.value, dict) else 'a list'}"
    text = repr(node.value) if isinstance(node.value, str) else node.text or str(node.value).lower()
    return f", not {text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + '...'}"


def _guess(errors: list[ErrorDetails], node: Node) -> str:
    if node.hidden or not isinstance(node.value, str):
        return ""
    if any(error["type"] == "bool_type" for error in errors):
        meant = _ONCE_BOOLEAN.get(node.value.lower())
        return f"; did you mean `{meant}`?" if meant else ""
    words = [word for error in errors for word in re.findall("'([^']*)'", error.get("ctx", {}).get("expected", ""))]
    return did_you_mean(node.value, words)
