"""The forms that a body may have on the wire (JSON, XML, a form), and how one becomes another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qsl, urlencode

import orjson

from bff.rest.shape import ShapeError
from bff.rest.xml import from_xml, to_xml

Form = Literal["json", "xml", "form"]

_KINDS: Final[dict[str, bytes]] = {
    "json": b"application/json",
    "xml": b"application/xml",
    "form": b"application/x-www-form-urlencoded",
}
_MAX_FIELDS: Final = 1000
FORMS: Final[Sequence[str]] = get_args(Form)


def kind_of(form: Form) -> bytes:
    """Its media type."""
    return _KINDS[form]


def is_of(form: Form, content_type: bytes) -> bool:
    """Whether a body of this type is in that form."""
    kind = content_type.partition(b";")[0].strip().lower()
    return (
        kind == _KINDS[form]
        or (form != "form" and kind.endswith(b"+" + form.encode()))
        or (form == "xml" and kind == b"text/xml")
    )


def reader(form: Form, lists: Sequence[str] = ()) -> Callable[[bytes], Any]:
    """What makes values of a body; raises ShapeError."""
    if form == "xml":
        return lambda body: from_xml(body, lists)
    return _json if form == "json" else lambda body: _fields(body, frozenset(lists))


def writer(form: Form, root: str = "root") -> Callable[[Any], bytes]:
    """What makes a body of values; raises ShapeError."""
    if form == "xml":
        return lambda value: to_xml(value, root)
    return orjson.dumps if form == "json" else _as_form


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ShapeError("is no JSON") from None


def _fields(body: bytes, lists: frozenset[str]) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise ShapeError(f"is no form in UTF-8 with at most {_MAX_FIELDS} fields") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = [value] if name in lists else value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _as_form(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise ShapeError("is no object, as a form is")
    pairs: list[tuple[str, str]] = []
    for name, each in value.items():
        for item in each if isinstance(each, list) else [each]:
            if isinstance(item, dict | list):
                raise ShapeError("has an object or a list inside, which a form has not")
            pairs.append((name, item if isinstance(item, str) else orjson.dumps(item).decode()))
    return urlencode(pairs).encode()
