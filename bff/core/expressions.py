"""Expressions in the configuration: CEL (https://cel.dev) over the caller or the request, compiled once, at load.

    introspection: "'schema:read' in caller.scopes"

They are written by operators, but what they look at is written by strangers: so their work is bounded by their form, at
most one loop deep and with patterns that are in the expression itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import cel
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from bff.core.identity import Caller
from bff.core.settings import malformed

LONGEST: Final = 2000

# What the library has, less what only its optional parts have.
_FUNCTIONS: Final = {
    *("size", "contains", "startsWith", "endsWith", "matches"),
    *("int", "uint", "double", "string", "bytes", "timestamp", "duration", "type", "dyn"),
    *("getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
}
_TOKEN = re.compile(
    r"""(?P<text>[rR]'[^'\n]*'|[rR]"[^"\n]*"|'{3}.*?'{3}|"{3}.*?"{3}|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|//[^\n]*)
    |(?P<loop>\.\s*(?:all|exists|exists_one|filter|map)\s*\(\s*(?P<bound>\w+))
    |(?P<pattern>\bmatches\s*\((?!\s*[rR]?['"]))
    |(?P<open>\()|(?P<close>\))""",
    re.VERBOSE | re.DOTALL,
)


class Expression:
    """A CEL expression over named values.

        Expression("'schema:read' in caller.scopes", {"caller"}).holds({"caller": of_caller(caller)})

    Args:
        source: its text, at most 2000 characters.
        variables: the names that it may use; afterwards those that it does use.

    Raises:
        ValueError: it is no expression, or not one over these variables; the message completes "must be ...".
    """

    __slots__ = ("_names", "_program", "source", "variables")

    def __init__(self, source: str, variables: frozenset[str]) -> None:
        if len(source) > LONGEST:
            raise ValueError(f"an expression of at most {LONGEST} characters")
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            raise ValueError(f"an expression (CEL): {_syntax(str(error))}") from None
        used = self._program.references()
        names = frozenset(used["variables"]) - _bound(source)
        for name in sorted(names - variables):
            raise ValueError(f"an expression over {', '.join(sorted(variables))}; there is no {name}")
        for name in used["functions"]:
            if name[0].isalpha() and name not in _FUNCTIONS:
                raise ValueError(f"an expression (CEL); there is no function {name}")
        self.source = source
        self.variables = names
        self._names = tuple(names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and (self.source, self.variables) == (other.source, other.variables)

    def __hash__(self) -> int:
        return hash(self.source)

    def value(self, of: Mapping[str, Any]) -> Any:
        """What it comes to for these values, or None if it comes to nothing: a key is missing, or a type is wrong."""
        try:
            return self._program.execute({name: of[name] for name in self._names})
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            return None

    def holds(self, of: Mapping[str, Any]) -> bool:
        """Whether it is true; an expression over something that is not there is not."""
        return self.value(of) is True

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def __str__(self) -> str:
        return self.source


class Over:
    """Marks a setting as an expression over these variables: `when: Annotated[Expression, Over("caller")]`."""

    def __init__(self, *variables: str) -> None:
        self._variables = frozenset(variables)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._compiled, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "maxLength": LONGEST, "examples": ["'admin' in caller.scopes"]}

    def _compiled(self, value: object) -> Expression:
        if isinstance(value, Expression):
            return value
        if not isinstance(value, str):
            raise malformed("an expression (CEL)")
        try:
            return Expression(value, self._variables)
        except ValueError as error:
            raise malformed(str(error)) from None


def of_caller(caller: Caller) -> dict[str, Any]:
    """What expressions know as `caller`."""
    return {
        "subject": caller.subject,
        "consumer": caller.consumer,
        "scopes": list(caller.scopes),
        "tier": caller.tier,
        "credential": caller.credential,
        "issuer": caller.issuer,
    }


def _bound(source: str) -> set[str]:
    """The names that its loops give to what they go through.

    Raises:
        ValueError: a loop goes through another one for each of its items, or a pattern comes from elsewhere.
    """
    names: set[str] = set()
    inside: list[bool] = []
    for token in _TOKEN.finditer(source):
        if token["pattern"]:
            raise ValueError("an expression whose patterns are written in it: text.matches('^a+$')")
        if token["loop"]:
            if any(inside):
                raise ValueError("an expression without a loop inside another (all, exists, exists_one, filter, map)")
            names.add(token["bound"])
        if token["loop"] or token["open"]:
            inside.append(bool(token["loop"]))
        elif token["close"] and inside:
            inside.pop()
    return names


def _syntax(message: str) -> str:
    """The first thing that the parser says, without the expression that it repeats."""
    found = re.search(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)", message)
    if not found:
        return message.splitlines()[0][:200]
    return f"at character {found[2]}, {found[3].partition(' expecting ')[0]}"
