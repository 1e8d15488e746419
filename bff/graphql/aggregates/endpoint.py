"""Aggregates over HTTP: a request in, its operation executed like any other, and JSON or a problem out."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from graphql import FieldNode
from starlette.types import Receive, Scope, Send

from bff.core.errors import Code, Forbidden, GatewayError, NotAcceptable, NotFound, status_of
from bff.core.head import head
from bff.core.policies import Policies
from bff.core.receive import Client
from bff.graphql.aggregates import BODIES, Aggregate
from bff.graphql.aggregates.parameters import Parameters, Values, pointer
from bff.graphql.charges import Charges
from bff.graphql.demands import refuse_operation
from bff.graphql.document import DocumentRefused
from bff.graphql.encoding import encoded
from bff.graphql.execution import Execution, Prepared, Result
from bff.graphql.request import JSON, Request, accepted, check_body
from bff.graphql.trusted import DocumentsError

INCOMPLETE = b"x-incomplete"
_MOST = 10
"""Errors that one answer names."""
_NO_MEMBERS = frozenset({"code", "request_id", "retry_after"})
_TAKEN = frozenset({JSON, "application/*", "*/*"})


class OperationFailed(GatewayError):
    """What an operation has come to instead of an answer; the first of its errors says with which status.

    Args:
        errors: entries of GraphQL's `errors`.
    """

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        first = errors[0]
        told = {key: value for key, value in first["extensions"].items() if key not in _NO_MEMBERS}
        waits = [each["extensions"]["retry_after"] for each in errors if "retry_after" in each["extensions"]]
        listed = [
            {"pointer": pointer(each.get("path", [])), "detail": each["message"], "code": each["extensions"]["code"]}
            for each in errors[:_MOST]
        ]
        super().__init__(first["message"], retry_after=max(waits, default=None), members={**told, "errors": listed})
        self.code = Code(first["extensions"]["code"])

    @property
    def status(self) -> int:  # type: ignore[override]
        return status_of(self.code)


class Aggregates:
    """The ASGI app of all of them, by the names of their routes.

    Args:
        found: as they are written down.
        execution: of the operations.
        max_cost: `graphql.limits.cost`.
        policies: that callers are judged by.
        cookies: whether credentials may come in one.

    Raises:
        DocumentsError: one does not fit the schema.
    """

    def __init__(
        self,
        found: Iterable[Aggregate],
        execution: Execution,
        max_cost: int,
        policies: Policies,
        *,
        cookies: bool = False,
    ) -> None:
        problems: list[str] = []
        charges = Charges(max_cost)
        self.endpoints: dict[str, Endpoint] = {}
        vary = ", ".join(["Authorization", "X-API-Key", *(["Cookie"] if cookies else [])]).encode()
        for each in found:
            try:
                self.endpoints[each.name] = Endpoint(each, execution, charges, policies, vary)
            except ValueError as error:
                problems.append(f"{each.where}: {error}")
        if problems:
            raise DocumentsError(problems)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.endpoints[scope["bff.route"].name](scope, receive, send)


class Endpoint:
    """One of them."""

    def __init__(
        self, aggregate: Aggregate, execution: Execution, charges: Charges, policies: Policies, vary: bytes
    ) -> None:
        self.aggregate = aggregate
        self.parameters = Parameters(execution.schema, aggregate)
        self.root = _root(aggregate)
        self._execution = execution
        self._charges = charges
        self._policies = policies
        self._vary = vary
        self._has_body = aggregate.method in BODIES
        if aggregate.unwrap and self.root is None:
            raise ValueError("`unwrap` is for an operation with one field, not of a fragment")
        self.document = execution.trusted(aggregate.id)
        self.needs = self.document.operation(aggregate.name).cost.all_needs({})
        if aggregate.is_shared and self.needs:
            raise ValueError(f"`cache` is for anybody, and {next(iter(self.needs))} is not: make it private")
        default = b"private, no-cache" if aggregate.method == "GET" else b"no-store"
        self._cache = aggregate.cache.encode() if aggregate.cache else default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = head(scope).values
        if not _accepts_json(headers.get(b"accept", b"*/*")):
            raise NotAcceptable(f"This is answered as {JSON}: accept that")
        with Client(scope, receive, scope["bff.route"].max_body) as client:
            variables = self.parameters.of_head(scope["bff.captured"], scope["query_string"])
            if self._has_body:
                variables |= await self._of_body(scope, headers, client)
            else:
                client.watch()
            result = await self._result(scope, variables)
        await self._answer(scope, headers, send, result)

    async def _of_body(self, scope: Scope, headers: Mapping[bytes, bytes], client: Client) -> Values:
        body = await client.whole_body(scope["bff.origin"].deadline)
        if body:
            check_body(headers)
        return self.parameters.of_body(body)

    async def _result(self, scope: Scope, variables: Values) -> Result:
        origin, tab = scope["bff.origin"], scope.get("bff.tab")
        prepared = self._prepared(scope, variables)
        await self._charges.admit(tab, [prepared])
        result = await self._execution.answer(prepared, origin)
        self._charges.settle(tab, [prepared], [result])
        errors, data = result.get("errors"), result.get("data")
        if errors and (not self.aggregate.partial or data is None or _is_nothing(data)):
            raise OperationFailed(errors)
        return result

    def _prepared(self, scope: Scope, variables: Values) -> Prepared:
        caller = scope["bff.caller"]
        request = Request("", variables, self.aggregate.name, self.aggregate.id)
        try:
            prepared = self._execution.prepare(request, caller)
        except DocumentRefused as refused:
            if refused.code is Code.GRAPHQL_VALIDATION_FAILED:
                raise Forbidden("This needs more than what this credential is entitled to") from None
            raise
        if not self.aggregate.partial:
            refuse_operation(prepared.operation.cost.needs(variables), caller, self._policies)
        scope["bff.operation"] = prepared.operation.name
        scope["bff.cost"] = prepared.estimate.cost
        return prepared

    async def _answer(self, scope: Scope, headers: Mapping[bytes, bytes], send: Send, result: Result) -> None:
        data, errors = result["data"], result.get("errors", ())
        if _is_nothing(data):
            raise NotFound("There is no such thing, or none that this caller may know of")
        body = encoded(data[self.root] if self.aggregate.unwrap else data)
        sent = [(b"vary", self._vary), (b"cache-control", b"no-store" if errors else self._cache)]
        if errors:
            sent.append((INCOMPLETE, _places(errors)))
        status = self.aggregate.status
        if self.aggregate.method == "GET" and not errors:
            tag = b'"%b"' % sha256(body).hexdigest()[:32].encode()
            sent.append((b"etag", tag))
            if _matches(headers.get(b"if-none-match", b""), tag):
                status = 304
        if status in {204, 304}:
            body = b""
        else:
            sent += [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _root(aggregate: Aggregate) -> str | None:
    """What the one field of the operation is called in its answer."""
    match aggregate.operation.selection_set.selections:
        case [FieldNode() as field]:
            return (field.alias or field.name).value
    return None


def _is_nothing(data: Mapping[str, Any]) -> bool:
    return all(value is None for value in data.values())


def _places(errors: Sequence[Mapping[str, Any]]) -> bytes:
    """Where something is missing, and why: `order.payment;code=UPSTREAM_UNAVAILABLE` (a list by RFC 9651)."""
    places = (
        f"{'.'.join(map(str, each['path']))};code={each['extensions']['code']}" for each in errors if each.get("path")
    )
    return ", ".join(place for place, _ in zip(places, range(_MOST), strict=False)).encode()


def _matches(said: bytes, tag: bytes) -> bool:
    """Whether `If-None-Match` has this one, by weak comparison (RFC 9110 §13.1.2)."""
    return bool(said) and any(each.strip().removeprefix(b"W/") in {tag, b"*"} for each in said.split(b","))


@lru_cache(256)
def _accepts_json(accept: bytes) -> bool:
    return any(kind in _TAKEN and quality > 0 for kind, _, quality in accepted(accept))
