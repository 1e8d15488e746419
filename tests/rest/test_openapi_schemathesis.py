"""The gateway against its own document, as schemathesis sees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import demo
from bff.cli.run import OPERATOR
from tests.running import ROOT, running, token

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


@pytest.fixture(scope="module")
def shop():
    """Its own, since what schemathesis writes stays; streams end soon, since it reads them to their end."""
    with demo.processes(demo.FREE, heartbeat=0.02, watch=0.05) as processes:
        yield processes


@pytest.mark.timeout(120)
@pytest.mark.parametrize("validate", ["off", "both"])
def test_schemathesis_finds_nothing(shop, tmp_path, validate):
    modes = {f"BFF__ROUTES__{at}__VALIDATE": validate for at in range(4)}
    with running(ROOT / "bff.yaml", shop, BFF__LIMITS__MODE="off", BFF__OPENAPI__ENABLED="true", **modes) as gateway:
        command = [SCHEMATHESIS, "run", f"{gateway.url}/openapi.json", "--checks", "all", "--mode", "all"]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "4", "--seed", "1"]
        command += ["--continue-on-failure", "--request-timeout", "5"]
        command += ["-H", f"Authorization: Bearer {token(shop, scope=OPERATOR)}"]
        known = {"SCHEMATHESIS_HOOKS": "tests.demo.valid_requests", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        found = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **known}, capture_output=True, text=True, timeout=110, check=False
        )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "✅ Coverage" in found.stdout
    assert "✅ Fuzzing" in found.stdout
