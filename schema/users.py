"""Users."""

from datetime import datetime

import strawberry

from bff.sdk import Connection, Info, Node, RequiresScopes, Slice, entity, page_size
from services import users as records
from services.users import list_users, update_user, user_by_id


@entity("usr", read=user_by_id, record=records.User, scopes=["users:read"])
class User(Node):
    name: str
    email: str
    created_at: datetime


@strawberry.type
class Query:
    @strawberry.field(graphql_type=User | None, description="The caller, when it is a user.")
    async def me(self, info: Info) -> records.User | None:
        subject = info.context.caller.subject
        return await info.context.load(user_by_id, subject) if subject else None

    @strawberry.field(graphql_type=User | None)
    async def user(self, info: Info, id: strawberry.ID) -> records.User | None:
        return await info.context.load(user_by_id, id)

    @strawberry.field(graphql_type=Connection[User])
    async def users(
        self, info: Info, first: int = 20, after: str | None = None, search: str | None = None
    ) -> Slice[records.User]:
        page = await info.context.call(list_users, page_size(first), after, search)
        return Slice(page, after)


@strawberry.input
class UpdateUserInput:
    id: strawberry.ID
    name: str | None = strawberry.UNSET
    email: str | None = strawberry.UNSET


@strawberry.type
class Mutation:
    @strawberry.mutation(graphql_type=User, directives=[RequiresScopes(scopes=[["users:write"]])])
    async def update_user(self, info: Info, input: UpdateUserInput) -> records.User:
        given = {"name": input.name, "email": input.email}
        changes = {name: value for name, value in given.items() if isinstance(value, str)}
        return await info.context.call(update_user, input.id, changes)
