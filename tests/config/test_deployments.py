"""What makes no sense between the deployments of a service is an error at load, with what to write instead."""

from __future__ import annotations

import pytest

from bff.config import ConfigError, load

ARMS = "targets: {stable: ['http://a'], canary: ['http://b']}"
EXAMPLE = """
services:
  orders:
    targets:
      stable: ["http://orders-a.internal", "http://orders-b.internal"]
      canary: ["http://orders-next.internal"]
    split:
      - {when: "headers['x-beta'] == '1'", to: canary}
      - {weights: {stable: 95, canary: 5}, sticky: subject}
    mirror: {to: canary, percent: 1}
    balance: least_connections
    health: {path: /healthz, interval: 5s, unhealthy_after: 3, healthy_after: 2}
    outliers: {consecutive_errors: 5, eject: 30s, max_ejected: 50%}
"""


def test_the_example_of_the_contract_loads():
    orders = load(EXAMPLE).services["orders"]
    assert orders.mirror.percent == 1
    assert orders.outliers.max_ejected == 0.5


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("timeout: 1s", "url: is required, or `targets` for several deployments"),
        (f"url: http://a, {ARMS}, split: [{{to: canary}}]", "url: must not be beside `targets`"),
        ("targets: {stable: []}", "targets.stable: must not be empty"),
        ("targets: {a: ['http://x', 'http://x']}", "targets.a[1]: is in `a` already"),
        (ARMS, "targets.canary: has no calls, since no rule of `split` leads there"),
        ("url: http://a, split: [{to: canary}]", "split: chooses between arms, and there is one `url`"),
        ("url: http://a, mirror: {to: canary, percent: 1}", "mirror: needs an arm to copy to"),
        ("targets: {a: ['http://x']}, mirror: {to: a, percent: 1}", "mirror.to: is where all calls go"),
        (f"{ARMS}, mirror: {{to: canry, percent: 1}}", "mirror.to: there is no arm `canry` in `targets`; did you mean"),
        (f"{ARMS}, mirror: {{to: canary, percent: 101}}", "mirror.percent: must be at most 100, not 101"),
        (f"{ARMS}, split: [{{}}]", "split[0]: must say `to: ARM` or `weights:"),
        (f"{ARMS}, split: [{{to: canary, weights: {{stable: 1}}}}]", "split[0].weights: must not be beside `to`"),
        (f"{ARMS}, split: [{{to: canary, sticky: subject}}]", "split[0].sticky: has nothing to choose beside `to`"),
        (
            f"{ARMS}, split: [{{weights: {{canary: 0}}}}]",
            "split[0].weights: must have at least one that is more than 0",
        ),
        (
            f"{ARMS}, split: [{{to: canary}}, {{to: stable}}]",
            "split[1]: is never reached, since split[0] has no `when`",
        ),
        (f"{ARMS}, split: [{{when: 'x == 1', to: canary}}]", "split[0].when: must be an expression over"),
        (f"{ARMS}, balance: random", "balance: must be round_robin, least_connections, or hash:NAME"),
        ("url: http://a, health: {path: healthz}", "health.path:"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_key(service, problem):
    with pytest.raises(ConfigError) as error:
        load(f"services:\n  orders: {{{service}}}\n")
    assert any(line.startswith(f"bff.yaml:2: services.orders.{problem}") for line in str(error.value).splitlines())
