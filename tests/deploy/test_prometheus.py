"""Dashboard, alerts and rules ask for what there is: a real Prometheus, which scrapes a gateway, answers them all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.harness import FOUR_SERVICES, bearer
from tests.running import ROOT, Running, free_port, running, token

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "gateway.json"
PATIENCE = 45.0
SCRAPED = Path("prometheus.yaml")
# Grafana's own words in queries.
GRAFANA = {"$__rate_interval": "1m", "$route": ".*"}
THRESHOLD = re.compile(r"^(.+) [<>] [0-9.]+$")

if not shutil.which("prometheus"):
    pytest.skip("there is no Prometheus here: make prometheus", allow_module_level=True)


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], input=stdin, text=True, capture_output=True, check=False, cwd=ROOT, timeout=110
    )


def panels() -> list[tuple[str, str]]:
    """The title and the query of each panel of the dashboard."""
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for word, meaning in GRAFANA.items():
                query = query.replace(word, meaning)
            found.append((panel["title"], query))
    return found


def alerts() -> list[tuple[str, str]]:
    """Of each alert its name and what it compares, without the threshold: with it there is data only where it fires."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"][0]["rules"]
    found = []
    for rule in rules:
        for part in rule["expr"].split(" and "):
            match = THRESHOLD.match(part)
            assert match, part
            found.append((rule["alert"], match[1]))
    return found


def recorded() -> list[tuple[str, str]]:
    rules = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"][0]["rules"]
    return [(rule["record"], rule["record"]) for rule in rules]


def ask(gateway: Running, headers: dict[str, str], ended: threading.Event) -> None:
    """What clients of all kinds ask for, a service of which is down."""
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
        while not ended.wait(0.05):
            client.post("/graphql", json={"query": FOUR_SERVICES})
            client.get("/api/products/prd_1")
            client.get("/api/payments/pay_1")
            client.get("/nowhere")


@pytest.fixture(scope="module")
def loaded(real_services) -> Iterator[Running]:
    dead = {"BFF__SERVICES__PAYMENTS__URL": f"http://127.0.0.1:{free_port()}"}
    recorded = {"BFF__OBSERVABILITY__TRACES__SAMPLE": "1"}
    # Those that live are not to fail because the machine is busy.
    patient = {f"BFF__SERVICES__{name}__TIMEOUT": "20s" for name in ("USERS", "PRODUCTS", "ORDERS")}
    with running(ROOT / "bff.yaml", real_services, "--profile", "production", **dead, **recorded, **patient) as gateway:
        ended = threading.Event()
        load = threading.Thread(target=ask, args=(gateway, bearer(token(real_services)), ended))
        load.start()
        try:
            yield gateway
        finally:
            ended.set()
            load.join()


class Prometheus:
    """One that runs, and scrapes twice a second."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)
        self._process = process

    def answer(self, query: str) -> list[dict[str, Any]]:
        """The samples that are numbers."""
        try:
            answer = self._client.get("/api/v1/query", params={"query": query})
        except httpx.TransportError:
            assert self._process.poll() is None, "it has ended"
            return []
        if answer.status_code == 503:  # it is not ready yet
            return []
        assert answer.status_code == 200, answer.text
        return [each for each in answer.json()["data"]["result"] if each["value"][1] != "NaN"]

    def exemplars(self, query: str) -> list[dict[str, Any]]:
        around = {"start": str(time.time() - 600), "end": str(time.time() + 60)}
        answer = self._client.get("/api/v1/query_exemplars", params={"query": query} | around)
        return [each for series in answer.json()["data"] for each in series["exemplars"]]


@pytest.fixture(scope="module")
def prometheus(loaded, tmp_path_factory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((PROMETHEUS / SCRAPED).read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(PROMETHEUS / each) for each in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [loaded.admin.removeprefix("http://")]
    (folder / SCRAPED).write_text(yaml.safe_dump(config))
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / SCRAPED}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(20)


def test_every_query_of_dashboard_alerts_and_rules_is_answered_with_data(prometheus):
    waiting = dict.fromkeys([*recorded(), *panels(), *alerts()])
    until = time.monotonic() + PATIENCE
    while waiting and time.monotonic() < until:
        waiting = {each: None for each in waiting if not prometheus.answer(each[1])}
        time.sleep(0.5 if waiting else 0)
    assert list(waiting) == []


def test_the_rules_say_what_happens(prometheus):
    until = time.monotonic() + PATIENCE
    failing: dict[str, float] = {}
    while not failing.get("payments") and time.monotonic() < until:
        answers = prometheus.answer("bff:upstream_failures:ratio5m")
        failing = {each["metric"]["service"]: float(each["value"][1]) for each in answers}
        time.sleep(0.5)
    assert failing["payments"] > 0.5
    assert failing["products"] == 0


def test_a_bucket_leads_to_a_trace(prometheus):
    until = time.monotonic() + PATIENCE
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < until:
        found = prometheus.exemplars("http_server_request_duration_seconds_bucket")
        time.sleep(0.5)
    assert re.fullmatch("[0-9a-f]{32}", found[0]["labels"]["trace_id"])


def test_what_a_gateway_under_load_measures_passes_promtool(loaded):
    metrics = httpx.get(f"{loaded.admin}/metrics").text
    checked = promtool("check", "metrics", stdin=metrics)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.mark.parametrize("file", ["rules.yaml", "alerts.yaml"])
def test_promtool_takes_the_rules(file):
    checked = promtool("check", "rules", str(PROMETHEUS / file))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("file", [SCRAPED, "compose.yaml"])
def test_promtool_takes_the_configuration(file):
    # By its syntax: the secret of a container is not here.
    checked = promtool("check", "config", "--syntax-only", str(PROMETHEUS / file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_when_they_should_and_not_otherwise():
    tested = promtool("test", "rules", "tests/deploy/alerts.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_panels_have_titles_of_their_own_and_places_beside_each_other():
    all_of_them = json.loads(DASHBOARD.read_text())["panels"]
    titles = [each["title"] for each in all_of_them]
    assert len(set(titles)) == len(titles)
    taken = [
        (each["gridPos"]["x"] + x, each["gridPos"]["y"] + y)
        for each in all_of_them
        for x in range(each["gridPos"]["w"])
        for y in range(each["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
