"""The JSON Schema takes what the loader takes, and warns of what it refuses."""

from __future__ import annotations

import jsonschema_rs
import pytest

from bff.core.loading import ConfigError, json_schema, load
from bff.core.loading.document import parse
from tests.config.test_errors import MISTAKES
from tests.config.tree import Tree

SCHEMA = json_schema(Tree)
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)

GOOD = """
defaults: {service: {timeout: 3s, retry: {attempts: 4}}, route: {cost: 2}}
server: {host: localhost, port: 8080, max_body: 64KB, timeout: 1.5s, trusted: [10.0.0.0/8, "::1/128"]}
token: hunter2
introspection: caller.tier == 'staff'
mode: off
sample: 0.5
claims: {subject: uid}
tiers: {free: {rate: [60/minute], quota: 100000/day}}
services:
  users: {url: "http://users.internal", timeout: 5, retry: {budget: 20%, on: [connect]}}
routes:
  - {path: /a, service: users, public: true, methods: [GET]}
"""


def test_what_the_loader_takes_the_schema_takes():
    load(Tree, GOOD)
    VALIDATOR.validate(parse(GOOD, "bff.yaml", []).data())


@pytest.mark.parametrize(
    "text",
    [
        "server: {port: '${PORT}', max_body: '${SIZE:-2MB}', host: {file: host}}",
        "token: {file: /run/secrets/token}",
        "mode: ${MODE}",
        "tiers: {free: {rate: ['${RATE}', {file: rate}]}}",
        "services: {users: {url: '${URL}', identity: {file: x}}}",
        "defaults: {service: {timeout: '${TIMEOUT}'}}",
    ],
)
def test_any_value_may_come_from_elsewhere(text):
    VALIDATOR.validate(parse(text, "bff.yaml", []).data())


@pytest.mark.parametrize(
    "text",
    [
        "servr: {}",
        "server: {prot: 1}",
        "server: {port: 0}",
        "server: {port: '80'}",
        "server: {max_body: 2 MB}",
        "server: {timeout: soon}",
        "mode: enforced",
        "tiers: {free: {rate: [5/week]}}",
        "services: {users: {}}",
        "services: {users: {url: users}}",
        "services: {users: {url: 'http://u:p@users'}}",
        "services: {users: {url: 'http://users', retry: {budget: 120}}}",
        "defaults: {service: {timout: 1s}}",
        "token: {file: a, other: b}",
    ],
)
def test_what_the_loader_refuses_the_schema_warns_of(text):
    with pytest.raises(ConfigError):
        load(Tree, text)
    assert not VALIDATOR.is_valid(parse(text, "bff.yaml", []).data())


def test_the_mistakes_of_a_real_file_are_underlined_one_by_one():
    found = {tuple(error.instance_path)[:2] for error in VALIDATOR.iter_errors(parse(MISTAKES, "bff.yaml", []).data())}
    assert {("server", "port"), ("mode",), ("services", "users"), ("routes", 0), ("tiers", "free")} <= found


def test_it_is_of_the_draft_that_it_says_and_has_descriptions_and_readable_defaults():
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(SCHEMA)
    server, service = (SCHEMA["$defs"][name]["properties"] for name in ("Server", "Service"))
    assert server["port"]["description"] == "The TCP port."
    assert (server["max_body"]["default"], server["timeout"]["default"]) == ("2MB", "30s")
    assert "250ms" in service["timeout"]["examples"]
    assert "title" not in service["timeout"]


def test_defaults_have_the_keys_of_an_item_and_nothing_is_required():
    defaults = SCHEMA["$defs"]["Defaults"]["properties"]
    assert sorted(defaults) == ["route", "service"]
    service = SCHEMA["$defs"]["ServiceDefaults"]
    assert service["properties"].keys() == SCHEMA["$defs"]["Service"]["properties"].keys()
    assert "required" not in service
