"""Graphql-core's own tests, from its source distribution, with our executor in place of its own."""

import pytest

from tests.engine import conformance


@pytest.mark.timeout(900)
def test_what_graphql_core_tests_of_its_executor_is_true_of_ours():
    theirs, unexpected, stale = conformance.outcome()
    assert theirs == set(), "they would hide what fails with ours"
    assert unexpected == set()
    assert stale == set(), "these need not be allowed to fail any more"
