"""`bff check request`: what would become of a request, found out by sending it through a gateway without services.

Only identity providers are asked, for the keys that a token is checked with. What services would be asked is recorded.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpx
import orjson

if TYPE_CHECKING:
    from bff.config import Config
    from bff.rest.settings import RestRouteSettings

Rows = Iterator[tuple[str, str]]


class Recorded(httpx.AsyncBaseTransport):
    """A network on which services answer nothing, and everything else is as real as `others`."""

    def __init__(self, hosts: Iterable[str], others: httpx.AsyncBaseTransport) -> None:
        self.calls: list[tuple[httpx.Request, bytes]] = []
        self._hosts = frozenset(hosts)
        self._others = others

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.netloc.decode() not in self._hosts:
            return await self._others.handle_async_request(request)
        body = await request.aread()
        self.calls.append((request, body))
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(b"{}"))


def explained(config: Config, method: str, target: str, headers: list[str], body: bytes) -> str:
    """All of it, as lines of text; raises ConfigError where the gateway would not start."""
    return "\n".join(
        f"{label:10}{text}".rstrip() for label, text in asyncio.run(_explained(config, method, target, headers, body))
    )


async def _explained(
    config: Config, method: str, target: str, headers: list[str], body: bytes
) -> list[tuple[str, str]]:
    from bff.app import build
    from bff.core.telemetry import JsonLog, Telemetry
    from bff.upstream.transport import Transport, TransportSettings

    real = Transport(TransportSettings())
    hosts = [urlsplit(each).netloc for service in config.services.values() for each in _urls(service)]
    network = Recorded(hosts, real)
    app = build(config, network=network, telemetry=Telemetry(log=JsonLog(BytesIO())))
    scope = _scope(config, method, target, headers, body)
    status, answer = await _sent(app, scope, body)
    await real.aclose()
    rows = [("request", f"{method} {target}")]
    rows += _routes(config, scope, body)
    rows += _layers(config, [str(getattr(layer.cls, "__name__", "")) for layer in app.layers], scope)
    rows += _calls(network)
    rows += _answer(status, answer, relayed=bool(network.calls))
    return rows


def _urls(service: Any) -> list[str]:
    """Of all its deployments."""
    dumped = service.model_dump(mode="json")
    found = [dumped["url"]] if dumped.get("url") else []
    return found + [url for urls in (dumped.get("targets") or {}).values() for url in urls]


def _scope(config: Config, method: str, target: str, headers: list[str], body: bytes) -> dict[str, Any]:
    path, _, query = target.partition("?")
    given = []
    for line in headers:
        name, _, value = line.partition(":")
        given.append((name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")))
    names = {name for name, _ in given}
    if b"host" not in names:
        given.append((b"host", f"{config.server.host}:{config.server.port}".encode()))
    if body and not names & {b"content-length", b"transfer-encoding"}:
        given.append((b"content-length", b"%d" % len(body)))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii", "replace"),
        "query_string": query.encode("ascii", "replace"),
        "root_path": "",
        "headers": given,
        "client": ("127.0.0.1", 0),
    }


async def _sent(app: Any, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    parts = [{"type": "http.request", "body": body}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


def _routes(config: Config, scope: dict[str, Any], body: bytes) -> Rows:
    from bff.core.identity import ANONYMOUS
    from bff.core.request import RequestView
    from bff.edge.routing.explain import passed_over

    chosen = scope.get("bff.route")
    yield "route", described(chosen) if chosen else "none"
    routes = config.all_routes()
    chosen = next((each for each in routes if chosen and each.name == chosen.name and each.path == chosen.path), None)
    view = RequestView({"bff.caller": ANONYMOUS, **scope})
    try:
        view["body"] = orjson.loads(body)
    except orjson.JSONDecodeError:
        view["body"] = None
    others = list(passed_over(routes, chosen, scope["method"], scope["raw_path"], view))
    for each, why in others:
        yield "not", f"{each.name}: {why}"
    elsewhere = len(routes) - len(others) - (chosen is not None)
    if elsewhere:
        yield "not", f"{elsewhere} that have other paths"


def described(route: Any) -> str:
    """A route as `bff routes` lists it, in one line."""
    methods = ",".join(sorted(route.methods)) if route.methods else "*"
    return "  ".join([route.name, methods, route.path, *conditions(route)])


def conditions(route: Any) -> list[str]:
    found = [f"host {' | '.join(route.hosts)}"] if route.hosts else []
    found += map(str, route.conditions)
    if route.when:
        found.append(f"when {route.when}")
    return found


def needs(route: Any) -> str:
    """What somebody has to show to pass, in words."""
    if route.front == "aggregate":
        return "what its fields need"
    parts = [] if route.public else ["a credential"]
    if route.read_scopes == route.write_scopes:
        parts += sorted(route.read_scopes)
    else:
        parts += [f"{each} to read" for each in sorted(route.read_scopes)]
        parts += [f"{each} to write" for each in sorted(route.write_scopes)]
    parts += [f"policy {name}" for name in route.policies]
    return ", ".join(parts) or "nothing"


def websockets(route: RestRouteSettings) -> str:
    """Within which bounds a route passes them on, in words; empty where it does not."""
    bounds = route.sockets
    if bounds is None:
        return ""
    said = bounds.model_dump(mode="json")
    return (
        f"{said['max_open']} at a time, {said['max_per_caller']} of a caller, "
        f"messages up to {said['max_message']}, silent for {said['idle_timeout']}"
    )


def _layers(config: Config, names: list[str], scope: dict[str, Any]) -> Rows:
    """In the order in which a request crosses them, with what they go by for this one."""
    settings = config.model_dump(mode="json")
    route = scope.get("bff.route")
    server, limits = settings["server"], settings["limits"]
    of_route = next((each for each in config.routes if route and each.name == route.name), None)
    said = {
        "Cors": f"origins {', '.join((server['cors'] or {}).get('origins', []))}",
        "Guard": f"headers up to {server['max_headers']}, bodies up to {server['max_body']}",
        "AddressLimit": f"{limits['per_address']} from one address ({limits['modes']['address'] or limits['mode']})",
    }
    if route:
        said |= {"Auth": _auth(config, scope), "Limits": _limits(settings, scope)}
        said |= {"Firewall": route.firewall or settings["firewall"]["mode"], "Fronts": str(route.front)}
    if of_route:
        bounds = of_route.model_dump(mode="json")
        said["Fronts"] += f": bodies up to {bounds['max_body']}, all within {bounds['timeout']}"
        if sockets := websockets(of_route):
            said["Fronts"] += f"; websockets: {sockets}"
    for name in names:
        if name not in {"Observe", "Hardening", "Errors"}:  # they have nothing to decide
            yield "layer", f"{_words(name):14}{said.get(name, '')}"


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _auth(config: Config, scope: dict[str, Any]) -> str:
    caller = scope.get("bff.caller")
    text = f"needs {needs(scope['bff.route'])}; "
    if caller is None:
        return text + "the credential is refused"
    who = " ".join(filter(None, (caller.credential, caller.subject, caller.consumer)))
    text += f"the caller is {who}, tier {caller.tier}, scopes {' '.join(sorted(caller.scopes)) or 'none'}"
    table = config.tables().name(caller)
    return f"{text}, entitled to what {table} says" if table else text


def _limits(settings: dict[str, Any], scope: dict[str, Any]) -> str:
    route, caller = scope["bff.route"], scope.get("bff.caller")
    if caller is None:
        return "not reached"
    tiers = settings["tiers"]
    tier = tiers.get(caller.tier) or tiers.get("default") or {}
    windows = [*tier.get("rate", []), *([f"quota {tier['quota']}"] if tier.get("quota") else [])]
    most = [f"{each} at a time" for each in (tier.get("concurrency"), route.concurrency) if each]
    return f"costs {route.cost}; {', '.join([*windows, *most]) or 'nothing limits it'} ({settings['limits']['mode']})"


def _calls(network: Recorded) -> Rows:
    for request, body in network.calls:
        target: bytes = request.extensions.get("target", request.url.raw_path)
        yield "service", f"{request.method} {request.url.scheme}://{request.url.netloc.decode()}{target.decode()}"
        for name, value in request.headers.raw:
            shown = "..." if name.lower() in {b"authorization", b"x-api-key", b"cookie"} else value.decode("latin-1")
            yield "", f"{name.decode().lower()}: {shown}"
        if body:
            yield "", f"({len(body)} bytes)"


def _answer(status: int, answer: bytes, *, relayed: bool) -> Rows:
    if relayed and status in {200, 502}:  # that what services answer here makes no sense says nothing of them
        yield "answer", "the service's"
        return
    try:
        said = orjson.loads(answer)
        yield "answer", f"{status} {said['code']}: {said['detail']}"
    except (orjson.JSONDecodeError, LookupError, TypeError):
        yield "answer", str(status)


def body_of(text: str | None) -> bytes:
    """What `--body` says: text, `@file` or `@-`."""
    if not text:
        return b""
    if text == "@-":
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
