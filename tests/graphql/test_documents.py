"""Documents: each text is judged once, remembered within bounds, and what is refused is refused alike each time."""

from __future__ import annotations

import pytest
from graphql import GraphQLError, GraphQLSchema, OperationType, build_schema

from bff.core.errors import Code
from bff.core.telemetry import Telemetry
from bff.graphql import DocumentLimits, DocumentMemory, GraphQLSettings
from bff.graphql.document import DocumentRefused
from bff.graphql.documents import Documents
from tests.harness import customer, gateway

SCHEMA: GraphQLSchema = build_schema(
    """type Query { product(id: ID!): Product, products(first: Int = 10): [Product!]! }
    type Mutation { buy(input: Basket!): Product }
    type Product { id: ID!, name: String, alike: [Product!]! }
    input Basket { items: [ID!]! }"""
)


def documents(*, schema: GraphQLSchema = SCHEMA, introspection: bool = True, **limits: object) -> Documents:
    settings = GraphQLSettings(introspection=introspection, limits=DocumentLimits(**limits))
    return Documents(schema, settings, Telemetry())


def refusal(known: Documents, text: str) -> DocumentRefused:
    with pytest.raises(DocumentRefused) as refused:
        known.document(text)
    return refused.value


def test_a_text_is_parsed_and_validated_once():
    known = documents()
    assert known.document("{ product(id: 1) { id } }") is known.document("{ product(id: 1) { id } }")
    assert refusal(known, "{ nothing }") is refusal(known, "{ nothing }")


def test_no_more_documents_are_kept_than_may_be_and_the_one_used_longest_ago_goes_first():
    settings = GraphQLSettings(memory=DocumentMemory(max_documents=2))
    known = Documents(SCHEMA, settings, Telemetry())
    texts = [f"query Q{n} {{ __typename }}" for n in range(3)]
    first, second = (known.document(text) for text in texts[:2])
    assert known.document(texts[0]) is first
    known.document(texts[2])
    assert known.document(texts[0]) is first
    assert known.document(texts[1]) is not second


def test_no_more_text_is_kept_than_may_be():
    known = Documents(SCHEMA, GraphQLSettings(memory=DocumentMemory(max_size=60)), Telemetry())
    first = known.document("query One { __typename }")
    assert known.document("query One { __typename }") is first
    known.document("query Two { __typename product(id: 1) { id } }")
    assert known.document("query One { __typename }") is not first


def test_a_refusal_that_is_remembered_holds_on_to_nobody_who_asked():
    known = documents()
    for text in ("{ nothing }", "{", "{ " + "a: __typename " * 60 + "}"):
        errors = [refusal(known, text) for _ in range(50)]
        depth, at = 0, errors[-1].__traceback__
        while at is not None:
            depth, at = depth + 1, at.tb_next
        assert depth < 10
        assert errors[-1].__context__ is None
        assert all(error.__traceback__ is None for error in errors[-1].errors)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", Code.GRAPHQL_PARSE_FAILED),
        ("", Code.GRAPHQL_PARSE_FAILED),
        ('{ "Document contains more tokens" }', Code.GRAPHQL_PARSE_FAILED),
        ("{ nothing }", Code.GRAPHQL_VALIDATION_FAILED),
        ("{ product { id } }", Code.GRAPHQL_VALIDATION_FAILED),
        ("{ ...Nothing }", Code.GRAPHQL_VALIDATION_FAILED),
        ("type Product { id: ID }", Code.GRAPHQL_VALIDATION_FAILED),
        ("{ introspection }", Code.GRAPHQL_VALIDATION_FAILED),
        (
            "fragment A on Query { __typename } fragment A on Query { __typename } { ...A }",
            Code.GRAPHQL_VALIDATION_FAILED,
        ),
    ],
)
def test_what_cannot_be_executed_is_refused_with_its_code(text, code):
    refused = refusal(documents(introspection=False), text)
    assert (refused.status, refused.code) == (400, code)
    assert refused.errors
    assert all(isinstance(each, GraphQLError) for each in refused.errors)


def test_a_document_with_a_hundred_mistakes_names_a_few_of_them():
    mistakes = "{ product(id: 1) { " + " ".join(f"no{n}" for n in range(100)) + " } }"
    assert len(refusal(documents(), mistakes).errors) == 6


SAME_NAMES = [
    "{ " + " ".join(f"...F{n}" for n in range(150)) + " } ",
    *(f"fragment F{n} on Query {{ product(id: 1) {{ id name alike {{ id name }} }} }} " for n in range(150)),
]


@pytest.mark.parametrize("mode", ["enforce", "off"])
def test_fields_of_one_name_are_compared_with_each_other_only_so_often(mode):
    known = documents(mode=mode, root_fields=1000)
    refused = refusal(known, "".join(SAME_NAMES))
    assert refused.code is Code.GRAPHQL_VALIDATION_FAILED
    assert "Too many fields" in refused.errors[-1].message
    few = "{ " + " ".join(f"...F{n}" for n in range(20)) + " } " + "".join(SAME_NAMES[1:21])
    assert known.document(few)


@pytest.mark.parametrize(
    "text",
    [
        "{ produkt(id: 1) { id } }",
        "{ product(ib: 1, id: 1) { id } }",
        "{ product(id: 1) { ...A } } fragment A on Prodct { id }",
    ],
)
def test_suggestions_are_made_where_introspection_is_on_and_only_there(text):
    assert "Did you mean" in str(refusal(documents(), text).errors)
    assert "Did you mean" not in str(refusal(documents(introspection=False), text).errors)


async def test_in_production_nothing_of_the_schema_is_told_by_values_that_do_not_fit():
    document = "mutation ($input: UpdateUserInput!) { updateUser(input: $input) { id } }"
    for profile, told in (("development", True), ("production", False)):
        answer = await gateway(profile=profile).query(
            document, {"input": {"id": "usr_1", "nam": "a"}}, headers=customer()
        )
        assert ("Did you mean" in answer.response.text) is told
        assert not answer.has_data


def test_an_operation_is_chosen_by_name():
    document = documents().document("query A { __typename } mutation B { buy(input: {items: []}) { id } }")
    assert document.operation("B").type is OperationType.MUTATION
    for name in (None, "C", ""):
        with pytest.raises(DocumentRefused) as refused:
            document.operation(name)
        assert refused.value.code is Code.OPERATION_RESOLUTION_FAILURE
    assert documents().document("query A { __typename }").operation(None).name == "A"
    assert documents().document("{ __typename }").operation(None).name == ""
