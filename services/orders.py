"""Order service: orders and what was ordered."""

from collections.abc import AsyncIterator
from datetime import datetime
from enum import Enum

from msgspec.structs import replace

from bff.sdk import Page, Record, Upstream, batch, call, stream
from services.money import Money


class OrderStatus(Enum):
    PENDING = "pending"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class OrderItem(Record):
    product_id: str
    quantity: int
    unit_price: Money


class Order(Record):
    id: str
    user_id: str
    status: OrderStatus
    placed_at: datetime
    items: list[OrderItem]
    total: Money


class Orders(Page[Order]):
    """A page of them."""


class StatusChange(Record):
    """An event of an order's stream; the first one says what its status is."""

    status: OrderStatus


class OrdersOfUsers(Record):
    items: list[Order]
    next_cursors: dict[str, str | None]


class Line(Record):
    """What somebody wants to order."""

    product_id: str
    quantity: int


@batch("orders")
async def order_by_id(orders: Upstream, ids: list[str]) -> dict[str, Order]:
    page = await orders.get("/orders", Orders, ids=ids)
    return {order.id: order for order in page.items}


@batch("orders")
async def orders_by_user(
    orders: Upstream, user_ids: list[str], *, limit: int, cursor: str | None = None, status: OrderStatus | None = None
) -> dict[str, Page[Order]]:
    """The newest `limit` orders of each user."""
    word = status.value if status else None
    found = await orders.get("/orders", OrdersOfUsers, user_ids=user_ids, limit=limit, cursor=cursor, status=word)
    pages: dict[str, Page[Order]] = {id: Page([], found.next_cursors.get(id)) for id in user_ids}
    for order in found.items:
        page = pages.get(order.user_id)
        if page is not None:
            page.items.append(order)
    return pages


@call("orders")
async def list_orders(orders: Upstream, limit: int, cursor: str | None, status: OrderStatus | None) -> Page[Order]:
    return await orders.get("/orders", Orders, limit=limit, cursor=cursor, status=status.value if status else None)


@call("orders")
async def place_order(orders: Upstream, user_id: str, lines: list[Line], idempotency_key: str) -> Order:
    return await orders.post(
        "/orders", Order, json={"user_id": user_id, "items": lines}, headers={"Idempotency-Key": idempotency_key}
    )


@call("orders")
async def cancel_order(orders: Upstream, id: str) -> Order:
    return await orders.post("/orders/{}/cancel", Order, id)


@stream("orders")
async def watch_order(orders: Upstream, id: str) -> AsyncIterator[Order]:
    """The order now, and again each time that its status changes, which is all of it that ever does."""
    order: Order | None = None
    async for change in orders.events("/orders/{}/events", StatusChange, id):
        if order is None:
            order = await orders.get("/orders/{}", Order, id)
        order = replace(order, status=change.status)
        yield order
