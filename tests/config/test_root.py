"""The gateway's own tree of settings."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest

from bff.config import PROFILES, Config, ConfigError, json_schema, load, read, traced
from bff.core.loading.document import parse

MINIMAL = "services: {users: {url: 'http://users.internal'}}\n"
SHIPPED = Path(__file__).parents[2] / "bff.yaml"


@pytest.mark.parametrize("profile", PROFILES)
def test_services_are_all_that_is_required(profile):
    assert load(MINIMAL, profile=profile).services["users"].url == "http://users.internal"
    with pytest.raises(ConfigError, match=r"^bff\.yaml:1: services: is required$"):
        load("", profile=profile)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_shipped_file_loads_and_the_schema_takes_it(profile):
    config = traced(SHIPPED, profile=profile, environ={})
    assert config.config == read(SHIPPED, profile=profile, environ={})
    assert str(SHIPPED) in config.origin["services.users.url"]
    jsonschema_rs.Draft202012Validator(json_schema()).validate(parse(SHIPPED.read_text(), "bff.yaml", []).data())


@pytest.mark.parametrize("profile", PROFILES)
def test_the_shipped_file_begins_with_no_warning(profile):
    assert list(read(SHIPPED, profile=profile, environ={}).doubts()) == []


def test_an_unknown_profile_is_refused():
    with pytest.raises(ConfigError, match="profile: must be production or development, not 'dev'"):
        load(MINIMAL, profile="dev")


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    for name, reason in [
        ("none.yaml", "no such file or directory"),
        (".", "directory"),
        ("latin.yaml", "it is not UTF-8"),
    ]:
        with pytest.raises(ConfigError, match=f"can't be read: .*{reason}"):
            read(tmp_path / name)


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path):
    (tmp_path / "bff.yaml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert read(tmp_path / "bff.yaml").services.keys() == {"users"}


def test_secrets_are_looked_for_beside_the_file(tmp_path):
    (tmp_path / "url").write_text("http://users.internal\n")
    (tmp_path / "bff.yaml").write_text("services: {users: {url: {file: url}}}")
    assert read(tmp_path / "bff.yaml").services["users"].url == "http://users.internal"


def test_every_section_is_described_for_editors():
    schema = json_schema()
    jsonschema_rs.meta.validate(schema)
    undescribed = [name for name in Config.model_fields if not schema["properties"][name].get("description")]
    assert undescribed == []
