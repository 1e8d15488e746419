"""The contracts that the project holds copies of are those that it was given."""

from __future__ import annotations

import pytest
import yaml
from graphql import build_schema

from bff.assembly import schema_modules
from bff.graphql.compose import compose
from tests.harness import gateway
from tests.running import ROOT
from tests.shop import NAMES
from tests.test_schema import members

METHODS = {"get", "put", "post", "delete", "options", "head", "patch"}


def test_the_exported_schema_contains_the_given_one(shared):
    given = members(build_schema((shared / "contracts" / "schema.graphql").read_text()))
    ours = members(build_schema(compose(schema_modules(gateway().config)).as_str()))
    assert {name: ours.get(name) for name in given} == given


def test_our_copy_of_the_schema_is_the_given_one(shared):
    given = members(build_schema((shared / "contracts" / "schema.graphql").read_text()))
    assert members(build_schema((ROOT / "contracts" / "schema.graphql").read_text())) == given


def operations(document) -> dict[str, tuple[set[tuple[str, str]], set[str]]]:
    """Every operation with its parameters and statuses."""
    found = {}
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            parameters = [*item.get("parameters", []), *item[method].get("parameters", [])]
            found[f"{method} {path}"] = (
                {(each["name"], each["in"]) for each in parameters if "name" in each},
                set(item[method]["responses"]),
            )
    return found


@pytest.mark.parametrize("service", NAMES)
def test_our_copy_of_a_contract_has_every_path_parameter_and_status_of_the_given_one(shared, service):
    given = operations(yaml.safe_load((shared / "contracts" / f"{service}.yaml").read_text()))
    ours = operations(yaml.safe_load((ROOT / "contracts" / f"{service}.yaml").read_text()))
    assert given
    for operation, (parameters, statuses) in given.items():
        assert operation in ours
        assert parameters <= ours[operation][0], operation
        assert statuses <= ours[operation][1], operation


@pytest.mark.parametrize("service", NAMES)
def test_our_copy_of_a_contract_has_every_schema_of_the_given_one(shared, service):
    given = yaml.safe_load((shared / "contracts" / f"{service}.yaml").read_text())["components"]["schemas"]
    ours = yaml.safe_load((ROOT / "contracts" / f"{service}.yaml").read_text())["components"]["schemas"]
    for name, schema in given.items():
        assert set(schema.get("properties", {})) <= set(ours[name].get("properties", {})), name
        assert set(schema.get("required", [])) <= set(ours[name].get("required", [])), name
        assert schema.get("enum") == ours[name].get("enum"), name
