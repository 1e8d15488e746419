"""A schema with everything in it, over values that go wrong in every way that resolvers know.

Each resolver exists three times: asked object by object, the same but async (`…Later`), and batched (`…Together`, and
`…TogetherNow` without async). What goes wrong is decided by a hash of the field and the object, so that it is the same
for each executor.
"""

import asyncio
import enum
import inspect
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import strawberry
from graphql import GraphQLSchema
from strawberry.scalars import JSON

from bff.engine import GUARD, RECORD, Parents, batched


class Boom(Exception):
    pass


def chance(*about: object) -> int:
    """From 0 to 99, always the same for the same."""
    return zlib.crc32(repr(about).encode()) % 9973 % 100


def mishap(tag: str, ident: str, value: Any) -> Any:
    luck = chance(tag, ident)
    if luck < 2:
        raise Boom(f"{tag} of {ident}")
    if luck < 4:
        return None
    if luck < 6:
        return Boom(f"{tag} of {ident} as a value")
    return value


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"
    BLUE = 3


strawberry.enum(Color)


@strawberry.input
class Filter:
    limit: int = 3
    tag: str | None = None
    colors: list[Color] = strawberry.field(default_factory=list)


class _Record(msgspec.Struct):
    id: str
    label: str | None
    maybe: Any
    size: int
    weight: float | None
    color: Color | None
    tags: Any
    born: datetime | None


class DogRecord(_Record):
    pass


class CatRecord(_Record):
    pass


def animal(number: int) -> Any:
    """A dog and a cat are records, each recognised in its own way; a fish is an object of its GraphQL class."""
    ident = str(number)
    facts: dict[str, Any] = {
        "id": ident,
        "label": None if chance("label", ident) < 2 else f"n{number}",
        "maybe": [f"m{number}", None, 3, Boom(f"maybe of {ident}")][min(3, max(0, chance("maybe", ident) - 75) // 8)],
        "size": 2**40 if chance("size", ident) < 2 else number,
        "weight": float("nan") if chance("weight", ident) < 4 else None if chance("w", ident) < 15 else number / 3,
        "color": list(Color)[number % 3] if chance("color", ident) > 10 else None,
        "tags": [None, ["a", None], "abc", ("x", "y"), ["z"]][chance("tags", ident) % 5],
        "born": datetime(2020, 1, 1 + number % 28, tzinfo=UTC) if chance("born", ident) > 20 else None,
    }
    return (DogRecord, CatRecord, Fish)[number % 3](**facts)


def animals(tag: str, ident: str, count: int) -> list[Any]:
    return [animal((int(ident) * 7 + index * 3 + chance(tag)) % 97) for index in range(count)]


@strawberry.interface
class Node:
    id: strawberry.ID
    label: str
    maybe: str | None
    size: int
    weight: float | None


# The resolvers. `self` is a record or a fish.


def strict(self: Any) -> str:
    return mishap("strict", self.id, f"s{self.id}")


def soft(self: Any) -> str | None:
    return mishap("soft", self.id, f"t{self.id}")


def color_of(self: Any, flip: bool = False) -> Color | None:
    return mishap("color_of", self.id, list(Color)[(int(self.id) + flip) % 3])


def kids(self: Any, n: int = 2) -> list[Node]:
    return mishap("kids", self.id, animals("kids", self.id, abs(n) % 4))


def kids_maybe(self: Any, having: Filter | None = None) -> list[Node | None] | None:
    found = mishap("kids_maybe", self.id, animals("kids_maybe", self.id, abs(having.limit) % 4 if having else 2))
    if not isinstance(found, list):
        return found
    return [[kid, kid, kid, kid, None, Boom(f"kid of {self.id}")][chance("kid", self.id, kid.id) % 6] for kid in found]


def one(self: Any, at: int | None = 1) -> Node:
    return mishap("one", self.id, animal((int(self.id) * 5 + abs(at or 0)) % 97))


def friend(self: Any) -> Annotated["Dog", strawberry.lazy("tests.engine.synthetic")] | None:
    return mishap("friend", self.id, animal(int(self.id) // 3 * 3 + (chance("friend", self.id) < 20)))


def pets(self: Any) -> "list[list[Pet | None]]":
    found = [animals("pets", self.id, length) for length in (2, 0, chance("pets", self.id) % 3)]
    return mishap("pets", self.id, [found[0], found[1], None if chance("pets?", self.id) < 3 else found[2]])


def grid(self: Any) -> list[list[int | None]]:
    odd = 2**35 if chance("grid?", self.id) < 20 else 3
    return mishap("grid", self.id, [[int(self.id), None], [], (1, 2, odd)])


def cube(self: Any) -> list[list[list[str]] | None] | None:
    inner = ["a", None if chance("cube?", self.id) < 30 else "b"]
    return mishap("cube", self.id, [[["c"], inner], None, [[], ["d"]]])


def anything(self: Any) -> JSON | None:
    return mishap("anything", self.id, {"id": self.id, "list": [1, None]})


def secret(self: Any) -> str | None:
    return "never seen"


def guarded(self: Any) -> str:
    return "seen of dogs and cats, never of fish"


RESOLVERS = [strict, soft, color_of, kids, kids_maybe, one, friend, pets, grid, cube, anything]


def later(function: Callable[..., Any]) -> Callable[..., Any]:
    async def resolve(self: Any, **arguments: Any) -> Any:
        for _ in range(chance(function.__name__, self.id) % 3):
            await asyncio.sleep(0)
        return function(self, **arguments)

    return _like(function, resolve, inspect.signature(function))


def together(function: Callable[..., Any], *, now: bool) -> Callable[..., Any]:
    def resolve(parents: Parents[Any], **arguments: Any) -> list[Any]:
        results = []
        for parent in parents:
            try:
                results.append(function(parent, **arguments))
            except Boom as error:
                results.append(error)
        return results

    async def resolve_later(parents: Parents[Any], **arguments: Any) -> list[Any]:
        await asyncio.sleep(0)
        return resolve(parents, **arguments)

    signature = inspect.signature(function)
    of_all = signature.replace(return_annotation=list[signature.return_annotation])  # type: ignore[name-defined]
    return _like(function, resolve if now else resolve_later, of_all)


def _like(original: Callable[..., Any], function: Any, signature: inspect.Signature) -> Any:
    function.__name__, function.__module__ = original.__name__, original.__module__
    function.__signature__ = signature
    function.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()} | {
        "return": signature.return_annotation
    }
    return function


async def kids_streamed(self: Any) -> AsyncIterator[Any]:
    for index, kid in enumerate(animals("streamed", self.id, 3)):
        await asyncio.sleep(0)
        if chance("streamed", self.id, index) < 4:
            raise Boom(f"stream of {self.id}")
        yield None if chance("streamed?", self.id, index) < 4 else kid


def streamed(self: Any) -> list[Node]:
    return kids_streamed(self)  # type: ignore[return-value]


def streamed_maybe(self: Any) -> list[Node | None] | None:
    return kids_streamed(self)  # type: ignore[return-value]


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = {
        "secret": strawberry.field(secret),
        "guarded": strawberry.field(guarded),
        "streamed_later": strawberry.field(resolver=streamed),
        "streamed_maybe_later": strawberry.field(resolver=streamed_maybe),
    }
    for function in RESOLVERS:
        name = function.__name__
        fields[name] = strawberry.field(resolver=function)
        fields[f"{name}_later"] = strawberry.field(resolver=later(function))
        fields[f"{name}_together"] = batched(together(function, now=False))
        fields[f"{name}_together_now"] = batched(together(function, now=True))
    return fields


def _type(name: str, record: type | None) -> Any:
    annotations = {"color": Color | None, "tags": list[str] | None, "born": datetime | None}
    body = {"__annotations__": annotations, "__module__": __name__, **_fields()}
    if record is not None:
        body["is_type_of"] = classmethod(lambda _cls, value, _info: isinstance(value, record))
    return strawberry.type(type(name, (Node,), body))


Dog = _type("Dog", DogRecord)
Cat = _type("Cat", CatRecord)
Fish = _type("Fish", None)
Pet = Annotated[Dog | Cat, strawberry.union("Pet")]


THIRD = strawberry.ID("3")


def nodes(n: int = 4) -> list[Node] | None:
    return animals("nodes", str(n % 50), abs(n) % 6)


def some_pets(ids: list[int] | None = None, having: Filter | None = None) -> list[Pet | None] | None:
    return [animal(abs(ident) % 97) for ident in (ids if ids is not None else [1, 2, 3, 4, 5])]


def dog(id: strawberry.ID = THIRD) -> Dog:
    return animal(chance(id) % 30 * 3 + (chance(id, "?") < 15))


def cat(color: Color = Color.RED) -> Cat | None:
    return animal(list(Color).index(color) * 15 + 1)


def matrix() -> list[list[Node]]:
    return [animals("matrix", "1", 2), animals("matrix", "2", 3)]


@strawberry.type
class Query:
    nodes = strawberry.field(resolver=nodes)
    some_pets = strawberry.field(resolver=some_pets)
    dog = strawberry.field(resolver=dog)
    cat = strawberry.field(resolver=cat)
    matrix = strawberry.field(resolver=matrix)

    @strawberry.field
    async def nodes_later(self, n: int = 4) -> list[Node]:
        await asyncio.sleep(0)
        return animals("nodes_later", str(n % 50), abs(n) % 6)

    @strawberry.field
    async def matrix_later(self) -> list[list[Pet | None] | None]:
        return [animals("matrix_later", "1", 2), None, animals("matrix_later", "2", 3)]


@strawberry.type
class Mutation:
    nodes = strawberry.mutation(resolver=nodes)
    dog = strawberry.mutation(resolver=dog)
    cat = strawberry.mutation(resolver=cat)

    @strawberry.mutation
    async def nodes_later(self, n: int = 4) -> list[Node] | None:
        await asyncio.sleep(0)
        return animals("nodes_later", str(n % 50), abs(n) % 6)


def refuse(info: Any) -> None:
    raise Boom(f"not for you: {info.field_name}")


def allow(_info: Any) -> None:
    pass


def refuse_some(info: Any) -> None:
    if info.field_name in {"matrix", "nodesLater"}:
        refuse(info)


def schema() -> GraphQLSchema:
    built = strawberry.Schema(query=Query, mutation=Mutation, types=[Dog, Cat, Fish])._schema
    for name in ("Dog", "Cat", "Fish"):
        fields = built.type_map[name].fields  # type: ignore[attr-defined]
        fields["secret"].extensions[GUARD] = refuse
        fields["guarded"].extensions[GUARD] = refuse if name == "Fish" else allow
    built.type_map["Dog"].extensions |= {RECORD: DogRecord, GUARD: refuse_some}
    built.type_map["Fish"].extensions[GUARD] = refuse_some
    return built
