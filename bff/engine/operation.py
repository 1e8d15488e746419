"""Operations that are executed again and again, each time with other variables and another context.

What graphql-core finds out anew for each execution is found out once: which operation it is, its fragments, the types
of its variables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLBoolean,
    GraphQLID,
    GraphQLSchema,
    GraphQLString,
    Undefined,
    VariableDefinitionNode,
    get_named_type,
    get_nullable_type,
    is_input_object_type,
    is_non_null_type,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values
from graphql.utilities import coerce_input_value

from bff.engine.arguments import shareable
from bff.engine.executor import BreadthFirst, variants
from bff.engine.plans import Variants
from bff.engine.run import Run


class Operation:
    """One operation of a valid document.

        operation = Operation(schema, parse(text), "Shop", BreadthExecutor)
        result = operation.execute({"first": 10}, context)

    Args:
        schema: that the document fits.
        document: has been validated.
        name: of the operation; None if it is the only one.
        executor: executes it.
        hide_suggestions: whether messages keep names of the schema to themselves that the document does not have.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        name: str | None,
        executor: type[BreadthFirst],
        *,
        hide_suggestions: bool = False,
    ) -> None:
        self._schema = schema
        self._document = document
        self._name = name
        self._executor = executor
        self._hide_suggestions = hide_suggestions
        self._known: _Known | None = None

    def execute(self, variables: dict[str, Any], context: object) -> ExecutionResult | Awaitable[ExecutionResult]:
        """Execute it, with variables as they came: those that do not fit are errors of a result without data."""
        if self._known is not None:
            result = self._known.execute(variables, context)
            if result is not None:
                return result
        built = self._built(variables, context)
        if isinstance(built, list):
            return ExecutionResult(None, built)
        if self._known is None:
            self._known = _Known(self._built(variables, None))
        outcome: ExecutionResult | Awaitable[ExecutionResult] = built.execute_operation()
        return outcome

    def _built(self, variables: dict[str, Any], context: object) -> Any:
        """Graphql-core's executor, or the errors that it finds in the variables."""
        return self._executor.build(
            self._schema,
            self._document,
            context_value=context,
            raw_variable_values=variables,
            operation_name=self._name,
            hide_suggestions=self._hide_suggestions,
        )


class _Known:
    """What is the same in all executions, once there has been one."""

    def __init__(self, executor: BreadthFirst) -> None:
        self._executor = executor
        self._variants: Variants = variants(executor)
        self._variables = [_variable(executor.schema, each) for each in executor.operation.variable_definitions or ()]

    def execute(
        self, variables: dict[str, Any], context: object
    ) -> ExecutionResult | Awaitable[ExecutionResult] | None:
        """None where graphql-core has to look at the variables, or the operation is not planned for them."""
        values = self._values(variables)
        if values is None:
            return None
        plan = self._variants.known(values)
        if plan is None:
            return None
        run = Run(self._executor, context, values, lambda: self._executor_of(variables, values, context))
        return self._executor.execute_plan(run, plan)

    def _executor_of(self, variables: dict[str, Any], values: dict[str, Any], context: object) -> BreadthFirst:
        """A copy without the work of making one anew: the plan leaves alone what it has of its own."""
        sources = {
            each.name: VariableValueSource(each.signature, variables.get(each.name, Undefined))
            for each in self._variables
            if each
        }
        executor = object.__new__(type(self._executor))
        vars(executor).update(
            vars(self._executor), context_value=context, variable_values=VariableValues(sources, values)
        )
        return executor

    def _values(self, given: dict[str, Any]) -> dict[str, Any] | None:
        values: dict[str, Any] = {}
        for variable in self._variables:
            if variable is None:
                return None
            name, signature, default, plain = variable
            value = given.get(name, Undefined)
            if type(value) is plain:
                values[name] = value
            elif value is not Undefined:
                values[name] = found = coerce_input_value(value, signature.type)
                if found is Undefined:
                    return None
            elif default is not Undefined:
                values[name] = default
            elif is_non_null_type(signature.type):
                return None
        return values


class _Variable(NamedTuple):
    name: str
    signature: GraphQLVariableSignature
    default: Any
    plain: type | None
    """The class of values that are what they are coerced to."""


_PLAIN: Mapping[object, type] = {GraphQLID: str, GraphQLString: str, GraphQLBoolean: bool}


def _variable(schema: GraphQLSchema, node: VariableDefinitionNode) -> _Variable | None:
    """None if its values are for graphql-core to look at: they may be nested, or the default cannot be shared."""
    signature = get_variable_signature(schema, node)
    assert isinstance(signature, GraphQLVariableSignature)  # noqa: S101 - or there would have been no execution
    if is_input_object_type(get_named_type(signature.type)):
        return None
    default = Undefined
    if node.default_value:
        alone = get_variable_values(schema, [node], {})
        if isinstance(alone, list) or not shareable(alone.coerced):
            return None
        default = alone.coerced.get(signature.name, Undefined)
    return _Variable(signature.name, signature, default, _PLAIN.get(get_nullable_type(signature.type)))
