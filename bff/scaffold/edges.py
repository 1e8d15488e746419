"""Suggestions of edges to other services' types, of the keys that this service's own records hold and of no others."""

from __future__ import annotations

import re
from collections.abc import Callable

from bff.scaffold.contract import Children, Contract, reads
from bff.scaffold.layout import WIDTH, imports, spread, words_of
from bff.scaffold.types import Record
from bff.scaffold.words import pascal, plural, snake

_INTRODUCTION = """\
Edges that the keys of these records make possible. Take those that clients need, with their imports at the top, and
leave out the key that has become an edge."""

_WIDTH = WIDTH - len("# ")

_SDK = frozenset({"Column", "Connection", "Info", "Parents", "Slice", "batched", "extend", "page_size"})


def edges(name: str, contract: Contract, is_known: Callable[[str], bool]) -> str:
    """Source of the edges to the types of the entities that are known; nothing where there are none."""
    keys = [
        (each, field.name.removesuffix("_id"))
        for each in contract.definitions
        if isinstance(each, Record)
        for field in each.fields
        if re.fullmatch(r"\w+_id", field.name) and (field.type, field.nullable) == ("str", False)
    ]
    up = [(record, parent) for record, parent in keys if is_known(parent)]
    down = [each for each in contract.children if is_known(each.parent)]
    if not up and not down:
        return ""
    source = [_to_parent(record, parent) for record, parent in up]
    source += [_from_parent(contract, each) for each in down]
    used = words_of(source)
    own = [("bff.sdk", each) for each in _SDK & used] + [("services", f"{name} as records")]
    own += [(f"services.{name}", each) for each in reads(contract).values() if each in used]
    for parent in {parent for _, parent in up} | {each.parent for each in down}:
        many = plural(parent)
        own += [(f"schema.{many}", pascal(parent)), ("services", many)]
        own += [(f"services.{many}", f"{parent}_by_id")] if f"{parent}_by_id" in used else []
    return "\n\n\n".join([f"{_INTRODUCTION}\n\n{imports(own)}", *source])


def _to_parent(record: Record, parent: str) -> str:
    target = pascal(parent)
    return (
        f"@extend({record.name})\nclass {record.name}{target}:\n    @batched(graphql_type={target} | None)\n"
        + _resolver(parent, f"records.{record.name}", [], f"Column[{plural(parent)}.{target}]")
        + "\n"
        + _load_many(f"{parent}_by_id", f"{parent}_id", "return ")
    )


def _from_parent(contract: Contract, each: Children) -> str:
    record, target = contract.record.name, pascal(each.parent)
    field = snake(record) if each.how == "one" else plural(snake(record))
    read = reads(contract)[each.parameter]
    gives = {"page": f"Connection[{record}]", "list": f"list[{record}]", "one": f"{record} | None"}[each.how]
    options = [f"graphql_type={gives}"]
    head = f"@extend({target})\nclass {target}{pascal(field)}:\n{spread('@batched', options, '', '    ', _WIDTH)}\n"
    source = f"{plural(each.parent)}.{target}"
    if each.how == "one":
        resolver = _resolver(field, source, [], f"Column[records.{record}]")
        return f"{head}{resolver}\n{_load_many(read, 'id', 'return ')}"
    if each.how == "list":
        resolver = _resolver(field, source, [], f"list[list[records.{record}] | BaseException]")
        found = _load_many(read, "id", "found = ")
        return f"{head}{resolver}\n{found}\n        return [each or [] for each in found]"
    arguments = ["first: int = 10", "after: str | None = None"]
    return (
        head
        + _resolver(field, source, arguments, f"list[Slice[records.{record}] | BaseException]")
        + f"\n        read = {read}.where(limit=page_size(first), cursor=after)\n"
        + _load_many("read", "id", "pages = ")
        + "\n        return [Slice.of(page, after) for page in pages]"
    )


def _resolver(field: str, source: str, arguments: list[str], gives: str) -> str:
    given = [f"parents: Parents[{source}]", "info: Info", *arguments]
    return spread(f"async def {field}", given, f" -> {gives}:", "    ", _WIDTH)


def _load_many(read: str, key: str, result: str) -> str:
    arguments = [read, f"[each.{key} for each in parents]"]
    return spread(f"{result}await info.context.load_many", arguments, "", "        ", _WIDTH)
