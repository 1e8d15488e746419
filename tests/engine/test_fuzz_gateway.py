"""The gateway's own schema is executed as by graphql-core, over services that lose records and fail, for any caller."""

import asyncio
import os
from collections.abc import Sequence
from random import Random
from typing import Any

import httpx
import pytest
from graphql import GraphQLSchema, parse, validate

from bff.core.errors import UpstreamBadResponse
from bff.core.identity import ANONYMOUS, Caller
from bff.core.trace import Trace
from bff.graphql.compose import compose
from bff.graphql.context import Context
from bff.upstream.batch import Batch
from bff.upstream.client import Origin, Service, Upstream
from bff.upstream.target import Addressed
from schema import orders, payments, products, users
from tests.engine import oracle
from tests.engine.documents import executions
from tests.engine.operations import harder, written
from tests.engine.synthetic import chance
from tests.shop import Services

SEED = int(os.environ.get("FUZZ_SEED", "0"))
PREFIXES = ("usr_", "usr_", "ord_", "prd_", "pay_", "")
SCOPES = ("users:read", "users:admin", "orders:read", "orders:admin", "payments:read", "payments:admin")
CALLERS = {
    "a customer": Caller("usr_1", "web", frozenset(SCOPES[::2]), credential="jwt"),
    "an operator": Caller("usr_1", "desk", frozenset(SCOPES), credential="jwt"),
    "nobody": ANONYMOUS,
}

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Unreliable(Context):
    """Some records are lost on the way, and some are errors: by their key, since batches differ between executors."""

    async def load(self, batch: Batch[Any, Any], key: Any) -> Any:
        (value,) = await self.load_many(batch, [key])
        if isinstance(value, BaseException):
            raise value
        return value

    async def load_many(self, batch: Batch[Any, Any], keys: Sequence[Any]) -> list[Any]:
        found = await super().load_many(batch, keys)
        return [self._mishap(batch, key, value) for key, value in zip(keys, found, strict=True)]

    def _mishap(self, batch: Batch[Any, Any], key: str, value: Any) -> Any:
        luck = chance(batch.service, batch.fetch.__name__, key)
        return UpstreamBadResponse(batch.service) if luck < 3 else None if luck < 6 else value


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return compose([users, products, orders, payments])._schema


@pytest.mark.parametrize("caller", CALLERS)
def test_the_shipped_schema_is_answered_as_by_graphql_core(schema: GraphQLSchema, caller: str) -> None:
    fuzz(schema, CALLERS[caller], SEED, 100)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("caller", CALLERS)
def test_the_shipped_schema_is_answered_as_by_graphql_core_at_length(schema: GraphQLSchema, caller: str) -> None:
    fuzz(schema, CALLERS[caller], SEED + 1000, 2000)


def fuzz(schema: GraphQLSchema, caller: Caller, number: int, count: int) -> None:
    services = Services([])
    urls = {name: httpx.URL(f"http://{name}.internal") for name in ("users", "products", "orders", "payments")}
    connected = {name: Service(name, (url,), Addressed(services, url)) for name, url in urls.items()}

    def context() -> Context:
        origin = Origin(
            caller, Trace("0" * 31 + "1", "1" * 16, sampled=False), "r", asyncio.get_running_loop().time() + 60
        )
        return Unreliable(caller, lambda name: Upstream(connected[name], origin))

    random = Random(number)  # noqa: S311
    assert schema.query_type is not None
    done = 0
    while done < count:
        text = written(schema, random, schema.query_type, lambda _name: True, PREFIXES)
        if validate(schema, parse(text)):
            continue
        case = harder(schema, random, text)
        for variables in case.variables if case else ():
            oracle.compare(schema, case.document, variables, context)
            done += 1
            services.forget()
    assert oracle.Fuzzed.fallbacks == []
    for document, variables in executions(schema, number, count):  # with variables of every type
        oracle.compare(schema, document, variables, context)
        services.forget()
    left, oracle.Fuzzed.fallbacks[:] = oracle.Fuzzed.fallbacks.copy(), []
    assert set(left) <= {"unfit directive arguments"}
    assert len(left) <= max(1, count / 100)
