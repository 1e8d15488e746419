"""What the contracts say in prose and OpenAPI cannot: schemathesis loads this to know which requests are valid.

Only values that a schema allows are touched, so a request that is meant to be refused stays as wrong as it was.
"""

import re
from itertools import count, cycle
from typing import Any

import schemathesis

FILTERS = ("q", "category", "status", "limit", "cursor", "user_ids", "order_ids")
# What exists, and every fourth time whatever was drawn.
EXISTING = {
    "users": cycle(["usr_1", "usr_1", "usr_2", None]),
    "products": cycle(["prd_1", "prd_2", "prd_501", None]),
    "orders": cycle([*(f"ord_{number}" for number in (1, 1001, 2001, 3960, 4914, 2)), None]),
    "payments": cycle(["pay_1", "pay_901", "pay_2", None]),
}
ONCE = count(1)


@schemathesis.hook
def before_call(ctx: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    existing = next(EXISTING[next(name for name in EXISTING if f"/{name.rstrip('s')}" in case.path)])
    if existing and "id" in case.path_parameters:
        case.path_parameters["id"] = existing
    use_valid_query(case)
    if case.headers:
        case.headers.pop("X-API-Key", None)  # the runs have a token, and two credentials are one too many
    if is_key(case.headers.get("Idempotency-Key")):  # a second body under one key is refused, as it should be
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}-{next(ONCE)}"
    if isinstance(case.body, dict):
        case.body = use_valid_body(case.body)


def use_valid_query(case: schemathesis.Case) -> None:
    """`ids` goes alone, a list of payments needs a filter, a cursor is the id of something seen."""
    query = case.query
    if is_batch(query.get("ids")) and any(name in query for name in FILTERS):
        del query["ids"]
    if re.fullmatch("GET (/api)?/payments", case.operation.label) and not {"ids", "order_ids"} & query.keys():
        query["order_ids"] = "ord_1,ord_2"
    if is_id("ord", query.get("cursor")):
        query["cursor"] = within("ord", query["cursor"], 5000)
    if re.fullmatch("[1-9][0-9]{0,3}|10000", str(query.get("copies"))):  # gigabytes are another test's
        query["copies"] = 2


def use_valid_body(body: dict[str, Any]) -> dict[str, Any]:
    """What is ordered is sold, and an order that is to be paid may exist."""
    if is_id("usr", body.get("user_id")):
        body = {**body, "user_id": within("usr", body["user_id"], 2)}
    if isinstance(body.get("items"), list):
        body = {**body, "items": [sold(item) for item in body["items"]]}
    if isinstance(body.get("order_id"), str) and (existing := next(EXISTING["orders"])):
        body = {**body, "order_id": existing}
    return body


def sold(item: Any) -> Any:
    if isinstance(item, dict) and is_id("prd", item.get("product_id")):
        return {**item, "product_id": within("prd", item["product_id"], 500)}
    return item


def is_batch(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[^,]+(,[^,]+){0,499}", value) is not None


def is_key(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 255


def is_id(prefix: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(rf"{prefix}_[1-9][0-9]{{0,17}}", value) is not None


def within(prefix: str, value: str, most: int) -> str:
    return f"{prefix}_{int(value[4:]) % most + 1}"
