"""Payments, and the edges between a payment and its order."""

from datetime import datetime

import strawberry

from bff.sdk import Column, Info, Node, Parents, RequiresScopes, batched, entity, extend
from schema.money import Money
from schema.orders import Order
from services import orders
from services import payments as records
from services.orders import order_by_id
from services.payments import (
    PaymentMethod,
    PaymentStatus,
    pay_order,
    payment_by_id,
    payment_by_order,
    refund_payment,
)

strawberry.enum(PaymentStatus)
strawberry.enum(PaymentMethod)


@entity("pay", read=payment_by_id, record=records.Payment, scopes=["payments:read"])
class Payment(Node):
    status: PaymentStatus
    method: PaymentMethod
    amount: Money
    created_at: datetime

    @batched(graphql_type=Order | None)
    async def order(parents: Parents[records.Payment], info: Info) -> Column[orders.Order]:
        return await info.context.load_many(order_by_id, [payment.order_id for payment in parents])


@extend(Order)
class OrderPayment:
    @batched(graphql_type=Payment | None)
    async def payment(parents: Parents[orders.Order], info: Info) -> Column[records.Payment]:
        return await info.context.load_many(payment_by_order, [order.id for order in parents])


@strawberry.type
class Query:
    @strawberry.field(graphql_type=Payment | None)
    async def payment(self, info: Info, id: strawberry.ID) -> records.Payment | None:
        return await info.context.load(payment_by_id, id)


@strawberry.input
class PayOrderInput:
    order_id: strawberry.ID
    method: PaymentMethod
    idempotency_key: str


@strawberry.type
class Mutation:
    @strawberry.mutation(graphql_type=Payment, directives=[RequiresScopes(scopes=[["payments:write"]])])
    async def pay_order(self, info: Info, input: PayOrderInput) -> records.Payment:
        return await info.context.call(pay_order, input.order_id, input.method, input.idempotency_key)

    @strawberry.mutation(graphql_type=Payment, directives=[RequiresScopes(scopes=[["payments:write"]])])
    async def refund_payment(self, info: Info, id: strawberry.ID) -> records.Payment:
        return await info.context.call(refund_payment, id)
