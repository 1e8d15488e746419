"""JSON Schema of an OpenAPI document to classes: records, enums, and the types of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bff.scaffold.words import constant, pascal, variable

MAX_STEPS = 20_000
MAX_DEPTH = 32
MAX_MEMBERS = 200

D = TypeVar("D", "Record", "Enumeration")

_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
_FLAT = frozenset(_SCALARS.values())
_FORMATS = {
    "string date-time": "datetime",
    "string date": "date",
    "string decimal": "Decimal",
    "number decimal": "Decimal",
}


class ScaffoldError(Exception):
    """Nothing was written; the message says why, and what to do about it."""


@dataclass(frozen=True)
class Field:
    """A field of a record: what Python and JSON call it, and its type without None."""

    name: str
    wire: str
    type: str
    nullable: bool = False
    required: bool = True


@dataclass(frozen=True)
class Record:
    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Enumeration:
    name: str
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Type:
    name: str
    nullable: bool = False


FREE = Type("dict[str, Any]")
ANY = Type("Any", nullable=True)


class Types:
    """The classes that one document's schemas need, each after those it is made of."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.definitions: list[Record | Enumeration] = []
        self._by_reference: dict[str, Type] = {}
        self._open: list[str] = []
        self._steps = 0

    def follow(self, value: Any) -> Mapping[str, Any]:
        """The object itself, where `value` only refers to it; an empty one for what is no object."""
        return self._target(value)[0]

    def members(self, schema: Mapping[str, Any], depth: int = 0) -> tuple[dict[str, Any], set[str]]:
        """The properties of an object with those of all that it is composed of, and which of them are required."""
        self._bound(depth)
        properties, required = dict[str, Any](), set[str]()
        for part in _list(schema.get("allOf")):
            more, needed = self.members(self.follow(part), depth + 1)
            properties |= more
            required |= needed
        own = schema.get("properties")
        properties |= own if isinstance(own, dict) else {}
        required |= {each for each in _list(schema.get("required")) if isinstance(each, str)}
        return properties, required

    def record(self, schema: Any, hint: str) -> Record | None:
        """The class of an object's schema, if it is one."""
        found = self.of(schema, hint).name
        return next((each for each in self.definitions if isinstance(each, Record) and each.name == found), None)

    def of(self, schema: Any, hint: str, depth: int = 0) -> Type:
        """The type of a schema; `hint` is the name for a class where the document has none."""
        self._bound(depth)
        target, reference = self._target(schema)
        if reference is None:
            return self._of(target, hint, depth)
        if reference in self._open:  # a tree: its branches are left as they come
            return FREE
        if reference not in self._by_reference:
            self._open.append(reference)
            self._by_reference[reference] = self._of(target, reference.rpartition("/")[2], depth)
            self._open.pop()
        return self._by_reference[reference]

    def is_text(self, schema: Any) -> bool:
        """Whether it is a string or null, or is not there at all."""
        return schema is None or self.of(schema, "text").name == "str"

    def define(self, definition: D) -> D:
        """Keep it, under a name that is its own."""
        taken = {each.name for each in self.definitions}
        name, count = definition.name, 1
        while name in taken:
            count += 1
            name = f"{definition.name}{count}"
        definition = replace(definition, name=name)
        self.definitions.append(definition)
        return definition

    def _target(self, value: Any) -> tuple[Mapping[str, Any], str | None]:
        reference = None
        for _ in range(MAX_DEPTH):
            if not isinstance(value, dict):
                return {}, None
            if not isinstance(value.get("$ref"), str):
                return value, reference
            reference = value["$ref"]
            value = self._lookup(reference)
        raise ScaffoldError(f"the reference {reference} leads nowhere: it refers to itself")

    def _lookup(self, reference: str) -> Any:
        value: Any = self.document
        root, *keys = reference.split("/")
        for key in keys:
            value = value.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
        if root != "#" or value is None:
            raise ScaffoldError(f"the reference {reference} leads nowhere: all of it has to be in the one document")
        return value

    def _of(self, schema: Mapping[str, Any], name: str, depth: int) -> Type:
        choices = _list(schema.get("anyOf")) or _list(schema.get("oneOf"))
        if choices:
            others = [each for each in choices if self.follow(each).get("type") != "null"]
            if len(others) != 1:
                return ANY
            found = self.of(others[0], name, depth + 1)
            return replace(found, nullable=found.nullable or len(others) < len(choices) or _nullable(schema))
        parts = _list(schema.get("allOf"))
        if len(parts) == 1 and not schema.get("properties"):
            found = self.of(parts[0], name, depth + 1)
            return replace(found, nullable=found.nullable or _nullable(schema))
        return replace(self._plain(schema, name, depth), nullable=_nullable(schema))

    def _plain(self, schema: Mapping[str, Any], name: str, depth: int) -> Type:
        kind = schema.get("type")
        kinds = [each for each in (kind if isinstance(kind, list) else [kind]) if each != "null"]
        values = [each for each in _list(schema.get("enum")) if each is not None]
        if values and len(values) <= MAX_MEMBERS and all(isinstance(each, str) for each in values):
            return Type(self.define(Enumeration(pascal(name), _members(values))).name)
        match kinds:
            case ["array"]:
                item = self.of(schema.get("items"), f"{name}_item", depth + 1)
                return Type(f"list[{item.name} | None]" if item.nullable and item != ANY else f"list[{item.name}]")
            case ["object"] | [None] if "properties" in schema or "allOf" in schema:
                return self._object(schema, name, depth)
            case ["object"]:
                value = self.of(schema.get("additionalProperties"), f"{name}_value", depth + 1)
                return Type(f"dict[str, {value.name}]") if value.name in _FLAT else FREE
            case [str(scalar)]:
                format = schema.get("format")
                return Type(_FORMATS.get(f"{scalar} {format}") or _SCALARS[scalar]) if scalar in _SCALARS else ANY
        return ANY

    def _object(self, schema: Mapping[str, Any], name: str, depth: int) -> Type:
        properties, required = self.members(schema)
        if not properties:
            return FREE
        if self._is_money(properties):
            return Type("Money")
        fields: dict[str, Field] = {}
        for wire, each in properties.items():
            if not wire.isprintable() or '"' in wire or "\\" in wire:
                continue  # msgspec has no room for such a name, and what isn't named isn't decoded
            python = variable(wire)
            while python in fields:
                python += "_"
            found = self.of(each, f"{name}_{wire}", depth + 1)
            # Many documents leave `required` out, but a record without its id would be none.
            needed = wire in required or python == "id"
            fields[python] = Field(python, wire, found.name, found.nullable or not needed, needed)
        # What may be missing has a default, and so comes last.
        ordered = sorted(fields.values(), key=lambda each: not each.required)
        return Type(self.define(Record(pascal(name), tuple(ordered))).name)

    def _is_money(self, properties: Mapping[str, Any]) -> bool:
        # A whole number would be cents, which the shared type is not.
        amount = self.follow(properties.get("amount")).get("type")
        return properties.keys() == {"amount", "currency"} and amount in ("string", "number")

    def _bound(self, depth: int) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS or depth > MAX_DEPTH:
            raise ScaffoldError(
                f"the document's schemas are larger than {MAX_STEPS} parts, or nested more than {MAX_DEPTH} deep"
            )


def _nullable(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    is_listed = isinstance(kind, list) and "null" in kind
    return is_listed or schema.get("nullable") is True or None in _list(schema.get("enum"))


def _members(values: list[str]) -> tuple[tuple[str, str], ...]:
    members: dict[str, str] = {}
    for value in dict.fromkeys(values):
        name = constant(value)
        while name in members:
            name += "_"
        members[name] = value
    return tuple(members.items())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
