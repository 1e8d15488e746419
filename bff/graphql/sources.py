"""Which reads and calls a resolver makes, found in its code: a declaration that nobody has to write cannot be wrong.

Looked for are the batched reads and calls that the code names, and those in the functions that it names. What cannot
be seen there is said by `reads`; what is neither seen nor said is noticed when it is made (see `bff.graphql.cost`).
"""

from __future__ import annotations

import dis
import inspect
import sys
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

from strawberry.types.field import StrawberryField

from bff.engine import batched_resolver
from bff.upstream.batch import Batch, Call

Source: TypeAlias = Batch[Any, Any] | Call[Any, Any]

READS: Final = "bff.reads"
_MOST_CODE: Final = 200
"""Functions that are looked into for one resolver."""
_OTHERS: Final = sys.stdlib_module_names | {"bff", "strawberry"}
_SCHEDULERS: Final = frozenset({"_asyncio", "anyio", "asyncio"})


class Use(NamedTuple):
    """A read or call in a resolver.

    Attributes:
        source: what is read or called.
        keys: of a read, for each parent; of a call, how often for each parent.
        one_by_one: it is made parent by parent, each time alone.
    """

    source: Source
    keys: int = 1
    one_by_one: bool = False


@dataclass(frozen=True)
class Sources:
    """What a field's resolver reads and calls.

    Attributes:
        uses: each of them.
        is_attribute: there is no resolver; the value is an attribute of the parent.
        is_declared: the module says so itself.
        is_batched: the resolver is given all parents of a level.
        is_late: its value is not there at once.
        by_arguments: a read is narrowed by `where`, so that other arguments of the field make another read.
        is_prompt: it asks as soon as it is called, once, and is done when it is answered.
    """

    uses: tuple[Use, ...] = ()
    is_attribute: bool = False
    is_declared: bool = False
    is_batched: bool = False
    is_late: bool = False
    by_arguments: bool = False
    is_prompt: bool = False


NO_SOURCES: Final = Sources(is_attribute=True)


def reads(*sources: Source, keys: int = 1) -> dict[Any, Any]:
    """`metadata=reads(product_by_id)` on a field: what its resolver reads and calls, where its code does not show it.

        @batched(graphql_type=list[Product], metadata=reads(product_by_id, keys=20))

    Without it, these are the reads and calls that stand in the resolver, and in the functions that it uses, by their
    names, with one key for each parent. What a resolver does beyond that is logged, and counted in
    `graphql_undeclared_calls_total`. `reads()` says that there are none.

    Args:
        sources: batched reads, as `@batch` makes them, and calls, as `@call` makes them.
        keys: that are read for each parent; of a call, how often it is made for each parent.
    """
    return {READS: True} | {(READS, each): Use(each, keys) for each in sources}


def sources_of(definition: StrawberryField) -> Sources:
    """What is known of a field's resolver; nothing is read by a field without one."""
    resolver = definition.base_resolver
    if resolver is None:
        return NO_SOURCES
    batch = batched_resolver(definition)
    function = batch.function if batch else resolver.wrapped_func
    is_late = inspect.iscoroutinefunction(function)
    code = _Code(function)
    said = tuple(use for key, use in definition.metadata.items() if isinstance(key, tuple) and key[0] == READS)
    if READS in definition.metadata:
        return Sources(
            said, is_declared=True, is_batched=batch is not None, is_late=is_late or bool(said), by_arguments=True
        )
    uses = tuple(code.uses)
    return Sources(
        uses,
        is_batched=batch is not None,
        is_late=is_late or bool(uses),
        by_arguments=code.has_where,
        is_prompt=len(uses) == 1 and code.is_straight and not uses[0].one_by_one,
    )


class _Code:
    """What one function's code names, and that of the functions among it."""

    def __init__(self, function: Any) -> None:
        self.uses: list[Use] = []
        self.has_where = False
        self.is_straight = True
        self._seen: set[CodeType] = set()
        pending = [function]
        while pending and len(self._seen) < _MOST_CODE:
            each = inspect.unwrap(pending.pop())
            if isinstance(each, FunctionType) and each.__code__ not in self._seen:
                pending += self._look(each.__code__, each)

    def _look(self, code: CodeType, function: FunctionType) -> list[FunctionType]:
        self._seen.add(code)
        instructions = list(dis.get_instructions(code))
        self.is_straight = self.is_straight and sum(each.opname == "GET_AWAITABLE" for each in instructions) <= 1
        loops = [range(each.argval, each.offset) for each in instructions if each.opname == "JUMP_BACKWARD"]
        functions: list[FunctionType] = []
        module: Any = None
        for each in instructions:
            value = _loaded(each, function, module)
            if isinstance(value, Batch | Call):
                self.uses.append(Use(value, one_by_one=any(each.offset in loop for loop in loops)))
            elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] not in _OTHERS:
                functions.append(value)
            module = value if isinstance(value, ModuleType) else None
            # What is not awaited where it is asked for is asked for, or answered, some ticks later.
            if str(getattr(value, "__module__", getattr(value, "__name__", ""))).partition(".")[0] in _SCHEDULERS:
                self.is_straight = False
            self.has_where = self.has_where or each.argval == "where"
        for constant in code.co_consts:
            if isinstance(constant, CodeType) and constant not in self._seen:
                functions += self._look(constant, function)
        return functions


def _loaded(each: dis.Instruction, function: FunctionType, module: ModuleType | None) -> Any:
    """What an instruction puts on the stack, where that is a thing with a name."""
    if each.opname == "LOAD_GLOBAL":
        return function.__globals__.get(each.argval)
    if each.opname == "LOAD_DEREF":
        return _closed_over(function, each.argval)
    return getattr(module, each.argval, None) if module and each.opname in ("LOAD_ATTR", "LOAD_METHOD") else None


def _closed_over(function: FunctionType, name: str) -> Any:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    try:
        return cells[name].cell_contents
    except (KeyError, ValueError):  # a variable of its own, or one that has no value yet
        return None
