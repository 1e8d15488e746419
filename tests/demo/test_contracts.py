"""Each service against its own contract, as schemathesis sees it: every check, every phase, valid and invalid data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import demo
from tests.demo.conftest import CUSTOMER, OPERATOR, PARTNER

ROOT = Path(__file__).parent.parent.parent
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
CALLERS = {"customer": CUSTOMER, "operator": OPERATOR, "partner": PARTNER}
RUNS = [
    ("users", "customer"),
    ("users", "operator"),
    ("products", "partner"),
    ("orders", "customer"),
    ("orders", "operator"),
    ("payments", "customer"),
    ("payments", "operator"),
]


@pytest.fixture(scope="module")
def shop():
    """Its own, since what schemathesis writes stays; streams end soon, since it reads them to their end."""
    with demo.processes(demo.FREE, heartbeat=0.02, watch=0.05) as running:
        yield running


@pytest.mark.parametrize(("service", "caller"), RUNS)
def test_schemathesis_finds_nothing(shop, tmp_path, service, caller):
    command = [SCHEMATHESIS, "run", ROOT / "contracts" / f"{service}.yaml", "--url", shop.urls[service]]
    command += ["--checks", "all", "--mode", "all", "--phases", "examples,coverage,fuzzing,stateful"]
    command += ["--max-examples", "12", "--seed", "1", "--continue-on-failure", "--request-timeout", "5"]
    for name, value in CALLERS[caller].items():
        command += ["-H", f"{name}: {value}"]
    known = {"SCHEMATHESIS_HOOKS": "tests.demo.valid_requests", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    found = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **known}, capture_output=True, text=True, timeout=110, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "✅ Coverage" in found.stdout
    assert "✅ Fuzzing" in found.stdout
    assert "✅ Stateful" in found.stdout


@pytest.mark.parametrize("service", ["users", "products", "orders", "payments"])
def test_a_contract_names_the_answers_that_its_prose_demands(service):
    contract = yaml.safe_load((ROOT / "contracts" / f"{service}.yaml").read_text())
    for path, item in contract["paths"].items():
        for method in ("get", "post", "patch"):
            if operation := item.get(method):
                missing = demanded(service, path, operation) - set(operation["responses"])
                assert not missing, f"{method} {path} lacks {missing}"


def demanded(service: str, path: str, operation: dict) -> set[str]:
    """401 without identity, 404 for what the caller doesn't see, 400 to 422 for what it sends."""
    answers = set() if service == "products" else {"401"}
    if "{id}" in path:
        answers.add("404")
    if "requestBody" in operation:
        answers |= {"400", "413", "415", "422"}
    if any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
        answers.add("400")
    return answers
