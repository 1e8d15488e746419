"""One document: what it holds once it is known to be valid, and why it is refused if it is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from graphql import DocumentNode, GraphQLError, OperationType, StringValueNode, Visitor, visit

from bff.core.errors import Code, GatewayError
from bff.engine import Operation as Executable
from bff.graphql.coordinates import Asks
from bff.graphql.cost import OperationCost
from bff.graphql.rules import Broken, Survey

_OF_THE_REQUEST = {
    Code.PERSISTED_QUERY_HASH_MISMATCH,
    Code.PERSISTED_QUERY_ID_REQUIRED,
    Code.QUERY_NOT_IN_SAFELIST,
}


class DocumentRefused(GatewayError):
    """A document that cannot be executed, with all reasons; the same for everybody who sends it."""

    def __init__(self, code: Code, errors: list[GraphQLError], rule: str | None = None) -> None:
        super().__init__(errors[0].message)
        self.code = code
        self.errors = errors
        self.rule = rule

    @property
    def status(self) -> int:  # type: ignore[override]
        """Clients look for the hash that is not known in an answer that is fine otherwise."""
        return 200 if self.code is Code.PERSISTED_QUERY_NOT_FOUND else 400

    @property
    def status_in_json(self) -> int:
        """The status where the answer is `application/json`: 400 only for what is wrong with the request as such."""
        return 400 if self.code in _OF_THE_REQUEST else 200

    @classmethod
    def by(cls, rule: Broken) -> DocumentRefused:
        return cls(rule.code, [GraphQLError(rule.detail)], rule.rule)

    @classmethod
    def since(cls, code: Code, detail: str) -> DocumentRefused:
        return cls(code, [GraphQLError(detail)])


@dataclass(frozen=True)
class Operation:
    name: str
    type: OperationType
    cost: OperationCost
    asks: Asks


@dataclass(frozen=True)
class Document:
    """A valid document.

    Attributes:
        node: what was parsed, without `@defer`.
        survey: how large it is.
        operations: by name; the anonymous one is "".
        broken: the names of the rules that it breaks, each of them once, where they are only measured.
        deferring: what was parsed, if it defers something.
        trusted: whether it is one of the trusted documents.
        executables: its operations as they are executed, once they have been, and whether they are recorded.
    """

    node: DocumentNode
    survey: Survey
    operations: dict[str, Operation] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    deferring: DocumentNode | None = None
    trusted: bool = False
    executables: dict[tuple[str, bool], Executable] = field(default_factory=dict)

    @cached_property
    def literals(self) -> tuple[str, ...]:
        """The strings that are written out in it."""
        found: list[str] = []
        visit(self.node, _Literals(found))
        return tuple(found)

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


class _Literals(Visitor):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        self._found.append(node.value)


def formatted(error: GraphQLError, code: Code, **members: Any) -> dict[str, Any]:
    """An entry of `errors`, as the specification has it, with the code in its extensions."""
    entry: dict[str, Any] = {"message": error.message}
    if error.locations:
        entry["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path is not None:
        entry["path"] = error.path
    entry["extensions"] = {"code": code, **members}
    return entry
