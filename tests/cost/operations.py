"""Operations over the world of the cost tests, drawn at random: aliases, fragments, pages, directives, variables."""

from __future__ import annotations

from random import Random
from typing import Any

FIELDS: dict[str, dict[str, str | None]] = {
    "Query": {
        "shop": "ShopType", "shops": "ShopTypeConnection", "people": "PersonType", "node": "Node", "nodes": "Node",
    },
    "Mutation": {"rename": "ShopType"},
    "ShopType": {
        "id": None, "tags": "TagType", "address": "AddressType", "owner": "PersonType", "deputy": "PersonType",
        "heir": "PersonType", "items": "ItemTypeConnection",
    },
    "ItemType": {"id": None, "stock": None, "stocks": None, "things": "Node"},
    "PersonType": {"id": None, "favourite": "ItemType", "own": "ItemType", "workplace": "ShopType"},
    "AddressType": {"region": "RegionType", "warden": "PersonType"},
    "RegionType": {"chief": "PersonType"},
    "TagType": {"name": None, "item": "ItemType"},
    "ShopTypeConnection": {"nodes": "ShopType", "edges": "ShopTypeEdge"},
    "ItemTypeConnection": {"nodes": "ItemType", "edges": "ItemTypeEdge"},
    "ShopTypeEdge": {"cursor": None, "node": "ShopType"},
    "ItemTypeEdge": {"cursor": None, "node": "ItemType"},
}  # fmt: skip
LEAST = {"ShopTypeConnection": "nodes", "ItemTypeConnection": "nodes", "Query": "shop", "Mutation": "rename"}
NODES = {"shp": "ShopType", "itm": "ItemType", "per": "PersonType"}


class Operation:
    """One operation, its text and variables.

    Args:
        random: what decides.
        exact: nothing in it that is only bounded from above: types that nobody knows, the same thing twice.
    """

    def __init__(self, random: Random, *, exact: bool) -> None:
        self._random = random
        self._exact = exact
        self._left = 22
        self._ids = 0
        self._fragments: list[str] = []
        self.variables: dict[str, Any] = {}
        self._declared: list[str] = []
        self._pages: dict[tuple[str, int, str], str] = {}
        root = "Mutation" if random.random() < 0.15 else "Query"
        body = self._selection(root, 0)
        head = f"({', '.join(self._declared)})" if self._declared else ""
        self.text = "\n".join([f"{root.lower()} Drawn{head} {body}", *self._fragments])

    def _selection(self, type_: str, depth: int) -> str:
        if type_ == "Node":
            return self._of_any(depth)
        names = list(FIELDS[type_])
        chosen = [name for name in names if self._random.random() < (0.75 if depth == 0 else 0.4)]
        if depth == 0 and not self._exact:
            chosen += [self._random.choice(names)]
        if self._exact:
            # Of each of these one: the others may come so close that they share a call although they need not.
            for alike in (("nodes", "edges"), ("shop", "node", "nodes")):
                several = [name for name in chosen if name in alike]
                chosen = [name for name in chosen if name not in several[1:]]
        parts = [part for n, name in enumerate(chosen) if (part := self._field(type_, name, depth, n))]
        body = " ".join(parts or [self._least(type_)])
        if self._random.random() < 0.15:
            name = f"F{len(self._fragments)}"
            self._fragments.append(f"fragment {name} on {type_} {{ {body} }}")
            return f"{{ ...{name} }}"
        return f"{{ {body} }}"

    def _least(self, type_: str) -> str:
        name = LEAST.get(type_)
        if name is None:
            return "__typename"
        return f'{name}(id: "{self._id("shp")}") {{ id }}' if type_ in ("Query", "Mutation") else f"{name} {{ id }}"

    def _of_any(self, depth: int) -> str:
        kinds = [kind for kind in NODES.values() if self._random.random() < 0.7] or ["ItemType"]
        return f"{{ id {' '.join(f'... on {kind} {self._selection(kind, depth + 1)}' for kind in kinds)} }}"

    def _field(self, type_: str, name: str, depth: int, n: int) -> str:
        gives = FIELDS[type_][name]
        if gives and (self._left <= 0 or depth > 7):
            return ""
        if self._exact and name in ("things", "heir", "own", "region"):
            return ""
        self._left -= 1
        alias = f"{name}{n}: " if depth == 0 or self._random.random() < 0.3 else ""
        wanted = (
            "" if self._random.random() < 0.9 else f" @{self._random.choice(('skip', 'include'))}(if: {self._flag()})"
        )
        below = f" {self._selection(gives, depth + 1)}" if gives else ""
        return f"{alias}{name}{self._arguments(type_, name)}{wanted}{below}"

    def _arguments(self, type_: str, name: str) -> str:
        if type_ not in ("Query", "Mutation", "ShopType"):
            return ""
        if name in ("shop", "rename", "node"):
            return (
                f"(id: {self._value('ID!', self._id('shp' if name != 'node' else self._random.choice(list(NODES))))})"
            )
        if name == "nodes":
            ids = [self._id(self._random.choice(list(NODES))) for _ in range(self._random.randint(0, 5))]
            return f"(ids: {self._value('[ID!]!', ids)})"
        if name not in ("shops", "items", "people"):
            return ""
        argument = "most" if name == "people" else "first"
        kind = ', kind: "a"' if name == "items" and self._random.random() < 0.3 else ""
        size = self._random.randint(0, 4) if kind or self._random.random() < 0.7 else None
        page = (name, 2 if size is None else size, kind)
        # The same pages, said in other words, share a call, although that is only bounded from above.
        if page not in self._pages or not self._exact:
            self._pages[page] = "" if size is None else f"({argument}: {self._value('Int!', size)}{kind})"
        return self._pages[page]

    def _id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}_{self._ids if self._exact else self._random.randrange(4)}"

    def _flag(self) -> str:
        return str(self._value("Boolean!", self._random.random() < 0.5))

    def _value(self, type_: str, value: Any) -> str:
        """As a literal, or by a variable."""
        if self._random.random() < 0.5:
            return (
                str(value).lower()
                if isinstance(value, bool)
                else str(value).replace("'", '"')
                if isinstance(value, list)
                else f'"{value}"'
                if isinstance(value, str)
                else str(value)
            )
        name = f"v{len(self._declared)}"
        self._declared.append(f"${name}: {type_}")
        self.variables[name] = value
        return f"${name}"
