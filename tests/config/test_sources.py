"""Where values come from, and which of them wins."""

from __future__ import annotations

import os

import pytest

from bff.core.loading import ConfigError, load
from bff.core.loading.sources import MAX_SECRET
from tests.config.tree import Tree

USERS = "services: {users: {url: 'http://users'}, pay-outs: {url: 'http://pay'}}\n"
ROUTES = USERS + "routes: [{path: /a, service: users}, {path: /b, service: users}]\n"


def config(text="", **sources):
    return load(Tree, text, **sources).config


def refused(text="", **sources):
    with pytest.raises(ConfigError) as error:
        load(Tree, text, **sources)
    return str(error.value)


def test_the_command_line_overrides_the_environment_that_the_file_that_the_profile_that_the_default():
    profile, environ, overrides = {"server": {"port": 1}}, {"BFF__SERVER__PORT": "3"}, {"server": {"port": 4}}
    text = "server: {port: 2}"
    assert config().server.port == 8000
    assert config(profile=profile).server.port == 1
    assert config(text, profile=profile).server.port == 2
    assert config(text, profile=profile, environ=environ).server.port == 3
    assert config(text, profile=profile, environ=environ, overrides=overrides).server.port == 4


def test_what_one_source_says_leaves_the_rest_of_a_section_as_it_was():
    loaded = config("server: {host: a}", profile={"server": {"port": 1}}, environ={"BFF__SERVER__MAX_BODY": "1KB"})
    assert (loaded.server.host, loaded.server.port, loaded.server.max_body) == ("a", 1, 1024)


def test_a_section_that_is_only_named_says_nothing():
    assert config("server:\ntiers:\n  free:\n", profile={"server": {"port": 1}}).server.port == 1
    assert config("server:\ntiers:\n  free:\n").tiers["free"].rate == ()


def test_each_value_remembers_where_it_came_from():
    text = "defaults: {service: {timeout: 3s}}\nserver:\n  host: a\n" + USERS
    loaded = load(
        Tree,
        text,
        profile={"mode": "off"},
        environ={"BFF__SERVER__PORT": "1"},
        overrides={"sample": 0.5},
    )
    expected = {
        "server.host": "bff.yaml:3",
        "server.port": "BFF__SERVER__PORT",
        "server.max_body": "default",
        "mode": "profile",
        "sample": "command line",
        "services.users.url": "bff.yaml:4",
        "services.users.timeout": "bff.yaml:1",
        "services.users.retry.attempts": "default",
    }
    assert {key: loaded.origin[key] for key in expected} == expected


class TestInterpolation:
    def test_a_variable_is_replaced_and_means_what_it_would_mean_in_its_place(self):
        text = 'server: {port: "${PORT}", host: "${HOST}.internal"}\ntoken: ${TOKEN}'
        loaded = config(text, environ={"PORT": "80", "HOST": "edge", "TOKEN": "0123"})
        assert (loaded.server.port, loaded.server.host, loaded.token.reveal()) == (80, "edge.internal", "0123")

    @pytest.mark.parametrize("environ", [{}, {"PORT": ""}])
    def test_a_default_stands_for_a_variable_that_is_unset_or_empty(self, environ):
        assert config("server:\n  port: ${PORT:-81}", environ=environ).server.port == 81

    @pytest.mark.parametrize("environ", [{}, {"TOKEN": ""}])
    def test_a_message_says_why_a_variable_is_needed(self, environ):
        message = "bff.yaml:2: token: the environment has no TOKEN: needed to change anything"
        assert refused("\ntoken: ${TOKEN:?needed to change anything}", environ=environ) == message

    def test_a_variable_that_is_not_set_is_an_error_by_itself_and_the_only_one_for_its_value(self):
        assert refused("server:\n  port: ${PORT}") == "bff.yaml:2: server.port: the environment has no PORT"

    @pytest.mark.parametrize("text", ["${}", "${1A}", "${A", "${A:+b}", "${A-b}"])
    def test_what_only_looks_like_a_variable_is_refused(self, text):
        assert "bff.yaml:1: token: has a `${` that is none of ${VAR}" in refused(f"token: '{text}'", environ={"A": "a"})

    def test_two_dollars_stand_for_the_text(self):
        assert config("token: a$${B}c$D").token.reveal() == "a${B}c$D"

    def test_a_variable_cannot_bring_structure_or_further_variables(self):
        text = "token: ${A}\nserver: {host: '${B}'}"
        loaded = config(text, environ={"A": "${B}", "B": "{a: b}\nc: [d]", "C": ""})
        assert (loaded.token.reveal(), loaded.server.host) == ("${B}", "{a: b}\nc: [d]")

    def test_what_a_variable_holds_is_never_shown(self):
        text = (
            "server: {port: '${TOKEN}', timeout: '${TOKEN}'}\nroutes:\n- {service: a, path: '${TOKEN}'}\nmode: ${TOKEN}"
        )
        report = refused(text, environ={"TOKEN": "hunter2"})
        assert "hunter2" not in report
        assert "server.port: must be a whole number from 1 to 65535, not what ${TOKEN} holds" in report
        assert "routes[0].path: must begin with /, and ****** does not" in report


class TestMountedSecrets:
    def test_a_value_is_read_from_a_file_beside_the_configuration_without_its_last_newline(self, tmp_path):
        (tmp_path / "token").write_text("hunter2\n")
        (tmp_path / "port").write_bytes(b"81\r\n")
        loaded = config("token: {file: token}\nserver: {port: {file: port}}", directory=tmp_path)
        assert (loaded.token.reveal(), loaded.server.port) == ("hunter2", 81)

    def test_the_path_may_be_absolute_and_have_variables(self, tmp_path):
        (tmp_path / "token").write_text("012\n\n")
        assert config("token:\n  file: ${DIR}/token", environ={"DIR": str(tmp_path)}).token.reveal() == "012\n"

    def test_an_override_may_name_one(self, tmp_path):
        (tmp_path / "token").write_text("hunter2")
        environ = {"BFF__TOKEN": "{file: token}", "BFF__SERVER__PORT": "81"}
        assert config("token: other", environ=environ, directory=tmp_path).token.reveal() == "hunter2"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "there is no such file"),
            (b"\xff\xfe", "it is not UTF-8 text"),
            (b"x" * (MAX_SECRET + 1), f"it is longer than {MAX_SECRET} bytes"),
        ],
    )
    def test_a_file_that_cannot_be_read_is_an_error_with_the_reason(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "token").write_bytes(content)
        text = "\ntoken: {file: token}"
        assert refused(text, directory=tmp_path) == f"bff.yaml:2: token.file: can't be read: {message}"

    @pytest.mark.timeout(5)
    def test_a_pipe_or_a_device_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for name in ("pipe", "/dev/zero", ".", "a\\0b"):
            assert "there is no such file" in refused(f'token: {{file: "{name}"}}', directory=tmp_path)

    @pytest.mark.parametrize("path", ["", "[a]", "{a: b}", "null"])
    def test_a_path_must_be_one(self, path, tmp_path):
        report = refused(f"token: {{file: {path}}}", directory=tmp_path)
        assert report == "bff.yaml:1: token.file: must be the path of a file that holds the value"

    def test_a_secret_that_came_out_empty_does_not_pass_for_one_that_nobody_set(self, tmp_path):
        (tmp_path / "token").write_text("\n")
        assert refused("token: {file: token}", directory=tmp_path) == "bff.yaml:1: token: must not be empty"
        assert refused("token: ${TOKEN}", environ={"TOKEN": ""}) == "bff.yaml:1: token: must not be empty"
        assert refused("token: x", environ={"BFF__TOKEN": ""}) == "BFF__TOKEN: token: must not be empty"
        assert config("token: ${TOKEN:-}", environ={"TOKEN": ""}).token is None
        assert config("token: x", environ={"BFF__TOKEN": "null"}).token is None


class TestOverrides:
    @pytest.mark.parametrize("name", ["BFF__SERVER__MAX_BODY", "BFF__server__max_body", "BFF__Server__Max_Body"])
    def test_any_key_has_a_variable_whatever_its_case(self, name):
        assert config(environ={name: "1KB"}).server.max_body == 1024

    def test_one_entry_of_a_list_and_of_a_mapping_can_be_overridden(self):
        environ = {"BFF__ROUTES__1__COST": "3", "BFF__SERVICES__PAY_OUTS__TIMEOUT": "9s"}
        loaded = config(ROUTES, environ=environ)
        assert [route.cost for route in loaded.routes] == [1, 3]
        assert loaded.services["pay-outs"].timeout == 9

    def test_a_list_or_a_mapping_is_written_as_in_yaml(self):
        environ = {
            "BFF__SERVER__TRUSTED": "[10.0.0.0/8, '::1/128']",
            "BFF__SERVICES": "{orders: {url: 'http://orders'}}",
            "BFF__SERVICES__USERS": "{timeout: 4s}",
        }
        loaded = config(USERS, environ=environ)
        assert [str(network) for network in loaded.server.trusted] == ["10.0.0.0/8", "::1/128"]
        assert sorted(loaded.services) == ["orders", "pay-outs", "users"]
        assert (loaded.services["users"].url, loaded.services["users"].timeout) == ("http://users", 4)

    @pytest.mark.parametrize("text", ["0123", "a: b", "#x", "*a", "${A}", "- b", "true", "%x", "a #b", "!x", "@"])
    def test_a_scalar_is_taken_as_it_stands(self, text):
        assert config(environ={"BFF__TOKEN": text}).token.reveal() == text

    def test_quotes_keep_a_number_a_word(self):
        assert config(environ={"BFF__INTROSPECTION": "'5'"}).introspection == "5"

    def test_defaults_can_be_overridden_too(self):
        assert config(USERS, environ={"BFF__DEFAULTS__SERVICE__TIMEOUT": "7s"}).services["users"].timeout == 7

    def test_other_variables_are_nobody_s_business(self):
        assert config(environ={"BFF_PROFILE": "x", "PATH": "y", "XBFF__A": "z"}) == Tree()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("BFF__SERVR__PORT", "fits no key; did you mean `BFF__SERVER__PORT`?"),
            ("BFF__SERVER__PROT", "fits no key; did you mean `BFF__SERVER__PORT`?"),
            ("BFF__SERVICES__USRES__TIMEOUT", "fits no key; did you mean `BFF__SERVICES__USERS__TIMEOUT`?"),
            (
                "BFF__SERVICES__USERS__RETRY__ATEMPTS",
                "fits no key; did you mean `BFF__SERVICES__USERS__RETRY__ATTEMPTS`?",
            ),
            ("BFF__ROUTES__7__COST", "fits no key"),
            ("BFF__SERVER__PORT__X", "fits no key"),
            ("BFF__", "fits no key"),
            ("BFF__SERVER__", "fits no key"),
        ],
    )
    def test_a_variable_that_fits_no_key_is_an_error_with_its_name(self, name, message):
        assert refused(ROUTES, environ={name: "1"}) == f"{name}: {message}"

    def test_a_bad_value_names_its_variable(self):
        report = refused(ROUTES, environ={"BFF__SERVER__PORT": "x", "BFF__ROUTES__0__METHODS": "[GET"})
        assert report.splitlines() == [
            "BFF__ROUTES__0__METHODS: isn't YAML: did not find expected ',' or ']'",
            "BFF__SERVER__PORT: server.port: must be a whole number from 1 to 65535, not 'x'",
        ]

    def test_the_longer_name_refines_the_shorter(self):
        environ = {"BFF__SERVER__PORT": "2", "BFF__SERVER": "{port: 1, host: a}"}
        loaded = config(environ=environ)
        assert (loaded.server.port, loaded.server.host) == (2, "a")


class TestDefaults:
    def test_they_hold_for_every_item_that_does_not_say_otherwise(self):
        text = """
        defaults: {service: {timeout: 3s, retry: {attempts: 4, on: [connect, reset]}}, route: {cost: 2}}
        services:
          users: {url: http://users}
          orders: {url: http://orders, timeout: 5s, retry: {on: [timeout]}}
        routes:
          - {path: /a, service: users}
          - {path: /b, service: users, cost: 1}
        """
        loaded = config(text)
        users, orders = loaded.services["users"], loaded.services["orders"]
        assert (users.timeout, users.retry.attempts, users.retry.on) == (3, 4, ("connect", "reset"))
        assert (orders.timeout, orders.retry.attempts, orders.retry.on) == (5, 4, ("timeout",))
        assert [route.cost for route in loaded.routes] == [2, 1]
        assert not hasattr(loaded, "defaults")

    def test_a_mistake_in_them_is_reported_once_where_it_stands(self):
        text = "defaults:\n  service: {timeout: soon, retyr: {}}\n  rout: {}\n" + USERS
        assert refused(text).splitlines() == [
            "bff.yaml:2: defaults.service.retyr: unknown key; did you mean `retry`?",
            "bff.yaml:2: defaults.service.timeout: must be a duration such as 250ms, 2s, 5m, 1h or 1d, not 'soon'",
            "bff.yaml:3: defaults.rout: unknown key; did you mean `route`?",
        ]

    def test_a_mistake_in_them_is_found_even_where_they_apply_to_nothing(self):
        assert refused("defaults: {route: {cots: 1}}").startswith("bff.yaml:1: defaults.route.cots: unknown key")

    def test_they_need_not_say_what_an_item_must(self):
        assert config("defaults: {service: {timeout: 1s}}").services == {}
