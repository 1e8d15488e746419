"""Documents: parsed and validated once for each text, however often they are sent."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    validate,
)

from bff.core.errors import Code, GatewayError
from bff.graphql import GraphQLSettings


class DocumentRefused(GatewayError):
    """A document that cannot be executed, with all reasons; the same for everybody who sends it."""

    status = 400

    def __init__(self, code: Code, errors: list[GraphQLError]) -> None:
        super().__init__(errors[0].message)
        self.code = code
        self.errors = errors


@dataclass(frozen=True)
class Operation:
    name: str
    type: OperationType


@dataclass(frozen=True)
class Document:
    """A valid document."""

    node: DocumentNode
    operations: dict[str, Operation] = field(default_factory=dict)

    def operation(self, name: str | None) -> Operation:
        """The operation of that name, or the only one.

        Raises:
            DocumentRefused: there is none, or several and no name to choose by.
        """
        if name is not None:
            found = self.operations.get(name)
        else:
            found = next(iter(self.operations.values())) if len(self.operations) == 1 else None
        if found is None:
            reason = (
                f"There is no operation named {name!r}" if name else "`operationName` must say which operation to run"
            )
            raise DocumentRefused(Code.OPERATION_RESOLUTION_FAILURE, [GraphQLError(reason)])
        return found


class Documents:
    """One bounded memory of documents for one schema.

    Args:
        settings: their bounds, and whether `__schema` and `__type` may be asked for.
    """

    def __init__(self, schema: GraphQLSchema, settings: GraphQLSettings) -> None:
        self._schema = schema
        self._memory = settings.memory
        self._rules = (
            [*specified_rules] if settings.introspection else [*specified_rules, NoSchemaIntrospectionCustomRule]
        )
        self.hides_suggestions = not settings.introspection  # "did you mean" tells of the schema, name by name
        self._max_tokens = settings.limits.tokens
        self._known: OrderedDict[str, Document | DocumentRefused] = OrderedDict()
        self._bytes = 0

    def document(self, text: str) -> Document:
        """What `text` says.

        Raises:
            DocumentRefused: it cannot be parsed, or does not fit the schema.
        """
        known = self._known.get(text)
        if known is None:
            known = self._prepare(text)
            self._keep(text, known)
        else:
            self._known.move_to_end(text)
        if isinstance(known, DocumentRefused):
            raise known
        return known

    def _prepare(self, text: str) -> Document | DocumentRefused:
        try:
            node = parse(text, no_location=False, max_tokens=self._max_tokens)
        except GraphQLSyntaxError as error:
            too_long = "tokens" in error.message and "Parsing aborted" in error.message
            return DocumentRefused(Code.MAX_TOKENS_LIMIT if too_long else Code.GRAPHQL_PARSE_FAILED, [error])
        except RecursionError:
            return DocumentRefused(Code.MAX_DEPTH_LIMIT, [GraphQLError("The document is nested too deeply")])
        try:
            errors = validate(self._schema, node, self._rules, max_errors=10, hide_suggestions=self.hides_suggestions)
        except RecursionError:
            return DocumentRefused(Code.MAX_DEPTH_LIMIT, [GraphQLError("The document is nested too deeply")])
        if errors:
            return DocumentRefused(_code(errors), errors)
        operations = [each for each in node.definitions if isinstance(each, OperationDefinitionNode)]
        named = {each.name.value if each.name else "": each.operation for each in operations}
        return Document(node, {name: Operation(name, kind) for name, kind in named.items()})

    def _keep(self, text: str, document: Document | DocumentRefused) -> None:
        self._known[text] = document
        self._bytes += len(text)
        while len(self._known) > self._memory.max_documents or self._bytes > self._memory.max_size:
            oldest, _ = self._known.popitem(last=False)
            self._bytes -= len(oldest)


def _code(errors: list[GraphQLError]) -> Code:
    introspected = any("introspection" in error.message.lower() for error in errors)
    return Code.INTROSPECTION_DISABLED if introspected else Code.GRAPHQL_VALIDATION_FAILED


def formatted(error: GraphQLError, code: Code, **members: Any) -> dict[str, Any]:
    """An entry of `errors`, as the specification has it, with the code in its extensions."""
    entry: dict[str, Any] = {"message": error.message}
    if error.locations:
        entry["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path is not None:
        entry["path"] = error.path
    entry["extensions"] = {"code": code, **members}
    return entry
