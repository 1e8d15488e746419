"""Lines of Python as the formatter would leave them."""

from __future__ import annotations

import re
from collections.abc import Iterable

WIDTH = 120


def imports(names: Iterable[tuple[str, str]]) -> str:
    """`from module import name` for each pair, merged and sorted."""
    by_module: dict[str, set[str]] = {}
    for module, name in names:
        by_module.setdefault(module, set()).add(name)
    return "\n".join(line for module in sorted(by_module) for line in _import(module, by_module[module]))


def _import(module: str, names: Iterable[str]) -> list[str]:
    # `a as b` has a line of its own.
    renamed = [f"from {module} import {name}" for name in sorted(names) if " as " in name]
    ordered = sorted((name for name in names if " as " not in name), key=_import_order)
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) > WIDTH:
        line = f"from {module} import (\n" + "".join(f"    {each},\n" for each in ordered) + ")"
    both = [*([line] if ordered else []), *renamed]
    return sorted(both, key=lambda each: each.partition(" import ")[2])


def _import_order(name: str) -> tuple[int, str]:
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
    return kind, name.lower()


def spread(head: str, arguments: list[str], tail: str, indent: str = "", width: int = WIDTH) -> str:
    """`head(arguments)tail` on one line, or on three, or with a line for each argument: whatever fits first."""
    line = f"{indent}{head}({', '.join(arguments)}){tail}"
    if len(line) <= width:
        return line
    inner = f"{indent}    {', '.join(arguments)}"
    if len(inner) > width:
        inner = "\n".join(f"{indent}    {each}," for each in arguments)
    return f"{indent}{head}(\n{inner}\n{indent}){tail}"


def words_of(types: Iterable[str]) -> set[str]:
    """The names in annotations."""
    return set(re.findall(r"\w+", " ".join(types)))
