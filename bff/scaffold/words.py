"""Names: from what a contract calls things to what Python, and the modules beside it, call them."""

from __future__ import annotations

import keyword
import re

# Annotations are read inside of the class: a field of such a name would hide the type that the next field needs.
_TYPES = frozenset({"Any", "bool", "date", "datetime", "dict", "field", "float", "int", "list", "str", "strawberry"})
# What the generated modules import or define themselves, and what GraphQL and strawberry name already.
# fmt: off
_CLASSES = frozenset({
    "Any", "Boolean", "Column", "Connection", "Date", "DateTime", "Decimal", "Edge", "Enum", "Float",
    "ID", "Info", "Int", "JSON", "Money", "Mutation", "Node", "None", "False", "True",
    "Page", "PageInfo", "Parents", "Query", "Record", "Slice", "String", "Subscription", "Time", "UUID",
    "Upstream", "Void",
})
# fmt: on
_MAX = 60


def snake(text: str) -> str:
    """`createdAt`, `created-at` and `CreatedAt` as `created_at`."""
    text = re.sub(r"([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])", r"\1\3_\2", text)
    text = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:_MAX].strip("_")
    return text if text[:1].isalpha() else f"n{text}"


def variable(text: str) -> str:
    """The same, as a name that is free for a field or a variable."""
    name = snake(text)
    return f"{name}_" if keyword.iskeyword(name) or name in _TYPES else name


def pascal(text: str) -> str:
    """`order-item` as `OrderItem`, a name that is free for a class."""
    name = "".join(part[:1].upper() + part[1:] for part in snake(text).split("_"))
    return f"{name}Record" if name in _CLASSES else name


def constant(text: str) -> str:
    """`in-stock` as `IN_STOCK`, for the member of an enum."""
    return snake(text).upper()


def singular(plural: str) -> str:
    """Of a service's name; one that is not in the plural stays as it is."""
    for ending, one in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if plural.endswith(ending):
            return plural.removesuffix(ending) + one
    return plural if plural.endswith(("ss", "us", "is")) else plural.removesuffix("s")


def plural(one: str) -> str:
    """Of a record's name, as services are called."""
    if re.search(r"[^aeiou]y$", one):
        return f"{one[:-1]}ies"
    return f"{one}es" if one.endswith(("s", "x", "ch", "sh")) else f"{one}s"


def quoted(text: str) -> str:
    """A Python string, in double quotes where that needs no more escapes, of ASCII alone."""
    literal = ascii(text)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in text else literal


def sentence(text: str) -> str:
    """A line for a docstring, of nothing that could end it."""
    plain = re.sub(r"[^A-Za-z0-9 ,()/-]+", " ", text)
    return re.sub(r"\s+", " ", plain).strip()[:80].strip()
