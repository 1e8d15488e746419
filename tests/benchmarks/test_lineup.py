from contextlib import ExitStack
from dataclasses import replace

import pytest

from benchmarks import lineup
from benchmarks.contenders import CONTENDERS
from benchmarks.workloads import WORKLOADS


@pytest.fixture
def started(tmp_path, monkeypatch):
    monkeypatch.setattr(lineup, "BUILD", tmp_path)
    with ExitStack() as stack:
        yield stack


def test_the_gateway_as_it_ships_gets_every_workload_right(started):
    backends, _ = lineup.services(started)
    running = list(lineup.start([CONTENDERS["gateway"]], backends, started))
    found = [entry.workload.name for entry in lineup.entries(running, WORKLOADS.values(), backends)]
    assert found == list(WORKLOADS)


def test_a_contender_that_is_not_installed_is_named_and_left_out(started, capsys, tmp_path):
    backends, _ = lineup.services(started)
    envoy = replace(CONTENDERS["envoy"], needs=(tmp_path / "envoy", "python -m benchmarks install"))
    assert list(lineup.start([envoy], backends, started)) == []
    assert "left out: envoy: not installed: python -m benchmarks install" in capsys.readouterr().out
