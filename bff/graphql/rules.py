"""Rules over documents: how large one is, found in a single walk over it, and judged before it is validated.

Validation and execution follow fragments, so their work can double with every line of a document. Here each definition
is walked once, and what a fragment stands for is added up once, after the fragments that it spreads itself: the work
is linear in the document, whatever it says. Nothing here is recursive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from types import NoneType
from typing import Any, Final, NamedTuple

from graphql import (
    ConstDirectiveNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
)

from bff.core.errors import Code
from bff.graphql import DocumentLimits

SIZES: Final = frozenset({"first", "last"})
"""Arguments and input fields that say how long a list may get (the cursor connections specification)."""

# These hold in every mode: a document past them would be a danger to all, not only expensive.
DEEPEST: Final = 100  # an answer of twice that many levels can still be written as JSON
WIDEST: Final = 50_000  # no document of 64 KB has more without spreading a fragment again and again
INTROSPECTION_LISTS: Final = 2  # the tools' own introspection queries have one inside another at most

_TYPE_LISTS: Final = frozenset({"fields", "interfaces", "possibleTypes", "inputFields"})
_INTROSPECTION: Final = frozenset({"__schema", "__type"})
_LONG: Final = 10**9
_DIGITS: Final = 9


class Broken(NamedTuple):
    """A rule that a document breaks; `always`: no mode lets it pass."""

    rule: str
    code: Code
    detail: str
    always: bool = False


class _At(NamedTuple):
    """A place in a definition: how many fields, introspection's lists, and whether introspection, are above it."""

    level: int = 0
    lists: int = 0
    introspection: bool = False


@dataclass(slots=True)
class Extent:
    """How much a definition says, fragments written out where they are spread; of a document, the most of an operation.

    Attributes:
        selections: fields, spreads and inline fragments.
        nesting: levels of fields.
        depth: levels of fields outside introspection; levels of an argument's value, if those are more.
        aliases: fields with an alias, and fields that are in their selection set already.
        root_fields: fields at the top.
        directives: uses of directives.
        list_size: the longest list that is given.
        page_size: the longest page that is asked for.
        lists: introspection's lists inside one another, if what is above were introspection.
        introspection_lists: the same for what is.
        introspects: whether `__schema` or `__type` is among the fields.
    """

    selections: int = 0
    nesting: int = 0
    depth: int = 0
    aliases: int = 0
    root_fields: int = 0
    directives: int = 0
    list_size: int = 0
    page_size: int = 0
    lists: int = 0
    introspection_lists: int = 0
    introspects: bool = False

    def add(self, part: Extent, at: _At) -> None:
        """A fragment is spread at that place."""
        self.selections = _sum(self.selections, part.selections)
        self.aliases = _sum(self.aliases, part.aliases)
        self.directives = _sum(self.directives, part.directives)
        self.nesting = max(self.nesting, at.level + part.nesting)
        self.introspects = self.introspects or part.introspects
        if at.level == 0:
            self.root_fields = _sum(self.root_fields, part.root_fields)
        if at.introspection:
            self.introspection_lists = max(self.introspection_lists, at.lists + part.lists)
        else:
            self.depth = max(self.depth, at.level + part.depth)
            self.lists = max(self.lists, at.lists + part.lists)
            self.introspection_lists = max(self.introspection_lists, part.introspection_lists)

    def widen(self, other: Extent) -> None:
        """Be as large as the other is, wherever it is larger; what they say is to be worked through both."""
        selections = _sum(self.selections, other.selections)
        for name in self.__slots__:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.selections = selections


@dataclass(frozen=True)
class Survey:
    """What the rules need to know of a document.

    Attributes:
        extent: how large its operations are.
        cycle: names of fragments that spread each other in a circle; empty if there are none, as there should be.
        sizes: variables that say how long a list may get.
    """

    extent: Extent
    cycle: tuple[str, ...] = ()
    sizes: frozenset[str] = frozenset()


def survey(document: DocumentNode) -> Survey:
    """How large a document is; of one with a cycle of fragments only the cycle is known."""
    operations = [_Walk(each) for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    fragments = {
        each.name.value: _Walk(each) for each in document.definitions if isinstance(each, FragmentDefinitionNode)
    }
    spread = {name: {each for each, _ in walk.spreads if each in fragments} for name, walk in fragments.items()}
    try:
        order = list(TopologicalSorter(spread).static_order())
    except CycleError as error:
        return Survey(Extent(), cycle=tuple(error.args[1]))
    parts: dict[str, Extent] = {}
    for name in order:
        parts[name] = fragments[name].written_out(parts)
    whole = Extent()
    for operation in operations:
        whole.widen(operation.written_out(parts))
    # A fragment that nothing spreads is refused by validation, which would have worked through it by then.
    for part in parts.values():
        whole.selections, whole.nesting = max(whole.selections, part.selections), max(whole.nesting, part.nesting)
    walks = [*operations, *fragments.values()]
    sizes = frozenset(name for walk in walks for name in walk.sizes)
    defaults = (size for walk in operations for name, size in walk.defaults if name in sizes)
    whole.list_size = max(whole.list_size, *(walk.extent.list_size for walk in walks), 0)
    whole.page_size = max(whole.page_size, *(walk.extent.page_size for walk in walks), *defaults, 0)
    return Survey(whole, sizes=sizes)


class _Walk:
    """One definition, walked once: its own extent, and where it spreads which fragments."""

    def __init__(self, definition: OperationDefinitionNode | FragmentDefinitionNode) -> None:
        self.extent = Extent()
        self.spreads: list[tuple[str, _At]] = []
        self.sizes: set[str] = set()
        self.defaults: list[tuple[str, int]] = []
        self._directives(definition.directives)
        for variable in definition.variable_definitions or ():
            self._directives(variable.directives)
            if variable.default_value:
                self._value("", variable.default_value)
                if isinstance(variable.default_value, IntValueNode):
                    self.defaults.append((variable.variable.name.value, _number(variable.default_value)))
        pending = [(definition.selection_set, _At())]
        while pending:
            selections, at = pending.pop()
            pending += self._selections(selections, at)

    def written_out(self, parts: dict[str, Extent]) -> Extent:
        """The extent with its fragments; fragments that there are not are left to validation."""
        for name, at in self.spreads:
            if name in parts:
                self.extent.add(parts[name], at)
        return self.extent

    def _selections(self, selections: SelectionSetNode, at: _At) -> Iterator[tuple[SelectionSetNode, _At]]:
        names: set[str] = set()
        for selection in selections.selections:
            self.extent.selections += 1
            self._directives(selection.directives)
            if isinstance(selection, FragmentSpreadNode):
                self.spreads.append((selection.name.value, at))
                continue
            inside = self._field(selection, at, names) if isinstance(selection, FieldNode) else at
            nested: SelectionSetNode | None = selection.selection_set  # type: ignore[attr-defined]
            if nested:
                yield nested, inside

    def _field(self, node: FieldNode, at: _At, names: set[str]) -> _At:
        """Count a field, and give the place that its own selections are at."""
        extent, name = self.extent, node.name.value
        shown = node.alias.value if node.alias else name
        # Without the repeated ones, a thousand times the same field would be nothing: validation compares them all.
        extent.aliases += node.alias is not None or shown in names
        names.add(shown)
        extent.root_fields += at.level == 0
        for argument in node.arguments or ():
            self._value(argument.name.value, argument.value)
        lists = at.lists + (name in _TYPE_LISTS)
        at = _At(at.level + 1, lists, at.introspection or name in _INTROSPECTION)
        extent.nesting = max(extent.nesting, at.level)
        if at.introspection:
            extent.introspects = True
            extent.introspection_lists = max(extent.introspection_lists, lists)
        else:
            extent.depth = max(extent.depth, at.level)
            extent.lists = max(extent.lists, lists)
        return at

    def _directives(self, directives: Iterable[DirectiveNode | ConstDirectiveNode] | None) -> None:
        for directive in directives or ():
            self.extent.directives += 1
            for argument in directive.arguments or ():
                self._value(argument.name.value, argument.value)

    def _value(self, name: str, value: ValueNode) -> None:
        extent, pending = self.extent, [(name, value, 1)]
        while pending:
            name, value, level = pending.pop()
            if isinstance(value, ListValueNode):
                extent.list_size = max(extent.list_size, len(value.values))
                extent.depth = max(extent.depth, level)
                pending += [("", each, level + 1) for each in value.values]
            elif isinstance(value, ObjectValueNode):
                extent.depth = max(extent.depth, level)
                pending += [(each.name.value, each.value, level + 1) for each in value.fields]
            elif name in SIZES and isinstance(value, IntValueNode):
                extent.page_size = max(extent.page_size, _number(value))
            elif name in SIZES and isinstance(value, VariableNode):
                self.sizes.add(value.name.value)


def _number(node: IntValueNode) -> int:
    """Its value, or one that is large enough: Python refuses to read very long ones."""
    return int(node.value) if len(node.value) <= _DIGITS else _LONG


def dangerous(found: Survey) -> Broken | None:
    """What no mode lets pass."""
    extent = found.extent
    if found.cycle:
        circle = " -> ".join(found.cycle)
        return Broken(
            "cycle", Code.GRAPHQL_VALIDATION_FAILED, f"Fragments spread each other in a circle: {_short(circle)}"
        )
    if extent.nesting > DEEPEST or extent.depth > DEEPEST:
        return too_deep(max(extent.nesting, extent.depth), DEEPEST)
    if extent.selections > WIDEST:
        return _too_wide(extent.selections, WIDEST)
    if extent.introspection_lists > INTROSPECTION_LISTS:
        detail = (
            f"Introspection asks for lists inside lists, {extent.introspection_lists} levels of them; "
            f"{INTROSPECTION_LISTS} are allowed"
        )
        return Broken("depth", Code.MAX_DEPTH_LIMIT, detail)
    return None


def broken(found: Survey, limits: DocumentLimits) -> Iterator[Broken]:
    """The rules of the configuration that a document breaks, but for its own tokens, which the parser counts."""
    extent = found.extent
    if extent.selections > limits.tokens:
        yield _too_wide(extent.selections, limits.tokens)
    if extent.depth > limits.depth:
        yield too_deep(extent.depth, limits.depth)
    if extent.aliases > limits.aliases:
        detail = f"The operation has {_said(extent.aliases)} aliases and repeated fields; {limits.aliases} are allowed"
        yield Broken("aliases", Code.MAX_ALIASES_LIMIT, detail)
    if extent.root_fields > limits.root_fields:
        detail = f"The operation has {_said(extent.root_fields)} fields at its root; {limits.root_fields} are allowed"
        yield Broken("root_fields", Code.MAX_ROOT_FIELDS_LIMIT, detail)
    if extent.directives > limits.directives:
        detail = f"The operation has {_said(extent.directives)} directives; {limits.directives} are allowed"
        yield Broken("directives", Code.MAX_DIRECTIVES_LIMIT, detail)
    if extent.list_size > limits.list_size:
        yield _too_long(extent.list_size, limits.list_size)
    if extent.page_size > limits.list_size:
        yield _too_large(extent.page_size, limits.list_size)


_PLAIN = frozenset({str, bool, NoneType})
"""What is neither a size nor a level."""


def broken_by(variables: dict[str, Any], found: Survey, limits: DocumentLimits) -> Iterator[Broken]:
    """The rules that the values of variables break: how long their lists are, and how deep they are nested."""
    if _PLAIN.issuperset(map(type, variables.values())):
        return
    longest, largest, deepest = 0, 0, 0
    pending: list[tuple[Any, int, Callable[[str], bool]]] = [(variables, 0, found.sizes.__contains__)]
    while pending:
        value, level, says_size = pending.pop()
        deepest = max(deepest, level)
        if isinstance(value, dict):
            for name, each in value.items():
                if isinstance(each, dict | list):
                    pending.append((each, level + 1, SIZES.__contains__))
                elif isinstance(each, int | float) and says_size(name):
                    largest = max(largest, int(min(each, _LONG)))
        else:
            longest = max(longest, len(value))
            pending += [(each, level + 1, SIZES.__contains__) for each in value if isinstance(each, dict | list)]
    if deepest > min(limits.depth, DEEPEST):
        yield too_deep(deepest, min(limits.depth, DEEPEST))._replace(always=deepest > DEEPEST)
    if longest > limits.list_size:
        yield _too_long(longest, limits.list_size)
    if largest > limits.list_size:
        yield _too_large(largest, limits.list_size)


def too_many_tokens(limit: int) -> Broken:
    return Broken("tokens", Code.MAX_TOKENS_LIMIT, f"The document has more than the {limit} tokens that are allowed")


def too_deep(found: int | None, limit: int) -> Broken:
    levels = "too many" if found is None else str(found)
    return Broken("depth", Code.MAX_DEPTH_LIMIT, f"The operation is nested {levels} levels deep; {limit} are allowed")


def _too_wide(found: int, limit: int) -> Broken:
    detail = f"The operations have {_said(found)} selections with their fragments written out; {limit} are allowed"
    return Broken("tokens", Code.MAX_TOKENS_LIMIT, detail)


def _too_long(found: int, limit: int) -> Broken:
    detail = f"A list of {_said(found)} values is given; {limit} are allowed"
    return Broken("list_size", Code.MAX_LIST_SIZE_LIMIT, detail)


def _too_large(found: int, limit: int) -> Broken:
    # The code that a page size below 1 has as well, which only the field itself finds out.
    detail = f"A page of {_said(found)} items is asked for; {limit} are allowed"
    return Broken("list_size", Code.BAD_USER_INPUT, detail)


def _sum(one: int, other: int) -> int:
    """Fragments can make it longer than the document itself: from here on nobody asks how long."""
    return min(one + other, _LONG)


def _said(number: int) -> str:
    return str(number) if number < _LONG else f"{_LONG} or more"


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
