"""Amounts of money, the vocabulary that types share."""

from decimal import Decimal

import strawberry

from bff.sdk import Cost


# It comes with the record that holds it.
@strawberry.type(directives=[Cost(weight="0")])
class Money:
    amount: Decimal
    currency: str = strawberry.field(description="ISO 4217.")
