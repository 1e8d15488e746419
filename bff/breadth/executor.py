"""The breadth-first executor: every field of an operation is resolved once, for all objects of its level together."""

from __future__ import annotations

from typing import Any

from graphql import ExecutionResult, OperationType
from graphql.execution.executor_throwing_on_incremental import ExecutorThrowingOnIncremental
from strawberry.types.arguments import convert_arguments

from bff.breadth.authoring import Batched, checked_results
from bff.breadth.columns import NO_ROWS, Completer, completer_of, select, select_serially, settled
from bff.breadth.places import Places, Root
from bff.breadth.plan import FieldPlan, Selection, Unsupported, plan_of
from bff.breadth.run import Completed, Run
from bff.breadth.waiting import Paused, Work, begin


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
        if serially is None:
            serially = self.operation.operation is OperationType.MUTATION
        begun = begin(self._execute(plan, serially=serially))
        return begun.finish() if isinstance(begun, Paused) else begun

    def _execute(self, plan: Selection, *, serially: bool) -> Work[ExecutionResult]:
        run = Run(self, resolve)
        if serially:
            rows, bad = yield from select_serially(run, plan, self.root_value, Root())
        else:
            rows, bad = yield from select(run, plan, [self.root_value], Root())
        self.run_async_work_finished_hook()
        return ExecutionResult(None if bad else rows[0], run.errors() or None)


def resolve(run: Run, field: FieldPlan, sources: list[Any], places: Places) -> Completed | Work[Completed]:
    """The completed column of `field` over `sources`; at once for plain leaves, the most there is of."""
    if field.name == "__typename":
        return [field.parent.name] * len(sources), NO_ROWS
    completer: Completer = field.completer
    if completer is None:
        completer = field.completer = completer_of(field, field.definition.type)
    refusal = _judged(run, field, places)
    if refusal is not None:
        return completer.start(run, [refusal] * len(sources), places)
    if field.batched is not None:
        return _batched(run, field, field.batched, completer, sources, places)
    if field.attribute is not None:
        return completer.start(run, _attributes(field, sources), places)
    return completer.start(run, _one_by_one(run, field, sources, places), places)


def _judged(run: Run, field: FieldPlan, places: Places) -> Exception | None:
    """Why the field's guard does not let anybody pass."""
    if field.guard is None:
        return None
    try:
        field.guard(run.info(field, places, 0))
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing is resolved
        return error
    return None


def _attributes(field: FieldPlan, sources: list[Any]) -> list[Any]:
    read = field.attribute
    assert read is not None  # noqa: S101
    try:
        return list(map(read, sources))
    except Exception:  # noqa: BLE001 - each object's own error is found below
        values: list[Any] = []
    for source in sources:
        try:
            values.append(read(source))
        except Exception as missing:  # noqa: BLE001 - a property may raise anything
            values.append(missing)
    return values


def _batched(
    run: Run, field: FieldPlan, author: Batched, completer: Completer, parents: list[Any], places: Places
) -> Work[Completed]:
    """One call of the author's function for all parents."""
    try:
        arguments = _converted(run, field)
        if author.info_parameter:
            arguments[author.info_parameter] = _info(run, field, places)
        (results,) = yield from settled(run, [author.resolve(parents, **arguments)])
        values = _each_its_own(results, len(parents), author.name)
    except Exception as error:  # noqa: BLE001 - it is the error of each parent
        values = [error] * len(parents)
    begun = completer.start(run, values, places)
    return begun if isinstance(begun, tuple) else (yield from begun)


def _each_its_own(results: object, count: int, name: str) -> list[Any]:
    return [results] * count if isinstance(results, Exception) else checked_results(results, count, name)


def _one_by_one(run: Run, field: FieldPlan, sources: list[Any], places: Places) -> list[Any]:
    """What a resolver for one object returns or raises for each."""
    function = field.definition.resolve or run.executor.field_resolver
    try:
        arguments = field.arguments(run.executor)
    except Exception as error:  # noqa: BLE001 - they fit no object's call
        return [error] * len(sources)
    values: list[Any] = []
    for row, source in enumerate(sources):
        try:
            values.append(function(source, run.info(field, places, row), **arguments))
        except Exception as error:  # noqa: BLE001 - it is this object's error
            values.append(error)
    return values


def _info(run: Run, field: FieldPlan, places: Places) -> Any:
    return _schema_of(run).config.info_class(_raw_info=run.info(field, places, 0), _field=field.strawberry)


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
