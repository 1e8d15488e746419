"""What outlives one configuration: the parts that are made of the same in the next one stay as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Follow = Callable[[], Coroutine[Any, Any, None]]
Step = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Part(Generic[T]):
    """Something with a state or connections of its own.

    Attributes:
        value: it.
        opens: what is awaited before it is used.
        follows: what goes on for as long as somebody uses it.
        closes: what is awaited once nobody does.
        unsaid: takes back what others were told of it while it was made, if nobody comes to use it.
    """

    value: T
    opens: Sequence[Step] = ()
    follows: Sequence[Follow] = ()
    closes: Sequence[Step] = ()
    unsaid: Callable[[], None] = lambda: None
    made_of: object = None
    holders: int = 0
    following: list[asyncio.Task[None]] = field(default_factory=list)

    async def begin(self) -> None:
        self.holders += 1
        if self.holders == 1:
            self.following = [asyncio.create_task(follow()) for follow in self.follows]
            for opened in self.opens:
                await opened()

    async def end(self) -> None:
        self.holders -= 1
        if not self.holders:
            for each in self.following:
                each.cancel()
            for close in self.closes:
                await close()


class Parts:
    """The parts of one generation of the gateway, by name.

    Args:
        before: those of the generation that it takes the place of.
    """

    def __init__(self, before: Parts | None = None) -> None:
        self._before: dict[str, Part[Any]] = before.named if before else {}
        self.named: dict[str, Part[Any]] = {}
        self._begun: list[Part[Any]] = []

    def keep(self, name: str, made_of: object, make: Callable[[], Part[T]]) -> T:
        """The part of this name: the one that there is if it was made of the same, or else a new one.

            services[name] = parts.keep(f"service {name}", settings, lambda: Part(connect(name, settings)))

        Args:
            name: of the part, once in a generation.
            made_of: all that it depends on, compared by `==`.
            make: makes it.
        """
        return self.keep_by(name, lambda _: made_of, make)

    def keep_by(self, name: str, made_of: Callable[[T], object], make: Callable[[], Part[T]]) -> T:
        """The same for a part that only tells by itself what it depends on."""
        part: Part[Any] | None = self._before.get(name)
        if part is None or part.made_of != made_of(part.value):
            part = make()
            part.made_of = made_of(part.value)
        self.named[name] = part
        return part.value

    def before(self, name: str, kind: type[T]) -> T | None:
        """The part that a new one of this name takes the place of, if there is one: it may know something."""
        part = self._before.get(name)
        return part.value if part and isinstance(part.value, kind) else None

    async def begin(self) -> None:
        """Open all, or none."""
        self._before = {}
        try:
            for part in self.named.values():
                self._begun.append(part)
                await part.begin()
        except BaseException:
            self.discard()
            await self.end()
            raise

    def discard(self) -> None:
        """Leave no trace of the new parts that are not to be used."""
        for part in self.named.values():
            if not part.holders and part not in self._begun:
                part.unsaid()

    async def end(self) -> None:
        """Close those that nobody else uses."""
        while self._begun:
            await self._begun.pop().end()
