"""The demo services as real processes, and callers as the gateway would announce them."""

from collections.abc import Iterator
from itertools import count

import httpx
import pytest

import demo

PLACED = count(1)
HEARTBEAT = 0.2
CUSTOMER = {"x-auth-subject": "usr_1", "x-auth-scopes": "users:write orders:write payments:write"}
STRANGER = {"x-auth-subject": "usr_2"}
OPERATOR = {
    "x-auth-subject": "usr_9",
    "x-auth-consumer": "console",
    "x-auth-scopes": "users:admin orders:admin payments:admin",
}
PARTNER = {"x-auth-consumer": "acme", "x-auth-scopes": "users:read orders:read payments:read"}


@pytest.fixture(scope="session")
def shop() -> Iterator[demo.Demo]:
    with demo.processes(demo.FREE, heartbeat=HEARTBEAT) as running:
        yield running


def client_of(shop: demo.Demo, service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shop.urls[service], timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def users(shop):
    yield from client_of(shop, "users")


@pytest.fixture(scope="session")
def products(shop):
    yield from client_of(shop, "products")


@pytest.fixture(scope="session")
def orders(shop):
    yield from client_of(shop, "orders")


@pytest.fixture(scope="session")
def payments(shop):
    yield from client_of(shop, "payments")


@pytest.fixture(scope="session")
def identity(shop):
    yield from client_of(shop, "identity")


@pytest.fixture
def place(orders):
    """Place an order of one prd_1 and return its id: what a test changes is its own."""

    def placed(caller=CUSTOMER, owner=None, key=None) -> str:
        body = {
            "user_id": owner or caller["x-auth-subject"],
            "items": [{"product_id": "prd_1", "quantity": 2}],
        }
        headers = {**caller, "idempotency-key": key or f"place {next(PLACED)}"}
        answer = orders.post("/orders", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    return placed


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
