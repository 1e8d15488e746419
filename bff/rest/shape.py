"""What a route makes of a JSON body: members renamed, dropped or picked, a wrapper put around it or taken off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import AfterValidator, Field

from bff.core.settings import Complaint, Settings, malformed

MAX_DEPTH: Final = 100
"""Of objects and lists inside each other, in whatever is transformed."""


class ShapeError(ValueError):
    """The body cannot be given that shape; the message completes "the body ...", of nothing that is in it."""


def _expression(source: str) -> str:
    try:
        jmespath.compile(source)
    except JMESPathError as error:
        raise malformed(f"a JMESPath expression: {str(error).splitlines()[0]}") from None
    return source


Member = Annotated[str, Field(min_length=1, max_length=200)]
"""`sku`: of that name, wherever it is; `items.sku`: only there, through lists as if they were not there."""


class BodySettings(Settings):
    """In this order."""

    unwrap: Member | None = None
    """What is under this path takes the place of all: `{data: {id: 1}}` becomes `{id: 1}`."""
    jmespath: Annotated[str, Field(max_length=2000), AfterValidator(_expression)] | None = None
    """What this expression makes of it: `"items[?stock > `0`].{id: id, name: name}"`."""
    pick: Annotated[tuple[Member, ...], Field(min_length=1)] | None = None
    """Only these members stay, each a path from the top: `[next_cursor, items.id, items.name]`."""
    drop: tuple[Member, ...] = ()
    """These do not: `stock` wherever it is, `items.stock` only there."""
    rename: dict[Member, Member] = Field(default_factory=dict)
    """The old name, or the path to it, with the new name: `{sku: article}`."""
    wrap: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """It becomes the one member of an object, under this name."""

    def problems(self) -> Iterable[Complaint]:
        for key, paths in (("pick", self.pick or ()), ("drop", self.drop), ("rename", self.rename)):
            for path in paths:
                if "" in path.split("."):
                    yield (key,), f"has a path with an empty name: {path}"
        for old, new in self.rename.items():
            if "." in new:
                yield ("rename", old), "must become a name, not a path: it stays where it is"


class Shape:
    """These settings, ready to be applied: `Shape(settings)(body)`."""

    def __init__(self, settings: BodySettings) -> None:
        steps: list[Callable[[Any], Any]] = []
        if settings.unwrap is not None:
            steps.append(_unwrap(settings.unwrap))
        if settings.jmespath is not None:
            steps.append(_evaluate(settings.jmespath))
        if settings.pick is not None:
            steps.append(_pick(settings.pick))
        if settings.drop:
            steps.append(_edit(dict.fromkeys(settings.drop)))
        if settings.rename:
            steps.append(_edit(settings.rename))
        if (name := settings.wrap) is not None:
            steps.append(lambda value: {name: value})
        self._steps: Sequence[Callable[[Any], Any]] = steps

    def __call__(self, value: Any) -> Any:
        """The value, which may be changed itself.

        Raises:
            ShapeError: it has another shape than the settings are made for.
        """
        for step in self._steps:
            value = step(value)
        return value


def check_depth(value: Any) -> None:
    """All steps go down by calls: what is nested too deep for that is refused first.

    Raises:
        ShapeError: it is.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            raise ShapeError(f"is nested more than {MAX_DEPTH} deep")
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += [item for item in each.values() if isinstance(item, dict | list)]
            elif isinstance(each, list):
                below += [item for item in each if isinstance(item, dict | list)]
        level = below


def _unwrap(path: str) -> Callable[[Any], Any]:
    def unwrapped(value: Any) -> Any:
        for name in path.split("."):
            if not isinstance(value, dict) or name not in value:
                raise ShapeError(f"has nothing under {path}")
            value = value[name]
        return value

    return unwrapped


def _evaluate(source: str) -> Callable[[Any], Any]:
    compiled = jmespath.compile(source)

    def evaluated(value: Any) -> Any:
        try:
            return compiled.search(value)
        except (JMESPathError, TypeError, ValueError, ArithmeticError, RecursionError):
            raise ShapeError("is not what the route's JMESPath expression is made for") from None

    return evaluated


_Tree = dict[str, "_Tree"]


def _pick(paths: Iterable[str]) -> Callable[[Any], Any]:
    """A path that ends keeps all below it, also where another one goes on."""
    tree: _Tree = {}
    for path in sorted(paths, key=len, reverse=True):
        at = tree
        *way, last = path.split(".")
        for name in way:
            at = at.setdefault(name, {})
        at[last] = {}
    return lambda value: _picked(value, tree)


def _picked(value: Any, tree: _Tree) -> Any:
    if isinstance(value, list):
        return [_picked(each, tree) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _picked(each, tree[name]) if tree[name] else each for name, each in value.items() if name in tree}


def _edit(names: Mapping[str, str | None]) -> Callable[[Any], Any]:
    """By old names or paths to them; None: not there any more."""
    anywhere = {path: new for path, new in names.items() if "." not in path}
    paths: dict[tuple[str, ...], str | None] = {
        tuple(path.split(".")): new for path, new in names.items() if "." in path
    }

    def edited(value: Any, left: Mapping[tuple[str, ...], str | None]) -> Any:
        if isinstance(value, list):
            return [edited(each, left) for each in value]
        if not isinstance(value, dict):
            return value
        made = {}
        for name, each in value.items():
            new = left.get((name,), anywhere.get(name, name))
            if new is not None:
                made[new] = edited(each, {path[1:]: to for path, to in left.items() if path[0] == name and path[1:]})
        return made

    return lambda value: edited(value, paths)
