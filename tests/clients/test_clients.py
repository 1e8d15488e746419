"""Apollo Client, urql and Python's gql get what they ask for, in the ways in which they ask for it."""

from __future__ import annotations

import json

import pytest
from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport

from tests.running import token

PRODUCT = {"method": "POST", "operations": 1, "text": True, "status": 200}
HASH = PRODUCT | {"text": False}


def test_apollo_client_sends_a_text_once_and_hashes_from_then_on(node, production):
    said = json.loads(node("apollo.mjs", f"{production.url}/graphql", "apq"))
    assert said["together"] == ["prd_1"]
    assert said["after"] == "prd_4"
    assert said["cached"] == "Money"
    assert said["failed"] == ["UNAUTHENTICATED", "UNAUTHENTICATED"]
    assert said["sent"] == [HASH, PRODUCT, HASH, HASH, PRODUCT]


def test_apollo_client_may_send_hashes_by_get(node, production):
    said = json.loads(node("apollo.mjs", f"{production.url}/graphql", "get"))
    assert said["after"] == "prd_4"
    assert said["sent"][-3]["method"] == "GET"
    assert {each["status"] for each in said["sent"]} == {200}


def test_apollo_client_may_send_batches(node, development):
    said = json.loads(node("apollo.mjs", f"{development.url}/graphql", "batch"))
    assert said["together"] == ["prd_1", "prd_2", "prd_3"]
    assert said["failed"] == ["UNAUTHENTICATED", "UNAUTHENTICATED"]
    assert [(each["operations"], each["status"]) for each in said["sent"]] == [(3, 200), (1, 200), (1, 200)]


def test_urql_sends_hashes_and_is_told_what_is_wrong(node, production, real_services):
    said = json.loads(node("urql.mjs", f"{production.url}/graphql", token(real_services, "usr_1")))
    assert said["me"] == "usr_1"
    assert said["orders"] == [2, 1]
    assert said["bad"] == ["BAD_USER_INPUT"]
    assert said["refused"] == ["GRAPHQL_VALIDATION_FAILED"]
    assert [each["text"] for each in said["sent"][:3]] == [False, True, False]


async def test_gql_reads_the_schema_and_checks_its_documents_by_it(development, real_services):
    headers = {"authorization": f"Bearer {token(real_services, 'usr_1')}"}
    transport = HTTPXAsyncTransport(url=f"{development.url}/graphql", headers=headers)
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        document = gql("query Mine($first: Int!) { me { id orders(first: $first) { nodes { id } } } }")
        document.variable_values = {"first": 2}
        found = await session.execute(document)
        assert found["me"]["id"] == "usr_1"
        assert len(found["me"]["orders"]["nodes"]) == 2
        with pytest.raises(TransportQueryError) as failed:
            await session.execute(gql('mutation { cancelOrder(id: "ord_none") { id } }'))
    assert failed.value.errors[0]["extensions"]["code"] == "NOT_FOUND"
