"""The audit log: a line for each refusal, which says why and never who or with what secret."""

from __future__ import annotations

import pytest

from tests.harness import Gateway, bearer, customer, gateway, partner, token
from tests.shop import problem


def audited(shop: Gateway) -> list[dict[str, object]]:
    """Without what every line has."""
    return [
        {
            name: fact
            for name, fact in line.items()
            if name not in {"event", "level", "timestamp", "request_id", "trace_id"}
        }
        for line in shop.log
        if line["event"] == "audit"
    ]


async def test_a_refused_request_is_a_line_that_its_access_line_has_the_rest_of():
    shop = gateway()
    await shop.client.get("/api/orders/ord_1", headers=bearer(token("usr_1", "users:read", client_id="web")))
    (line,) = audited(shop)
    assert line == {
        "action": "refused",
        "code": "FORBIDDEN",
        "reason": "This needs a credential with the scopes: orders:read",
        "route": "orders",
        "method": "GET",
        "credential": "jwt",
        "consumer": "web",
        "issuer": "https://id.internal",
    }
    (audit,) = [each for each in shop.log if each["event"] == "audit"]
    assert audit["request_id"] == shop.access[0]["request_id"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "UNAUTHENTICATED"),
        (bearer("nonsense"), "UNAUTHENTICATED"),
        ({"x-api-key": "bff_nobody"}, "UNAUTHENTICATED"),
        (customer() | partner(), "BAD_REQUEST"),
    ],
)
async def test_every_way_to_be_refused_is_a_line(headers, code):
    shop = gateway()
    await shop.client.get("/api/orders/ord_1", headers=headers)
    assert [line["code"] for line in audited(shop)] == [code]


async def test_fields_that_may_not_be_read_are_one_line():
    shop = gateway()
    await shop.query(
        '{ me { mine: name } order(id: "ord_1") { id } others: order(id: "ord_2") { id } }',
        headers=bearer(token("u", "")),
    )
    assert audited(shop) == [{"action": "refused", "code": "FORBIDDEN", "fields": ["me", "order"]}]


async def test_what_is_let_in_or_refused_by_a_service_or_for_another_reason_is_none():
    shop = gateway()
    await shop.client.get("/api/orders/ord_1", headers=customer())
    await shop.query("{ me { id } }", headers=customer())
    await shop.client.get("/api/nothing")
    shop.services.orders.fail(problem(403, "not yours"))
    await shop.client.get("/api/orders/ord_1", headers=customer())
    await shop.query('{ order(id: "ord_1") { id } }', headers=customer())
    assert audited(shop) == []
