"""Requests and answers that are held to the service's own document."""

import httpx
import orjson
import pytest

from bff.config import ConfigError
from tests.harness import customer, gateway
from tests.rest.test_openapi import CONTRACTS, OLD, pets
from tests.shop import Services

PLACED = {"user_id": "usr_1", "items": [{"product_id": "prd_1", "quantity": 2}]}
EMPTY = {**PLACED, "items": []}
KEY = {"idempotency-key": "once"}
JSON, XML = {"content-type": "application/json"}, {"content-type": "text/xml"}


def validating(mode="request", **more):
    names = ("users", "orders", "products")
    return gateway(
        services=CONTRACTS,
        routes=[
            {"name": name, "path": f"/api/{name}/{{rest*}}", "service": name, "rewrite": f"/{name}/{{rest}}"}
            | {"validate": mode}
            for name in names
        ],
        **more,
    )


@pytest.mark.parametrize("mode", ["request", "both"])
async def test_what_fits_passes_as_it_came(mode):
    running = validating(mode)
    content = b'{ "user_id":"usr_1", "items": [{"product_id":"prd_1","quantity":2}] }'
    headers = customer() | KEY | {"content-type": "application/json; charset=utf-8"}
    assert (await running.client.post("/api/orders", content=content, headers=headers)).status_code == 201
    assert running.services.calls[-1].body == content
    plain = await gateway().client.get("/api/products/prd_1")
    assert (await running.client.get("/api/products/prd_1", headers=customer())).json() == plain.json()
    assert (await running.client.head("/api/products/prd_1", headers=customer())).status_code == plain.status_code


@pytest.mark.parametrize(
    ("method", "path", "request_", "status", "code", "where"),
    [
        ("GET", "/api/orders?limit=abc", {}, 400, "BAD_USER_INPUT", {"parameter": "limit", "in": "query"}),
        ("GET", "/api/orders?limit=201", {}, 400, "BAD_USER_INPUT", {"parameter": "limit", "in": "query"}),
        ("GET", "/api/orders?limit=1&limit=2", {}, 400, "BAD_USER_INPUT", {"parameter": "limit", "in": "query"}),
        ("GET", "/api/orders?status=lost", {}, 400, "BAD_USER_INPUT", {"parameter": "status", "in": "query"}),
        ("POST", "/api/orders", {"json": PLACED}, 400, "BAD_USER_INPUT", {"parameter": "Idempotency-Key"}),
        ("POST", "/api/orders", {"json": EMPTY, "headers": KEY}, 422, "UNPROCESSABLE", {"pointer": "#/items"}),
        (
            *("POST", "/api/orders"),
            {"json": {**PLACED, "items": [{"product_id": "prd_1", "quantity": "2"}]}, "headers": KEY},
            *(422, "UNPROCESSABLE", {"pointer": "#/items/0/quantity"}),
        ),
        ("POST", "/api/orders", {"content": b"{", "headers": KEY | JSON}, 400, "BAD_REQUEST", None),
        ("POST", "/api/orders", {"headers": KEY}, 400, "BAD_REQUEST", None),
        ("POST", "/api/orders", {"content": b"<a/>", "headers": KEY | XML}, 415, "UNSUPPORTED_MEDIA_TYPE", None),
        ("DELETE", "/api/orders/ord_1", {}, 405, "METHOD_NOT_ALLOWED", None),
        ("GET", "/api/orders/ord_1/nothing", {}, 404, "NOT_FOUND", None),
    ],
)
async def test_what_does_not_fit_is_refused_before_any_call(method, path, request_, status, code, where):
    running = validating()
    headers = customer() | request_.pop("headers", {})
    answer = await running.client.request(method, path, headers=headers, **request_)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert not running.services.calls
    if where:
        assert where.items() <= answer.json()["errors"][0].items()
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, PATCH"


class Lying(Services):
    """Its records lack what the contract promises."""

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        content = orjson.dumps({"id": "prd_1", "name": "the secret"})
        return httpx.Response(
            response.status_code, headers={"content-type": "application/json"}, stream=httpx.ByteStream(content)
        )


@pytest.mark.parametrize(("mode", "status"), [("request", 200), ("both", 502)])
async def test_an_answer_that_does_not_fit_is_replaced_and_logged_without_what_it_says(mode, status):
    running = validating(mode, network=Lying)
    answer = await running.client.get("/api/products/prd_1", headers=customer())
    assert answer.status_code == status
    said = [line for line in running.log if line["event"] == "invalid_answer"]
    if mode == "both":
        assert answer.json()["code"] == "UPSTREAM_BAD_RESPONSE"
        assert said[0]["operation"] == "GET /products/{id}"
        assert "the secret" not in str(said) + answer.text
    else:
        assert not said


class Broken(Services):
    async def handle_async_request(self, request):
        await super().handle_async_request(request)
        return httpx.Response(200, headers={"content-type": self.kind}, stream=httpx.ByteStream(self.content))


@pytest.mark.parametrize(
    ("kind", "content"), [("application/json", b"{"), ("text/html", b"<p>"), ("application/json", b" " * (17 << 20))]
)
async def test_an_answer_that_is_nonsense_or_too_large_is_a_bad_response(kind, content):
    running = validating("both", network=type("Odd", (Broken,), {"kind": kind, "content": content}))
    answer = await running.client.get("/api/products/prd_1", headers=customer())
    assert (answer.status_code, answer.json()["code"]) == (502, "UPSTREAM_BAD_RESPONSE")


async def test_a_body_beyond_the_routes_bound_is_refused_as_ever():
    running = validating()
    big = {**PLACED, "more": "x" * (3 << 20)}
    assert (await running.client.post("/api/orders", json=big, headers=customer() | KEY)).status_code == 413


async def test_numbers_in_paths_are_numbers(tmp_path):
    running = pets(tmp_path, OLD, validate="request")
    assert (await running.client.get("/pets/none")).json()["errors"][0]["parameter"] == "petId"


def test_a_route_cannot_validate_without_a_document():
    route = {"name": "p", "path": "/p", "service": "products", "validate": "both"}
    with pytest.raises(ConfigError, match=r"services\.products\.openapi"):
        gateway(routes=[route])
