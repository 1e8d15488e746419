"""How the values of one field are got for all objects of a level.

Strawberry's fields are resolved without the wrappers that strawberry puts round every call, as long as these would do
nothing. Everything else is called as graphql-core calls it: object by object, with an `info`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphql import get_named_type, is_input_object_type
from strawberry.relay import GlobalID
from strawberry.types.arguments import convert_arguments
from strawberry.types.base import StrawberryMaybe
from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import StrawberryResolver

from bff.engine import kernels
from bff.engine.arguments import Arguments, shareable
from bff.engine.authoring import BatchedResolver, batched_resolver, checked_results
from bff.engine.checks import CHECK, Check, each_checked
from bff.engine.pending import Pending
from bff.engine.places import Place
from bff.engine.run import GUARD, Guard, LateInfo, Run

if TYPE_CHECKING:
    from bff.engine.plan import Field

Resolve: TypeAlias = Callable[[Run, list[Any], Place], list[Any] | Pending[list[Any]]]
"""The values of a field for these objects; an exception among them is that object's error. It never raises one."""


Infos: TypeAlias = Callable[[Run, Place, int], Any]
"""Makes strawberry's `Info` for a row of a column."""


def resolver_of(run: Run, field: Field) -> Resolve:
    """The cheapest right way to the values of a field, behind its guard if it has one."""
    resolve = _unguarded(run, field)
    guard: Guard | None = field.definition.extensions.get(GUARD)
    return _guarded(field, guard, resolve) if guard else resolve


def reader_of(run: Run, field: Field) -> Callable[[list[Any]], list[Any]] | None:
    """Reads the values of all objects, where they are attributes and nobody is to be asked first; otherwise None."""
    if GUARD in field.definition.extensions:
        return None
    check: Check | None = field.definition.extensions.get(CHECK)
    if field.name == "__typename":
        return lambda objects: [field.parent_type.name] * len(objects)
    definition = _bare(run, field)
    if definition is None or definition.base_resolver is not None or definition.default_resolver is not getattr:
        return None
    read = kernels.attributes(definition.python_name)
    return (lambda objects: check(read(objects), {})) if check else read


def _guarded(field: Field, guard: Guard, resolve: Resolve) -> Resolve:
    def resolve_if_allowed(run: Run, objects: list[Any], place: Place) -> list[Any] | Pending[list[Any]]:
        refusal = run.refusal(field, guard, place)
        return resolve(run, objects, place) if refusal is None else [refusal] * len(objects)

    return resolve_if_allowed


def _unguarded(run: Run, field: Field) -> Resolve:
    if field.name == "__typename":
        return _type_name(field.parent_type.name)
    definition = _bare(run, field)
    if definition is None:
        return _as_graphql_core(field)
    check: Check | None = field.definition.extensions.get(CHECK)
    schema = run.schema._strawberry_schema  # type: ignore[attr-defined]  # noqa: SLF001
    if definition.base_resolver is None:
        return _attributes(definition, check)
    resolver = definition.base_resolver
    infos = _infos(field, definition, schema)
    names = _plain_names(definition, schema)
    arguments = Arguments(field.definition, field.nodes[0], names, _converter(field, definition, schema))
    batch = batched_resolver(definition)
    if batch is not None:
        return _batched(field, batch, arguments, infos, check)
    return _object_by_object(resolver, arguments, infos, check)


def _bare(run: Run, field: Field) -> StrawberryField | None:
    """Strawberry's field, if its wrappers only call its resolver, and nobody has put others round them."""
    definition = field.definition.extensions.get("strawberry-definition")
    schema = vars(run.schema).get("_strawberry_schema")
    if schema is None or not isinstance(definition, StrawberryField):
        return None
    resolve = field.definition.resolve
    is_bare = (
        getattr(resolve, "__module__", None) == "strawberry.schema.schema_converter"
        and getattr(resolve, "__qualname__", "").startswith("GraphQLCoreConverter.from_resolver.")
        and not definition.extensions
        and not schema.schema_converter.exception_handlers
        and not definition.is_subscription
        and type(definition).get_result is StrawberryField.get_result
        and type(definition.base_resolver) in (StrawberryResolver, type(None))
    )
    return definition if is_bare else None


def _type_name(name: str) -> Resolve:
    return lambda _run, objects, _place: [name] * len(objects)


def _attributes(definition: StrawberryField, check: Check | None) -> Resolve:
    name, read = definition.python_name, definition.default_resolver
    read_all = kernels.attributes(name) if read is getattr else None

    def read_one(source: Any) -> Any:
        try:
            return read(source, name)
        except Exception as error:  # noqa: BLE001 - the error of this object alone
            return error

    def resolve(_run: Run, objects: list[Any], _place: Place) -> list[Any]:
        if read_all is not None:
            try:
                return read_all(objects)
            except Exception:  # noqa: BLE001, S110 - some object has no such attribute: find out which
                pass
        return [read_one(each) for each in objects]

    if check is None:
        return resolve
    return lambda run, objects, place: check(resolve(run, objects, place), {})


def _batched(field: Field, batch: BatchedResolver, arguments: Arguments, infos: Infos, check: Check | None) -> Resolve:
    function, info_name = batch
    is_async = inspect.iscoroutinefunction(function)

    def resolve(run: Run, objects: list[Any], place: Place) -> list[Any] | Pending[list[Any]]:
        def column(results: Any) -> list[Any]:
            try:
                values = checked_results(results, len(objects), field.full_name)
            except Exception as error:  # noqa: BLE001 - the error of all of them
                return [error] * len(objects)
            return check(values, given) if check else values

        try:
            given = arguments.values(run, place)
            passed = {**given, info_name: infos(run, place, 0)} if info_name else given
            # A list of their own, because sorting it must not shift the results of other fields.
            results: Any = function(objects.copy(), **passed)
        except Exception as error:  # noqa: BLE001 - the error of all of them
            return [error] * len(objects)
        if is_async or run.is_awaitable(results):
            return Pending(None, (results,)).then(column)
        return column(results)

    return resolve


def _object_by_object(
    resolver: StrawberryResolver[Any], arguments: Arguments, infos: Infos, check: Check | None
) -> Resolve:
    function = cast("Callable[..., Any]", resolver.wrapped_func)
    if check:
        function = each_checked(check, function)
    takes_self = resolver.self_parameter is not None
    source_names = [each.name for each in (resolver.parent_parameter, resolver.root_parameter) if each]
    info_name = resolver.info_parameter.name if resolver.info_parameter else None
    is_async = inspect.iscoroutinefunction(function)

    def resolve(run: Run, objects: list[Any], place: Place) -> list[Any] | Pending[list[Any]]:
        def call(row: int, source: Any, given: dict[str, Any]) -> Any:
            if info_name:
                given = {**given, info_name: infos(run, place, row)}
            if source_names:
                given = {**given, **dict.fromkeys(source_names, source)}
            return function(source, **given) if takes_self else function(**given)

        values = _called_for_each(run, objects, place, arguments, call)
        if is_async and len(values) == 1 and not isinstance(values[0], Exception):
            return Pending(None, values).then(_alone)
        return values

    return resolve


def _alone(value: Any) -> list[Any]:
    """A column of it."""
    return [value]


def _as_graphql_core(field: Field) -> Resolve:
    names = {name: each.out_name or name for name, each in field.definition.args.items()}
    arguments = Arguments(field.definition, field.nodes[0], names)
    check: Check | None = field.definition.extensions.get(CHECK)

    def resolve(run: Run, objects: list[Any], place: Place) -> list[Any]:
        function = field.definition.resolve or run.executor.field_resolver
        if check:
            function = each_checked(check, function)
        info = run.infos(field, place)
        return _called_for_each(
            run, objects, place, arguments, lambda row, source, given: function(source, info(row), **given)
        )

    return resolve


def _called_for_each(
    run: Run, objects: list[Any], place: Place, arguments: Arguments, call: Callable[[int, Any, dict[str, Any]], Any]
) -> list[Any]:
    try:
        given = arguments.values(run, place)
    except Exception as error:  # noqa: BLE001 - the error of all of them
        return [error] * len(objects)
    shared = len(objects) < 2 or shareable(given)
    values: list[Any] = []
    for row, source in enumerate(objects):
        try:
            values.append(call(row, source, given if shared or not row else arguments.values(run, place)))
        except Exception as error:  # noqa: BLE001 - the error of this object alone
            values.append(error)
    return values


def _infos(field: Field, definition: StrawberryField, schema: Any) -> Infos:
    make = schema.config.info_class

    return lambda run, place, row: make(_raw_info=LateInfo(run.context, run, field, place, row), _field=definition)


def _plain_names(definition: StrawberryField, schema: Any) -> dict[str, str]:
    """What resolvers call the arguments that strawberry hands on as they are, by their names in GraphQL."""
    name_of = schema.config.name_converter.from_argument
    return {
        name_of(each): each.python_name
        for each in definition.arguments
        if not isinstance(each.type, StrawberryMaybe)
        and GlobalID not in (each.type, getattr(each.type, "of_type", None))
    }


def _converter(
    field: Field, definition: StrawberryField, schema: Any
) -> Callable[[dict[str, Any], Run, Place], dict[str, Any]]:
    """From the names and values of GraphQL to those of Python, as strawberry does it."""
    infos = _infos(field, definition, schema)
    arguments = definition.arguments
    scalars = schema.schema_converter.scalar_registry
    # Only input types can look at the info while they are made.
    wants_info = any(is_input_object_type(get_named_type(each.type)) for each in field.definition.args.values())

    def convert(values: dict[str, Any], run: Run, place: Place) -> dict[str, Any]:
        info = infos(run, place, 0) if wants_info else None
        return convert_arguments(values, arguments, scalars, schema.config, info)

    return convert
