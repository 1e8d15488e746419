"""The source of the two modules, as the formatter would leave it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from bff.scaffold.contract import Children, Contract, reads
from bff.scaffold.edges import edges
from bff.scaffold.layout import imports, spread, words_of
from bff.scaffold.types import Enumeration, Field, Record
from bff.scaffold.words import pascal, plural, quoted, sentence, snake, variable

_STANDARD = {
    "Any": ("typing", "Any"),
    "Decimal": ("decimal", "Decimal"),
    "date": ("datetime", "date"),
    "datetime": ("datetime", "datetime"),
}
_SIZE = "directives=[ListSize(at_most=100)]"
_ARGUMENTS = frozenset({"cursor", "each", "found", "ids", "limit", "page", "pages"})


def services_module(name: str, contract: Contract) -> str:
    """services/NAME.py: the records, and how they are read."""
    record = contract.record
    body = [_definition(each) for each in contract.definitions]
    body += [_pages(contract, each) for each in contract.children if each.how == "page"]
    if contract.by_id:
        body.append(_by_id(name, contract))
    body += [_by_parent(name, contract, each) for each in contract.children]
    if contract.paged:
        body.append(_list_call(name, contract))
    if contract.cut:
        body.append(
            f"# There is no read by {', '.join(contract.cut)}: with a `limit` for all, and without `next_cursors`,\n"
            "# the answer doesn't say whose records are missing from it."
        )
    used = words_of(each.type for each in _fields(contract.definitions))
    names = {"Record", "Upstream"} | ({"call"} if contract.paged else set())
    names |= {"batch"} if contract.by_id or contract.children else set()
    names |= {"Page"} if any("Page[" in each for each in body) else set()
    standard = [_STANDARD[each] for each in used & _STANDARD.keys()]
    standard += [("enum", "Enum")] if contract.enums else []
    renamed = any(each.name != each.wire for each in _fields(contract.definitions))
    third = [("msgspec", "field")] if renamed else []
    own = [("bff.sdk", each) for each in names] + ([("services.money", "Money")] if "Money" in used else [])
    docstring = sentence(contract.title) or record.name
    return _module(docstring, [imports(standard), imports(third), imports(own)], body)


def schema_module(name: str, contract: Contract, is_known: Callable[[str], bool]) -> str:
    """schema/NAME.py: the types, the root fields, and as comments the edges that the records' keys make possible.

    Args:
        name: the service's.
        contract: what it offers.
        is_known: whether the gateway has an entity of this name, such as `user`.
    """
    record = contract.record
    body = ["\n".join(f"strawberry.enum({each.name})" for each in contract.enums)] if contract.enums else []
    parts = [each for each in contract.definitions if isinstance(each, Record) and not _is_envelope(each, contract)]
    body += [_type(each) for each in parts if each is not record]
    body.append(_entity(name, contract) if contract.by_id else _type(record, _scopes(name, contract)))
    if contract.by_id:
        body.append(_query(contract))
    if suggested := edges(name, contract, is_known):
        body.append("\n".join(f"# {line}".rstrip() for line in suggested.split("\n")))
    used = words_of(each.type for each in _fields(parts))
    exposed = words_of(_shown(each) for each in _fields(parts))
    standard = [_STANDARD[each] for each in (used & _STANDARD.keys()) - {"Any"}]
    third = "import strawberry" + ("\nfrom strawberry.scalars import JSON" if "JSON" in exposed else "")
    own: list[tuple[str, str]] = [("schema.money", "Money")] if "Money" in used else []
    own += [("bff.sdk", "ListSize")] if any(map(_is_list, _fields(parts))) else []
    own += [("bff.sdk", "RequiresScopes")] if any("RequiresScopes" in each for each in body) else []
    own += [(f"services.{name}", each.name) for each in contract.enums]
    if contract.by_id:
        names = ["Info", "Node", "entity", *(["Connection", "Slice", "page_size"] if contract.paged else [])]
        own += [("bff.sdk", each) for each in names] + [("services", f"{name} as records")]
        own += [(f"services.{name}", each) for each in _reads(contract)]
    return _module(name.replace("_", " ").capitalize(), [imports(standard), third, imports(own)], body)


def _module(docstring: str, sections: Iterable[str], body: Iterable[str]) -> str:
    top = "\n\n".join(filter(None, sections))
    first, *rest = body
    # After imports the formatter wants one empty line before a plain statement, and two before a class.
    gap = "\n\n" if first.startswith("strawberry.enum") else "\n\n\n"
    return f'"""{docstring}."""\n\n{top}{gap}{first}' + "".join(f"\n\n\n{each}" for each in rest) + "\n"


def _fields(definitions: Iterable[Record | Enumeration]) -> Iterator[Field]:
    for each in definitions:
        if isinstance(each, Record):
            yield from each.fields


def _is_envelope(record: Record, contract: Contract) -> bool:
    return record.name == contract.container


def _definition(each: Record | Enumeration) -> str:
    if isinstance(each, Enumeration):
        members = "".join(f"\n    {name} = {quoted(value)}" for name, value in each.members)
        return f"class {each.name}(Enum):{members}"
    return f"class {each.name}(Record):" + "".join(f"\n    {_field(field)}" for field in each.fields)


def _field(each: Field) -> str:
    options = [] if each.required else ["default=None"]
    options += [f"name={quoted(each.wire)}"] if each.wire != each.name else []
    value = "" if not options else " = None" if options == ["default=None"] else f" = field({', '.join(options)})"
    return f"{each.name}: {_optional(each, each.type)}{value}"


def _optional(each: Field, type: str) -> str:
    return f"{type} | None" if each.nullable and type != "Any" else type


def _upstream(name: str) -> str:
    return "upstream" if name in _ARGUMENTS else variable(name)


def _one(name: str, contract: Contract) -> str:
    """What a record is called in a loop."""
    one = variable(snake(contract.record.name))
    return "each" if one in {*_ARGUMENTS, name} else one


def _text(value: str, key: Field) -> str:
    return f"str({value})" if key.type == "int" else value


def _repeated(contract: Contract, parameter: str) -> str:
    if parameter not in contract.repeated:
        return ""
    return (
        f"    # The contract wants {parameter}=a&{parameter}=b, and this sends {parameter}=a,b: both should be taken.\n"
    )


def _read(name: str, contract: Contract, into: str, arguments: list[str], result: str) -> str:
    return spread(f"{result}await {_upstream(name)}.get", [quoted(contract.path), into, *arguments], "", "    ")


def _by_id(name: str, contract: Contract) -> str:
    record, one = contract.record, _one(name, contract)
    head = f"async def {snake(record.name)}_by_id"
    key = next(each for each in record.fields if each.name == "id")
    return (
        f'@batch("{name}")\n'
        + spread(head, [f"{_upstream(name)}: Upstream", "ids: list[str]"], f" -> dict[str, {record.name}]:")
        + f"\n{_repeated(contract, 'ids')}"
        + _read(name, contract, contract.container, ["ids=ids"], "page = ")
        + f"\n    return {{{_text(f'{one}.id', key)}: {one} for {one} in page{contract.items}}}"
    )


def _pages(contract: Contract, each: Children) -> str:
    record = contract.record.name
    name = _pages_name(contract, each)
    return f"class {name}(Record):\n    items: list[{record}]\n    next_cursors: dict[str, str | None]"


def _pages_name(contract: Contract, each: Children) -> str:
    return f"{pascal(plural(snake(contract.record.name)))}Of{pascal(plural(each.parent))}"


def _by_parent(name: str, contract: Contract, each: Children) -> str:
    record, one = contract.record.name, _one(name, contract)
    keys, key = f"{each.parent}_ids", _text(f"{one}.{each.key.name}", each.key)
    given = [f"{_upstream(name)}: Upstream", f"{keys}: list[str]"]
    result = {"page": f"Page[{record}]", "list": f"list[{record}]", "one": record}[each.how]
    query = [f"{each.parameter}={keys}"]
    if each.how == "page":
        given += ["*", "limit: int", "cursor: str | None = None"]
        read = _read(name, contract, _pages_name(contract, each), [*query, "limit=limit", "cursor=cursor"], "found = ")
        lines = [
            f"pages = {{each: Page[{record}]([], found.next_cursors.get(each)) for each in {keys}}}",
            f"for {one} in found.items:",
            f"    if {key} in pages:",
            f"        pages[{key}].items.append({one})",
            "return pages",
        ]
    else:
        read = _read(name, contract, contract.container, query, "page = ")
        lines = _grouped(contract, each, one, key)
    head = f"async def {reads(contract)[each.parameter]}"
    sentence = f"The first `limit` {plural(snake(record))} of each {each.parent}.".replace("_", " ")
    what = f'\n    """{sentence}"""' if each.how == "page" else ""
    return (
        f'@batch("{name}")\n{spread(head, given, f" -> dict[str, {result}]:")}{what}\n'
        + _repeated(contract, each.parameter)
        + "\n".join([read, *(f"    {line}" for line in lines)])
    )


def _grouped(contract: Contract, each: Children, one: str, key: str) -> list[str]:
    all = f"page{contract.items}"
    guard = f" if {one}.{each.key.name} is not None" if each.key.nullable else ""
    if each.how == "one":
        return [f"return {{{key}: {one} for {one} in {all}{guard}}}"]
    put = f"found.setdefault({key}, []).append({one})"
    loop = [f"   {guard}:", f"        {put}"] if guard else [f"    {put}"]
    return [f"found: dict[str, list[{contract.record.name}]] = {{}}", f"for {one} in {all}:", *loop, "return found"]


def _list_call(name: str, contract: Contract) -> str:
    given = [f"{_upstream(name)}: Upstream", "limit: int", "cursor: str | None"]
    given += [f"{each.name}: {each.type} | None" for each in contract.filters]
    query = ["limit=limit", "cursor=cursor"]
    query += [
        f"{each.name}={each.name}.value if {each.name} else None" if each.is_enum else f"{each.name}={each.name}"
        for each in contract.filters
    ]
    return (
        f'@call("{name}")\n'
        + spread(f"async def {_listing(contract)}", given, f" -> {contract.container}:")
        + "\n"
        + _read(name, contract, contract.container, query, "return ")
    )


def _listing(contract: Contract) -> str:
    return f"list_{plural(snake(contract.record.name))}"


def _reads(contract: Contract) -> list[str]:
    return [f"{snake(contract.record.name)}_by_id", *([_listing(contract)] if contract.paged else [])]


def _shown(each: Field) -> str:
    """The field's type in GraphQL."""
    if re.fullmatch(r"id|\w+_id", each.name) and each.type == "str":
        return "strawberry.ID"
    if each.name.endswith("_ids") and each.type == "list[str]":
        return "list[strawberry.ID]"
    return re.sub(r"dict\[str, \w+\]|\bAny\b", "JSON", each.type)


def _exposed(each: Field) -> str:
    options = [f'name="{_camel(each.name)}"'] if each.name.endswith("_") else []
    options += [_SIZE] if _is_list(each) else []
    value = f" = strawberry.field({', '.join(options)})" if options else ""
    return f"{each.name}: {_optional(each, _shown(each))}{value}"


def _is_list(each: Field) -> bool:
    return _shown(each).startswith("list[")


def _camel(name: str) -> str:
    first, *rest = name.strip("_").split("_")
    return first + "".join(map(str.capitalize, rest))


def _type(record: Record, scopes: str = "") -> str:
    head = spread("@strawberry.type", [f"directives=[{scopes}]"], "") if scopes else "@strawberry.type"
    return f"{head}\nclass {record.name}:" + "".join(f"\n    {_exposed(each)}" for each in record.fields)


def _scopes(name: str, contract: Contract) -> str:
    """What a caller needs for the records; a guess where the document does not say."""
    lists = (", ".join(map(quoted, each)) for each in contract.scopes or [(f"{name}:read",)])
    return f"RequiresScopes(scopes=[{', '.join(f'[{each}]' for each in lists)}])"


def _entity(name: str, contract: Contract) -> str:
    record = contract.record
    options = [f'"{contract.prefix or snake(record.name)[:3]}"', f"read={snake(record.name)}_by_id"]
    options += [f"record=records.{record.name}"]
    if len(contract.scopes) > 1:
        options.append(f"directives=[{_scopes(name, contract)}]")
    else:
        needed = contract.scopes[0] if contract.scopes else (f"{name}:read",)
        options.append(f"scopes=[{', '.join(map(quoted, needed))}]")
    # Without an example of an id, the prefix is a guess, and a wrong one would only show in queries of `node`.
    why = (
        ""
        if contract.prefix
        else "# The ids have to begin with this prefix and an underscore: `node` finds them by it.\n"
    )
    fields = "".join(f"\n    {_exposed(each)}" for each in record.fields if each.name != "id")
    return f"{why}{spread('@entity', options, '')}\nclass {record.name}(Node):{fields or chr(10) + '    pass'}"


def _query(contract: Contract) -> str:
    record = contract.record.name
    one = variable(snake(record))
    root = (
        f"@strawberry.type\nclass Query:\n    @strawberry.field(graphql_type={record} | None)\n"
        + spread(
            f"async def {one}", ["self", "info: Info", "id: strawberry.ID"], f" -> records.{record} | None:", "    "
        )
        + f"\n        return await info.context.load({snake(record)}_by_id, id)"
    )
    if not contract.paged:
        return root
    given = ["self", "info: Info", "first: int = 20", "after: str | None = None"]
    given += [f"{each.name}: {each.type} | None = None" for each in contract.filters]
    asked = [_listing(contract), "page_size(first)", "after", *(each.name for each in contract.filters)]
    many = variable(plural(snake(record)))
    return (
        f"{root}\n\n    @strawberry.field(graphql_type=Connection[{record}])\n"
        + spread(f"async def {many}", given, f" -> Slice[records.{record}]:", "    ")
        + "\n"
        + spread("page = await info.context.call", asked, "", "        ")
        + "\n        return Slice(page, after)"
    )
