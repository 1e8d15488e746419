import json
import re

import pytest

from benchmarks import report
from benchmarks.contenders import CONTENDERS
from benchmarks.publish import FIGURES, PAGES, written
from benchmarks.workloads import WORKLOADS


def row(contender, cpu, number=0, **more):
    return {
        "workload": "G2", "contender": contender, "round": number, "cpu_ms": cpu, "rate": 100.0, "busy": 0.9,
        "p50_ms": 1.0, "p99_ms": 2.0, "memory_mb": 50.0, "foreign": 0.0, "requests": 10, "errors": 0, **more,
    }  # fmt: skip


def test_ratios_are_taken_inside_a_round():
    ours = [row("gateway", cpu, n) for n, cpu in enumerate([1.0, 2.0, 9.0])]
    theirs = [row("naive", cpu, n) for n, cpu in enumerate([2.0, 8.0, 10.0])]
    assert report.summary(ours + theirs)["G2"]["naive"]["ratio"] == [0.5, 0.25, 0.9, 3]


def test_a_round_that_a_contender_missed_is_no_ratio():
    assert report.paired([row("gateway", 1.0, 0), row("gateway", 3.0, 1)], [row("naive", 2.0, 1)]) == [1.5, 1.5, 1.5, 1]


def test_quantiles_at_a_fixed_rate_are_of_the_samples_of_all_rounds():
    rows = [row("gateway", 1.0, n, latencies_us=[1000] * 98 + [8000 * (n + 1)] * 2) for n in range(2)]
    found = report.summary(rows)["G2"]["gateway"]
    assert (found["p50_ms"], found["p99_ms"], found["slowest_ms"]) == (1.0, 8.0, 16.0)


def test_the_cheapest_comes_first():
    table = report.cpu_tables(report.summary([row("gateway", 2.0), row("naive", 9.0), row("apollo", 1.0)]))
    assert re.findall(r"\*\*(\S+)\*\*", table) == ["apollo", "gateway", "naive"]


def test_a_target_is_measured_against_its_bound_and_its_aim():
    found = json.loads(FIGURES.read_text())["cpu"]["found"]
    found["R2"]["fastify-proxy"]["ratio"] = [1.1, 1.0, 1.2, 5]
    found["G2"]["mercurius"]["ratio"] = [1.1, 1.0, 1.2, 5]
    table = report.target_table(found)
    assert "| REST: 1 MB passed on, token checked | Fastify http-proxy, JWT | 1.2 | 1 | 1.100 | bound |" in table
    assert re.search(r"10 users.* Mercurius, JIT \|  \| 1 \| 1.100 \| missed \|", table)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_show_the_figures_that_were_measured(page):
    text = page.read_text()
    assert "<!-- figures: " in text
    assert text == written(text, json.loads(FIGURES.read_text())), "run `python -m benchmarks publish`"


def test_the_published_figures_are_of_every_workload_and_every_contender():
    found = json.loads(FIGURES.read_text())["cpu"]["found"]
    assert list(found) == list(WORKLOADS)
    for workload, rows in found.items():
        assert set(rows) == {name for name, each in CONTENDERS.items() if WORKLOADS[workload].front in each.fronts}
        assert not any(each["errors"] for each in rows.values())
