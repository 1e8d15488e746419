"""`/-/cache/purge`: what is kept of answers, dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from bff.core.shelf import Kept

MAX_NAMED = 1000
"""In one request, of each kind."""

_Name = Annotated[str, Field(min_length=1, max_length=8192)]


class Purge(Protocol):
    """Drops what is named: how many answers there were of it."""

    def __call__(
        self, paths: list[str], tags: list[str], entities: list[tuple[str, str]], *, everything: bool
    ) -> int: ...


class Purged(BaseModel):
    """What has to go."""

    model_config = ConfigDict(extra="forbid")

    paths: Annotated[list[Annotated[_Name, Field(pattern=r"^/")]], Field(max_length=MAX_NAMED)] = []
    """Of the gateway: `/api/products/prd_1`, with any query; `/api/products/*` is all below it, and itself."""
    tags: Annotated[list[_Name], Field(max_length=MAX_NAMED)] = []
    """Names that services gave to answers, in `Surrogate-Key` or `Cache-Tag`."""
    entities: Annotated[list[Annotated[_Name, Field(pattern=r"^[^:]+:.")]], Field(max_length=MAX_NAMED)] = []
    """A service and an id each: `products:prd_1`."""
    everything: bool = False


def kept_by_all(said: Sequence[Kept | None]) -> Kept | None:
    """What several processes keep, as one says it; None where nothing is."""
    there = [each for each in said if each is not None]
    if not there:
        return None
    return {
        "answers": sum(each["answers"] for each in there),
        "bytes": sum(each["bytes"] for each in there),
        "max_bytes": sum(each["max_bytes"] for each in there),
        "requests": sum((Counter(each["requests"]) for each in there), Counter[str]()),
    }


def purged_by_all(answers: Sequence[dict[str, int]]) -> dict[str, int]:
    """What several workers say, as one."""
    return {"purged": sum(each["purged"] for each in answers)}


def purges(purge: Purge | None) -> APIRouter:
    """Of what the caches of this process keep, if there are any."""
    pages = APIRouter()

    @pages.post("/-/cache/purge")
    async def purge_some(what: Purged) -> dict[str, int]:
        if purge is None:
            raise HTTPException(
                404, "Nothing is kept: no route says `cache: true`, and no service `cache: {entities: true}`"
            )
        if not (what.paths or what.tags or what.entities or what.everything):
            raise HTTPException(400, "Say what to purge: `paths`, `tags`, `entities`, or `everything: true`")
        entities = [(service, id) for service, _, id in (each.partition(":") for each in what.entities)]
        return {"purged": purge(what.paths, what.tags, entities, everything=what.everything)}

    return pages
