"""The reference suite of GraphQL over HTTP."""


def test_all_audits_pass_in_development(node, development):
    assert node("audits.mjs", f"{development.url}/graphql") == "61 of 61\n"
