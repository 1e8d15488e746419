"""The executors: breadth first, and graphql-core's own for what that does not do and for who wants it.

Both are `execution_context_class` of a strawberry schema and `executor_class` of graphql-core's `execute`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from graphql import (
    ExecutionResult,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    OperationType,
)
from graphql.execution.collect_fields import FieldDetails
from graphql.execution.execute import assume_not_async_iterable, assume_not_awaitable
from graphql.execution.executor import SELECTIONS_NESTED_TOO_DEEPLY
from graphql.execution.incremental.incremental_executor import IncrementalExecutor
from graphql.execution.values import get_argument_values
from graphql.pyutils import Path
from graphql.pyutils.is_awaitable import is_async_iterable, is_awaitable
from strawberry.execution import optimized_is_awaitable
from strawberry.extensions.directives import DirectivesExtension, DirectivesExtensionSync
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from bff.engine.checks import CHECK, Check
from bff.engine.columns import Column
from bff.engine.failures import reported
from bff.engine.pending import Pending
from bff.engine.places import ROOT
from bff.engine.plan import Selection, Weigh, Wrap
from bff.engine.plans import Plans, Reason, Variants
from bff.engine.run import GUARD, Guard, Run

_PLANS = "engine.plans"
_PREDICATES: tuple[Any, ...] = (
    is_awaitable,
    is_async_iterable,
    optimized_is_awaitable,
    assume_not_awaitable,
    assume_not_async_iterable,
)


class Weighed(ExecutionResult):
    """What the breadth-first executor comes to.

    Attributes:
        weight: of all objects in `data`, as `BreadthExecutor.weigh` has it. Where there are errors, of more than these.
    """

    __slots__ = ("weight",)

    def __init__(self, data: Any, errors: list[GraphQLError] | None, weight: float) -> None:
        super().__init__(data, errors)
        self.weight = weight


class Guarded(IncrementalExecutor):
    """Graphql-core's executor, which asks the guards and checks of fields."""

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,
        field_details_list: list[FieldDetails],
        path: Path,
        position_context: Any,
    ) -> Any:
        field = self.schema.get_field(parent_type, field_details_list[0].node.name.value)
        guard: Guard | None = field.extensions.get(GUARD) if field else None
        if field and guard:
            nodes = [each.node for each in field_details_list]
            try:
                guard(self.build_resolve_info(field, nodes, parent_type, path))
            except Exception as error:  # noqa: BLE001 - a guard refuses by whatever error it wants to be reported
                self.handle_field_error(error, field.type, field_details_list, path)
                return None
        return super().execute_field(parent_type, source, field_details_list, path, position_context)

    def ensure_valid_runtime_type(
        self,
        runtime_type_name: Any,
        return_type: GraphQLAbstractType,
        field_details_list: list[FieldDetails],
        info: GraphQLResolveInfo[Any],
        result: Any,
    ) -> GraphQLObjectType:
        """The type of an object that an interface or union stands for: the type's guard is asked here."""
        type_ = super().ensure_valid_runtime_type(runtime_type_name, return_type, field_details_list, info, result)
        guard: Guard | None = type_.extensions.get(GUARD)
        if guard:
            guard(info)
        return type_

    def complete_value(
        self,
        return_type: GraphQLOutputType,
        field_details_list: list[FieldDetails],
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        field = self.schema.get_field(info.parent_type, info.field_name)
        check: Check | None = field.extensions.get(CHECK) if field else None
        # Inside non-null and lists it is asked again, and with a type of these.
        if field and check and return_type is field.type and not self.is_awaitable(result):
            node = field_details_list[0].node
            (result,) = check([result], get_argument_values(field, node, self.variable_values))
            if isinstance(result, Exception):
                raise result
        return super().complete_value(return_type, field_details_list, info, path, result, position_context)


class BreadthFirst(Guarded):
    """Executes an operation level by level, each field once for all objects of its level.

    Whatever the plan cannot express is left to graphql-core, the operation as a whole, and reported to `on_fallback`.

    Attributes:
        wrap: called with each field of a plan when it is planned, and how its values are got; what it returns is used
            instead. It is how spans and metrics attach to nodes. The values are those of all parents of the node, or
            `Pending`; `bff.engine.then` does something with them in either case.
        weigh: called with each selection when it is planned; what it returns is the weight of each object that the
            selection is of. It is how the cost of an answer is known without going through it: see `Weighed`.
        packed: whether objects below the root of an answer are msgspec Structs instead of dicts, for half of what these
            cost. `msgspec.json` encodes them; `bff.engine.unpacked` makes dicts of them.
        on_fallback: called with the `Reason` whenever graphql-core executes an operation instead.
    """

    wrap: ClassVar[Wrap | None] = None
    weigh: ClassVar[Weigh | None] = None
    packed: ClassVar[bool] = False
    on_fallback: ClassVar[Callable[[Reason], None] | None] = None

    def execute_operation(self, serially: bool | None = None) -> Any:
        run = Run(self, self.context_value, self.variable_values.coerced)
        plan = self._unsupported() or variants(self).plan(run)
        if isinstance(plan, Selection):
            return self.execute_plan(run, plan, serially)
        report = type(self).on_fallback
        if report:
            report(plan)
        return super().execute_operation(serially)

    def execute_plan(
        self, run: Run, plan: Selection, serially: bool | None = None
    ) -> ExecutionResult | Awaitable[ExecutionResult]:
        """What the operation comes to in this run, which may be another execution than the executor's own."""
        if serially is None:
            serially = self.operation.operation is OperationType.MUTATION
        root = self.root_value
        try:
            column = plan.execute_serially(run, root) if serially else plan.execute(run, [root], ROOT)
        except RecursionError:
            return _nested_too_deeply(self.operation)
        return self._later(run, column) if isinstance(column, Pending) else _result(run, column)

    async def _later(self, run: Run, column: Pending[Column]) -> ExecutionResult:
        try:
            return _result(run, await column.value())
        except RecursionError:
            return _nested_too_deeply(self.operation)

    def _unsupported(self) -> Reason | None:
        """Why this execution is left to graphql-core, whatever its document says."""
        if self.abort_signal is not None:
            return "abort signal"
        if self.hooks is not None:
            return "execution hooks"
        middlewares = self.middleware_manager.middlewares if self.middleware_manager else ()
        # Strawberry's own middleware does nothing where the document has no directives of the schema's.
        if any(type(each) not in (DirectivesExtension, DirectivesExtensionSync) for each in middlewares):
            return "middleware"
        if self.is_awaitable not in _PREDICATES or self.is_async_iterable not in _PREDICATES:
            return "own predicates"
        return None


class StandardExecutor(Guarded, StrawberryGraphQLCoreExecutionContext):
    """Graphql-core's executor with guards."""


class BreadthExecutor(BreadthFirst, StrawberryGraphQLCoreExecutionContext):
    """The breadth-first executor.

    strawberry.Schema(query=Query, execution_context_class=BreadthExecutor)
    graphql.execute(schema, document, executor_class=BreadthExecutor)
    """


def variants(executor: BreadthFirst) -> Variants:
    """The plans of the operation that is executed, kept as long as its document."""
    extensions = executor.schema.extensions
    plans: Plans | None = extensions.get(_PLANS)
    if plans is None:
        plans = extensions[_PLANS] = Plans()
    return plans.variants(executor)


def _result(run: Run, column: Column) -> ExecutionResult:
    run.end()
    return Weighed(None if column.lost else column.values[0], reported(run.failures), run.weight)


def _nested_too_deeply(operation: OperationDefinitionNode) -> ExecutionResult:
    """Where even reporting it as the error of a field needs more stack than there is."""
    return ExecutionResult(None, [GraphQLError(SELECTIONS_NESTED_TOO_DEEPLY, operation)])
