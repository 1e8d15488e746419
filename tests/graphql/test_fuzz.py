"""Whatever document comes: a well-formed answer, codes of the closed list, and never a fault of ours."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import from_schema

from bff.assembly import schema_modules
from bff.core.errors import Code
from bff.graphql.compose import compose
from tests import shop as fake
from tests.harness import Answer, customer, gateway, operator

SDL = compose(schema_modules(gateway().config)).as_str()
INSIDE = re.compile(r"10\.1\.2\.3|\.internal|Traceback|site-packages|Errno")
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def documents() -> st.SearchStrategy[str]:
    return from_schema(SDL)


@pytest.fixture
def ask():
    """One gateway for all examples of a test: `answer = ask(document, headers)`."""
    shop = gateway()
    with asyncio.Runner() as runner:

        async def asked(document: str, headers: dict[str, str]) -> Answer:
            async with asyncio.timeout(30):
                answer = await shop.query(document, headers=headers)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1, "nothing goes on after the answer"
            return answer

        def judged(document: str, headers: dict[str, str]) -> Answer:
            answer = runner.run(asked(document, headers))
            assert not [line for line in shop.log if line["level"] == "error"]
            assert set(answer.codes) <= set(Code)
            assert not INSIDE.search(answer.response.text)
            for error in answer.errors:
                assert set(error) <= {"message", "locations", "path", "extensions"}
            return answer

        judged.shop = shop
        yield judged


@pytest.mark.parametrize("headers", [dict, customer, operator], ids=["anonymous", "customer", "operator"])
def test_any_valid_document_is_answered(ask, headers):
    @FEW
    @given(documents())
    def check(document):
        assert ask(document, headers()).status == 200

    check()


@pytest.mark.parametrize(
    "behaviour",
    [fake.refused, fake.cut, fake.says(500, b""), fake.says(200, b"[]"), fake.problem(404, "none")],
    ids=["refused", "cut", "500", "nonsense", "404"],
)
def test_any_valid_document_is_answered_while_every_service_fails(ask, behaviour):
    for service in ask.shop.services.four:
        service.fail(behaviour)

    @FEW
    @given(documents())
    def check(document):
        assert ask(document, operator()).status == 200

    check()


TOKENS = '{}()[]:!$@."\\#,&|= \n\tabquermtionfgds0123456789-'


def test_any_text_is_answered_with_a_clear_error(ask):
    @settings(FEW, max_examples=200)
    @given(st.text(max_size=300) | st.text(alphabet=TOKENS, max_size=300))
    def check(document):
        answer = ask(document, {})
        assert answer.status in {200, 400}
        assert answer.errors or answer.data

    check()
