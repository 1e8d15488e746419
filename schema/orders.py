"""Orders, and the edges that an order's record holds the keys of: its customer, its products, the orders of a user."""

from collections.abc import AsyncIterator
from datetime import datetime

import strawberry

from bff.sdk import (
    Column,
    Connection,
    Forbidden,
    Info,
    ListSize,
    Node,
    Parents,
    RequiresScopes,
    Slice,
    batched,
    entity,
    extend,
    page_size,
)
from schema.money import Money
from schema.products import Product
from schema.users import User
from services import orders as records
from services import products, users
from services.orders import (
    OrderStatus,
    cancel_order,
    list_orders,
    order_by_id,
    orders_by_user,
    place_order,
    watch_order,
)
from services.products import product_by_id
from services.users import user_by_id

strawberry.enum(OrderStatus)


@strawberry.type
class OrderItem:
    quantity: int
    unit_price: Money

    @batched(graphql_type=Product | None, description="Null when the product is no longer sold.")
    async def product(parents: Parents[records.OrderItem], info: Info) -> Column[products.Product]:
        return await info.context.load_many(product_by_id, [item.product_id for item in parents])


@entity("ord", read=order_by_id, record=records.Order, scopes=["orders:read"])
class Order(Node):
    status: OrderStatus
    placed_at: datetime
    items: list[OrderItem] = strawberry.field(directives=[ListSize(at_most=100, assumed_size=10)])
    total: Money

    @batched(graphql_type=User | None)
    async def customer(parents: Parents[records.Order], info: Info) -> Column[users.User]:
        return await info.context.load_many(user_by_id, [order.user_id for order in parents])


@extend(User)
class UserOrders:
    @batched(graphql_type=Connection[Order], description="Newest first.")
    async def orders(
        parents: Parents[users.User],
        info: Info,
        first: int = 10,
        after: str | None = None,
        status: OrderStatus | None = None,
    ) -> list[Slice[records.Order] | BaseException]:
        read = orders_by_user.where(limit=page_size(first), cursor=after, status=status)
        pages = await info.context.load_many(read, [user.id for user in parents])
        return [Slice.of(page, after) for page in pages]


@strawberry.type
class Query:
    @strawberry.field(graphql_type=Order | None)
    async def order(self, info: Info, id: strawberry.ID) -> records.Order | None:
        return await info.context.load(order_by_id, id)

    @strawberry.field(graphql_type=Connection[Order])
    async def orders(
        self, info: Info, first: int = 20, after: str | None = None, status: OrderStatus | None = None
    ) -> Slice[records.Order]:
        return Slice(await info.context.call(list_orders, page_size(first), after, status), after)


@strawberry.input
class OrderItemInput:
    product_id: strawberry.ID
    quantity: int


@strawberry.input
class PlaceOrderInput:
    items: list[OrderItemInput]
    idempotency_key: str


@strawberry.type
class Mutation:
    @strawberry.mutation(graphql_type=Order, directives=[RequiresScopes(scopes=[["orders:write"]])])
    async def place_order(self, info: Info, input: PlaceOrderInput) -> records.Order:
        user_id = info.context.caller.subject
        if user_id is None:
            raise Forbidden("Only a user can place an order: this credential has no subject")
        lines = [records.Line(item.product_id, item.quantity) for item in input.items]
        return await info.context.call(place_order, user_id, lines, input.idempotency_key)

    @strawberry.mutation(graphql_type=Order, directives=[RequiresScopes(scopes=[["orders:write"]])])
    async def cancel_order(self, info: Info, id: strawberry.ID) -> records.Order:
        return await info.context.call(cancel_order, id)


@strawberry.type
class Subscription:
    @strawberry.subscription(
        graphql_type=Order, description="The order now, and again each time that its status changes."
    )
    async def order_status_changed(self, info: Info, id: strawberry.ID) -> AsyncIterator[records.Order]:
        return info.context.watch(watch_order, id)
