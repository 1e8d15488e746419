"""Amounts of money, the vocabulary that services share."""

from decimal import Decimal

from msgspec import Struct


class Money(Struct, frozen=True):
    amount: Decimal
    currency: str
