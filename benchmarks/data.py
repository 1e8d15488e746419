"""The shop that the backends serve: the same rows on every run, shaped as the contracts say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

USERS, PRODUCTS, ORDERS_PER_USER = 1000, 500, 5

Row = dict[str, Any]

_EPOCH = datetime(2025, 1, 1, 8, tzinfo=UTC)
_FIRST = ("Ada", "Grace", "Linus", "Margaret", "Edsger", "Barbara", "Donald", "Frances")
_LAST = ("Lovelace", "Hopper", "Torvalds", "Hamilton", "Dijkstra", "Liskov", "Knuth", "Allen", "Perlis")
_CATEGORIES = ("kitchen", "garden", "office", "audio", "books")
_ORDER_STATUSES = ("paid", "shipped", "delivered", "cancelled")
_PAYMENT_STATUSES = ("captured", "pending", "refunded", "failed")
_METHODS = ("card", "sepa", "paypal", "invoice")


def users() -> Iterator[Row]:
    for n in range(1, USERS + 1):
        yield {
            "id": f"usr_{n}",
            "name": f"{_FIRST[n % 8]} {_LAST[n % 9]}",
            "email": f"user{n}@example.com",
            "created_at": _time(minutes=n),
        }


def products() -> Iterator[Row]:
    for n in range(1, PRODUCTS + 1):
        yield {
            "id": f"prd_{n}",
            "sku": f"SKU-{n:06}",
            "name": f"Product {n}, {_CATEGORIES[n % 5]} edition",
            "description": f"Number {n} of the catalogue: sturdy, well liked, made for everyday use, with a warranty.",
            "category": _CATEGORIES[n % 5],
            "price": _euros(_cents(n)),
            "stock": n * 7919 % 1000,
        }


def orders() -> Iterator[Row]:
    """Newest first. Each user has ordered once a round, so a user's orders are far apart from each other."""
    for n in range(USERS * ORDERS_PER_USER, 0, -1):
        items = [_item(n * 7 + k * 131, quantity=k + 1) for k in range(n % 4 + 1)]
        yield {
            "id": f"ord_{n}",
            "user_id": _buyer(n),
            "status": _status(n),
            "placed_at": _time(days=90, minutes=n),
            "items": items,
            "total": _euros(_total(n)),
        }


def payments() -> Iterator[Row]:
    """Nine orders of ten have one."""
    for n in range(1, USERS * ORDERS_PER_USER + 1):
        if n % 10:
            yield {
                "id": f"pay_{n}",
                "order_id": f"ord_{n}",
                "user_id": _buyer(n),
                "status": _PAYMENT_STATUSES[n % 4],
                "method": _METHODS[n // 4 % 4],
                "amount": _euros(_total(n)),
                "created_at": _time(days=90, minutes=n + 1),
            }


def _buyer(order: int) -> str:
    return f"usr_{(order - 1) % USERS + 1}"


def _status(order: int) -> str:
    return _ORDER_STATUSES[order // 3 % 4] if order % 10 else "pending"


def _item(seed: int, quantity: int) -> Row:
    product = seed % PRODUCTS + 1
    return {"product_id": f"prd_{product}", "quantity": quantity, "unit_price": _euros(_cents(product))}


def _total(order: int) -> int:
    return sum(_cents((order * 7 + k * 131) % PRODUCTS + 1) * (k + 1) for k in range(order % 4 + 1))


def _cents(product: int) -> int:
    return product * 104729 % 30000 + 99


def _euros(cents: int) -> Row:
    return {"amount": f"{cents // 100}.{cents % 100:02}", "currency": "EUR"}


def _time(*, days: int = 0, minutes: int) -> str:
    return (_EPOCH + timedelta(days=days, minutes=minutes)).isoformat().replace("+00:00", "Z")
