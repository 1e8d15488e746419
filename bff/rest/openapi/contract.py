"""What a service says of itself: its OpenAPI document, 3.0 or 3.1, read whole and made fit to stand beside others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bff.core.loading import ConfigError, read_text
from bff.core.loading.document import parse

Object = dict[str, Any]

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
_COMPONENT = re.compile(r"#/components/([A-Za-z]+)/([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Operation:
    """One of a service's operations.

    Attributes:
        path: its template, as the service has it.
        method: in capitals.
        body: the Operation Object, with the parameters of its path among its own.
    """

    path: str
    method: str
    body: Object


@dataclass(frozen=True)
class Contract:
    """A service's operations, and the components that they refer to, by names with the service's before them."""

    service: str
    operations: tuple[Operation, ...]
    components: Mapping[str, Object]

    def follow(self, given: Any) -> Object:
        """The object itself, where this refers to it."""
        seen = 0
        while isinstance(given, dict) and (found := _COMPONENT.fullmatch(str(given.get("$ref", "")))):
            beside = {key: value for key, value in given.items() if key in {"description", "summary"}}
            given = {**self.components.get(found[1], {}).get(found[2], {}), **beside}
            if (seen := seen + 1) > 20:
                return {}
        return given if isinstance(given, dict) else {}


def read(service: str, path: Path) -> Contract:
    """The contract of the service in this file, JSON or YAML.

    Raises:
        ConfigError: it cannot be read, or used.
    """
    key = f"services.{service}.openapi"
    try:
        problems: list[Any] = []
        document = parse(read_text(path), str(path), problems).data()
    except ConfigError as error:
        raise ConfigError.of(key, str(error)) from None
    if problems:
        raise ConfigError.of(key, "; ".join(map(str, problems)))
    version = str(document.get("openapi")) if isinstance(document, dict) else ""
    if not re.match(r"3\.[01]\b", version):
        raise ConfigError.of(key, f"{path} is no OpenAPI 3.0 or 3.1 document, which begins with `openapi: 3.1.0`")
    try:
        return _contract(service, _Named(service, old=version.startswith("3.0")).all_of(document))
    except ValueError as error:
        raise ConfigError.of(key, f"{path} {error}") from None
    except (AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ConfigError.of(key, f"{path} is not built as OpenAPI documents are: {error!r}") from None


def _contract(service: str, document: Object) -> Contract:
    components = {kind: value for kind, value in document.get("components", {}).items() if isinstance(value, dict)}
    named = {
        kind: {f"{service}.{name}": each for name, each in values.items()}
        for kind, values in components.items()
        if kind != "securitySchemes"
    }
    contract = Contract(service, (), named)
    return Contract(service, tuple(_operations(contract, document.get("paths", {}))), named)


def _operations(contract: Contract, paths: Mapping[str, Any]) -> Iterator[Operation]:
    for path, given in paths.items():
        if not path.startswith("/"):
            raise ValueError(f"has the path {path!r}, which does not begin with /")
        item = contract.follow(given)
        shared = item.get("parameters", [])
        for method in METHODS:
            if method in item:
                body = {**item[method]}
                parameters: dict[tuple[str, str], Object] = {}
                for each in map(contract.follow, [*shared, *body.get("parameters", [])]):
                    if not {"in", "name"} <= each.keys():
                        raise ValueError(f"has a parameter of {method.upper()} {path} without `in` or `name`")
                    parameters[each["in"], each["name"]] = each
                body["parameters"] = list(parameters.values())
                yield Operation(path, method.upper(), body)


class _Named:
    """Gives what is referred to its name beside that of others, and says in 3.1 what is said in 3.0."""

    def __init__(self, service: str, *, old: bool) -> None:
        self._service = service
        self._old = old

    def all_of(self, given: Any) -> Any:
        if isinstance(given, list):
            return [self.all_of(each) for each in given]
        if not isinstance(given, dict):
            return given
        found = {key: self._reference(each) if key == "$ref" else self.all_of(each) for key, each in given.items()}
        if isinstance(mapping := given.get("discriminator"), dict) and isinstance(mapping.get("mapping"), dict):
            mapped = {key: self._reference(each) for key, each in mapping["mapping"].items()}
            found["discriminator"] = {**mapping, "mapping": mapped}
        return _modern(found) if self._old else found

    def _reference(self, given: Any) -> Any:
        if not isinstance(given, str):
            return self.all_of(given)  # a property that is called `$ref`
        found = _COMPONENT.fullmatch(given)
        if not found:
            raise ValueError(f"refers to {given!r}: only #/components/... can be followed; bundle it into one file")
        return f"#/components/{found[1]}/{self._service}.{found[2]}"


def _modern(schema: Object) -> Object:
    """https://www.openapis.org/blog/2021/02/16/migrating-from-openapi-3-0-to-3-1-0 ."""
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    return schema
