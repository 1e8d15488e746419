"""Clients as applications use them, from their registry packages, against a gateway as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def node() -> Callable[..., str]:
    """Run one of the scripts beside this file, or a tool from node_modules; what it printed."""
    assert (HERE / "node_modules" / "installed").exists(), "run `make tests/clients/node_modules/installed` first"

    def run(script: str | Path, *arguments: object, cwd: Path = HERE, **environ: str) -> str:
        ran = subprocess.run(
            [BIN / "node", HERE / script, *map(str, arguments)],
            env=os.environ | {"NO_COLOR": "1"} | environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run
