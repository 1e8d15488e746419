"""Aggregates: REST endpoints that are operations among the trusted documents, which say so by `@rest`.

    query OrderPage($id: ID!) @rest(path: "/api/pages/order/{id}") { order(id: $id) { status } }

An operation is read here without the schema, so that its route stands beside those of the configuration from the start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    ArgumentNode,
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    EnumValueNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    parse,
    print_ast,
)

from bff.core.loading import did_you_mean
from bff.core.route import Front, Route
from bff.edge.routing.template import fault, template
from bff.graphql.trusted import DocumentsError, Trusted, sha256_of

REST: Final = "rest"
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_SECONDS = r"(?:max-age|s-maxage|stale-while-revalidate|stale-if-error)=[0-9]{1,9}"
_SHARED = re.compile(r"public|s-maxage=.*")
_CACHE = re.compile(
    rf"(?:public|private|no-cache|no-store|no-transform|immutable|must-revalidate|proxy-revalidate|{_SECONDS})"
)
BODIES: Final = frozenset({"POST", "PUT", "PATCH"})
"""The methods whose variables come in a body of JSON; those of the others come in the query."""


@dataclass(frozen=True)
class Aggregate:
    """One operation as an endpoint.

    Attributes:
        name: the operation's, and so the route's.
        id: the hash of its document.
        where: file and operation, for messages.
        operation: what was written.
        method: that it answers.
        path: a template; what it captures are variables.
        body: the variable that is the whole body; None: each member of the body is one.
        unwrap: whether the answer is the value of the one root field instead of an object with it.
        status: of answers that are fine.
        cache: `Cache-Control` of these; None: `private, no-cache` for GET.
        partial: whether an answer with errors is still one, with null in their places.
    """

    name: str
    id: str
    where: str
    operation: OperationDefinitionNode
    method: str
    path: str
    body: str | None = None
    unwrap: bool = False
    status: int = 200
    cache: str | None = None
    partial: bool = False

    @property
    def captured(self) -> tuple[str, ...]:
        return template(self.path).names

    @property
    def is_shared(self) -> bool:
        """Whether caches between here and the client may keep an answer for others."""
        return any(_SHARED.fullmatch(each) for each in _listed(self.cache or ""))

    def route(self, max_body: int, timeout: float) -> Route:
        """Its route: open to all, since who may have what is judged field by field."""
        methods = frozenset({self.method})
        return Route(
            self.name, self.path, Front.AGGREGATE, methods=methods, public=True, max_body=max_body, timeout=timeout
        )


def aggregates(documents: Iterable[Trusted]) -> tuple[Aggregate, ...]:
    """Those among the trusted documents, by name.

    Raises:
        DocumentsError: a `@rest` makes no sense.
    """
    found: dict[str, Aggregate] = {}
    problems: dict[str, None] = {}
    for each in documents:
        if f"@{REST}" not in each.text.replace(" ", ""):
            continue
        for one in _of(each, problems):
            # An operation in a file of its own is there twice: as it was written, and as it is printed.
            if print_ast(found.setdefault(one.name, one).operation) != print_ast(one.operation):
                problems[f"{one.where}: {found[one.name].where} is an endpoint of the same name"] = None
    if problems:
        raise DocumentsError(problems)
    return tuple(found[name] for name in sorted(found))


def without_rest(document: DocumentNode) -> DocumentNode:
    """What is left for the schema, which does not know `@rest`."""
    if not any(_directives(each) for each in document.definitions):
        return document
    return DocumentNode(
        definitions=tuple(
            _without(each) if isinstance(each, OperationDefinitionNode) else each for each in document.definitions
        ),
        loc=document.loc,
    )


def _without(operation: OperationDefinitionNode) -> OperationDefinitionNode:
    kept = {key: getattr(operation, key) for key in operation.keys}
    kept["directives"] = tuple(each for each in operation.directives or () if each.name.value != REST)
    return OperationDefinitionNode(**kept)


def _directives(definition: Any) -> list[DirectiveNode]:
    if not isinstance(definition, OperationDefinitionNode):
        return []
    return [each for each in definition.directives or () if each.name.value == REST]


def _of(document: Trusted, problems: dict[str, None]) -> Iterator[Aggregate]:
    node = parse(document.text)
    operations = [each for each in node.definitions if isinstance(each, OperationDefinitionNode)]
    if len(operations) > 1 and document.id is None:
        return  # a file with several: each of them is a document by itself, too
    for operation in operations:
        if directives := _directives(operation):
            if len(operations) > 1:
                problems[f"{document.where}: @{REST} has to be on the only operation of its document"] = None
                continue
            try:
                yield _read(operation, directives, document)
            except ValueError as error:
                problems[f"{document.where}: {error}"] = None


def _read(operation: OperationDefinitionNode, directives: list[DirectiveNode], document: Trusted) -> Aggregate:
    if len(directives) > 1:
        raise ValueError(f"@{REST} may be there once")
    (directive,) = directives
    name = operation.name.value if operation.name else ""
    if not _NAME.fullmatch(name):
        raise ValueError(f"an operation with @{REST} needs a name, of at most 64 characters")
    if operation.operation is OperationType.SUBSCRIPTION:
        raise ValueError(f"a subscription cannot be answered by @{REST}")
    given = dict(_arguments(directive.arguments or ()))
    if "path" not in given:
        raise ValueError(f'@{REST} needs a path: @{REST}(path: "/api/pages/order/{{id}}")')
    writes = operation.operation is OperationType.MUTATION
    given.setdefault("method", "POST" if writes else "GET")
    found = Aggregate(name, sha256_of(document.text), document.where, operation, **given)
    variables = {each.variable.name.value for each in operation.variable_definitions or ()}
    _check(found, variables, writes=writes)
    return found


def _check(found: Aggregate, variables: set[str], *, writes: bool) -> None:
    methods = BODIES | {"DELETE"} if writes else {"GET", "POST"}
    if found.method not in methods:
        kind = "mutation" if writes else "query"
        raise ValueError(f"@{REST}(method: {found.method}): a {kind} is asked for by {' or '.join(sorted(methods))}")
    for each in found.captured:
        if each not in variables:
            raise ValueError(f"`path` captures {{{each}}}, and there is no ${each}{did_you_mean(each, variables)}")
    if found.body is not None:
        _check_body(found, variables - {*found.captured})
    if found.cache is not None:
        if found.method != "GET":
            raise ValueError("`cache` is for GET")
        for each in _listed(found.cache):
            if not _CACHE.fullmatch(each):
                raise ValueError(f"`cache` has {each!r}, which is nothing that Cache-Control says of an answer")


def _check_body(found: Aggregate, left: set[str]) -> None:
    if found.method not in BODIES:
        raise ValueError(f"`body` is for {' and '.join(sorted(BODIES))}")
    if found.body not in left:
        raise ValueError(f"`body` names ${found.body}, which is no variable that `path` leaves")
    if others := sorted(left - {found.body}):
        raise ValueError(f"${others[0]} has no place: it is neither in `path` nor `body`")


def _listed(cache: str) -> list[str]:
    return [each.strip().lower() for each in cache.split(",")]


def _arguments(arguments: Iterable[ArgumentNode]) -> Iterator[tuple[str, Any]]:
    for each in arguments:
        name = each.name.value
        if name not in _READ:
            raise ValueError(f"@{REST} has no argument `{name}`{did_you_mean(name, _READ)}")
        yield name, _READ[name](name, each.value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, StringValueNode):
        raise ValueError(f"`{name}` must be a string")  # noqa: TRY004
    return value.value


def _path(name: str, value: Any) -> str:
    path = _text(name, value)
    if problem := fault(path):
        raise ValueError(f"`path` {problem}")
    return path


def _method(_: str, value: Any) -> str:
    if not isinstance(value, EnumValueNode | StringValueNode):
        raise ValueError("`method` must be a method: GET")  # noqa: TRY004 - of a document, not of a program
    return value.value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, BooleanValueNode):
        raise ValueError(f"`{name}` must be true or false")  # noqa: TRY004
    return value.value


def _status(_: str, value: Any) -> int:
    if not isinstance(value, IntValueNode) or value.value not in {"200", "201", "202", "204"}:
        raise ValueError("`status` must be 200, 201, 202 or 204")
    return int(value.value)


_READ: Mapping[str, Callable[[str, Any], Any]] = {
    "method": _method,
    "path": _path,
    "body": lambda name, value: _text(name, value).removeprefix("$"),
    "unwrap": _flag,
    "status": _status,
    "cache": _text,
    "partial": _flag,
}
