"""What the settings classes say about a place in the tree: the keys it takes, and the type of the value below one."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bff.core.settings import Key

_UNIONS = (Union, types.UnionType)


def members(annotation: Any) -> Iterator[Any]:
    """The types that a value may be of, without what `Annotated` adds: `int | None` has two, `Duration` one."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in _UNIONS:
        for each in get_args(annotation):
            yield from members(each)
    else:
        yield annotation


def metadata(annotation: Any) -> tuple[Any, ...]:
    """What `Annotated` adds, in whatever member of a union."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return (*metadata(arguments[0]), *arguments[1:])
    return tuple(found for each in arguments for found in metadata(each)) if origin in _UNIONS else ()


def models(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes among the members."""
    return [each for each in members(annotation) if isinstance(each, type) and issubclass(each, BaseModel)]


def optional(annotation: Any) -> bool:
    """Whether an empty value is one of its values."""
    return type(None) in members(annotation)


def fields(annotation: Any) -> list[str]:
    """The keys that it takes by name."""
    return [name for model in models(annotation) for name in model.model_fields]


def below(annotation: Any, key: Key) -> Any:
    """The type of the value under `key`, or None where there can be none."""
    for each in members(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            if key in each.model_fields:
                return _annotation(each.model_fields[key])
        elif (inside := _items(each, key)) is not None:
            return inside
    return None


def at(annotation: Any, path: Iterable[Key]) -> Any:
    for key in path:
        annotation = below(annotation, key)
    return annotation


def _items(annotation: Any, key: Key) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict and isinstance(key, str):
        return arguments[1]
    if origin in (list, tuple, set, frozenset) and isinstance(key, int):
        return arguments[0]
    return None


def _annotation(field: FieldInfo) -> Any:
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
