"""GraphQL over websockets, by the graphql-transport-ws protocol.

After https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md ; besides its close codes, a socket is closed with
4403 when its credential is bad or expires, and with 1001 when the gateway ends. Clients of that protocol come again
after both, a bounded number of times, and ask for their credential anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, aclosing, suppress
from typing import Any, Final

from prometheus_client import Counter, Gauge
from starlette.types import Receive, Scope, Send

from bff.core.certificates import certificate_of
from bff.core.errors import BadRequest, Forbidden, GatewayError, Overloaded, RateLimited, ShuttingDown, Unauthenticated
from bff.core.identity import Caller
from bff.core.lasting import Judge, Seats, end_of
from bff.core.origins import check_origin
from bff.core.requests import HEADER as EXPLAIN
from bff.core.telemetry import OTHER, Telemetry
from bff.edge.credentials import headers_in
from bff.edge.errors import entry, masked
from bff.edge.overload import Place
from bff.graphql.encoding import encoded
from bff.graphql.live.messages import Closed, id_of, parsed, payload_of
from bff.graphql.live.operations import Operations
from bff.graphql.request import Request, from_parameters
from bff.upstream.client import Origin

SUBPROTOCOL: Final = "graphql-transport-ws"

_REASON = 123  # bytes that a close frame has room for (RFC 6455 §5.5)
_CODES = (1000, 1001, 1005, 1006, 1009, 1011, 1012, 4400, 4401, 4403, 4406, 4408, 4409, 4429)


class Websockets:
    """The ASGI app for websockets at `graphql.path`.

    Args:
        operations: what executes what comes over them.
        origins: whose pages may open one, beside those of this host; `*` for all.
        judge: of the credential in `connection_init`.
        timeout: seconds for one operation, and for each event of a subscription.
        telemetry: where sockets and operations are logged and counted.
        clock: seconds since 1970, by which credentials expire.
    """

    def __init__(
        self,
        operations: Operations,
        origins: frozenset[str],
        judge: Judge,
        timeout: float,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.operations = operations
        self.settings = operations.settings
        self.origins = origins
        self.judge = judge
        self.timeout = timeout
        self.log = telemetry.log
        self.audit = telemetry.audit
        self.clock = clock
        self.seats = Seats(self.settings.max_per_caller, "websockets")
        self._sockets: dict[Socket, asyncio.Task[None]] = {}
        self._active = Gauge("graphql_websockets", "Websockets that are open.", registry=telemetry.registry)
        closed = Counter(
            "graphql_websockets_closed", "Websockets that were closed.", ["code"], registry=telemetry.registry
        )
        self._closed = {code: closed.labels(str(code)) for code in _CODES}
        self._closed_otherwise = closed.labels(OTHER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.operations.draining:
            raise ShuttingDown
        if len(self._sockets) >= self.settings.max_sockets:
            raise Overloaded("There are as many websockets as there may be", retry_after=1)
        check_origin(scope["headers"], self.origins)
        socket = Socket(self, scope, receive, send)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - ASGI apps are run by tasks
        self._sockets[socket] = task
        self._active.inc()
        try:
            await socket.serve()
        finally:
            del self._sockets[socket]
            self._active.dec()
            scope["bff.close"] = socket.code
            self._closed.get(socket.code, self._closed_otherwise).inc()

    async def close(self) -> None:
        """Let queries and mutations end, and close every socket; its client will come again, to somebody else."""
        sockets = dict(self._sockets)
        await asyncio.gather(*(socket.go_away() for socket in sockets))
        if sockets:
            await asyncio.wait(sockets.values())


class Socket:
    """One client's socket.

    Attributes:
        code: with which it was closed, by whichever side.
    """

    __slots__ = (
        "_app", "_asked", "_caller", "_count", "_credentials", "_explain", "_init", "_over", "_ready", "_receive",
        "_running", "_scope", "_seat", "_send", "_time", "_watch", "code",
    )  # fmt: skip

    def __init__(self, app: Websockets, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope, self._receive, self._send = scope, receive, send
        self._caller: Caller = scope["bff.caller"]
        self._credentials, self._asked = scope["bff.origin"].credentials, scope["bff.origin"].asked
        self._init = self._ready = self._explain = False
        self._running: dict[str, _Running] = {}
        self._count = 0
        self._seat = ExitStack()
        self._watch: asyncio.Task[None] | None = None
        self._time = asyncio.timeout(app.settings.init_timeout)
        self._over = Closed(4408, "Connection initialisation timeout")
        self.code = 1006

    async def serve(self) -> None:
        """Talk with the client until either side closes."""
        await self._receive()
        if SUBPROTOCOL not in self._scope["subprotocols"]:
            await self._send({"type": "websocket.accept"})
            await self._close(Closed(4406, f"Subprotocol not acceptable: speak {SUBPROTOCOL}"))
            return
        try:
            await self._send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
            async with self._time:
                await self._converse()
        except TimeoutError:
            await self._close(self._over)
        except Closed as closed:
            await self._close(closed)
        except OSError:
            pass  # it has gone while it was sent something
        finally:
            if self._watch:
                self._watch.cancel()
            self._seat.close()
            await self._end_operations()

    async def go_away(self) -> None:
        """The gateway ends: close, as soon as no query or mutation is under way."""
        single = [each.task for each in self._running.values() if not each.lasts]
        if single:
            await asyncio.wait(single)
        self._over_at(asyncio.get_running_loop().time(), Closed(1001, "The gateway is going away: come again"))

    def _over_at(self, when: float | None, why: Closed) -> None:
        with suppress(RuntimeError):  # it is over already
            self._time.reschedule(when)
            self._over = why

    async def _converse(self) -> None:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            await self._handle(parsed(message))
        self.code = message.get("code", 1005)

    async def _handle(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "connection_init":
                await self._initialise(payload_of(message))
            case "subscribe":
                await self._subscribe(id_of(message), message.get("payload"))
            case "complete":
                running = self._running.pop(id_of(message), None)
                if running is not None:
                    running.task.cancel()
            case "ping":
                payload = payload_of(message)
                await self._tell({"type": "pong", "payload": payload} if payload else {"type": "pong"})
            case "pong":
                pass
            case kind:
                raise Closed(4400, f"Invalid message: there is no type {str(kind)[:40]!r} from a client")

    # Who it is.

    async def _initialise(self, payload: dict[str, Any]) -> None:
        if self._init:
            raise Closed(4429, "Too many initialisation requests")
        self._init = True
        # Pages cannot set headers of a websocket.
        self._explain = any(name.lower() == EXPLAIN.decode() for name in payload)
        try:
            self._caller = self._scope["bff.caller"] = await self._app.judge.identify_connection(
                self._caller, payload, certificate_of(self._scope)
            )
            # What services are sent that ask for the caller's own credential.
            self._credentials = tuple(dict.fromkeys(headers_in(payload))) or self._credentials
            self._seat.enter_context(self._app.seats.taken(self._account))
        except RateLimited as error:
            raise Closed(4429, error.detail) from error
        except GatewayError as error:
            if error.status < 500:
                self._audit(error.code, error.detail)
            # What is ours to mend is worth another try; a bad credential is, with a new one.
            raise Closed(4403 if error.status < 500 else 1013, error.detail) from error
        expired, now = Closed(4403, "The credential has expired: connect with a new one"), self._app.clock()
        if self._caller.expires is not None and self._caller.expires <= now:
            # Good for a request still, by its issuer's leeway; a client that was let in would come again at once.
            raise expired
        self._over_at(end_of(self._caller, now), expired)
        if not self._caller.is_anonymous:
            self._watch = asyncio.create_task(self._end_when_revoked(payload))
        self._ready = True
        await self._tell({"type": "connection_ack"})

    async def _end_when_revoked(self, payload: dict[str, Any]) -> None:
        await self._app.judge.until_revoked(self._scope, payload)
        revoked = Closed(4403, "The credential is no longer what it was: connect anew")
        self._audit(Unauthenticated.code, str(revoked))
        self._over_at(asyncio.get_running_loop().time(), revoked)

    def _audit(self, code: str, reason: str, request_id: str = "") -> None:
        request_id, route = request_id or self._scope["bff.request_id"], self._scope["bff.route"].name
        self._app.audit("refused", request_id=request_id, code=code, reason=reason, route=route, method="WEBSOCKET")

    @property
    def _account(self) -> str:
        client = self._scope.get("client")
        return self._caller.account_at(client[0] if client else None)

    # What it asks.

    async def _subscribe(self, id: str, payload: object) -> None:
        if not self._ready:
            raise Closed(4401, "Unauthorized: send connection_init first")
        if not isinstance(payload, dict):
            raise Closed(4400, "Invalid message: the payload of subscribe must be an object")
        if id in self._running:
            raise Closed(4409, f"Subscriber for {id} already exists")
        try:
            request = from_parameters(payload)
        except BadRequest as error:
            raise Closed(4400, f"Invalid message: {error.detail}") from error
        self._count += 1
        request_id = f"{self._scope['bff.request_id']}.{self._count}"
        if len(self._running) >= self._app.settings.max_operations:
            # Told from here, so that nothing more is read of a client that does not listen.
            crowded = RateLimited("This websocket has as many operations under way as it may: wait for one to end")
            await self._tell({"id": id, "type": "error", "payload": [entry(crowded, request_id)]})
            return
        running = self._running[id] = _Running(id, request_id)
        running.task = asyncio.create_task(self._run(running, request))

    async def _run(self, running: _Running, request: Request) -> None:
        started, code = time.perf_counter(), None
        try:
            code = await self._answer(running, request)
        except GatewayError as error:
            code = error.code
            if isinstance(error, Unauthenticated | Forbidden):
                self._audit(error.code, error.detail, running.request_id)
            await self._last(running, [entry(error, running.request_id)])
        except OSError:
            pass  # the client has gone, which `_converse` is told as well
        except Exception as error:  # noqa: BLE001 - a socket outlives what goes wrong with one of its operations
            failure = masked(error, running.request_id, self._app.log)
            code = failure.code
            await self._last(running, [entry(failure, running.request_id)])
        finally:
            if running.place is not None:
                running.place.leave()
            self._forget(running)
            self._report(running, time.perf_counter() - started, code)

    async def _answer(self, running: _Running, request: Request) -> str | None:
        """Send all results; the code of the first error, if there is no more than that."""
        operations = self._app.operations
        running.place = self._scope["bff.place"](self._caller)
        tab = self._scope["bff.tab"](self._caller)
        prepared = await operations.admit(tab, request, self._caller)
        if isinstance(prepared, dict):
            return await self._last(running, prepared["errors"])
        running.name, running.kind = prepared.operation.name, prepared.operation.type.value
        if running.lasts:
            running.place.leave()  # it does little but wait
        if inspect := self._scope.get("bff.inspect"):
            await inspect(prepared.document.literals, request.variables)
        facts = {
            "bff.request_id": running.request_id,
            "bff.operation": running.name,
            "bff.cost": prepared.estimate.cost,
        }
        explaining = operations.requests.explaining(self._scope, facts, besides=self._explain)
        results = operations.results(
            prepared, lambda: self._origin(running), self._account, "websocket", tab, explaining
        )
        async with aclosing(results):
            async for result in results:
                if "data" not in result:
                    return await self._last(running, result["errors"])
                running.results += 1
                await self._tell({"id": running.id, "type": "next", "payload": result})
        self._forget(running)
        await self._tell({"id": running.id, "type": "complete"})
        return None

    async def _last(self, running: _Running, errors: list[dict[str, Any]]) -> str | None:
        self._forget(running)
        with suppress(OSError):
            await self._tell({"id": running.id, "type": "error", "payload": errors})
        return errors[0]["extensions"]["code"] if errors else None

    def _origin(self, running: _Running) -> Origin:
        deadline = asyncio.get_running_loop().time() + self._app.timeout
        asked = self._asked and self._asked.again()
        return Origin(
            self._caller, self._scope["bff.trace"], running.request_id, deadline, self._credentials, asked=asked
        )

    def _forget(self, running: _Running) -> None:
        """From here on its id is free."""
        if self._running.get(running.id) is running:
            del self._running[running.id]

    async def _end_operations(self) -> None:
        tasks = [each.task for each in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # How it is told.

    async def _tell(self, message: dict[str, Any]) -> None:
        await self._send({"type": "websocket.send", "text": encoded(message).decode()})

    async def _close(self, closed: Closed) -> None:
        self.code = closed.code
        reason = closed.reason.encode()[:_REASON].decode(errors="ignore")
        with suppress(OSError):
            await self._send({"type": "websocket.close", "code": closed.code, "reason": reason})

    def _report(self, running: _Running, seconds: float, code: str | None) -> None:
        facts = {"code": code} if code else {}
        self._app.log.info(
            "operation",
            request_id=running.request_id,
            trace_id=self._scope["bff.trace"].trace_id,
            operation=running.name,
            kind=running.kind,
            results=running.results,
            duration_ms=round(seconds * 1000, 3),
            **facts,
        )


class _Running:
    """An operation under way."""

    __slots__ = ("id", "kind", "name", "place", "request_id", "results", "task")

    def __init__(self, id: str, request_id: str) -> None:
        self.id = id
        self.request_id = request_id
        self.name = self.kind = ""
        self.results = 0
        self.place: Place | None = None
        self.task: asyncio.Task[None]

    @property
    def lasts(self) -> bool:
        return self.kind == "subscription"
