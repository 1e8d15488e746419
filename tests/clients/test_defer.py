"""Clients that take an answer in parts."""

from __future__ import annotations

import json

from tests.running import ROOT, running, token

OPERATOR = "users:read users:admin orders:read orders:admin payments:read payments:admin"


def test_apollo_client_and_urql_show_what_is_there_and_then_what_was_deferred(node, real_services):
    with running(ROOT / "bff.yaml", real_services, "--profile", "development", BFF__GRAPHQL__DEFER="true") as gateway:
        seen = json.loads(node("defer.mjs", f"{gateway.url}/graphql", token(real_services, scope=OPERATOR)))
    assert set(seen) == {"earlier", "newer", "urql"}
    for steps in seen.values():
        (first, begun), (last, done) = steps
        assert (first, begun) == ("streaming", ["ord_1", None, None])
        assert last == "complete"
        assert None not in done
