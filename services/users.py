"""User service: accounts."""

from datetime import datetime

from bff.sdk import Page, Record, Upstream, batch, call


class User(Record):
    id: str
    name: str
    email: str
    created_at: datetime


class Users(Page[User]):
    """A page of them."""


@batch("users")
async def user_by_id(users: Upstream, ids: list[str]) -> dict[str, User]:
    page = await users.get("/users", Users, ids=ids)
    return {user.id: user for user in page.items}


@call("users")
async def list_users(users: Upstream, limit: int, cursor: str | None, search: str | None) -> Page[User]:
    return await users.get("/users", Users, limit=limit, cursor=cursor, q=search)


@call("users")
async def update_user(users: Upstream, id: str, changes: dict[str, str]) -> User:
    return await users.patch("/users/{}", User, id, json=changes)
