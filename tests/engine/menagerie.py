"""A schema with everything in it, whose values are often not what its types promise."""
# Strawberry reads the annotations of local classes: they must be objects, not text.

import asyncio
import inspect
from enum import Enum
from typing import Annotated, Any, NewType
from zlib import crc32

import strawberry
from graphql import Undefined
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from bff.engine import RECORD, batched

Even = NewType("Even", int)
FLAVOURS = ("sync", "async", "batched")


class Color(Enum):
    RED = "r"
    GREEN = "g"
    BLUE = 3


class Boom(Exception):
    pass


def digest(*parts: Any) -> int:
    return crc32(repr(parts).encode())


def chaotic(tag: str, id: str, value: Any) -> Any:
    """Mostly the value; sometimes an error raised or returned, or a null, which may not stand there."""
    luck = digest(tag, id) % 100
    if luck < 3:
        raise Boom(f"raised by {tag} of {id}")
    if luck < 6:
        return Boom(f"returned by {tag} of {id}")
    return (None, None, Undefined)[luck - 6] if luck < 9 else value


def _even(value: Any) -> Any:
    if not isinstance(value, int):
        raise TypeError("Even is for numbers")
    return value if value % 2 == 0 else None


def build(flavour: str) -> strawberry.Schema:  # noqa: C901, PLR0915
    """The same schema with resolvers that are synchronous, asynchronous one by one, or batched and asynchronous."""

    def own(function: Any) -> Any:
        """A field with a resolver for one object."""
        if flavour == "sync":
            return strawberry.field(function)

        async def resolve(self: Any, **arguments: Any) -> Any:
            for _ in range(digest(function.__name__, self.id) % 3):
                await asyncio.sleep(0)
            return function(self, **arguments)

        return strawberry.field(_like(function, resolve))

    def many(function: Any) -> Any:
        """A field that is batched where the flavour is."""
        if flavour != "batched":
            return own(function)

        def resolve(parents: list[Any], **arguments: Any) -> list[Any]:
            return [_outcome(function, parent, arguments) for parent in parents]

        async def resolve_soon(parents: list[Any], **arguments: Any) -> list[Any]:
            await asyncio.sleep(0)
            return resolve(parents, **arguments)

        chosen = resolve if digest(function.__name__) % 3 == 0 else resolve_soon
        signature = inspect.signature(function)
        parameters = [
            inspect.Parameter("parents", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=list[Any]),
            *list(signature.parameters.values())[1:],
        ]
        copied = _like(function, chosen)
        copied.__signature__ = signature.replace(
            parameters=parameters, return_annotation=list[signature.return_annotation]
        )
        return batched(copied)

    Hue = strawberry.enum(Color, name="Color")  # noqa: N806

    @strawberry.interface
    class Creature:
        id: strawberry.ID
        label: str
        maybe: str | None
        size: int
        weight: float | None
        color: Hue | None
        number: Even | None
        tame: bool

    @strawberry.input
    class Filter:
        limit: int = 3
        tag: str | None = None
        colors: list[Hue] = strawberry.field(default_factory=list)

    def creature(number: int) -> Any:
        kind = (Dog, Cat, Fish)[number % 3]
        return kind(
            id=strawberry.ID(str(number)),
            label=None if digest("label", number) % 13 == 0 else f"n{number}",
            maybe=(None, 3, f"m{number}", f"m{number}")[number % 4],
            size=2**40 if digest("size", number) % 11 == 0 else number,
            weight=float("nan") if digest("weight", number) % 7 == 0 else (number / 3 if number % 2 else number),
            color=list(Color)[number % 3] if digest("color", number) % 9 else "no color",
            number=digest("number", number) % 8 if number % 5 else None,
            tame=digest("tame", number) % 2 == 0 if number % 17 else "perhaps",
        )

    def some(tag: str, id: str, count: int) -> list[Any]:
        return [creature((int(id) * 7 + each * 3 + digest(tag) % 5) % 97) for each in range(count)]

    def animal(name: str, **more: Any) -> Any:  # noqa: C901 - a list of fields
        def strict(self: Any) -> str:
            return chaotic("strict", self.id, f"s{self.id}")

        def soft(self: Any) -> str | None:
            return chaotic("soft", self.id, f"t{self.id}")

        def color_of(self: Any, flip: bool = False, wanted: Hue | None = None) -> Hue | None:
            return wanted or chaotic("color_of", self.id, list(Color)[(int(self.id) + flip) % 3])

        def echo(self: Any, value: JSON | None = None, filter: Filter | None = None) -> JSON | None:
            return [value, filter and [filter.limit, filter.tag, [each.name for each in filter.colors]], self.id]

        def grid(self: Any) -> list[list[int | None]]:
            bad = 2**35 if digest("grid", self.id) % 5 == 0 else 3
            return chaotic("grid", self.id, [[int(self.id), None], [], [1, 2, bad]])

        def cube(self: Any, strange: bool = False) -> list[list[list[int]] | None] | None:
            bad = None if digest("cube", self.id) % 4 == 0 else 3
            inner: Any = (x for x in [1, 2]) if strange else "12" if digest("word", self.id) % 7 == 0 else (1, 2)
            return chaotic("cube", self.id, [[[1, bad], [2]], None, [], [inner, [4]]])

        def kids(self: Any, n: int = 2) -> list[Creature]:
            return chaotic("kids", self.id, some("kids", self.id, abs(n) % 4))

        def friends(self: Any, filter: Filter | None = None) -> list[Creature | None] | None:
            found = chaotic("friends", self.id, some("friends", self.id, abs(filter.limit) % 4 if filter else 3))
            if not isinstance(found, list):
                return found
            return tuple(_item(self.id, at, each) for at, each in enumerate(found))

        def one(self: Any, at: int | None = 1) -> Creature:
            return chaotic("one", self.id, creature((int(self.id) * 5 + abs(at or 0)) % 97))

        fields: dict[str, Any] = {each.__name__: own(each) for each in (strict, soft, color_of, echo, grid, cube)}
        fields |= {each.__name__: many(each) for each in (kids, friends, one)} | more
        return strawberry.type(type(name, (Creature,), {"__annotations__": {}, "__module__": __name__, **fields}))

    Dog, Cat = animal("Dog"), animal("Cat")  # noqa: N806
    Pet = Annotated[Dog | Cat, strawberry.union("Pet")]  # noqa: N806

    def packs(self: Any) -> list[list[Pet] | None]:
        return [some("packs", self.id, 2), None, [creature(int(self.id)) for _ in range(int(self.id) % 2)]]

    def dog(self: Any) -> Dog:
        return chaotic("dog", self.id, creature(int(self.id) * 3 + (digest("dog", self.id) % 5 == 0)))

    Fish = animal("Fish", packs=many(packs), dog=many(dog))  # noqa: N806

    def root(function: Any) -> Any:
        if flavour == "sync":
            return strawberry.field(function)

        async def resolve(**arguments: Any) -> Any:
            await asyncio.sleep(0)
            return function(**arguments)

        return strawberry.field(_like(function, resolve))

    @strawberry.type
    class Query:
        @root
        def creatures(n: int = 4) -> list[Creature] | None:  # noqa: N805
            return some("creatures", str(abs(n)), abs(n) % 7)

        @root
        def pets(ids: list[int] | None = None, filter: Filter | None = None) -> list[Pet | None] | None:  # noqa: N805
            return [creature(abs(each) % 97) for each in (ids if ids is not None else [1, 2, 3, 4, 5, 6])]

        @root
        def fish(ids: list[int] | None = None) -> list[Fish | None]:  # noqa: N805
            return [creature((each * 3 + 2) % 96) for each in (ids or [2, 5, 8, 11])]

        @root
        def dog(id: strawberry.ID = strawberry.ID("3")) -> Dog:  # noqa: N805, B008
            return creature((digest(id) % 30) * 3 + (digest(id) % 4 == 0))

        @root
        def cat(color: Hue = Color.RED) -> Cat | None:  # noqa: N805
            return creature(list(Color).index(color) * 15 + 1)

        @root
        def echo(value: JSON | None = None) -> JSON | None:  # noqa: N805
            return value

    schema = strawberry.Schema(
        query=Query,
        types=[Dog, Cat, Fish],
        config=StrawberryConfig(scalar_map={Even: strawberry.scalar(name="Even", serialize=_even, parse_value=int)}),
    )
    # As for the gateway's entities. Strawberry itself would let any creature pass for a dog.
    dogs: Any = schema._schema.type_map["Dog"]
    dogs.is_type_of = lambda value, _info: isinstance(value, Dog)
    dogs.extensions[RECORD] = Dog
    return schema


def _like(function: Any, resolve: Any) -> Any:
    resolve.__name__ = resolve.__qualname__ = function.__name__
    resolve.__signature__ = inspect.signature(function)
    resolve.__annotations__ = function.__annotations__
    return resolve


def _outcome(function: Any, parent: Any, arguments: dict[str, Any]) -> Any:
    try:
        return function(parent, **arguments)
    except Boom as error:
        return error


def _item(id: str, at: int, value: Any) -> Any:
    luck = digest("item", id, at) % 9
    return None if luck == 0 else Boom(f"item {at} of {id}") if luck == 1 else value
