"""`defaults:`, which says once what every service or route would have to say."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import BaseModel, create_model

from bff.core.loading import shape
from bff.core.loading.document import Node, merged
from bff.core.settings import Settings


@dataclass(frozen=True)
class DefaultsFrom:
    """Marks a mapping or list of settings: what an item leaves out it takes from `defaults.<name>`.

    services: Annotated[dict[str, ServiceSettings], DefaultsFrom("service")] = {}
    """

    name: str


@cache
def document_model(model: type[Settings]) -> type[Settings]:
    """What a file may say: the settings, and `defaults` for the items of the sections marked with `DefaultsFrom`."""
    sections: dict[str, Any] = {
        name: (_partial(item), {})
        for section, name in _marked(model)
        for item in shape.models(shape.at(model, section))
    }
    if not sections:
        return model
    defaults: Any = create_model("Defaults", __base__=Settings, __doc__="For all that don't say otherwise.", **sections)
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, defaults=(defaults, {}))


def with_defaults(root: Node, model: type[Settings]) -> Node:
    """The tree with the defaults below what each item says for itself."""
    entries = dict(root.value) if isinstance(root.value, dict) else {}
    defaults = entries.get("defaults")
    for (section, _), name in _marked(model):
        below, items = defaults and defaults.child(name), entries.get(section)
        if below is None or items is None:
            continue
        if isinstance(items.value, dict):
            entries[section] = replace(items, value={key: merged(below, each) for key, each in items.value.items()})
        elif isinstance(items.value, list):
            entries[section] = replace(items, value=[merged(below, each) for each in items.value])
    return replace(root, value=entries)


def _marked(model: type[Settings]) -> Iterator[tuple[tuple[str, str | int], str]]:
    """Each marked section's name with a key that any of its items could have, and its name below `defaults`."""
    for section, field in model.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, DefaultsFrom):
                yield (section, "" if shape.below(field.annotation, "") is not None else 0), mark.name


def _partial(model: type[BaseModel]) -> Any:
    """The same settings, with nothing required."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        optional = copy(field)
        if field.is_required():
            optional.default = None
        fields[name] = (field.annotation, optional)
    return create_model(f"{model.__name__}Defaults", __base__=Settings, __doc__=model.__doc__, **fields)
