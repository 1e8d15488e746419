"""Amounts of money, the vocabulary that services share."""

from decimal import Decimal

from bff.sdk import Record


class Money(Record):
    amount: Decimal
    currency: str
