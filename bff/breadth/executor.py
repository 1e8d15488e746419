"""The breadth-first executor: every field of an operation is resolved once, for all objects of its level together."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from graphql import ExecutionResult, OperationType
from graphql.execution.executor_throwing_on_incremental import ExecutorThrowingOnIncremental
from strawberry.types.arguments import convert_arguments

from bff.breadth.columns import Completer, completer_of, each, select, select_serially
from bff.breadth.places import Places, Root
from bff.breadth.plan import FieldPlan, Selection, Unsupported, plan_of
from bff.breadth.run import Completed, Run


class BreadthExecutor(ExecutorThrowingOnIncremental):
    """For `graphql.execute(..., executor_class=BreadthExecutor)` and `strawberry.Schema(execution_context_class=...)`.

    An operation with anything in it that is not supported here is executed by graphql-core as a whole.
    """

    def fell_back(self, reason: str) -> None:
        """Told each time; for a subclass to count."""

    def execute_operation(self, serially: bool | None = None) -> Any:
        try:
            plan = plan_of(self)
        except Unsupported as unsupported:
            self.fell_back(str(unsupported))
            return super().execute_operation(serially)
        return self._execute(plan, serially=serially or self.operation.operation is OperationType.MUTATION)

    async def _execute(self, plan: Selection, *, serially: bool) -> ExecutionResult:
        run = Run(self, resolve)
        if serially:
            rows, bad = await select_serially(run, plan, self.root_value, Root())
        else:
            rows, bad = await select(run, plan, [self.root_value], Root())
        self.run_async_work_finished_hook()
        return ExecutionResult(None if bad else rows[0], run.errors() or None)


def resolve(
    run: Run, field: FieldPlan, sources: list[Any], places: Places
) -> Completed | Coroutine[Any, Any, Completed]:
    """The completed column of `field` over `sources`; without a coroutine for plain leaves, the most there is of."""
    if field.name == "__typename":
        return [field.parent.name] * len(sources), frozenset()
    completer: Completer = field.completer
    if completer is None:
        completer = field.completer = completer_of(field, field.definition.type)
    try:
        if field.guard is not None:
            field.guard(run.info(field, places, 0))
        if field.batched is not None:
            return _batched(run, field, completer, sources, places)
        if field.attribute is None:
            return _one_by_one(run, field, completer, sources, places)
        values = list(map(field.attribute, sources))
    except Exception as error:  # noqa: BLE001 - a guard's refusal, or an attribute that one of the objects lacks
        return completer.complete(run, _attributes(field, sources, error), places)
    if completer.immediate is not None:
        return completer.immediate(run, values, places)
    return completer.complete(run, values, places)


def _attributes(field: FieldPlan, sources: list[Any], error: Exception) -> list[Any]:
    """Each object's own attribute or error; the guard's error for all."""
    if field.attribute is None or not isinstance(error, AttributeError):
        return [error] * len(sources)
    values: list[Any] = []
    for source in sources:
        try:
            values.append(field.attribute(source))
        except Exception as missing:  # noqa: BLE001 - a property may raise anything
            values.append(missing)
    return values


async def _batched(run: Run, field: FieldPlan, completer: Completer, parents: list[Any], places: Places) -> Completed:
    """One call of the author's function for all parents."""
    assert field.batched is not None and field.strawberry is not None  # noqa: S101, PT018
    results: Sequence[Any]
    try:
        results = await field.batched(parents, _info(run, field, places), **_converted(run, field))
    except Exception as error:  # noqa: BLE001 - it is the error of each parent
        results = [error] * len(parents)
    if len(results) != len(parents):
        name = f"{field.parent.name}.{field.name}"
        results = [ValueError(f"{name}: {len(results)} results for {len(parents)} parents")] * len(parents)
    return await completer.complete(run, list(results), places)


async def _one_by_one(
    run: Run, field: FieldPlan, completer: Completer, sources: list[Any], places: Places
) -> Completed:
    """A resolver for one object, called for each."""
    function = field.definition.resolve or run.executor.field_resolver
    values: list[Any] = []
    for row, source in enumerate(sources):
        try:
            info = run.info(field, places, row)
            values.append(function(source, info, **field.arguments(run.executor)))
        except Exception as error:  # noqa: BLE001 - it is this object's error
            values.append(error)
    return await completer.complete(run, await each(values), places)


def _info(run: Run, field: FieldPlan, places: Places) -> Any:
    config = _schema_of(run).config
    return config.info_class(_raw_info=run.info(field, places, 0), _field=field.strawberry)


def _converted(run: Run, field: FieldPlan) -> dict[str, Any]:
    """The arguments as the author's function takes them."""
    assert field.strawberry is not None  # noqa: S101
    if not field.definition.args:
        return {}
    schema = _schema_of(run)
    return convert_arguments(
        field.arguments(run.executor),
        field.strawberry.arguments,
        scalar_registry=schema.schema_converter.scalar_registry,
        config=schema.config,
    )


def _schema_of(run: Run) -> Any:
    return run.executor.schema._strawberry_schema  # type: ignore[attr-defined]  # noqa: SLF001 - strawberry's own link
