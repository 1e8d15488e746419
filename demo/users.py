"""The User service: who the shop's customers are. A customer sees itself, `users:admin` sees all."""

import sqlite3
from functools import lru_cache
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from demo import answers, avatar, data, query
from demo.bodies import json_body
from demo.caller import Caller, caller_of
from demo.database import database, marks
from demo.ids import number_of, numbers_of
from demo.problems import Problem
from demo.server import Options, serve, service

CACHE = "private, max-age=5"
SCHEMA = "CREATE TABLE users (number INTEGER PRIMARY KEY, name TEXT, email TEXT, created_at TEXT)"


class User(msgspec.Struct):
    id: str
    name: str
    email: str
    created_at: str


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Email = Annotated[str, msgspec.Meta(max_length=254, pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+\Z")]


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    name: Name | msgspec.UnsetType = msgspec.UNSET
    email: Email | msgspec.UnsetType = msgspec.UNSET


class Users:
    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    async def several(self, request: Request) -> Response:
        """GET /users"""
        caller, sent = caller_of(request), query.parameters(request, "ids", "q", "limit", "cursor")
        if "ids" in sent:
            numbers = numbers_of("usr_", query.batch("ids", sent))
            return answers.items(self.visible(caller, f"number IN ({marks(numbers)})", *numbers), CACHE)
        limit, after, part = query.page_size(sent), query.position("usr_", sent) or 0, sent.get("q", "").casefold()
        found = self.visible(
            caller, "number > ? AND (instr(fold(name), ?) OR instr(fold(email), ?))", after, part, part, limit=limit + 1
        )
        page = found[:limit]
        return answers.items(page, CACHE, next_cursor=page[-1].id if len(found) > limit else None)

    async def one(self, request: Request) -> Response:
        """GET and PATCH /users/{id}"""
        user = self.asked_for(request)
        if request.method == "PATCH":
            changes = await json_body(request, Changes)
            user = self.asked_for(request)  # again: somebody may have changed it while the body came
            user.name, user.email = changes.name or user.name, changes.email or user.email
            row = (user.name, user.email, number_of("usr_", user.id))
            self.db.execute("UPDATE users SET name = ?, email = ? WHERE number = ?", row)
        return answers.record(request, user, CACHE)

    async def picture(self, request: Request) -> Response:
        """GET /users/{id}/avatar"""
        number = number_of("usr_", self.asked_for(request).id)
        return answers.ranged(request, picture_of(number or 0), CACHE, "image/png")

    def asked_for(self, request: Request) -> User:
        number = number_of("usr_", request.path_params["id"])
        for user in self.visible(caller_of(request), "number = ?", number):
            return user
        raise Problem(404, "no such user")

    def visible(self, caller: Caller, where: str, *values: object, limit: int = query.MAX_BATCH) -> list[User]:
        """The one place that reads users, so the one place that decides who sees whom."""
        everyone, itself = caller.may("users:admin"), number_of("usr_", caller.subject)
        sql = f"SELECT * FROM users WHERE (? OR number = ?) AND ({where}) ORDER BY number LIMIT ?"  # noqa: S608 - ours
        rows = self.db.execute(sql, (everyone, itself, *values, limit))
        return [User(f"usr_{number}", name, email, created_at) for number, name, email, created_at in rows]


@lru_cache(1000)
def picture_of(number: int) -> bytes:
    return avatar.png(number)


def seed(db: sqlite3.Connection) -> None:
    db.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", data.people())


def build(options: Options) -> ASGIApp:
    users = Users(database(options.data / "users.db", SCHEMA, seed))
    return service(
        [
            Route("/users", users.several),
            Route("/users/{id}", users.one, methods=["GET", "PATCH"]),
            Route("/users/{id}/avatar", users.picture),
        ],
        options.latency,
    )


if __name__ == "__main__":
    serve(8101, build)
