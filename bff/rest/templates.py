"""Text with places for what a request and its caller say: `"user {caller.subject} from {header.x-app}"`.

A value is text of the place that it is put into and can never be more: no header line, no other path or host, no tag
of a page and no other member of a document.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

import orjson
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from starlette.types import Scope

from bff.core.request import RequestView
from bff.core.settings import malformed
from bff.rest.names import goes_up

LONGEST: Final = 16_384
_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.~-]*)\}")
_CALLER: Final = frozenset({"subject", "consumer", "tier", "credential", "issuer", "scopes"})
_REQUEST: Final = frozenset({"id", "method", "path", "host"})
_PARTS: Final = "query.NAME, header.NAME, cookie.NAME, caller.NAME and request.NAME"
_PRINTABLE: Final = string.punctuation + " "

Put = Callable[[str], str]
"""What makes a value text of the place that it is put into."""


def as_header(value: str) -> str:
    """A header's value: a line break would begin a header of the client's own making."""
    if not (value.isascii() and value.isprintable()):
        value = quote(value, safe=_PRINTABLE)
    return value.strip()


def as_url(value: str) -> str:
    return quote(value, safe="")


def as_html(value: str) -> str:
    return html.escape(value)


def as_json(value: str) -> str:
    """What stands between the quotes of a string."""
    return orjson.dumps(value).decode()[1:-1]


class Text:
    """A template.

    Args:
        source: its text. Braces around anything that is no name are text as well.

    Raises:
        ValueError: it has a place for what no request has; the message completes "must be ...".
    """

    __slots__ = ("_parts", "names", "source")

    def __init__(self, source: str) -> None:
        if len(source) > LONGEST:
            raise ValueError(f"text of at most {LONGEST} characters")
        pieces = _PLACE.split(source)
        self.source = source
        self.names = tuple(pieces[1::2])
        for name in self.names:
            if fault := _fault(name):
                raise ValueError(fault)
        self._parts = tuple(zip(pieces[::2], [*self.names, None], strict=True))

    def fill(self, scope: Scope, put: Put, captured: Mapping[str, str] | None = None) -> str | None:
        """With the values of this request; None if it lacks one of them.

        Args:
            scope: of the request.
            put: what makes a value text of its place.
            captured: what the path captured, where that is text of this place already.
        """
        if not self.names:
            return self.source
        view, filled = RequestView(scope), ""
        for literal, name in self._parts:
            filled += literal
            if name is not None and captured and name in captured:
                filled += captured[name]
            elif name is not None:
                value = _value(name, scope, view)
                if value is None:
                    return None
                filled += put(value)
        return filled

    def captures(self) -> Iterable[str]:
        """The names that a route's path has to capture."""
        return (name for name in self.names if "." not in name)

    @property
    def of_client(self) -> tuple[str, ...]:
        """The places that hold whatever a client wrote there."""
        return tuple(name for name in self.names if not name.startswith("caller."))

    def __repr__(self) -> str:
        return f"Text({self.source!r})"

    def __str__(self) -> str:
        return self.source

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._parsed, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "maxLength": LONGEST, "examples": ["{caller.subject}"]}

    @classmethod
    def _parsed(cls, value: object) -> Text:
        if isinstance(value, Text):
            return value
        if not isinstance(value, str):
            raise malformed("text")
        try:
            return cls(value)
        except ValueError as error:
            raise malformed(str(error)) from None


def _fault(name: str) -> str | None:
    part, dot, rest = name.partition(".")
    if not dot:
        return None  # what the path captures: the route knows whether it does
    if part not in {"query", "header", "cookie", "caller", "request"} or not rest:
        return f"text over what `path` captures, {_PARTS}; there is no {{{name}}}"
    for known, of in ((_CALLER, "caller"), (_REQUEST, "request")):
        if part == of and rest not in known:
            return f"text over {', '.join(sorted(f'{of}.{each}' for each in known))}; there is no {{{name}}}"
    if part == "header" and (rest.lower() == "cookie" or goes_up(rest.lower().encode()) is None):
        return f"text without {{{name}}}: that header goes no further than the gateway"
    return None


def _value(name: str, scope: Scope, view: RequestView) -> str | None:
    part, dot, rest = name.partition(".")
    if not dot:
        captured: bytes | None = scope["bff.captured"].get(name)
        return None if captured is None else unquote(captured.decode("latin-1"))
    if part == "caller":
        found = view["caller"][rest]
        return " ".join(sorted(found)) if rest == "scopes" else found
    if part == "request":
        return str(scope["bff.request_id"]) if rest == "id" else str(view[rest])
    if part == "header":
        return _of(view["headers"], rest.lower())
    return _of(view["query"] if part == "query" else view["cookies"], rest)


def _of(values: Any, name: str) -> str | None:
    found: str | None = values.get(name)
    return found
