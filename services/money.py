"""Amounts of money, the vocabulary that services share."""

from bff.sdk import Record


class Money(Record):
    """`amount` is a decimal number as its service wrote it: it is passed on, and who computes makes a `Decimal` of it.

    To make one of each that comes was a tenth of what ten users' orders cost, and more of what 200 products did.
    """

    amount: str
    currency: str
