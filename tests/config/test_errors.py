"""Every mistake at once, each where it stands, in words that say what to write instead."""

from __future__ import annotations

import pytest

from bff.core.loading import ConfigError, load
from tests.config.tree import Tree

MISTAKES = """\
server:
  prot: 8080
  port: '8000'
  max_body: 2 MB
  timeout: 10ms
  trusted: [10.0.0.0/33]
mode: enforced
sample: 2
token: ${TOKEN:?operators need it}
introspectoin: false
tiers:
  free: {rate: [60/minut, 5/second], quota: 0/day}
services:
  users:
    url: users.internal
    timout: 2s
    retry: {attempts: 0, budget: 20, on: connect}
    identity: sign
  orders:
    timeout:
  payments: http://payments
routes:
  - path: api/users
    service: users
    public: yes
    cost: x
  - {path: /api/orders, service: orders, methods: []}
  - service: users
"""

REPORT = """\
bff.yaml:2: server.prot: unknown key; did you mean `port`?
bff.yaml:3: server.port: must be a whole number from 1 to 65535, not '8000'
bff.yaml:4: server.max_body: must be a size such as 512B, 64KB, 2MB or 1GB (1KB is 1024 bytes), not '2 MB'
bff.yaml:5: server.timeout: must be at least 100ms, not '10ms'
bff.yaml:6: server.trusted[0]: must be a network such as 10.0.0.0/8, without bits past its prefix, not '10.0.0.0/33'
bff.yaml:7: mode: must be off, measure or enforce, not 'enforced'; did you mean `enforce`?
bff.yaml:8: sample: must be at most 1, not 2
bff.yaml:9: token: the environment has no TOKEN: operators need it
bff.yaml:10: introspectoin: unknown key; did you mean `introspection`?
bff.yaml:12: tiers.free.quota: must be a rate such as 20/second, 100/minute, 5000/hour or 100000/day, not '0/day'
bff.yaml:12: tiers.free.rate[0]: must be a rate such as 20/second, 100/minute, 5000/hour or 100000/day, not '60/minut'
bff.yaml:15: services.users.url: must be an absolute URL such as http://users.internal:8080, not 'users.internal'
bff.yaml:16: services.users.timout: unknown key; did you mean `timeout`?
bff.yaml:17: services.users.retry.attempts: must be at least 1, not 0
bff.yaml:17: services.users.retry.budget: must be a percentage from 0% to 100%, not 20
bff.yaml:17: services.users.retry.on: must be a list, not 'connect'
bff.yaml:18: services.users.identity: must be forward, signed or none, not 'sign'; did you mean `signed`?
bff.yaml:19: services.orders.url: is required
bff.yaml:20: services.orders.timeout: must be a duration such as 250ms, 2s, 5m, 1h or 1d, but is empty
bff.yaml:21: services.payments: must be a mapping, not 'http://payments'
bff.yaml:23: routes[0].path: must begin with /, and api/users does not
bff.yaml:25: routes[0].public: must be true or false, not 'yes'; did you mean `true`?
bff.yaml:26: routes[0].cost: must be a whole number of at least 1, not 'x'
bff.yaml:27: routes[1].methods: must not be empty
bff.yaml:28: routes[2].path: is required
BFF__SERVER__HOTS: fits no key; did you mean `BFF__SERVER__HOST`?
BFF__TIERS__FREE__QUOTA: tiers.free.quota: must be a rate such as 20/second, 100/minute, 5000/hour or 100000/day, not 5
command line: claims: must be a mapping or text, not 5
"""


def refused(text, **sources):
    with pytest.raises(ConfigError) as error:
        load(Tree, text, **sources)
    return str(error.value)


def test_every_mistake_is_reported_at_once_in_the_order_of_the_lines():
    environ = {"BFF__SERVER__HOTS": "a", "BFF__TIERS__FREE__QUOTA": "5"}
    report = refused(MISTAKES, environ=environ, overrides={"claims": 5}).splitlines()
    # What the variable replaced is not a mistake any more.
    expected = [line for line in REPORT.splitlines() if not line.startswith("bff.yaml:12: tiers.free.quota")]
    assert report == expected


def test_the_problems_can_be_had_one_by_one():
    with pytest.raises(ConfigError) as error:
        load(Tree, "server:\n  port: x\n  prot: 1", source="other.yaml")
    assert [(str(each.place), each.path) for each in error.value.problems] == [
        ("other.yaml:2", ("server", "port")),
        ("other.yaml:3", ("server", "prot")),
    ]


def test_what_is_wrong_between_values_is_reported_where_it_stands():
    text = "services: {users: {url: 'http://users'}}\nroutes:\n- path: /a\n  service: user\n"
    assert refused(text) == "bff.yaml:4: routes[0].service: no such service; did you mean `users`?"


def test_what_is_wrong_between_values_is_reported_along_with_the_values_that_are_wrong():
    text = "services: {users: {url: 'http://users', timout: 1s}}\nroutes:\n- path: /a\n  service: user\n  cost: x\n"
    assert refused(text).splitlines() == [
        "bff.yaml:1: services.users.timout: unknown key; did you mean `timeout`?",
        "bff.yaml:4: routes[0].service: no such service; did you mean `users`?",
        "bff.yaml:5: routes[0].cost: must be a whole number of at least 1, not 'x'",
    ]


def test_nothing_is_said_about_a_service_whose_section_has_a_wrong_name():
    text = "servces: {users: {url: 'http://users'}}\nroutes: [{path: /a, service: users}]\n"
    assert refused(text) == "bff.yaml:1: servces: unknown key; did you mean `services`?"


def test_nothing_is_said_about_a_service_that_is_there_but_wrong():
    text = "services: {users: {}}\nroutes: [{path: /a, service: users}]\n"
    assert refused(text) == "bff.yaml:1: services.users.url: is required"


def test_a_section_with_its_own_complaint_is_found_at_any_depth():
    class Inner(Tree):
        def problems(self):
            yield ("mode",), "does not go with the rest"

    class Outer(Tree):
        inner: dict[str, tuple[Inner, ...]] = {}  # noqa: RUF012

    with pytest.raises(ConfigError) as error:
        load(Outer, "inner:\n  a:\n  - server:\n      port: 1\n  - mode: off\n")
    assert str(error.value).splitlines() == [
        "bff.yaml:3: inner.a[0].mode: does not go with the rest",
        "bff.yaml:5: inner.a[1].mode: does not go with the rest",
    ]


def test_of_two_forms_that_a_value_may_have_only_the_one_that_was_meant_is_complained_about():
    assert refused("claims: {subjct: a}") == "bff.yaml:1: claims.subjct: unknown key; did you mean `subject`?"
    assert refused("claims: [a]") == "bff.yaml:1: claims: must be a mapping or text, not a list"


def test_a_password_in_a_url_is_not_repeated():
    report = refused("services:\n  users: {url: 'http://root:hunter2@users'}")
    assert report.startswith("bff.yaml:2: services.users.url: must be an absolute URL")
    assert "hunter2" not in report


def test_a_secret_of_the_wrong_kind_is_not_repeated():
    assert refused("token: [hunter2]") == "bff.yaml:1: token: must be text, not a list"


def test_a_number_is_text_where_text_is_wanted_as_it_was_written():
    config = load(
        Tree, "token: 0012\nserver: {host: 1.10}\nservices: {a: {url: 'http://a', retry: {on: [502, true]}}}"
    ).config
    assert (config.token.reveal(), config.server.host) == ("0012", "1.10")
    assert config.services["a"].retry.on == ("502", "true")


def test_text_is_no_number_and_a_number_no_boolean():
    text = "sample: '1'\nserver: {port: 80.0}\nroutes: [{path: /, service: a, public: 1, cost: true}]\n"
    report = refused(text + "services: {a: {url: 'http://a'}}")
    assert report.splitlines() == [
        "bff.yaml:1: sample: must be a number from 0 to 1, not '1'",
        "bff.yaml:2: server.port: must be a whole number from 1 to 65535, not 80.0",
        "bff.yaml:3: routes[0].cost: must be a whole number of at least 1, not true",
        "bff.yaml:3: routes[0].public: must be true or false, not 1",
    ]


def test_a_long_value_is_cut():
    assert refused(f"mode: {'x' * 1000}").endswith(f"not '{'x' * 59}...")
