"""The gateway's own OpenAPI 3.1 document: all REST routes, what services say of theirs, and what the gateway adds."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from bff.core.entitlements import Entitlements
from bff.core.errors import Code
from bff.core.request import RequestView
from bff.core.route import METHODS, Route
from bff.edge.routing import Matcher
from bff.edge.routing.conditions import answered
from bff.rest.openapi.aggregates import Described, as_described, contracts_of
from bff.rest.openapi.contract import Contract, Object, Operation
from bff.rest.openapi.paths import generic, names_in, outer, parameters_of, sample

_PROBLEM = "application/problem+json"
_SCHEMA = {"$ref": "#/components/schemas/Problem"}
# What the gateway itself may answer; the codes are explained in docs/errors.md.
_REFUSALS = {
    "400": ("BadRequest", "The request is not well-formed, or an argument cannot be served"),
    "401": ("Unauthenticated", "A credential is needed, or the one that was sent is not good"),
    "403": ("Forbidden", "The caller may not do this"),
    "413": ("PayloadTooLarge", "The body is larger than this route takes"),
    "415": ("UnsupportedMediaType", "The body is of a type that is not taken here"),
    "422": ("Unprocessable", "The body is well-formed, and not as it has to be"),
    "429": ("RateLimited", "The caller has spent what it may; `Retry-After` says when there is more"),
    "502": ("BadGateway", "The service failed, or answered with nonsense"),
    "503": ("Unavailable", "The service cannot be reached, or the gateway has too much to do"),
    "504": ("Timeout", "The service, or the whole request, took too long"),
    "default": ("Problem", "Any other refusal or failure"),
}
_SEGMENT = r"^(?!\.{1,2}(;|$))[^/\\%\u0000-\u001f\u007f]+$"  # see bff/edge/guard.py
_PATIENT = frozenset({"429", "503"})
_BOUNDED = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True)
class Entry:
    """One operation of the document."""

    path: str
    method: str
    body: Object


@dataclass(frozen=True)
class Description:
    """All that the document is made of; `of` makes it for a caller.

    Attributes:
        title, version: of the API, for `info`.
        entries: every operation, by path and method.
        components: what they refer to.
    """

    title: str
    version: str
    entries: Sequence[Entry]
    components: Mapping[str, Object]

    def of(self, table: Entitlements | None) -> Object:
        """The document, or what a table of entitlements leaves of it: operations that are allowed with any values."""
        paths: dict[str, Object] = {}
        for each in self.entries:
            if table is None or table.allows_request(each.method, sample(each.path)):
                paths.setdefault(each.path, {})[each.method.lower()] = each.body
        used = sorted({tag for item in paths.values() for body in item.values() for tag in body["tags"]})
        return {
            "openapi": "3.1.0",
            "info": {"title": self.title, "version": self.version},
            "servers": [{"url": "/"}],
            "tags": [{"name": name} for name in used],
            "paths": paths,
            "components": _reachable(paths, self.components),
        }


class Methods:
    """Which methods a path has, as far as it is described: less than the routes of a whole service have together."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        by_path: dict[str, set[str]] = {}
        for each in entries:
            names = count()
            path = "/".join(f"{{p{next(names)}}}" if "{" in part else part for part in each.path.split("/"))
            by_path.setdefault(path, set()).add(each.method)
        self._matcher = Matcher(Route(path, path, methods=frozenset(found)) for path, found in by_path.items())

    def of(self, raw_path: bytes) -> frozenset[str] | None:
        """None where nothing is known of it."""
        view = RequestView({"headers": []})
        found = [self._matcher.matches(method, raw_path, view) for method in METHODS]
        return frozenset().union(*(answered(each[0].route) for each in found if each)) or None


def describe(
    routes: Sequence[Route],
    contracts: Mapping[str, Contract],
    schemes: Mapping[str, Object],
    limits: Iterable[str],
    *,
    remade: Container[str] = (),
    aggregates: Mapping[str, Described] = {},
    title: str,
    version: str,
) -> Description:
    """The description of these routes.

    Args:
        routes: all of the gateway, in any order; those of REST are described.
        contracts: of services that have a document.
        schemes: how callers show who they are.
        limits: the headers by which the gateway says what is left.
        aggregates: what is known of each of them, by the names of their routes.
        remade: routes whose bodies are not those of their service, by name.
        title: what the API is called.
        version: which one of it this is.
    """
    routes, pages = list(as_described(routes, aggregates)), contracts_of(aggregates)
    gateway = _Gateway(routes, schemes, tuple(limits))
    entries: dict[tuple[str, str], Entry] = {}
    ids: set[str] = set()
    # Of routes on one path, the one that has no conditions is what most callers meet.
    for route in sorted(routes, key=_is_conditional):
        if route.service is not None or route.name in pages:
            contract = None if route.name in remade else contracts.get(route.service or "", pages.get(route.name))
            for each in gateway.entries(route, contract):
                if (each.path, each.method) not in entries:
                    each.body["operationId"] = _unique(each.body["operationId"], route.name, ids)
                    entries[each.path, each.method] = each
    components = gateway.components()
    for contract in (*contracts.values(), *pages.values()):
        for kind, values in contract.components.items():
            components.setdefault(kind, {}).update(values)
    return Description(title, version, sorted(entries.values(), key=lambda each: each.path), components)


def told_of(route: Route) -> Route:
    """What a description can tell of a route: all else may change and it stays as it is."""
    return replace(
        route, cost=1, cost_header=None, concurrency=None, max_body=0, timeout=0.0, cache=False, firewall=None
    )


def _is_conditional(route: Route) -> bool:
    return bool(route.hosts or route.conditions or route.when)


def _unique(name: str, route: str, taken: set[str]) -> str:
    if name in taken:
        name = f"{route}.{name}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


class _Gateway:
    """What is the gateway's own in every operation."""

    def __init__(self, routes: Sequence[Route], schemes: Mapping[str, Object], limits: Sequence[str]) -> None:
        self._matcher = Matcher(routes)
        self._schemes = schemes
        self._limits = limits

    def entries(self, route: Route, contract: Contract | None) -> Iterator[Entry]:
        found = False
        for operation in contract.operations if contract else ():
            place = outer(route, operation.path)
            if place and operation.method in answered(route) and self._answers(route, operation.method, place.path):
                found = True
                assert contract is not None  # noqa: S101 - for the type checker
                body = self._body(route, operation, contract)
                kept = [
                    each for each in body["parameters"] if not (each["in"] == "path" and each["name"] in place.fixed)
                ]
                body["parameters"] = [_passable(each) for each in _asked(route, kept)] + [
                    _text(name) for name in sorted(place.added)
                ]
                yield Entry(place.path, operation.method, body)
        if not found:
            yield from self._generic(route)

    def _answers(self, route: Route, method: str, path: str) -> bool:
        """Whether a more specific one does not."""
        if _is_conditional(route):
            return True
        raw = sample(path).encode()
        matches = self._matcher.matches(method, raw, RequestView({"headers": [], "query_string": b"", "path": path}))
        return bool(matches) and matches[-1].route is route

    def _generic(self, route: Route) -> Iterator[Entry]:
        for path in generic(route):
            for method in sorted(answered(route) - {"HEAD", "OPTIONS"}):
                if self._answers(route, method, path):
                    body: Object = {"operationId": f"{route.name}.{method.lower()}", "parameters": []}
                    if method in _BOUNDED:
                        body["requestBody"] = {"content": {"*/*": {}}}
                    operation = Operation(path, method, body)
                    entry = self._body(route, operation, Contract(str(route.service), (), {}))
                    entry["parameters"] = [_text(name) for name in names_in(path)]
                    yield Entry(path, method, entry)

    def _body(self, route: Route, operation: Operation, contract: Contract) -> Object:
        kept = ("summary", "description", "operationId", "parameters", "requestBody", "deprecated", "externalDocs")
        body: Object = {"tags": [contract.service]}
        body |= {key: operation.body[key] for key in kept if key in operation.body}
        body.setdefault("operationId", f"{route.name}.{operation.method.lower()}")
        if _is_conditional(route):
            said = [f"host {' or '.join(route.hosts)}"] if route.hosts else []
            said += [str(each) for each in route.conditions] + ([str(route.when)] if route.when else [])
            body["description"] = f"{body.get('description', '')}\n\nOnly where {' and '.join(said)}.".strip()
        body["responses"] = self._responses(route, operation, contract)
        body["security"] = self._security(route, operation.method)
        return body

    def _security(self, route: Route, method: str) -> list[Object]:
        scopes = sorted(route.scopes_for(method))
        ways: list[Object] = [{name: scopes} for name in self._schemes]
        return [{}, *ways] if route.public and not scopes and not route.policies else ways

    def _responses(self, route: Route, operation: Operation, contract: Contract) -> Object:
        found: Object = {}
        for status, given in operation.body.get("responses", {}).items():
            # A service's own 5xx is replaced, unless the route relays it.
            if not str(status).startswith("5") or route.relay_errors:
                found[str(status)] = dict(contract.follow(given))
        own = self._refusals(route, operation, found)
        for status in own & found.keys():
            found[status] |= _with_ours(found[status], status)
        for status, response in found.items():
            response["headers"] = self._headers(status) | response.get("headers", {})
        for status in own - found.keys():
            found[status] = {"$ref": f"#/components/responses/{_REFUSALS[status][0]}"}
        return dict(sorted(found.items()))

    def _refusals(self, route: Route, operation: Operation, theirs: Iterable[str]) -> set[str]:
        """What the gateway may answer in the place of the service."""
        own = {*_REFUSALS}
        if "requestBody" not in operation.body:
            own -= {"413"}
        if route.public and not route.policies and not route.scopes_for(operation.method):
            own -= {"403"}
        if not self._limits:
            own -= {"429"}
        return own - ({"415", "422"} - {*theirs})  # those only with the service's own

    def _headers(self, status: str) -> Object:
        names = ["x-request-id", *self._limits, *(["Retry-After"] if status in _PATIENT else [])]
        return {name: {"$ref": f"#/components/headers/{name}"} for name in names}

    def components(self) -> dict[str, Object]:
        headers: Object = {
            "x-request-id": _header("What the gateway's log calls this request", {"type": "string"}),
            "Retry-After": _header("Seconds after which it may work again", {"type": "integer", "minimum": 0}),
        }
        for name in self._limits:
            headers[name] = _header(
                "What the caller may spend, and has left, where a limit applies", {"type": "string"}
            )
        content = {_PROBLEM: {"schema": _SCHEMA}}
        responses = {
            name: {"description": said, "content": content, "headers": self._headers(status)}
            for status, (name, said) in _REFUSALS.items()
        }
        return {
            "schemas": {"Problem": _problem()},
            "headers": headers,
            "responses": responses,
            "securitySchemes": dict(self._schemes),
        }


def _asked(route: Route, parameters: list[Object]) -> list[Object]:
    """The parameters by the names that clients know them by, where a `rewrite` says which go on."""
    if "?" not in (route.rewrite or ""):
        return parameters
    outward = dict(parameters_of(route))
    rest = [each for each in parameters if each["in"] != "query"]
    return rest + [
        {**each, "name": outward[each["name"]]}
        for each in parameters
        if each["in"] == "query" and each["name"] in outward
    ]


def _text(name: str) -> Object:
    return _passable({"name": name, "in": "path", "required": True, "schema": {"type": "string"}})


def _passable(parameter: Object) -> Object:
    """A path parameter whose values the guard lets through, where the service does not say anything closer."""
    schema = parameter.get("schema", {})
    if parameter["in"] != "path" or schema.get("type") != "string" or {"pattern", "enum", "format"} & schema.keys():
        return parameter
    return {**parameter, "schema": {**schema, "pattern": _SEGMENT}}


def _header(description: str, schema: Object) -> Object:
    return {"description": description, "schema": schema}


def _with_ours(theirs: Object, status: str) -> Object:
    """A status that both the service and the gateway may answer with."""
    content = dict(theirs.get("content", {}))
    said = content.get(_PROBLEM, {}).get("schema")
    content[_PROBLEM] = {**content.get(_PROBLEM, {}), "schema": {"anyOf": [said, _SCHEMA]} if said else _SCHEMA}
    return {**theirs, "description": theirs.get("description") or _REFUSALS[status][1], "content": content}


def _problem() -> Object:
    text = {"type": "string"}
    return {
        "description": "RFC 9457; `code` is for programs, `detail` for people",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            **dict.fromkeys(("type", "title", "detail", "request_id"), text),
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": [each.value for each in Code]},
        },
    }


def _reachable(paths: Object, components: Mapping[str, Object]) -> Object:
    """The components that something leads to: of what a caller may not use, nothing is shown."""
    kept: dict[str, Object] = {"securitySchemes": dict(components.get("securitySchemes", {}))}
    waiting: list[Any] = [paths]
    while waiting:
        match waiting.pop():
            case dict() as given:
                reference = given.get("$ref")
                if isinstance(reference, str):
                    _, _, kind, name = reference.split("/")
                    if name not in kept.setdefault(kind, {}) and name in components.get(kind, {}):
                        kept[kind][name] = components[kind][name]
                        waiting.append(components[kind][name])
                waiting += given.values()
                if isinstance(given.get("discriminator"), dict):
                    waiting += [{"$ref": each} for each in given["discriminator"].get("mapping", {}).values()]
            case list() as items:
                waiting += items
    return {kind: dict(sorted(values.items())) for kind, values in sorted(kept.items()) if values}
