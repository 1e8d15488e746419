"""The stack as everybody writes it: FastAPI, strawberry's router, httpx, aiodataloader, slowapi and PyJWT."""
# ruff: noqa: ARG001  slowapi goes by the names of arguments

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar

import httpx
import jwt
import strawberry
from aiodataloader import DataLoader
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from strawberry.fastapi import GraphQLRouter

SERVICES = {name: os.environ[f"{name.upper()}_URL"] for name in ("users", "products", "orders", "payments")}
SECRET = os.environ["JWT_SECRET"]
ISSUER = os.environ["JWT_ISSUER"]
AUDIENCE = os.environ["JWT_AUDIENCE"]
RATE = "1000000/second"

client = httpx.AsyncClient(timeout=10)
limiter = Limiter(key_func=get_remote_address)
bearer = HTTPBearer()


# Who is calling


def get_claims(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> dict[str, Any]:
    try:
        return jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER)
    except jwt.PyJWTError as error:
        raise HTTPException(401, "Invalid token") from error


Claims = Annotated[dict[str, Any], Depends(get_claims)]


def identity(claims: dict[str, Any]) -> dict[str, str]:
    return {"x-auth-subject": claims["sub"], "x-auth-scopes": claims["scope"]}


# The services


class Loaders:
    """One request's reads."""

    def __init__(self, claims: dict[str, Any]) -> None:
        self.headers = identity(claims)
        self.user = DataLoader(self.load_users)
        self.product = DataLoader(self.load_products)
        self.payment = DataLoader(self.load_payments)
        self.orders: dict[tuple[int, str | None], DataLoader] = {}

    async def get(self, service: str, **params: Any) -> Any:
        params = {name: value for name, value in params.items() if value is not None}
        response = await client.get(f"{SERVICES[service]}/{service}", params=params, headers=self.headers)
        response.raise_for_status()
        return response.json()

    async def load_users(self, ids: list[str]) -> list["User | None"]:
        page = await self.get("users", ids=",".join(ids))
        users = {row["id"]: User.from_row(row) for row in page["items"]}
        return [users.get(id) for id in ids]

    async def load_products(self, ids: list[str]) -> list["Product | None"]:
        page = await self.get("products", ids=",".join(ids))
        products = {row["id"]: Product.from_row(row) for row in page["items"]}
        return [products.get(id) for id in ids]

    async def load_payments(self, order_ids: list[str]) -> list["Payment | None"]:
        page = await self.get("payments", order_ids=",".join(order_ids))
        payments = {row["order_id"]: Payment.from_row(row) for row in page["items"]}
        return [payments.get(id) for id in order_ids]

    def orders_of_user(self, first: int, after: str | None) -> DataLoader:
        async def load(user_ids: list[str]) -> list["Connection[Order]"]:
            page = await self.get("orders", user_ids=",".join(user_ids), limit=first, cursor=after)
            orders: dict[str, list[Order]] = {id: [] for id in user_ids}
            for row in page["items"]:
                orders[row["user_id"]].append(Order.from_row(row))
            return [Connection.of(orders[id], after, page["next_cursors"].get(id)) for id in user_ids]

        return self.orders.setdefault((first, after), DataLoader(load))


# The schema

Node = TypeVar("Node")


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[Node]):
    cursor: str
    node: Node


@strawberry.type
class Connection(Generic[Node]):
    nodes: list[Node]
    page_info: PageInfo

    @strawberry.field
    def edges(self) -> list[Edge[Node]]:
        return [Edge(cursor=node.id, node=node) for node in self.nodes]

    @classmethod
    def of(cls, nodes: list[Node], after: str | None, next_cursor: str | None) -> "Connection[Node]":
        page_info = PageInfo(
            has_next_page=next_cursor is not None,
            has_previous_page=after is not None,
            start_cursor=nodes[0].id if nodes else None,
            end_cursor=nodes[-1].id if nodes else None,
        )
        return cls(nodes=nodes, page_info=page_info)


@strawberry.enum
class OrderStatus(Enum):
    PENDING = "pending"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


@strawberry.enum
class PaymentStatus(Enum):
    PENDING = "pending"
    CAPTURED = "captured"
    FAILED = "failed"
    REFUNDED = "refunded"


@strawberry.enum
class PaymentMethod(Enum):
    CARD = "card"
    SEPA = "sepa"
    PAYPAL = "paypal"
    INVOICE = "invoice"


@strawberry.type
class Money:
    amount: Decimal
    currency: str

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Money":
        return cls(amount=Decimal(row["amount"]), currency=row["currency"])


@strawberry.type
class Product:
    id: strawberry.ID
    sku: str
    name: str
    description: str
    category: str
    price: Money
    stock: int

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Product":
        return cls(**{**row, "price": Money.from_row(row["price"])})


@strawberry.type
class Payment:
    id: strawberry.ID
    status: PaymentStatus
    method: PaymentMethod
    amount: Money
    created_at: datetime

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Payment":
        return cls(
            id=row["id"],
            status=PaymentStatus(row["status"]),
            method=PaymentMethod(row["method"]),
            amount=Money.from_row(row["amount"]),
            created_at=datetime.fromisoformat(row["created_at"]),
        )


@strawberry.type
class OrderItem:
    quantity: int
    unit_price: Money
    product_id: strawberry.Private[str]

    @strawberry.field
    async def product(self, info: strawberry.Info) -> Product | None:
        return await info.context["loaders"].product.load(self.product_id)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "OrderItem":
        return cls(quantity=row["quantity"], unit_price=Money.from_row(row["unit_price"]), product_id=row["product_id"])


@strawberry.type
class Order:
    id: strawberry.ID
    status: OrderStatus
    placed_at: datetime
    items: list[OrderItem]
    total: Money
    user_id: strawberry.Private[str]

    @strawberry.field
    async def customer(self, info: strawberry.Info) -> "User | None":
        return await info.context["loaders"].user.load(self.user_id)

    @strawberry.field
    async def payment(self, info: strawberry.Info) -> Payment | None:
        return await info.context["loaders"].payment.load(self.id)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Order":
        return cls(
            id=row["id"],
            status=OrderStatus(row["status"]),
            placed_at=datetime.fromisoformat(row["placed_at"]),
            items=[OrderItem.from_row(item) for item in row["items"]],
            total=Money.from_row(row["total"]),
            user_id=row["user_id"],
        )


@strawberry.type
class User:
    id: strawberry.ID
    name: str
    email: str
    created_at: datetime

    @strawberry.field
    async def orders(self, info: strawberry.Info, first: int = 10, after: str | None = None) -> Connection[Order]:
        return await info.context["loaders"].orders_of_user(first, after).load(self.id)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "User":
        return cls(**{**row, "created_at": datetime.fromisoformat(row["created_at"])})


@strawberry.type
class Query:
    @strawberry.field
    async def user(self, info: strawberry.Info, id: strawberry.ID) -> User | None:
        return await info.context["loaders"].user.load(id)

    @strawberry.field
    async def users(self, info: strawberry.Info, first: int = 20, after: str | None = None) -> Connection[User]:
        page = await info.context["loaders"].get("users", limit=first, cursor=after)
        return Connection.of([User.from_row(row) for row in page["items"]], after, page["next_cursor"])

    @strawberry.field
    async def product(self, info: strawberry.Info, id: strawberry.ID) -> Product | None:
        return await info.context["loaders"].product.load(id)

    @strawberry.field
    async def products(self, info: strawberry.Info, first: int = 20, after: str | None = None) -> Connection[Product]:
        page = await info.context["loaders"].get("products", limit=first, cursor=after)
        return Connection.of([Product.from_row(row) for row in page["items"]], after, page["next_cursor"])


# The app


@limiter.limit(RATE)
async def get_context(request: Request, claims: Claims) -> dict[str, Any]:
    return {"loaders": Loaders(claims)}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.aclose()


app = FastAPI(lifespan=lifespan)
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.include_router(GraphQLRouter(strawberry.Schema(Query), context_getter=get_context), prefix="/graphql")


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
NOT_FORWARDED = {*HOP_BY_HOP, "host", "content-length", "content-encoding"}


@app.api_route("/api/{service}/{path:path}", methods=["GET", "POST", "PATCH"])
@limiter.limit(RATE)
async def forward(service: str, path: str, request: Request, claims: Claims) -> Response:
    if service not in SERVICES:
        raise HTTPException(404)
    headers = {name: value for name, value in request.headers.items() if name not in NOT_FORWARDED}
    response = await client.request(
        request.method,
        f"{SERVICES[service]}/{service}/{path}",
        params=request.query_params,
        headers={**headers, **identity(claims)},
        content=await request.body(),
    )
    kept = {name: value for name, value in response.headers.items() if name not in NOT_FORWARDED}
    return Response(response.content, response.status_code, kept)
