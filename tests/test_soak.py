"""The soak of `make soak`, for some seconds: so that it works when it is asked for, and nobody sees a wrong answer."""

from __future__ import annotations

import pytest

from tests.soak import soak, subject

SPARE = 20
"""Connections to services rest for a minute; clients that leak would have left many more."""


@pytest.mark.timeout(180)
async def test_a_while_of_everything_at_once_shows_nobody_a_wrong_answer_and_leaves_no_descriptor(
    real_services, tmp_path
):
    with subject(real_services, tmp_path) as (gateway, file, faulty):
        found = await soak(gateway, file, faulty, 10, reload_every=0.5, reloads=4, spare=SPARE)
    assert found.wrong == []
    assert set(found.done) == {
        "graphql", "rest", "new_connection", "faulty", "leaver", "event_stream", "websocket",
    }  # fmt: skip
    assert set(found.reloads) == {"taken", "refused"}
    before, after = found.rest
    assert after <= before + SPARE
    assert '"unexpected"' not in gateway.stdout
    assert "Traceback" not in gateway.stderr
