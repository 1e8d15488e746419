"""Requests and answers held to the service's own OpenAPI document, where a route says `validate: request` or `both`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import count
from typing import Any
from urllib.parse import unquote, unquote_plus

import httpx
import jsonschema_rs
import orjson

from bff.core.errors import (
    BadRequest,
    BadUserInput,
    MethodNotAllowed,
    NotFound,
    Unprocessable,
    UnsupportedMediaType,
    UpstreamBadResponse,
)
from bff.core.receive import Client
from bff.core.request import RequestView, parameters
from bff.core.route import METHODS, Route
from bff.core.telemetry import JsonLog
from bff.edge.routing import Matcher
from bff.rest.openapi.contract import Contract, Object, Operation
from bff.upstream.client import Headers, Service

_MOST = 10
"""Faults that one answer names."""
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_OF_CREDENTIALS = frozenset({"authorization", "accept", "content-type"})  # OpenAPI 3.1 §4.8.12.2
_NO_BODY = frozenset({204, 304})


class Validation:
    """One service's document, compiled once.

    Args:
        contract: what the document says.
        log: where answers are reported that do not fit.
    """

    def __init__(self, contract: Contract, log: JsonLog) -> None:
        self._log = log
        self._service = contract.service
        by_path: dict[str, dict[str, Checks]] = {}
        for each in contract.operations:
            names = count()
            path = "/".join(f"{{p{next(names)}}}" if "{" in part else part for part in each.path.split("/"))
            by_path.setdefault(path, {})[each.method] = Checks(each, contract)
        self._checks = by_path
        self._matcher = Matcher(Route(path, path, methods=frozenset(found)) for path, found in by_path.items())

    def checks(self, method: str, target: bytes) -> Checks:
        """Those of the operation that is asked for.

        Raises:
            NotFound, MethodNotAllowed: the document has none.
        """
        path, view = target.partition(b"?")[0], RequestView({"headers": []})
        for asked in (method, "GET") if method == "HEAD" else (method,):
            for match in self._matcher.matches(asked, path, view):
                if found := self._checks[match.route.path].get(asked):
                    return found.at(path, match.captured)
        if allowed := [each for each in METHODS if self._matcher.matches(each, path, view)]:
            allow = ", ".join(sorted({*allowed, "OPTIONS"}))
            raise MethodNotAllowed(f"This path answers {allow}", headers={"allow": allow})
        raise NotFound("There is nothing at this path")

    async def read(self, checks: Checks, response: httpx.Response, service: Service, *, is_head: bool) -> None:
        """Read an answer of JSON whole, within its service's `max_answer`; raise if it does not fit.

        The log says where it does not, and never what it says.
        """
        kind = response.headers.get("content-type", "")
        body = None
        if _is_json(kind) and not is_head and "content-encoding" not in response.headers:
            body = await service.whole(response)
            response.stream = _Whole(body)
        elif is_head or not checks.gives_something(response):
            return
        try:
            self._judge(checks, response, body)
        except UpstreamBadResponse:
            await response.aclose()
            raise

    def _judge(self, checks: Checks, response: httpx.Response, body: bytes | None) -> None:
        faults = checks.of_answer(response.status_code, response.headers.get("content-type", ""), body)
        if faults:
            self._log.warning(
                "invalid_answer",
                service=self._service,
                operation=checks.name,
                status=response.status_code,
                faults=faults,
            )
            raise UpstreamBadResponse(
                self._service, "A service's answer is not as its own document has it", phase="body"
            )


class _Whole(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


def readable(headers: Headers) -> Headers:
    """What asks for an answer that can be read."""
    return [header for header in headers if header[0] != b"accept-encoding"]


class Checks:
    """What one operation wants of requests, and gives in answers."""

    def __init__(self, operation: Operation, contract: Contract) -> None:
        self.name = f"{operation.method} {operation.path}"
        self._captured: Mapping[str, bytes] = {}
        self._path_names = re.findall(r"\{([^{}]+)\}", operation.path)
        self._parameters = [
            _Parameter(each, contract)
            for each in operation.body["parameters"]
            if each["in"] in {"path", "query", "header"}
        ]
        body = contract.follow(operation.body.get("requestBody", {}))
        self._needs_body = bool(body.get("required"))
        self._takes = _compiled_by_type(body.get("content", {}), contract)
        self._gives = {
            str(status): _compiled_by_type(contract.follow(given).get("content", {}), contract)
            for status, given in operation.body.get("responses", {}).items()
        }

    def at(self, _path: bytes, captured: Mapping[str, bytes]) -> Checks:
        """The same for a request whose path has these values."""
        found = object.__new__(Checks)
        found.__dict__ |= self.__dict__
        found._captured = dict(zip(self._path_names, captured.values(), strict=False))
        return found

    async def checked(
        self, target: bytes, headers: Headers, client: Client, deadline: float
    ) -> bytes | AsyncIterator[bytes]:
        """The body, whole where it has to be judged, once everything is as it has to be; raises ClientError."""
        self._check_head(target, headers)
        kind = next((value.decode("latin-1") for name, value in headers if name == b"content-type"), "")
        if self._takes and _is_json(kind):
            content = await client.whole_body(deadline)
            self._check_body(kind, content)
            return content
        body = await client.body(deadline)
        if isinstance(body, bytes):
            self._check_body(kind, body)
        else:
            self._check_type(kind)
        return body

    def _check_head(self, target: bytes, headers: Headers) -> None:
        """Raise `BadUserInput` for parameters that are not as they have to be."""
        query: dict[str, list[str]] = {}
        for name, value in parameters(target.partition(b"?")[2]):
            query.setdefault(name, []).append(unquote_plus(value.decode("latin-1")))
        given = {
            "path": {name: [unquote(value.decode("latin-1"))] for name, value in self._captured.items()},
            "query": query,
            "header": {name.decode("latin-1"): [value.decode("latin-1")] for name, value in headers},
        }
        faults = [fault for each in self._parameters for fault in each.faults(given[each.place])][:_MOST]
        if faults:
            first = faults[0]
            raise BadUserInput(f"{first['parameter']}: {first['detail']}", members={"errors": faults})

    def _check_body(self, kind: str, body: bytes) -> None:
        """Raise for a body that is not as it has to be.

        Raises:
            BadRequest: it is missing, or not JSON.
            UnsupportedMediaType: it is of a type that is not taken.
            Unprocessable: it breaks the schema; the problem says where.
        """
        if not body:
            if self._needs_body:
                raise BadRequest(f"This needs a body: {' or '.join(self._takes)}")
            return
        self._check_type(kind)
        validator = _of_type(self._takes, kind)
        if validator is None or not _is_json(kind):
            return
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not JSON: {error}") from None
        if faults := list(_faults(validator, value)):
            raise Unprocessable(f"{faults[0]['pointer']}: {faults[0]['detail']}", members={"errors": faults})

    def _check_type(self, kind: str) -> None:
        if self._takes and not any(_is_of(each, kind) for each in self._takes):
            raise UnsupportedMediaType(f"The body has to be {' or '.join(self._takes)}")

    def gives_something(self, response: httpx.Response) -> bool:
        """Whether there is a body, whose type can be looked at."""
        return response.headers.get("content-length") != "0" and response.status_code not in _NO_BODY

    def of_answer(self, status: int, kind: str, body: bytes | None) -> list[str]:
        """Where an answer does not fit; nothing of one that the document does not describe."""
        given = self._gives.get(str(status), self._gives.get(f"{status // 100}XX", self._gives.get("default", {})))
        if not given or status >= 500 or status in _NO_BODY:
            return []
        if not any(_is_of(each, kind) for each in given):
            return [f"content-type {kind.partition(';')[0][:100]!r}"]
        validator = _of_type(given, kind)
        if body is None or validator is None:
            return []
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return ["not JSON"]
        return [f"{each['pointer']} {each['keyword']}" for each in _faults(validator, value)]


class _Parameter:
    def __init__(self, said: Object, contract: Contract) -> None:
        self.place: str = said["in"]
        self._name: str = said["name"]
        self._key = self._name.lower() if self.place == "header" else self._name
        self._required = bool(said.get("required"))
        schema = said.get("schema", {})
        self._judged = not (self.place == "header" and self._key in _OF_CREDENTIALS) and "content" not in said
        followed = contract.follow(schema)
        self._types = _types(followed)
        self._item_types = _types(contract.follow(followed.get("items", {})))
        explodes = said.get("explode", said.get("style", "form") == "form")
        self._parted = not explodes or self.place != "query"
        self._judged = self._judged and said.get("style") != "deepObject" and "object" not in self._types
        self._validator = _compiled(schema, contract) if self._judged else None

    def faults(self, given: Mapping[str, list[str]]) -> Iterator[Object]:
        values = given.get(self._key)
        if self._validator is None:
            return
        if values is None:
            if self._required:
                yield self._fault("is needed")
            return
        value: Any
        if "array" in self._types:
            parts = values[0].split(",") if self._parted and values[0] else values
            value = [_read(each, self._item_types) for each in parts]
        elif len(values) > 1:
            yield self._fault("comes more than once")
            return
        else:
            value = _read(values[0], self._types)
        for each in _faults(self._validator, value):
            yield self._fault(each["detail"])

    def _fault(self, detail: str) -> Object:
        return {"parameter": self._name, "in": self.place, "detail": detail}


def _types(schema: Object) -> frozenset[str]:
    said = schema.get("type", ())
    return frozenset((said,) if isinstance(said, str) else said)


def _read(text: str, types: frozenset[str]) -> Any:
    """The value that is meant; the text itself where it is none of that type, which the schema then says."""
    if "integer" in types and _INTEGER.fullmatch(text):
        return int(text)
    if "number" in types and _NUMBER.fullmatch(text):
        return float(text)
    if "boolean" in types and text in {"true", "false"}:
        return text == "true"
    return text


def _compiled_by_type(content: Mapping[str, Object], contract: Contract) -> dict[str, Any]:
    return {
        kind.partition(";")[0].strip().lower(): _compiled(each["schema"], contract) if "schema" in each else None
        for kind, each in content.items()
    }


def _compiled(schema: Any, contract: Contract) -> Any:
    """A validator whose patterns take linear time, since what they are matched against is written by strangers."""
    whole = {"allOf": [schema], "components": contract.components}
    try:
        return jsonschema_rs.Draft202012Validator(
            whole, validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except jsonschema_rs.ValidationError:
        # Look-around, which linear matchers do not have: with a bound on what they may try.
        options = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)
        return jsonschema_rs.Draft202012Validator(whole, validate_formats=True, pattern_options=options)


def _faults(validator: Any, value: Any) -> Iterator[Object]:
    for error, _ in zip(validator.iter_errors(value), range(_MOST), strict=False):
        keyword = str(error.schema_path[-1]) if error.schema_path else ""
        # The message begins with the value, which may be long, and may be nobody's business in a log.
        yield {"pointer": _pointer(error.instance_path), "detail": error.message[:200], "keyword": keyword}


def _pointer(path: Iterable[Any]) -> str:
    """As a fragment (RFC 6901 §6)."""
    return "#" + "".join(f"/{str(each).replace('~', '~0').replace('/', '~1')}" for each in path)


def _is_json(kind: str) -> bool:
    name = kind.partition(";")[0].strip().lower()
    return name == "application/json" or name.endswith("+json")


def _is_of(taken: str, kind: str) -> bool:
    name = kind.partition(";")[0].strip().lower()
    return taken in {"*/*", name} or (taken.endswith("/*") and name.startswith(taken[:-1]))


def _of_type(validators: Mapping[str, Any], kind: str) -> Any:
    return next((each for taken, each in validators.items() if _is_of(taken, kind)), None)
