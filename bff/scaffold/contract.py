"""What a service says of itself in OpenAPI 3.0 or 3.1, as far as its two modules need it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bff.core.loading import ConfigError, Problem, read_text
from bff.core.loading.document import MAX_LENGTH, parse
from bff.scaffold.types import Enumeration, Field, Record, ScaffoldError, Types
from bff.scaffold.words import pascal, plural, singular, snake, variable

MAX_FILTERS = 10

# The arguments and variables that the generated functions have already.
_ARGUMENTS = frozenset({"after", "cursor", "each", "first", "found", "ids", "info", "into", "limit", "page", "pages"})
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
_SCOPE = re.compile(r"[!#-\[\]-~]{1,200}")  # RFC 6749 §3.3
_PREFIX = re.compile(r"([a-z][a-z0-9]{0,15})_.+")


@dataclass(frozen=True)
class Filter:
    """A query parameter that narrows a list."""

    name: str
    type: str
    is_enum: bool


@dataclass(frozen=True)
class Children:
    """A read of records by the key of another service's that they hold.

    Attributes:
        parent: `user`, for the key `user_id`.
        parameter: what the query calls it, such as `user_ids`.
        key: the record's field.
        how: `page` of each parent, `list` or `one`.
    """

    parent: str
    parameter: str
    key: Field
    how: str


@dataclass(frozen=True)
class Contract:
    """One service, seen as the records of its list path."""

    title: str
    path: str
    record: Record
    definitions: tuple[Record | Enumeration, ...]
    container: str
    """The answer's type: `Page[Order]`, `list[Order]` or the class of an envelope."""
    items: str
    """Where the records are in it: `.items`, or nothing."""
    prefix: str | None = None
    by_id: bool = True
    children: tuple[Children, ...] = ()
    cut: tuple[str, ...] = ()
    """Reads by these parameters would be cut off by `limit` without saying whose records are missing."""
    repeated: tuple[str, ...] = ()
    """Lists that the contract wants as `ids=a&ids=b`."""
    paged: bool = False
    filters: tuple[Filter, ...] = ()
    scopes: tuple[tuple[str, ...], ...] = ()
    """What reading needs, all of one of these; nothing if the document does not say."""

    @property
    def id(self) -> Field | None:
        return next((each for each in self.record.fields if each.name == "id" and not each.nullable), None)

    @property
    def enums(self) -> list[Enumeration]:
        return [each for each in self.definitions if isinstance(each, Enumeration)]


def template(name: str) -> Contract:
    """For a service without a document: records with an id and a name, read by their ids."""
    record = Record(pascal(singular(name)), (Field("id", "id", "str"), Field("name", "name", "str")))
    return Contract(f"{_words(name)} service", f"/{name}", record, (record,), f"Page[{record.name}]", ".items")


def contract(name: str, path: Path) -> Contract:
    """The contract of the service `name` in the document at `path`.

    Raises:
        ScaffoldError: it can't be read, or has no list of records that can be read for many at once.
    """
    document = _document(path)
    try:
        types = Types(document)
        for each in sorted(_lists(types), key=lambda listed: listed.rank(name)):
            if found := _contract(name, Types(document), each):
                return found
    except ScaffoldError as error:
        raise ScaffoldError(f"{path}: {error}") from None
    raise ScaffoldError(
        f"{path}: there is no GET of a list of records with a query parameter `ids`, or with one such as "
        f"`shop_ids` for records that hold a `shop_id`. One call has to read what many ask for: "
        f"GET /{name}?ids=a,b"
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
    except ConfigError as error:
        raise ScaffoldError(str(error)) from None
    document = _json(path, text) if text.lstrip().startswith("{") else _yaml(path, text)
    version = document.get("openapi") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not re.match(r"3\.[01]\b", str(version)):
        raise ScaffoldError(f"{path}: isn't an OpenAPI 3.0 or 3.1 document, which begins with `openapi: 3.1.0`")
    return document


def _json(path: Path, text: str) -> Any:
    if len(text) > MAX_LENGTH:
        raise ScaffoldError(f"{path}: is longer than {MAX_LENGTH} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _yaml(path, text)  # which may begin with a brace too, and says what is wrong in which line


def _yaml(path: Path, text: str) -> Any:
    problems: list[Problem] = []
    try:
        data = parse(text, str(path), problems).data()
    except ConfigError as error:
        raise ScaffoldError(str(error)) from None
    if problems:
        raise ScaffoldError("\n".join(map(str, problems)))
    return data


@dataclass(frozen=True)
class _List:
    """A GET whose answer is a list of objects."""

    path: str
    parameters: Mapping[str, Mapping[str, Any]]
    record: Any
    envelope: Mapping[str, Any]
    """The properties around the list; none where the answer is the list itself."""
    member: str = field(default="")
    security: Any = None

    def rank(self, name: str) -> tuple[bool, bool, bool]:
        named = snake(self.path.rpartition("/")[2]) == name
        return not named, "ids" not in self.parameters, not any(map(_parent, self.parameters))


def _lists(types: Types) -> Iterator[_List]:
    paths = types.document.get("paths")
    for path, item in (paths if isinstance(paths, dict) else {}).items():
        item = types.follow(item)  # noqa: PLW2901 - the same, behind its reference
        get = types.follow(item.get("get"))
        if not get or not re.fullmatch(r"/[A-Za-z0-9_./~-]{0,200}", path):
            continue
        answer = types.follow(_answer(types, get))
        security = get.get("security", types.document.get("security"))
        parameters = {
            each["name"]: each
            for each in map(types.follow, [*_items(item.get("parameters")), *_items(get.get("parameters"))])
            if each.get("in") == "query" and isinstance(each.get("name"), str)
        }
        if answer.get("type") == "array":
            yield _List(path, parameters, answer.get("items"), {}, security=security)
            continue
        properties = types.members(answer)[0]
        arrays = [name for name in properties if types.follow(properties[name]).get("type") == "array"]
        if arrays:
            member = "items" if "items" in arrays else arrays[0]
            yield _List(path, parameters, types.follow(properties[member]).get("items"), properties, member, security)


def _answer(types: Types, get: Mapping[str, Any]) -> Any:
    responses = types.follow(get.get("responses"))
    response = types.follow(responses.get("200") or responses.get("2XX"))
    for media, content in types.follow(response.get("content")).items():
        if media.partition(";")[0].endswith("json"):
            return types.follow(content).get("schema")
    return None


def _contract(name: str, types: Types, listed: _List) -> Contract | None:
    record = types.record(listed.record, singular(name))
    if record is None:
        return None
    id = next((each for each in record.fields if each.name == "id" and not each.nullable), None)
    parameters = listed.parameters
    children, cut = _children(types, listed, record, has_id=id is not None)
    by_id = id is not None and "ids" in parameters
    if not by_id and not children:
        return None
    container, items = f"list[{record.name}]", ""
    is_page = listed.member == "items" and types.is_text(listed.envelope.get("next_cursor"))
    if is_page:
        container, items = f"Page[{record.name}]", ".items"
    elif listed.member:
        held = Field(variable(listed.member), listed.member, container)
        container, items = types.define(Record(f"{record.name}List", (held,))).name, f".{held.name}"
    paged = is_page and id is not None and {"limit", "cursor"} <= parameters.keys()
    filters = tuple(_filters(name, types, listed, record)) if paged else ()
    read = [*(["ids"] if by_id else []), *(each.parameter for each in children)]
    info = types.follow(types.document.get("info"))
    return Contract(
        title=str(info.get("title") or f"{_words(name)} service"),
        path=listed.path,
        record=record,
        definitions=tuple(types.definitions),
        container=container,
        items=items,
        prefix=_prefix(types, listed.record),
        by_id=by_id,
        children=children,
        cut=cut,
        repeated=tuple(each for each in read if _is_repeated(types, parameters[each])),
        paged=paged,
        filters=filters,
        scopes=_scopes(listed.security),
    )


def _scopes(security: Any) -> tuple[tuple[str, ...], ...]:
    """Of the alternatives, the scopes that each names, as far as tokens can have them."""
    alternatives = (dict(each).values() for each in _items(security) if isinstance(each, dict))
    named = [[scope for part in each for scope in _items(part)] for each in alternatives]
    return tuple(tuple(map(str, each)) for each in named if each and all(_SCOPE.fullmatch(str(one)) for one in each))


def _children(
    types: Types, listed: _List, record: Record, *, has_id: bool
) -> tuple[tuple[Children, ...], tuple[str, ...]]:
    children, cut = list[Children](), list[str]()
    keys = {each.name: each for each in record.fields if each.type in ("str", "int")}
    for parameter in listed.parameters:
        parent = _parent(parameter)
        key = keys.get(f"{parent}_id")
        if parent is None or key is None:
            continue
        by_parent = types.follow(listed.envelope.get("next_cursors")).get("type") == "object"
        if has_id and listed.member == "items" and by_parent and {"limit", "cursor"} <= listed.parameters.keys():
            children.append(Children(parent, parameter, key, "page"))
        elif "limit" in listed.parameters:
            cut.append(parameter)
        else:
            children.append(Children(parent, parameter, key, "list" if has_id else "one"))
    return tuple(children), tuple(cut)


def _filters(name: str, types: Types, listed: _List, record: Record) -> Iterator[Filter]:
    taken = _ARGUMENTS | {name, "self", "path", "segments"}
    names = [each for each in listed.parameters if _PLAIN.fullmatch(each) and variable(each) == each]
    for each in [each for each in names if each not in taken and _parent(each) is None][:MAX_FILTERS]:
        schema = listed.parameters[each].get("schema")
        kind = types.follow(schema).get("type")
        if kind not in ("string", "integer"):
            continue
        found = "int" if kind == "integer" else types.of(schema, f"{record.name}_{each}").name
        is_enum = any(each.name == found for each in types.definitions)
        yield Filter(each, found if is_enum or found == "int" else "str", is_enum)


def _parent(parameter: str) -> str | None:
    """`user` for `user_ids` and `userIds`."""
    name = snake(parameter)
    return name.removesuffix("_ids") if name.endswith("_ids") and _PLAIN.fullmatch(parameter) else None


def _prefix(types: Types, schema: Any) -> str | None:
    id = types.follow(types.members(types.follow(schema))[0].get("id"))
    for example in (id.get("example"), *_items(id.get("examples"))):
        if isinstance(example, str) and (match := _PREFIX.fullmatch(example)):
            return match[1]
    return None


def _is_repeated(types: Types, parameter: Mapping[str, Any]) -> bool:
    # OpenAPI: a list in a query is repeated (style form, explode) unless it says otherwise.
    is_list = types.follow(parameter.get("schema")).get("type") == "array"
    return is_list and parameter.get("explode", parameter.get("style", "form") == "form") is True


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def reads(contract: Contract) -> dict[str, str]:
    """The batched reads of a contract's children: name by parameter."""
    one = snake(contract.record.name)
    return {
        each.parameter: f"{one if each.how == 'one' else plural(one)}_by_{each.parent}" for each in contract.children
    }
