"""The admin port of a gateway of several processes: each worker is asked, and what they say is put together."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bff.console.access import Operators
from bff.console.limits import limits_of_all
from bff.console.live import SNAPSHOT, Live, Snapshots, snapshot_of_all
from bff.console.purges import purged_by_all
from bff.console.requests import DEFAULT_LIMIT, requests_of_all
from bff.console.totals import Totals
from bff.console.upstreams import upstreams_of_all
from bff.core.settings import Secret
from bff.core.traffic import figures
from bff.core.usage import of_all

_PATIENCE: Final = 2.0
"""Seconds that a worker has to answer: one that is late is left out."""
_WHILE_BUILDING: Final = 120.0
"""Seconds for what has the whole gateway made anew, in all workers at once."""

_METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_MAX_BODY: Final = 1024 * 1024
# Of the connection alone, between two processes.
_HOP: Final = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding", "date", "server"})
# Nothing is encrypted on a socket of this machine, and to make one of these for each connection takes a while.
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
Merge = Callable[[Sequence[Any]], Any]
"""What several workers say, as one says it."""

_MERGED: Final[Mapping[str, Merge]] = {
    "/-/cache/purge": purged_by_all,
    "/-/limits": limits_of_all,
    "/-/upstreams": upstreams_of_all,
    "/-/usage": of_all,
}


class Worker(NamedTuple):
    """A process that takes clients.

    Attributes:
        place: which of them it is, from 0 on; who takes the place of a dead one has the same.
        pid: its process.
        path: the socket at which it says what operators ask.
    """

    place: int
    pid: int
    path: Path


class Workers(Collector):
    """Those that live.

    Args:
        number: how many there are to be.
        living: those that there are.
        lost: how many of each place have ended unasked.
    """

    def __init__(self, number: int, living: Callable[[], Sequence[Worker]], lost: Callable[[], Sequence[int]]) -> None:
        self.number, self.living, self._lost = number, living, lost

    def collect(self) -> list[Metric]:
        up = GaugeMetricFamily("bff_workers", "Processes that take clients.", value=len(self.living()))
        lost = CounterMetricFamily("bff_workers_lost", "Workers that ended unasked.", labels=["worker"])
        for place, count in enumerate(self._lost()):
            lost.add_metric([str(place)], count)
        return [up, lost]

    async def ask(self, question: Question, patience: float = _PATIENCE) -> list[tuple[Worker, httpx.Response | None]]:
        """The same of all of them; None where one does not say in `patience` seconds."""
        living = self.living()
        asking = (_ask(each, question, patience) for each in living)
        return list(zip(living, await asyncio.gather(*asking), strict=True))

    async def told(self, question: Question) -> list[Any]:
        """What all say that have something to say."""
        return [answer.json() for _, answer in await self.ask(question) if answer and answer.is_success]


class Question(NamedTuple):
    """What workers are asked: a request, as it came or of our own."""

    method: str
    target: bytes
    headers: Mapping[str, str]
    body: bytes = b""

    @classmethod
    async def of(cls, request: Request, **headers: str) -> Question:
        """With these headers besides."""
        query: bytes = request.scope["query_string"]
        target: bytes = request.scope["raw_path"]
        target += b"?" + query if query else b""
        return cls(request.method, target, _passed_on(request.headers) | headers, await _body(request))


def over_workers(workers: Workers, *, token: Secret | None, metrics: bool, viewers: int) -> FastAPI:
    """The app of the admin port. Who may see what is judged here, since workers see none of the connection.

    `?worker=1` asks one of them alone. What changes something is asked of all; what is to be read, of all whose words
    can be put together, else of the first.
    """
    quiet: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="Gateway administration", docs_url=None, redoc_url=None, openapi_url=None, telemetry=quiet)
    operators = Operators(token)
    totals, own = Totals(), CollectorRegistry()
    own.register(workers)

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready(request: Request) -> Response:
        return _readiness(await workers.ask(await Question.of(request)), workers.number)

    if metrics:

        @app.get("/metrics", dependencies=[Depends(operators.judge_scrape)])
        async def measured(request: Request) -> Response:
            if "worker" in request.query_params:
                return await _other(workers, request)
            # That is what is added up.
            answers = await workers.ask(await Question.of(request, accept="text/plain"))
            said = {worker.pid: answer.text if answer else None for worker, answer in answers}
            return Response(totals.text(said, own), media_type=CONTENT_TYPE_LATEST)

    app.include_router(_seen(workers, token, viewers), dependencies=[Depends(operators.judge)])

    @app.api_route("/{path:path}", methods=_METHODS)
    async def other(request: Request) -> Response:
        if not request.url.path.startswith("/console"):
            operators.judge(request)
        return await _other(workers, request)

    return app


def _seen(workers: Workers, token: Secret | None, viewers: int) -> APIRouter:
    """What the console shows and what passes, of all of them together."""
    pages = APIRouter()
    asked = Question("GET", SNAPSHOT.encode(), {"authorization": f"Bearer {token.reveal()}"} if token else {})

    async def snapshot() -> dict[str, Any] | None:
        said = await workers.told(asked)
        up = {"up": len(said), "of": workers.number}
        return {**snapshot_of_all(said), "workers": up} if said else None

    seen = Live(snapshot, viewers)

    @pages.get("/-/live")
    async def live(request: Request, snapshots: Snapshots = None) -> Response:
        return await _other(workers, request) if "worker" in request.query_params else seen.answer(snapshots)

    @pages.get("/-/traffic")
    async def traffic(request: Request) -> Response:
        if "worker" in request.query_params:
            return await _other(workers, request)
        said = [each["traffic"] for each in await workers.told(asked)]
        return JSONResponse(figures(said)) if said else _relayed(None)

    return pages


def _readiness(answers: Sequence[tuple[Worker, httpx.Response | None]], number: int) -> Response:
    """Ready while one of them is: it takes the requests of those that are not there."""
    said = [answer for _, answer in answers if answer]
    ready = [each for each in said if each.status_code == 200]
    problems = {name: why for each in said for name, why in each.json().get("problems", {}).items()}
    workers = {"workers": {"ready": len(ready), "of": number}}
    if ready:
        return JSONResponse(ready[0].json() | workers)
    problems = problems or {"gateway": "no worker is up"}
    return JSONResponse({"status": "unavailable", "problems": problems} | workers, 503)


async def _other(workers: Workers, request: Request) -> Response:
    chosen = request.query_params.get("worker")
    living = [each for each in workers.living() if chosen in {None, str(each.place)}]
    if not living:
        return JSONResponse({"detail": "There is no such worker at present"}, 503 if chosen is None else 404)
    path, merge = request.url.path.rstrip("/"), _merge(request)
    if chosen is None and path.startswith("/-/requests/"):
        return _newest([answer for _, answer in await workers.ask(await Question.of(request)) if answer])
    if chosen is None and (merge or request.method != "GET"):
        patience = _WHILE_BUILDING if path == "/-/reload" else _PATIENCE
        asked = await workers.ask(await Question.of(request), patience)
        answers = [answer for _, answer in asked if answer]
        if request.method != "GET" and len(answers) < len(asked):
            return JSONResponse({"detail": "Not all workers have answered: ask again"}, 503)
        failed = next((each for each in answers if each.status_code >= 400), None)
        if failed or not merge or not answers:
            return _relayed(failed or (answers[0] if answers else None))
        return JSONResponse(merge([each.json() for each in answers]))
    return await _streamed(living[0], request)


def _merge(request: Request) -> Merge | None:
    path = request.url.path.rstrip("/")
    if path == "/-/requests":
        limit = request.query_params.get("limit", "")
        return partial(requests_of_all, most=int(limit) if limit.isdecimal() else DEFAULT_LIMIT)
    return upstreams_of_all if path.startswith("/-/upstreams/") else _MERGED.get(path)


def _newest(answers: Sequence[httpx.Response]) -> Response:
    """Of workers that were asked for one request: clients may have given several the same id."""
    found = [each for each in answers if each.is_success]
    return _relayed(max(found, key=lambda each: each.json()["began"]) if found else next(iter(answers), None))


def _relayed(answer: httpx.Response | None) -> Response:
    if answer is None:
        return JSONResponse({"detail": "No worker answers"}, 503)
    return Response(answer.content, answer.status_code, _passed_on(answer.headers))


async def _streamed(worker: Worker, request: Request) -> Response:
    """What one of them says, as it says it."""
    stack = _connected(worker, await Question.of(request), httpx.Timeout(_PATIENCE, read=None))
    try:
        answer = await stack.__aenter__()
    except httpx.HTTPError:
        return JSONResponse({"detail": f"Worker {worker.place} does not answer"}, 503)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            await stack.__aexit__(None, None, None)

    return StreamingResponse(chunks(), answer.status_code, _passed_on(answer.headers))


async def _ask(worker: Worker, question: Question, patience: float) -> httpx.Response | None:
    connected = _connected(worker, question, httpx.Timeout(patience))
    try:
        async with asyncio.timeout(patience), connected as answer:
            await answer.aread()
            return answer
    except (httpx.HTTPError, TimeoutError):
        return None


@asynccontextmanager
async def _connected(worker: Worker, question: Question, patience: httpx.Timeout) -> AsyncIterator[httpx.Response]:
    """The head of what a worker answers."""
    asked = httpx.Request(
        question.method,
        httpx.URL("http://worker").copy_with(raw_path=question.target),
        headers=question.headers,
        content=question.body,
        extensions={"timeout": patience.as_dict()},
    )
    async with httpx.AsyncHTTPTransport(uds=str(worker.path), verify=_NO_TLS) as transport:
        answer = await transport.handle_async_request(asked)
        answer.request = asked
        try:
            yield answer
        finally:
            await answer.aclose()


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP}


async def _body(request: Request) -> bytes:
    if len(body := await request.body()) > _MAX_BODY:
        raise HTTPException(413, f"The body is larger than {_MAX_BODY} bytes")
    return body
