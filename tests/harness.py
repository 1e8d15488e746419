"""The whole gateway in memory: real layers, real libraries, and only the network and the services behind it fake."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from io import BytesIO
from random import Random
from typing import Any

import httpx
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from bff.app import build
from bff.config import load
from bff.core.telemetry import JsonLog, Telemetry, tracer_provider
from tests.shop import Record, Services

SECRET = "a secret that tests and their gateway share, long enough"
PARTNER = "bff_partner_key"
BFF_YAML = f"""
auth:
  jwt:
    - {{issuer: "https://id.internal", audience: shop, algorithms: [HS256], secret: "{SECRET}"}}
    - issuer: https://login.internal
      audience: shop
      algorithms: [RS256]
      jwks: https://login.internal/jwks.json
  api_keys:
    - consumer: partner
      hash: sha256:{sha256(PARTNER.encode()).hexdigest()}
      scopes: [users:read, users:admin, orders:read, orders:admin, payments:read, payments:admin]
      tier: partner
tiers:
  anonymous: {{rate: [1000/minute]}}
  default: {{rate: [1000/minute]}}
  partner: {{rate: [1000/minute]}}
limits: {{per_address: 10000/minute}}
services:
  users: {{url: "http://users.internal"}}
  products: {{url: "http://products.internal", identity: none}}
  orders: {{url: "http://orders.internal"}}
  payments: {{url: "http://payments.internal"}}
routes:
  - name: users
    path: /api/users/{{rest*}}
    service: users
    rewrite: /users/{{rest}}
    scopes: {{read: [users:read], write: [users:write]}}
  - {{name: products, path: "/api/products/{{rest*}}", service: products, rewrite: "/products/{{rest}}", public: true}}
  - name: orders
    path: /api/orders/{{rest*}}
    service: orders
    rewrite: /orders/{{rest}}
    scopes: {{read: [orders:read], write: [orders:write]}}
    cost: 2
  - name: payments
    path: /api/payments/{{rest*}}
    service: payments
    rewrite: /payments/{{rest}}
    scopes: {{read: [payments:read], write: [payments:write]}}
"""

CUSTOMER = "users:read users:write products:read orders:read orders:write payments:read payments:write"
OPERATOR = f"{CUSTOMER} users:admin orders:admin payments:admin"

FOUR_SERVICES = """query Shop($first: Int = 10) { users(first: $first) { nodes { name orders(first: 3) { nodes {
  id total { amount } items { quantity product { name price { amount } } } payment { status } } } } } }"""


@cache
def signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def token(subject: str | None = "usr_1", scope: str = CUSTOMER, **claims: Any) -> str:
    """A token with a shared secret; a claim that is None is left out."""
    now = int(time.time())
    given = {"iss": "https://id.internal", "aud": "shop", "exp": now + 7200, "iat": now, "sub": subject, "scope": scope}
    return jwt.encode({k: v for k, v in (given | claims).items() if v is not None}, SECRET, "HS256")


def signed_token(subject: str = "usr_1", scope: str = CUSTOMER) -> str:
    """A token of `login.internal`, whose keys the gateway has to fetch."""
    now = int(time.time())
    claims = {"iss": "https://login.internal", "aud": "shop", "exp": now + 7200, "iat": now, "sub": subject}
    return jwt.encode({**claims, "scope": scope}, signing_key(), "RS256", headers={"kid": "one"})


def public_keys() -> list[Record]:
    """What `login.internal` publishes."""
    public = jwt.algorithms.RSAAlgorithm.to_jwk(signing_key().public_key(), as_dict=True)
    return [public | {"kid": "one", "use": "sig", "alg": "RS256", "key_ops": ["verify"]}]


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def customer(subject: str = "usr_1") -> dict[str, str]:
    return bearer(token(subject))


def operator() -> dict[str, str]:
    return bearer(token("usr_1", OPERATOR))


def partner() -> dict[str, str]:
    return {"x-api-key": PARTNER}


class Answer:
    """A GraphQL answer, taken apart."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.headers = response.headers
        body: Record = response.json()
        self.data: Any = body.get("data")
        self.has_data = "data" in body
        self.errors: list[Record] = body.get("errors", [])

    @property
    def codes(self) -> list[str]:
        return [error["extensions"]["code"] for error in self.errors]


class Gateway:
    """One gateway and all that can be seen of it. `client, services = gateway()` takes what most tests need.

    Attributes:
        client: speaks to the public port.
        admin: speaks to the admin port.
        services: the network and the services behind it.
    """

    def __init__(
        self,
        text: str,
        overrides: Mapping[str, Any],
        profile: str,
        address: str,
        network: type[Services],
        *,
        real_network: bool,
    ) -> None:
        self.services = network(public_keys())
        self._log, self._spans = BytesIO(), InMemorySpanExporter()
        self.telemetry = Telemetry(log=JsonLog(self._log), spans=tracer_provider(SimpleSpanProcessor(self._spans)))
        self.config = load(text, profile=profile, overrides=overrides)
        carrier = None if real_network else self.services
        self.app = build(self.config, network=carrier, telemetry=self.telemetry, random=Random(7))  # noqa: S311
        self.client = self.client_at(address)
        self.admin = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app.state.admin), base_url="http://127.0.0.1:9000"
        )

    def __iter__(self) -> Iterator[Any]:
        yield self.client
        yield self.services

    def client_at(self, address: str) -> httpx.AsyncClient:
        """A client whose connection comes from this address."""
        transport = httpx.ASGITransport(self.app, client=(address, 40000))
        return httpx.AsyncClient(transport=transport, base_url="http://gateway.example")

    @property
    def layers(self) -> list[Any]:
        """What a request crosses, outermost first."""
        self.app.middleware_stack = self.app.middleware_stack or self.app.build_middleware_stack()
        found: list[Any] = [_layer(self.app.middleware_stack)]
        while hasattr(found[-1], "app"):
            found.append(_layer(found[-1].app))
        return found

    async def close(self) -> None:
        """End as the server ends it; only what has real connections needs it."""
        async with self.app.router.lifespan_context(self.app):
            pass

    async def query(
        self, document: str, variables: Record | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        body = {"query": document, "variables": variables or {}}
        answer = Answer(await self.client.post("/graphql", json=body, headers=dict(headers or {})))
        assert b"undeclared_calls" not in self._log.getvalue(), "more calls than the bound of the operation"
        return answer

    def forget(self) -> None:
        """What was seen of it so far: calls, log lines and spans."""
        self.services.forget()
        self._spans.clear()
        self._log.seek(0)
        self._log.truncate()

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    @property
    def log(self) -> list[Record]:
        return [orjson.loads(line) for line in self._log.getvalue().splitlines()]

    @property
    def access(self) -> list[Record]:
        return [line for line in self.log if line["event"] == "request"]

    async def metrics(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The samples of that name as `/metrics` shows them, by their labels."""
        text = (await self.admin.get("/metrics")).text
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    async def attempts(self) -> dict[str, int]:
        """Calls to each service, by the metrics."""
        counted: dict[str, int] = {}
        for labels, value in (await self.metrics("http_client_request_duration_seconds_count")).items():
            service = dict(labels)["service"]
            counted[service] = counted.get(service, 0) + int(value)
        return counted


def gateway(
    text: str = BFF_YAML,
    *,
    profile: str = "development",
    address: str = "192.0.2.1",
    network: type[Services] = Services,
    real_network: bool = False,
    **overrides: Any,
) -> Gateway:
    """A gateway over services of its own; `overrides` are laid over the configuration's text.

        client, services = gateway(services={"payments": {"timeout": "50ms"}})

    Args:
        text: bff.yaml.
        profile: `development` or `production`.
        address: where its client calls from.
        network: what stands for the network and the services.
        real_network: whether calls go out on connections instead of to `services`.
        overrides: sections of the configuration.
    """
    return Gateway(text, overrides, profile, address, network, real_network=real_network)


def _layer(entry: Any) -> Any:
    """Whose method it is, where a layer is entered by its method."""
    return entry.__self__ if getattr(entry, "__name__", "") == "__call__" else entry
