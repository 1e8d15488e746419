"""Requests that say what attacks say are counted, and refused where a team wants that: rules over decoded values.

It stands in front of services that may not check what they are given. GraphQL documents are parsed, never matched: of
them the strings are read that go on to services, literal or in variables.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import chain, groupby
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import orjson
import re2
from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bff.core.errors import DeadlineExceeded, RequestBlocked
from bff.core.loading import did_you_mean
from bff.core.recent import Recent
from bff.core.route import Front, Route
from bff.core.settings import Complaint, Settings, Size
from bff.core.telemetry import Telemetry
from bff.edge.firewall.modsecurity import ModSecurity, ModSecuritySettings, Seen
from bff.edge.firewall.reading import (
    body_values,
    header_values,
    query_values,
    strings_of,
    text_of,
    text_type,
    upload_names,
)
from bff.edge.firewall.rules import Part, Rule, rules

Mode = Literal["off", "detect", "block"]
Where = Literal["path", "query", "headers", "body", "variables", "request"]

_MEMORY = 64 << 20  # of one set of rules at the most; RE2 begins anew when it is used up
_CLEAN_HEADERS = 2048
_OF_A_BODY = frozenset({b"content-type", b"content-length"})
_WORD = re.compile(r"[a-z0-9_-]*", re.ASCII)


class FirewallSettings(Settings):
    mode: Mode = "off"
    """`detect` counts and logs what `block` refuses with 403. A route may have its own, by `firewall`."""
    rules: Literal["default"] = "default"
    disabled: tuple[str, ...] = ()
    """Ids of rules that fit what your clients say: `[sql-json]`. The log names the rule of every match."""
    max_body: Size = 32 * 1024
    """Of a body, how much is read; what is beyond goes on unread."""
    modsecurity: ModSecuritySettings | None = None
    """The ModSecurity engine besides, where it is installed: `{rules: [/usr/share/modsecurity-crs/rules/*.conf]}`."""

    def problems(self) -> Iterable[Complaint]:
        known = [rule.id for rule in rules()]
        for index, each in enumerate(self.disabled):
            if each not in known:
                yield ("disabled", index), f"there is no rule `{each}`{did_you_mean(each, known)}"


def is_on(settings: FirewallSettings, routes: Iterable[Route]) -> bool:
    return settings.mode != "off" or any(route.firewall not in {None, "off"} for route in routes)


class Found(NamedTuple):
    rule: str
    where: Where


class Rules:
    """The rules of one part of a request, in sets that are matched at once.

    One set a category: RE2 follows all patterns of a set together, and hostile text can make that slow where many
    different ones meet.
    """

    def __init__(self, part: Part, disabled: Iterable[str]) -> None:
        mine = [rule for rule in rules() if rule.part == part and rule.id not in set(disabled)]
        by_category = groupby(mine, key=lambda rule: rule.id.partition("-")[0])
        self._sets = [_compiled(tuple(group)) for _, group in by_category]

    def match(self, text: str) -> str | None:
        """The id of a rule that one of the lines breaks."""
        encoded = text.encode("utf-8", "replace")
        for compiled, ids in self._sets:
            # Together first, since hardly anything ever matches; then line by line, since gaps in patterns cross lines.
            if compiled.Match(encoded):
                for line in encoded.split(b"\n"):
                    if found := compiled.Match(line):
                        rule: str = ids[found[0]]
                        return rule
        return None


@cache
def _compiled(group: tuple[Rule, ...]) -> tuple[re2.Set, list[str]]:
    options = re2.Options()
    options.case_sensitive = False
    options.max_mem = _MEMORY
    compiled = re2.Set.SearchSet(options)
    for rule in group:
        compiled.Add(f"(?m){rule.pattern}")
    compiled.Compile()
    return compiled, [rule.id for rule in group]


class Inspection:
    """Reads requests and finds what breaks a rule."""

    def __init__(self, settings: FirewallSettings) -> None:
        self._values = Rules("value", settings.disabled)
        self._paths = Rules("path", settings.disabled)
        self._agents = Rules("agent", settings.disabled)
        self._uploads = Rules("upload", settings.disabled)
        self._clean: Recent[tuple[bytes, bytes], None] = Recent(_CLEAN_HEADERS)

    def head(self, scope: Scope) -> Found | None:
        """Path, query and headers."""
        path, query = scope["raw_path"], scope["query_string"]
        route: Route = scope["bff.route"]
        if route.front is Front.GRAPHQL:
            query = b""  # a document and its variables, which are read where they are parsed
        if (rule := self._paths.match(text_of([path.decode("latin-1")]))) or (rule := self.values(_segments(path))):
            return Found(rule, "path")
        if query and (rule := self.values(query_values(query))):
            return Found(rule, "query")
        if rule := self.headers(scope["headers"]):
            return Found(rule, "headers")
        return None

    def body(self, kind: bytes, body: bytes) -> Found | None:
        rule = self.values(body_values(kind, body))
        if not rule and kind == b"multipart/form-data":
            rule = self._uploads.match(text_of(upload_names((), body.decode("utf-8", "replace"))))
        return Found(rule, "body") if rule else None

    def values(self, values: Iterable[str]) -> str | None:
        text = text_of(values)
        return self._values.match(text) if text else None

    def headers(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Clients send the same headers again and again: what was clean once is clean."""
        clean = self._clean
        fresh = [header for header in headers if header not in clean]
        if not fresh:
            return None
        rule = self.values(header_values(fresh)) or self._uploads.match(text_of(upload_names(fresh)))
        if not rule:
            agents = (value.decode("latin-1") for name, value in fresh if name == b"user-agent")
            rule = self._agents.match(text_of(agents))
        if not rule:
            clean.update(dict.fromkeys(fresh))
        return rule


def _segments(path: bytes) -> list[str]:
    """Of a path, what might be values: a word is none."""
    return [each for each in unquote(path.decode("latin-1")).split("/") if not _WORD.fullmatch(each)]


class Firewall:
    """After limits, so that the work of looking is on somebody's account.

    What is read of a body goes on as it came. `scope["bff.inspect"]` is for the stage that parses GraphQL.
    """

    def __init__(
        self, app: ASGIApp, settings: FirewallSettings, telemetry: Telemetry, modsecurity: ModSecurity | None = None
    ) -> None:
        self.app = app
        self.modsecurity = modsecurity
        self.mode = settings.mode
        self.max_body = settings.max_body
        self.inspection = Inspection(settings)
        self.log = telemetry.log
        self.matches = Counter(
            "bff_firewall_matches",
            "Requests that broke a rule of the firewall.",
            ["rule", "decision"],
            registry=telemetry.registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route | None = scope.get("bff.route")
        mode: Mode = (route and route.firewall) or self.mode
        if route is None or mode == "off":
            await self.app(scope, receive, send)
            return
        found = self.inspection.head(scope)
        if found:
            self._report(scope, mode, found)
        # A request counts once, but a websocket is as many as there are operations on it.
        if route.front is Front.GRAPHQL and (not found or scope["type"] == "websocket"):
            scope["bff.inspect"] = partial(self._inspect, scope, mode)
        elif not found and scope["type"] == "http":
            kind = text_type(scope["headers"])
            if kind is not None or self.modsecurity:
                receive = await self._read(scope, mode, kind, receive)
        await self.app(scope, receive, send)

    async def _inspect(self, scope: Scope, mode: Mode, literals: Iterable[str], variables: Mapping[str, Any]) -> None:
        """An operation's strings: those in its document, and those in the values of its variables."""
        if rule := self.inspection.values(chain(literals, strings_of([variables]))):
            self._report(scope, mode, Found(rule, "variables"))
        elif self.modsecurity:
            body = orjson.dumps({"literals": tuple(literals), "variables": variables})[: self.max_body]
            headers = [each for each in scope["headers"] if each[0] not in _OF_A_BODY]
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await self._ask(
                self.modsecurity, scope, mode, Seen(b"POST", scope["raw_path"], headers, body, _client(scope))
            )

    async def _read(self, scope: Scope, mode: Mode, kind: bytes | None, receive: Receive) -> Receive:
        messages, body = await self._begun(scope["bff.route"], receive)
        if body and kind is not None and (found := self.inspection.body(kind, body)):
            self._report(scope, mode, found)
        elif self.modsecurity:
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            seen = Seen(scope["method"].encode(), target, scope["headers"], body, _client(scope))
            await self._ask(self.modsecurity, scope, mode, seen)
        return _replayed(messages, receive)

    async def _ask(self, engine: ModSecurity, scope: Scope, mode: Mode, seen: Seen) -> None:
        try:
            async with asyncio.timeout(scope["bff.route"].timeout):
                rule = await engine.inspect(seen)
        except TimeoutError:
            raise DeadlineExceeded("The firewall did not come to an end in time") from None
        if rule:
            self._report(scope, mode, Found(f"modsecurity-{rule}", "request"))

    async def _begun(self, route: Route, receive: Receive) -> tuple[list[Message], bytes]:
        """The body's messages up to the bound, and what is in them."""
        messages, size, more = [], 0, True
        try:
            async with asyncio.timeout(route.timeout):
                while more and size < self.max_body:
                    message = await receive()
                    messages.append(message)
                    size += len(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            raise DeadlineExceeded("The body did not come in time") from None
        return messages, b"".join(message.get("body", b"") for message in messages)[: self.max_body]

    def _report(self, scope: Scope, mode: Mode, found: Found) -> None:
        """Raises `RequestBlocked` where the mode is to block."""
        self.matches.labels(found.rule, "blocked" if mode == "block" else "detected").inc()
        self.log.warning(
            "firewall",
            request_id=scope["bff.request_id"],
            route=scope["bff.route"].name,
            rule=found.rule,
            where=found.where,
            blocked=mode == "block",
        )
        if mode == "block":
            looks = "look" if found.where in {"headers", "variables"} else "looks"
            what = "This request" if found.where == "request" else f"The {found.where} of this request"
            raise RequestBlocked(f"{what} {looks} like an attack (rule {found.rule})", members={"rule": found.rule})


def _client(scope: Scope) -> bytes:
    return (scope["client"][0] if scope.get("client") else "127.0.0.1").encode()


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    waiting: Iterator[Message] = iter(messages)

    async def replayed() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replayed
