"""Payment service: one payment an order."""

from datetime import datetime
from enum import Enum

from bff.sdk import Page, Record, Upstream, batch, call
from services.money import Money


class PaymentStatus(Enum):
    PENDING = "pending"
    CAPTURED = "captured"
    FAILED = "failed"
    REFUNDED = "refunded"


class PaymentMethod(Enum):
    CARD = "card"
    SEPA = "sepa"
    PAYPAL = "paypal"
    INVOICE = "invoice"


class Payment(Record):
    id: str
    order_id: str
    user_id: str
    status: PaymentStatus
    method: PaymentMethod
    amount: Money
    created_at: datetime


class Payments(Page[Payment]):
    """A page of them."""


@batch("payments")
async def payment_by_id(payments: Upstream, ids: list[str]) -> dict[str, Payment]:
    page = await payments.get("/payments", Payments, ids=ids)
    return {payment.id: payment for payment in page.items}


@batch("payments")
async def payment_by_order(payments: Upstream, order_ids: list[str]) -> dict[str, Payment]:
    page = await payments.get("/payments", Payments, order_ids=order_ids)
    return {payment.order_id: payment for payment in page.items}


@call("payments")
async def pay_order(payments: Upstream, order_id: str, method: PaymentMethod, idempotency_key: str) -> Payment:
    return await payments.post(
        "/payments",
        Payment,
        json={"order_id": order_id, "method": method.value},
        headers={"Idempotency-Key": idempotency_key},
    )


@call("payments")
async def refund_payment(payments: Upstream, id: str) -> Payment:
    return await payments.post("/payments/{}/refund", Payment, id)
