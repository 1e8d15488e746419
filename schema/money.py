"""Amounts of money, the vocabulary that types share."""

from decimal import Decimal

import strawberry


@strawberry.type
class Money:
    amount: Decimal
    currency: str = strawberry.field(description="ISO 4217.")
