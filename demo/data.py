"""The shop's records, the same on every machine: a number and a purpose decide each value, no random state does."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

USERS, PRODUCTS, ORDERS, PAYMENTS = 1000, 500, 5000, 4500
NO_LONGER_SOLD = range(PRODUCTS + 1, PRODUCTS + 6)

FIRST_NAMES = (
    "Ada Alan Amara Anna Aylin Björn Carla Chen Clara Diego Elif Emma Femi Giulia Grace Hanna Hugo Ines Ivan Jana "
    "José Jun Kofi Lars Lea Linus Maja Malik Mei Mira Nadia Noah Nora Olga Omar Paula Priya Rosa Samir Zoë"
)
LAST_NAMES = (
    "Abebe Almeida Andersen Bauer Berg Costa Dubois Eriksen Fischer Garcia Haddad Hansen Horvat Ivanova Jansen Kaya "
    "Keller Kowalski Kumar Laurent Lindqvist Lovelace Mensah Meyer Moreau Müller Nakamura Novak Okafor Olsen Petrov "
    "Ricci Rossi Sato Schmidt Silva Tanaka Tran Weber Yilmaz"
)
ADJECTIVES = "Blue Bold Classic Compact Cosy Folding Foldable Light Long Matt Oak Plain Round Slim Soft Steel"
THINGS = {
    "kitchen": {"Kettle": 3990, "Mug": 990, "Pan": 4490, "Knife": 2990, "Teapot": 3490},
    "home": {"Lamp": 5990, "Blanket": 4590, "Cushion": 1990, "Vase": 2490, "Shelf": 8990},
    "office": {"Notebook": 790, "Pen": 490, "Desk mat": 1990, "Stapler": 1290, "Chair": 19900},
    "outdoor": {"Tent": 24900, "Bottle": 1790, "Backpack": 7990, "Torch": 2190, "Hammock": 5490},
    "books": {"Atlas": 3900, "Cookbook": 2490, "Novel": 1490, "Guide": 1690, "Almanac": 1990},
}
METHODS = ("card", "sepa", "paypal", "invoice")


class Person(NamedTuple):
    number: int
    name: str
    email: str
    created_at: str


class Article(NamedTuple):
    number: int
    sku: str
    name: str
    description: str
    category: str
    cents: int
    stock: int


class Line(NamedTuple):
    product: int
    quantity: int
    cents: int


class Purchase(NamedTuple):
    number: int
    user: int
    placed_at: str
    lines: list[Line]
    history: list[tuple[str, str]]
    """Every status so far and when, the present one last."""

    @property
    def status(self) -> str:
        return self.history[-1][0]

    @property
    def cents(self) -> int:
        return sum(line.quantity * line.cents for line in self.lines)


class Charge(NamedTuple):
    number: int
    order: Purchase
    status: str
    method: str
    created_at: str


def people() -> Iterator[Person]:
    first_names, last_names = FIRST_NAMES.split(), LAST_NAMES.split()
    for number in range(1, USERS + 1):
        first, last = first_names[(number - 1) % 40], last_names[(number * 7 + number // 40 + 14) % 40]
        joined = datetime(2022, 6, 1, 8, tzinfo=UTC) + timedelta(hours=17 * number)
        yield Person(number, f"{first} {last}", f"{ascii_of(first)}.{ascii_of(last)}{number}@example.com", iso(joined))


def catalogue() -> Iterator[Article]:
    """What is sold, and after it the few articles that only old orders still name."""
    kinds = [(category, thing, cents) for category, things in THINGS.items() for thing, cents in things.items()]
    adjectives = ADJECTIVES.split()
    for number in range(1, NO_LONGER_SOLD.stop):
        category, thing, cents = kinds[(number * 8) % 25]
        adjective, series = adjectives[number % 16], 1 + number // 16
        yield Article(
            number=number,
            sku=sku(number),
            name=f"{adjective} {thing.lower()} No. {series}",
            description=f"A {adjective.lower()} {thing.lower()} for everyday use, from our {category} range.",
            category=category,
            cents=cents + 100 * pick("price", number, 20),
            stock=pick("stock", number, 250),
        )


def purchases() -> Iterator[Purchase]:
    """Every user has three orders at least; beyond them, the lower a user's number the more it buys."""
    prices = {article.number: article.cents for article in catalogue()}
    for number in range(1, ORDERS + 1):
        if number <= 3 * USERS:
            user = (number - 1) * 387 % USERS + 1
        else:
            user = 1 + int(USERS * (pick("user", number, 10_000) / 10_000) ** 1.5)
        # Every tenth order comes in the same second as the one before it: then the id decides.
        placed = datetime(2024, 6, 1, tzinfo=UTC) + timedelta(minutes=210 * (number - (number % 10 == 0)))
        bought = {product_of(number, line): line for line in range(1 + pick("lines", number, 4))}
        lines = [
            Line(product, 1 + pick("quantity", number * 4 + line, 3), prices[product])
            for product, line in bought.items()
        ]
        yield Purchase(number, user, iso(placed), lines, list(history_of(number, placed)))


def product_of(order: int, line: int) -> int:
    """Some products sell far better than others, and now and then the one bought is gone by now."""
    if order % 150 == 75 and line == 0:
        return NO_LONGER_SOLD[order // 150 % len(NO_LONGER_SOLD)]
    return 1 + int(PRODUCTS * (pick("product", order * 4 + line, 10_000) / 10_000) ** 2)


def history_of(number: int, placed: datetime) -> Iterator[tuple[str, str]]:
    yield "pending", iso(placed)
    if number % 10 == 0:
        if number % 20 == 10:
            yield "cancelled", iso(placed + timedelta(hours=5))
        return
    if number % 50 == 7:  # its payment failed: the customer may try again
        return
    yield "paid", iso(placed + timedelta(minutes=3))
    if number % 50 == 13:
        yield "cancelled", iso(placed + timedelta(hours=9))
    elif number > 1 and number % 7:
        yield "shipped", iso(placed + timedelta(days=1))
        if number < ORDERS - 500:
            yield "delivered", iso(placed + timedelta(days=3))


def charges() -> Iterator[Charge]:
    """Nine orders of ten have a payment."""
    number = 0
    for order in purchases():
        if order.number % 10 == 0:
            continue
        number += 1
        status = {"pending": "failed", "cancelled": "refunded"}.get(order.status, "captured")
        yield Charge(number, order, status, METHODS[pick("method", number, 4)], order.history[:2][-1][1])


def sku(product: int) -> str:
    return f"SKU-{product:05}"


def pick(purpose: str, number: int, choices: int) -> int:
    """A number below `choices` that looks random and is always the same (one round of splitmix64)."""
    mixed = (number * 0x9E3779B97F4A7C15 + int.from_bytes(purpose.encode()[:8])) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) % choices


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def ascii_of(name: str) -> str:
    return name.lower().translate(str.maketrans("äëöüéï", "aeouei"))
