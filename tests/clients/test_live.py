"""Clients for subscriptions: graphql-ws, graphql-sse, and Python's gql over its websockets transport."""

from __future__ import annotations

import json
import re
from itertools import count

import httpx
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.running import ROOT, token

OPERATOR = "users:read users:admin orders:read orders:write orders:admin"
IDENTITY = {"x-auth-subject": "usr_1", "x-auth-scopes": "orders:read orders:write orders:admin"}
KEYS = count()


def placed(shop) -> str:
    """A new order, pending."""
    wish = {"user_id": "usr_1", "items": [{"product_id": "prd_1", "quantity": 1}]}
    headers = IDENTITY | {"idempotency-key": f"live {next(KEYS)}"}
    id: str = httpx.post(f"{shop.urls['orders']}/orders", json=wish, headers=headers).json()["id"]
    return id


def test_graphql_ws_watches_asks_is_told_errors_and_gives_up_on_a_bad_token(node, production, real_services):
    url = f"{production.url.replace('http', 'ws')}/graphql"
    said = json.loads(
        node(
            "graphql_ws.mjs",
            url,
            real_services.urls["orders"],
            token(real_services, scope=OPERATOR),
            placed(real_services),
        )
    )
    assert said["seen"] == ["PENDING", "PAID", "SHIPPED", "usr_1", "GRAPHQL_VALIDATION_FAILED", 4403, 3]
    assert said["closes"][-3:] == [4403, 4403, 4403]


def test_graphql_sse_watches_asks_and_is_told_errors(node, production, real_services):
    arguments = (real_services.urls["orders"], token(real_services, scope=OPERATOR), placed(real_services))
    said = json.loads(node("graphql_sse.mjs", f"{production.url}/graphql", *arguments))
    assert said == ["PENDING", "PAID", "SHIPPED", "usr_1", "GRAPHQL_VALIDATION_FAILED"]


async def test_gql_watches_and_asks_over_a_websocket(production, real_services):
    transport = WebsocketsTransport(
        url=f"{production.url.replace('http', 'ws')}/graphql",
        init_payload={"Authorization": f"Bearer {token(real_services, scope=OPERATOR)}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        keep_alive_timeout=30,
        ping_interval=0.2,
        pong_timeout=30,
    )
    order, seen = placed(real_services), []
    async with Client(transport=transport) as session, httpx.AsyncClient() as service:
        watch = gql("subscription W($id: ID!) { orderStatusChanged(id: $id) { status } }")
        watch.variable_values = {"id": order}
        async for result in session.subscribe(watch):
            seen.append(result["orderStatusChanged"]["status"])
            if seen[-1] == "PAID":
                break
            url = f"{real_services.urls['orders']}/orders/{order}"
            await service.patch(url, json={"status": "paid"}, headers=IDENTITY)
        me = await session.execute(gql("{ me { id } }"))
    assert (seen, me) == (["PENDING", "PAID"], {"me": {"id": "usr_1"}})


def test_the_example_of_the_docs_shows_the_order(node, production, real_services, tmp_path):
    page = (ROOT / "docs/subscriptions.md").read_text()
    (example,) = re.findall(r"^```js clients\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    script = ROOT / "tests/clients/node_modules/.example-of-the-docs.mjs"
    script.write_text(example.replace("127.0.0.1:8000", production.url.removeprefix("http://")))
    try:
        said = node(script, TOKEN=token(real_services, scope=OPERATOR))
    finally:
        script.unlink()
    assert re.fullmatch(r'\{"data":\{"orderStatusChanged":\{"id":"ord_1","status":"[A-Z]+"\}\}\}\n', said)
