"""`batched`: a resolver that is given all parents of a level at once and returns one result for each.

The engine calls it once for each node of the plan. Any other executor asks parent by parent, so the field has an
ordinary resolver too, under which parents that are asked about in the same tick share a call.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, NamedTuple, TypeAlias, TypedDict, TypeVar, Union, get_args, get_origin, overload

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission
from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import StrawberryResolver
from typing_extensions import Unpack

T = TypeVar("T")

Parents: TypeAlias = Sequence[T]
"""The source objects of one level of a query, such as records of a service."""

Resolver: TypeAlias = Callable[..., Awaitable[Sequence[Any]] | Sequence[Any]]

_LISTS = (list, Sequence, tuple)
_WRITTEN_LIST = re.compile(r"(?:[\w.]+\.)?(?:list|List|Sequence)\[(.*)\]\Z", re.DOTALL)


class FieldOptions(TypedDict, total=False):
    """The options of `strawberry.field` that make sense for a field with a resolver."""

    name: str | None
    description: str | None
    deprecation_reason: str | None
    directives: Sequence[object]
    metadata: Mapping[Any, Any] | None
    graphql_type: Any
    permission_classes: list[type[BasePermission]]
    extensions: list[FieldExtension]


@overload
def batched(resolve: Resolver, /) -> StrawberryField: ...
@overload
def batched(**options: Unpack[FieldOptions]) -> Callable[[Resolver], StrawberryField]: ...
def batched(
    resolve: Resolver | None = None, /, **options: Unpack[FieldOptions]
) -> StrawberryField | Callable[[Resolver], StrawberryField]:
    """A field resolved for all parents of its level together.

        @batched(graphql_type=Payment | None)
        async def payment(parents: Parents[orders.Order], info: Info) -> list[payments.Payment | None]:
            found = await payments_by_order([order.id for order in parents])
            return [found.get(order.id) for order in parents]

    The function takes the parents first, then, each if it wants it, the `Info` and the arguments of the field. It
    returns one result for each parent, in their order; a result that is an exception is that parent's error alone.
    What it raises is the error of all of them, and so is a list of another length. It may be `async` or not.

    `info.path` is that of the first parent: it says nothing about the others.

    Args:
        resolve: the function, where `batched` is used without parentheses.
        options: those of `strawberry.field`. Without `graphql_type`, the field has the type of one element of the list
            that the function is annotated to return. Permissions and field extensions work, but parent by parent.

    Raises:
        TypeError: the function has no parameter for the parents, or says nothing about the type of the field.
    """
    if resolve is None:
        return lambda resolve: _field(resolve, options)
    return _field(resolve, options)


class BatchedResolver(NamedTuple):
    """The function behind a `batched` field, and what it calls its `Info` if it wants it."""

    function: Resolver
    info_name: str | None


def batched_resolver(field: StrawberryField) -> BatchedResolver | None:
    """What is behind a `batched` field; None for other fields."""
    resolver = field.base_resolver
    return getattr(resolver.wrapped_func, "__batched__", None) if resolver else None


def checked_results(results: object, count: int, name: str) -> list[Any]:
    """The results, if there is one for each of `count` parents.

    Raises:
        Exception: it is what the resolver ended with instead.
        TypeError: the resolver `name` returned something else.
    """
    if isinstance(results, list):
        column = results
    elif isinstance(results, Exception):
        raise results
    elif isinstance(results, Iterable) and not isinstance(results, str | bytes | Mapping):
        column = list(results)
    else:
        raise TypeError(f"The batched resolver of {name} must return a list, not {type(results).__name__}")
    if len(column) != count:
        raise TypeError(f"The batched resolver of {name} returned {len(column)} results for {count} parents")
    return column


def _field(resolve: Resolver, options: FieldOptions) -> StrawberryField:
    signature = inspect.signature(resolve)
    name = getattr(resolve, "__qualname__", repr(resolve))
    if not signature.parameters:
        raise TypeError(f"{name}: a batched resolver takes the parents as its first parameter")
    given = StrawberryResolver(resolve).info_parameter
    info = given or inspect.Parameter("info", inspect.Parameter.KEYWORD_ONLY, annotation=strawberry.Info)
    alone = _one_by_one(resolve, name, info.name, wants_info=given is not None)
    _, *others = signature.parameters.values()
    parameters = [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in others),
        *([] if given else [info]),
    ]
    result = Any if options.get("graphql_type") else _element(signature.return_annotation, name)
    alone.__signature__ = signature.replace(parameters=parameters, return_annotation=result)  # type: ignore[attr-defined]
    alone.__batched__ = BatchedResolver(resolve, given.name if given else None)  # type: ignore[attr-defined]
    alone.__module__, alone.__name__, alone.__doc__ = resolve.__module__, resolve.__name__, resolve.__doc__
    alone.__qualname__ = name
    alone.__annotations__ = {each.name: each.annotation for each in parameters[1:]} | {"return": result}
    field: StrawberryField = strawberry.field(resolver=alone, **options)
    return field


def _element(returned: Any, name: str) -> Any:
    """What each result is, as the return annotation has it. Errors among the results are no part of the schema."""
    if isinstance(returned, str) and (written := _WRITTEN_LIST.match(returned.strip())):
        return written[1]
    if get_origin(returned) in _LISTS and get_args(returned):
        element = get_args(returned)[0]
        if get_origin(element) not in (Union, UnionType):
            return element
        kept = [each for each in get_args(element) if not (isinstance(each, type) and issubclass(each, BaseException))]
        return Union[tuple(kept)]  # noqa: UP007 - its members are known at run time only
    raise TypeError(f"{name}: annotate what it returns as a list, or say `graphql_type=...`")


def _one_by_one(resolve: Resolver, name: str, info_name: str, *, wants_info: bool) -> Callable[..., Any]:
    """The same resolver, for executors that ask for one parent at a time."""
    levels: dict[Any, _Level] = {}

    def call(parents: list[Any], arguments: dict[str, Any]) -> Any:
        if not wants_info:
            del arguments[info_name]
        return resolve(parents, **arguments)

    def resolve_now(self: Any, **arguments: Any) -> Any:
        (result,) = checked_results(call([self], arguments), 1, name)
        if isinstance(result, BaseException):
            raise result
        return result

    async def resolve_soon(self: Any, **arguments: Any) -> Any:
        raw = arguments[info_name]._raw_info  # noqa: SLF001 - strawberry keeps what identifies the execution there
        # The helpers belong to one execution alone; the names of the path, without the indices, are a node of its plan.
        key = raw.async_helpers, tuple(step for step in raw.path.as_list() if isinstance(step, str))
        level = levels.get(key)
        if level is None:

            async def resolve_all(parents: list[Any]) -> list[Any]:
                levels.pop(key)
                return checked_results(await call(parents, arguments), len(parents), name)

            level = levels[key] = _Level(resolve_all)
        return await level.result(self)

    return resolve_soon if inspect.iscoroutinefunction(resolve) else resolve_now


class _Level:
    """The parents that asked in one tick, and who waits for them."""

    def __init__(self, resolve: Callable[[list[Any]], Coroutine[Any, Any, list[Any]]]) -> None:
        self._parents: list[Any] = []
        self._waiting: list[asyncio.Future[Any]] = []
        self._task = asyncio.ensure_future(self._run(resolve))

    async def result(self, parent: Any) -> Any:
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._parents.append(parent)
        self._waiting.append(waiter)
        try:
            return await waiter
        finally:
            if all(each.cancelled() for each in self._waiting):
                self._task.cancel()

    async def _run(self, resolve: Callable[[list[Any]], Coroutine[Any, Any, list[Any]]]) -> None:
        try:
            results = await resolve(self._parents)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result of everybody who waits
            results = [error] * len(self._parents)
        for waiter, result in zip(self._waiting, results, strict=True):
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)
