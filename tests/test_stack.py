"""Each named library does its work on real requests: without it, the request does not get its answer."""

from __future__ import annotations

import asyncio
from random import Random

import aiodataloader
import graphql
import httpx
import jwt
import limits.strategies
import pytest
import slowapi.extension
import strawberry
from fastapi import FastAPI
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.trace import SpanKind

from bff.core.telemetry import Telemetry
from bff.edge.limits import AddressLimit, Limits
from bff.graphql import documents
from bff.upstream import Measures, connect
from bff.upstream.batch import Columns
from bff.upstream.transport import Transport
from tests import shop as fake
from tests.harness import FOUR_SERVICES, bearer, customer, gateway, operator, partner, signed_token, token

RECORDED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


class Gone(Exception):
    """The library does not do its work."""


def gone(*_, **__):
    raise Gone


class Spy:
    """A function of a library that still works, and what it was called with."""

    def __init__(self, monkeypatch, owner, name):
        self.calls = calls = []
        original = getattr(owner, name)

        def watched(*args, **kwargs):
            calls.append((args, kwargs))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)


# aiodataloader: under every batched read.

BATCHED = {
    "by id": ('{ user(id: "usr_1") { id } }', 1),
    "node": ('{ node(id: "ord_1") { id } }', 1),
    "nodes": ('{ nodes(ids: ["prd_1", "ord_1", "pay_1"]) { id } }', 3),
    "edge to one": ('{ order(id: "ord_1") { customer { id } } }', 2),
    "edge to many": ('{ user(id: "usr_1") { orders { nodes { id } } } }', 2),
    "edge under items": ('{ order(id: "ord_7") { items { product { id } } payment { id } } }', 3),
}


@pytest.mark.parametrize(("document", "reads"), BATCHED.values(), ids=BATCHED)
async def test_aiodataloader_is_under_every_batched_read(monkeypatch, document, reads):
    monkeypatch.setattr(aiodataloader.DataLoader, "load", gone)
    shop = gateway()
    broken = await shop.query(document, headers=operator())
    assert set(broken.codes) == {"INTERNAL_SERVER_ERROR"}
    assert len(shop.services.calls) == 0 or reads > 1
    monkeypatch.undo()
    loads = Spy(monkeypatch, aiodataloader.DataLoader, "load")
    shop = gateway()
    assert (await shop.query(document, headers=operator())).errors == []
    assert len(shop.services.calls) == reads == len(loads.calls)


async def test_aiodataloader_decides_when_a_batch_is_sent(monkeypatch):
    monkeypatch.setattr(aiodataloader, "dispatch_queue", gone)
    shop = gateway()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await shop.query('{ user(id: "usr_1") { id } }', headers=operator())
    assert shop.services.calls == []


async def test_every_batched_read_is_a_subclass_of_its_loader():
    assert issubclass(Columns, aiodataloader.DataLoader)


# slowapi: its limiter decides whether an address may knock, and keeps the accounts of callers.


def limiters(shop) -> list[object]:
    (address,) = (layer.limiter for layer in shop.layers if isinstance(layer, AddressLimit))
    (callers,) = (layer.accounts.limiter for layer in shop.layers if isinstance(layer, Limits))
    return [address, callers]


async def test_slowapi_makes_what_counts(monkeypatch):
    made = Spy(monkeypatch, slowapi.Limiter, "__init__")
    shop = gateway()
    used = limiters(shop)
    assert {id(each) for each in used} == {id(args[0].limiter) for args, _ in made.calls}
    assert {type(each) for each in used} <= set(slowapi.extension.STRATEGIES.values())
    await shop.client.get("/api/orders/ord_1", headers=partner())
    address, callers = (each.storage for each in used)
    assert (len(address), len(callers)) == (1, 1)


@pytest.mark.parametrize("path", ["/graphql", "/api/products/prd_1"])
async def test_what_slowapis_limiter_says_is_what_happens(monkeypatch, path):
    shop = gateway()
    request = {"method": "POST", "json": {"query": "{ __typename }"}} if path == "/graphql" else {"method": "GET"}
    assert (await shop.client.request(url=path, headers=partner(), **request)).status_code == 200
    strategy = limits.strategies.MovingWindowRateLimiter
    assert {type(each) for each in limiters(shop)} == {strategy}
    monkeypatch.setattr(strategy, "hit", lambda *_, **__: False)
    assert (await shop.client.request(url=path, headers=partner(), **request)).status_code == 429


# PyJWT: each token.


@pytest.mark.parametrize("make", [token, signed_token])
async def test_pyjwt_verifies_each_token(monkeypatch, make):
    verified = Spy(monkeypatch, jwt, "decode")
    shop = gateway()
    text = make("usr_3")
    assert (await shop.query("{ me { id } }", headers=bearer(text))).data == {"me": {"id": "usr_3"}}
    (((seen, *_), options),) = verified.calls
    assert seen == text.encode()
    assert len(options["algorithms"]) == 1
    assert options["options"].get("verify_signature", True)


@pytest.mark.parametrize("make", [token, signed_token])
async def test_what_pyjwt_refuses_is_refused(monkeypatch, make):
    def refuse(*_, **__):
        raise jwt.InvalidSignatureError

    monkeypatch.setattr(jwt, "decode", refuse)
    shop = gateway()
    response = await shop.client.get("/api/users/usr_1", headers=bearer(make("usr_1")))
    assert response.status_code == 401
    assert shop.services.calls == []


async def test_what_a_token_says_is_what_pyjwt_says(monkeypatch):
    def lie(*_, **__):
        return {"sub": "usr_9", "scope": "users:read", "exp": 4_000_000_000}

    monkeypatch.setattr(jwt, "decode", lie)
    shop = gateway()
    assert (await shop.query("{ me { id } }", headers=customer("usr_1"))).data == {"me": {"id": "usr_9"}}


# httpx: its types and its transport interface are each upstream call.


async def test_each_upstream_call_crosses_httpx_transport_interface():
    seen = []

    class Wire(fake.Services):
        async def handle_async_request(self, request):
            seen.append(request)
            response = await super().handle_async_request(request)
            assert isinstance(response, httpx.Response)
            return response

    shop = gateway(network=Wire)
    await shop.query(FOUR_SERVICES, headers=operator())
    await shop.client.get("/api/products/prd_1")
    await shop.client.post("/api/orders", headers=customer(), json={"user_id": "usr_1", "items": []})
    assert len(seen) == 6
    assert all(type(request) is httpx.Request for request in seen)
    assert all(isinstance(shop.services, httpx.AsyncBaseTransport) for _ in seen)


async def test_every_policy_and_the_default_network_is_an_httpx_transport():
    shop = gateway()
    service = connect(
        "users",
        shop.config.services["users"],
        Measures(Telemetry()),
        Telemetry(),
        Random(7),  # noqa: S311
    )
    chain = [service.transport]
    while hasattr(chain[-1], "inner"):
        chain.append(chain[-1].inner)
    assert all(isinstance(each, httpx.AsyncBaseTransport) for each in chain)
    assert isinstance(chain[-1], Transport)
    assert len(chain) >= 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError, "UPSTREAM_UNAVAILABLE"),
        (httpx.ConnectTimeout, "UPSTREAM_UNAVAILABLE"),
        (httpx.PoolTimeout, "UPSTREAM_UNAVAILABLE"),
        (httpx.ReadTimeout, "UPSTREAM_TIMEOUT"),
        (httpx.WriteTimeout, "UPSTREAM_TIMEOUT"),
        (httpx.ReadError, "UPSTREAM_BAD_RESPONSE"),
        (httpx.WriteError, "UPSTREAM_BAD_RESPONSE"),
        (httpx.CloseError, "UPSTREAM_BAD_RESPONSE"),
        (httpx.RemoteProtocolError, "UPSTREAM_BAD_RESPONSE"),
    ],
)
async def test_each_error_of_httpx_has_its_code(error, code):
    async def fail(request, _):
        raise error("10.1.2.3", request=request)

    shop = gateway()
    shop.services.products.fail(fail)
    assert (await shop.query('{ product(id: "prd_1") { id } }')).codes == [code]
    assert (await shop.client.get("/api/products/prd_1")).json()["code"] == code


# opentelemetry-instrumentation-httpx: each recorded client span.


async def test_each_recorded_client_span_is_the_instrumentations():
    shop = gateway()
    await shop.query(FOUR_SERVICES, headers=operator() | RECORDED)
    await shop.client.get("/api/products/prd_1", headers=RECORDED)
    clients = [span for span in shop.spans if span.kind is SpanKind.CLIENT]
    assert len(clients) == 5
    assert {span.instrumentation_scope.name for span in clients} == {"opentelemetry.instrumentation.httpx"}
    assert {span.name for span in clients} == {"GET"}


async def test_without_the_instrumentation_no_recorded_call_is_made(monkeypatch):
    monkeypatch.setattr(AsyncOpenTelemetryTransport, "handle_async_request", gone)
    shop = gateway()
    answer = await shop.query('{ product(id: "prd_1") { id } }', headers=RECORDED)
    assert answer.codes == ["INTERNAL_SERVER_ERROR"]
    assert not [span for span in shop.spans if span.kind is SpanKind.CLIENT]


async def test_where_nobody_records_the_instrumentation_costs_nothing(monkeypatch):
    monkeypatch.setattr(AsyncOpenTelemetryTransport, "handle_async_request", gone)
    shop = gateway(observability={"traces": {"sample": 0.0}})
    assert (await shop.query('{ product(id: "prd_1") { id } }')).errors == []


# FastAPI, strawberry, graphql-core.


def test_the_app_is_fastapis_and_so_is_the_admin_ports():
    shop = gateway()
    assert isinstance(shop.app, FastAPI)
    assert isinstance(shop.app.state.admin, FastAPI)


def test_the_schema_is_strawberrys(monkeypatch):
    composed = Spy(monkeypatch, strawberry, "Schema")
    gateway()
    assert len(composed.calls) == 1


async def test_graphql_core_judges_each_document(monkeypatch):
    judged = Spy(monkeypatch, documents, "validate")
    shop = gateway()
    for _ in range(3):
        await shop.query("{ __typename }")
    assert len(judged.calls) == 1, "and judges it once"
    assert isinstance(judged.calls[0][0][1], graphql.DocumentNode)
