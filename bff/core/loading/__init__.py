"""From what people wrote to frozen settings: every source, in order of precedence, and every problem at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bff.core.loading import shape
from bff.core.loading.defaults import DefaultsFrom, document_model, with_defaults
from bff.core.loading.document import ConfigError, Node, Path, Place, Problem, dotted, legible, merged, node_of, parse
from bff.core.loading.explain import did_you_mean, explained, locate
from bff.core.loading.schema import json_schema
from bff.core.loading.sources import Resolver, overridden, read_secret, read_text
from bff.core.settings import Settings

__all__ = [
    "ConfigError",
    "DefaultsFrom",
    "Loaded",
    "Problem",
    "did_you_mean",
    "json_schema",
    "load",
    "read_secret",
    "read_text",
    "values",
]

T = TypeVar("T", bound=Settings)


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Settings, and where each of their values came from.

    Attributes:
        config: the settings.
        origin: by dotted key (`routes[3].cost`): `bff.yaml:12`, `BFF__...`, `command line`, `profile` or `default`.
    """

    config: T
    origin: Mapping[str, str]


def load(
    model: type[T],
    text: str,
    *,
    source: str = "bff.yaml",
    profile: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    directory: FilePath = FilePath(),
    read: Callable[[FilePath], str] = read_secret,
    list_of: str | None = None,
) -> Loaded[T]:
    """Profile, below file, below environment, below command line.

    Args:
        model: the root of the settings.
        text: the file's content, YAML.
        source: the file's name, for errors.
        profile: values for what nobody sets.
        environ: variables, for `${VAR}` and for `BFF__SECTION__KEY`.
        overrides: values from the command line, nested as in the file.
        directory: what relative paths start from.
        read: reads a mounted secret.
        list_of: the section that a file without sections, a list, is.

    Raises:
        ConfigError: with every problem that there is.
    """
    problems: list[Problem] = []
    resolver = Resolver(environ or {}, directory, problems, read)
    whole = document_model(model)
    written = resolver.resolved(parse(text, source, problems))
    if list_of and isinstance(written.value, list | None):
        written = Node({list_of: written if written.value else node_of([], written.place)}, written.place, ())
    if not isinstance(written.value, dict | None):
        raise ConfigError([Problem(written.place, (), "must be a mapping of sections, such as `services:`")])
    root = merged(node_of(profile or {}, Place("profile")), written)
    root = overridden(root, whole, resolver)
    root = merged(root, node_of(overrides or {}, Place("command line")))
    root = with_defaults(_opened(legible(root, problems), whole), model)
    errors = _attempt(whole, root, directory)[1]
    problems += explained(errors, root, whole)
    checked = _without_defaults(_pruned(root, errors))
    config = _attempt(model, checked, directory)[0] if checked else None
    if config is not None:
        problems += _complaints(config, root)
    if problems or config is None:
        raise ConfigError(problems)
    return Loaded(config, dict(_origins(config, root)))


def values(config: Settings) -> Iterator[tuple[str, Any]]:
    """Every value by the dotted key that `Loaded.origin` has for it, as JSON has it; secrets are masked."""
    for path, settings in _sections(config):
        for name in type(settings).model_fields:
            if not any(_below(getattr(settings, name), ())):
                yield dotted((*path, name)), settings.model_dump(mode="json", include={name})[name]


def _opened(node: Node, annotation: Any) -> Node:
    """A section that is only named, such as `graphql:`, is an empty mapping rather than an error."""
    if node.value is None and not node.broken and shape.models(annotation) and not shape.optional(annotation):
        return replace(node, value={})
    if isinstance(node.value, dict):
        return replace(node, value={k: _opened(each, shape.below(annotation, k)) for k, each in node.value.items()})
    if isinstance(node.value, list):
        item = shape.below(annotation, 0)
        return replace(node, value=[_opened(each, item) for each in node.value])
    return node


def _attempt(model: type[T], root: Node, directory: FilePath) -> tuple[T | None, list[ErrorDetails]]:
    """Settings, or what is against them. As JSON, so that lists do for tuples, while `"8000"` and `on` stay words."""
    try:
        return model.model_validate_json(json.dumps(root.data()), strict=True, context={"directory": directory}), []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    as_text = [
        node
        for error in errors
        if error["type"] == "string_type"
        for node in [locate(root, error["loc"])[1]]
        if not isinstance(node.value, str) and node.words is not None
    ]
    if not as_text:
        return None, errors
    for node in as_text:
        node.value = node.words
    return _attempt(model, root, directory)


def _pruned(root: Node, errors: Iterable[ErrorDetails]) -> Node | None:
    """The tree without its bad values, so that those between which something may be wrong are looked at in the same go.

    None where that would be guesswork: without something that is required, or a whole section, or with other indices.
    """
    for error in errors:
        path, node = locate(root, error["loc"])
        if error["type"] == "missing" or node.children() or not path or isinstance(path[-1], int):
            return None
        root = _without(root, path)
    return root


def _without(node: Node, path: Path) -> Node:
    key, *rest = path
    child = node.child(key)
    if child is None:  # two errors in one value
        return node
    if isinstance(node.value, list):
        return replace(node, value=[_without(each, tuple(rest)) if each is child else each for each in node.value])
    entries = dict(node.value) if isinstance(node.value, dict) else {}
    kept = entries.pop(str(key))
    return replace(node, value=entries | ({str(key): _without(kept, tuple(rest))} if rest else {}))


def _without_defaults(root: Node | None) -> Node | None:
    return _without(root, ("defaults",)) if root else None


def _complaints(config: Settings, root: Node) -> Iterator[Problem]:
    for path, settings in _sections(config):
        for where, what in settings.problems():
            loc = (*path, *where)
            known, node = locate(root, loc)
            if not node.broken:
                yield Problem(node.place, (*node.path, *loc[len(known) :]), what)


def _origins(config: Settings, root: Node) -> Iterator[tuple[str, str]]:
    for path, settings in _sections(config):
        for name in type(settings).model_fields:
            if any(_below(getattr(settings, name), ())):
                continue
            known, node = locate(root, (*path, name))
            # A scalar further up is the short form of what its settings say at length.
            written = known == (*path, name) or not isinstance(node.value, dict | list)
            yield dotted((*path, name)), str(node.place) if written else "default"


def _sections(settings: Settings, path: Path = ()) -> Iterator[tuple[Path, Settings]]:
    """The settings and all those inside of them."""
    yield path, settings
    for name in type(settings).model_fields:
        for where, each in _below(getattr(settings, name), (*path, name)):
            yield from _sections(each, where)


def _below(value: Any, path: Path) -> Iterator[tuple[Path, Settings]]:
    if isinstance(value, Settings):
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _below(each, (*path, key))
    elif isinstance(value, list | tuple):
        for at, each in enumerate(value):
            yield from _below(each, (*path, at))
