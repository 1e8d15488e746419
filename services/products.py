"""Product service: the catalogue."""

from bff.sdk import Page, Record, Upstream, batch, call
from services.money import Money


class Product(Record):
    id: str
    sku: str
    name: str
    description: str
    category: str
    price: Money
    stock: int


class Products(Page[Product]):
    """A page of them."""


@batch("products")
async def product_by_id(products: Upstream, ids: list[str]) -> dict[str, Product]:
    page = await products.get("/products", Products, ids=ids)
    return {product.id: product for product in page.items}


@call("products")
async def list_products(
    products: Upstream, limit: int, cursor: str | None, category: str | None, search: str | None
) -> Page[Product]:
    return await products.get("/products", Products, limit=limit, cursor=cursor, category=category, q=search)
