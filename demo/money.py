"""Money on the wire: an exact decimal in a string, kept as whole cents."""

import msgspec


class Money(msgspec.Struct, frozen=True):
    amount: str
    currency: str = "EUR"


def euros(cents: int) -> Money:
    return Money(f"{cents // 100}.{cents % 100:02}")


def cents(money: Money) -> int:
    return int(money.amount.replace(".", ""))
