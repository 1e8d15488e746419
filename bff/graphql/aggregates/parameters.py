"""What a request to an aggregate says, as the values of its operation's variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus, unquote_to_bytes

import orjson
from graphql import (
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    VariableDefinitionNode,
    get_named_type,
    get_nullable_type,
    is_input_object_type,
    is_input_type,
    type_from_ast,
)
from graphql.utilities import validate_input_value

from bff.core.errors import BadRequest, BadUserInput, Unprocessable
from bff.core.loading import did_you_mean
from bff.core.request import parameters
from bff.graphql.aggregates import BODIES, Aggregate

_MOST = 10
"""Faults that one answer names."""
_LONGEST = 200
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,9})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")

Fault = dict[str, Any]
Values = dict[str, Any]


class Input(NamedTuple):
    """One variable.

    Attributes:
        name: its own, and the parameter's.
        type: that its values have.
        place: path, query or body.
        node: where it is declared.
    """

    name: str
    type: GraphQLInputType
    place: str
    node: VariableDefinitionNode

    @property
    def needed(self) -> bool:
        return isinstance(self.type, GraphQLNonNull) and self.node.default_value is None

    @property
    def is_list(self) -> bool:
        return isinstance(get_nullable_type(self.type), GraphQLList)

    def faults(self, value: Any) -> Iterator[tuple[list[str | int], str]]:
        """Where and why a value is none of its type."""
        found: list[tuple[list[str | int], str]] = []
        validate_input_value(value, self.type, lambda error, path: found.append((list(path), error.message)))
        return ((path, message[:_LONGEST]) for path, message in found[:_MOST])


class Parameters:
    """The variables of one aggregate.

    Raises:
        ValueError: a variable cannot come from where it is to come from.
    """

    def __init__(self, schema: GraphQLSchema, aggregate: Aggregate) -> None:
        self.inputs = {each.name: each for each in _inputs(schema, aggregate)}
        self._whole = self.inputs.get(aggregate.body or "")
        self._of_body = {name: each for name, each in self.inputs.items() if each.place == "body"}
        self._of_query = {name: each for name, each in self.inputs.items() if each.place == "query"}

    def of_head(self, captured: Mapping[str, bytes], query: bytes) -> Values:
        """Those in path and query.

        Raises:
            BadUserInput: one is not as it has to be, or there is none of that name; the problem names it.
        """
        faults: list[Fault] = []
        found: Values = {}
        for name, raw in captured.items():
            self._take(self.inputs[name], [_decoded(unquote_to_bytes(raw))], found, faults)
        given: dict[str, list[str]] = {}
        for name, value in parameters(query):
            given.setdefault(name, []).append(_decoded(unquote_to_bytes(value.replace(b"+", b" "))))
        for name, each in self._of_query.items():
            if name in given:
                self._take(each, given.pop(name), found, faults)
            elif each.needed:
                faults.append(_fault(each, "is needed"))
        for name in given:
            shown = unquote_plus(name)[:_LONGEST]
            hint = did_you_mean(shown, self._of_query)
            faults.append({"parameter": shown, "in": "query", "detail": f"is no parameter of this{hint}"})
        if faults:
            first = faults[0]
            raise BadUserInput(f"{first['parameter']}: {first['detail']}", members={"errors": faults[:_MOST]})
        return found

    def _take(self, each: Input, texts: list[str], found: Values, faults: list[Fault]) -> None:
        if len(texts) > 1 and not each.is_list:
            faults.append(_fault(each, "comes more than once"))
            return
        kind = get_named_type(each.type).name
        values = [_read(text, kind) for text in texts]
        value = values if each.is_list else values[0]
        before = len(faults)
        faults += (_fault(each, detail) for _, detail in each.faults(value))
        if len(faults) == before:
            found[each.name] = value

    def of_body(self, body: bytes) -> Values:
        """Those in a body of JSON, which may be empty where none is needed.

        Raises:
            BadRequest: it is no JSON, or no object, or there is none.
            Unprocessable: it is not as it has to be; the problem says where.
        """
        if not body:
            if any(each.needed for each in self._of_body.values()):
                raise BadRequest("This needs a body: application/json")
            return {}
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not well-formed JSON: {error.msg} at character {error.pos}") from None
        faults: list[Fault] = []
        if self._whole is not None:
            values = {self._whole.name: given}
            faults += ({"pointer": pointer(path), "detail": detail} for path, detail in self._whole.faults(given))
        elif not isinstance(given, dict):
            raise BadRequest("The body must be a JSON object")
        else:
            values = given
            faults += self._faults(given)
        if faults:
            first = faults[0]
            raise Unprocessable(f"{first['pointer']}: {first['detail']}", members={"errors": faults[:_MOST]})
        return values

    def _faults(self, given: Values) -> Iterator[Fault]:
        for name, each in self._of_body.items():
            if name in given:
                for path, detail in each.faults(given[name]):
                    yield {"pointer": pointer([name, *path]), "detail": detail}
            elif each.needed:
                yield {"pointer": pointer([name]), "detail": "is needed"}
        for name in given:
            if name not in self._of_body:
                shown = name[:_LONGEST]
                yield {"pointer": pointer([shown]), "detail": f"is unknown{did_you_mean(shown, self._of_body)}"}


def pointer(path: list[str | int]) -> str:
    """As a fragment (RFC 6901 §6)."""
    return "#" + "".join(f"/{str(each).replace('~', '~0').replace('/', '~1')}" for each in path)


def _inputs(schema: GraphQLSchema, aggregate: Aggregate) -> Iterator[Input]:
    for node in aggregate.operation.variable_definitions or ():
        name = node.variable.name.value
        found = type_from_ast(schema, node.type)
        if not is_input_type(found):
            raise ValueError(f"${name} has a type that is none of the schema's input types")
        place = "path" if name in aggregate.captured else "body" if aggregate.method in BODIES else "query"
        each = Input(name, found, place, node)
        if place == "path" and each.is_list:
            raise ValueError(f"${name} is a list, and `path` captures one value")
        if place != "body" and not _is_plain(found):
            other = "let it come in the `body` of a POST" if place == "query" else "capture something plain"
            raise ValueError(f"${name} cannot be written in the {place}: {other}")
        yield each


def _is_plain(type_: GraphQLInputType) -> bool:
    """Whether a value is a text, or several."""
    inner = get_nullable_type(type_)
    if isinstance(inner, GraphQLList):
        inner = get_nullable_type(inner.of_type)
    return not isinstance(inner, GraphQLList) and not is_input_object_type(inner)


def _read(text: str, kind: str) -> Any:
    """The value that is meant; the text itself where it is none of that type, which its type then says."""
    if kind in {"Int", "Float"} and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "Float" and _NUMBER.fullmatch(text):
        return float(text)
    if kind == "Boolean" and text in {"true", "false"}:
        return text == "true"
    return text


def _decoded(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise BadUserInput("Path and query have to be UTF-8, percent-encoded") from None


def _fault(each: Input, detail: str) -> Fault:
    return {"parameter": each.name, "in": each.place, "detail": detail}
