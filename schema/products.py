"""Products, which everybody may see."""

import strawberry

from bff.sdk import Connection, Info, Node, Slice, entity, page_size
from schema.money import Money
from services import products as records
from services.products import list_products, product_by_id


@entity("prd", read=product_by_id, record=records.Product)
class Product(Node):
    sku: str
    name: str
    description: str
    category: str
    price: Money
    stock: int


@strawberry.type
class Query:
    @strawberry.field(graphql_type=Product | None)
    async def product(self, info: Info, id: strawberry.ID) -> records.Product | None:
        return await info.context.load(product_by_id, id)

    @strawberry.field(graphql_type=Connection[Product])
    async def products(
        self,
        info: Info,
        first: int = 20,
        after: str | None = None,
        category: str | None = None,
        search: str | None = None,
    ) -> Slice[records.Product]:
        page = await info.context.call(list_products, page_size(first), after, category, search)
        return Slice(page, after)
