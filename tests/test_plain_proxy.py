"""Where a team begins: a folder with nothing in it but a configuration of one service and one route."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PLAIN = """
services: {legacy: {url: "http://legacy.internal"}, "old.one": {url: "http://old.internal"}}
routes: [{name: legacy, path: "/api/{rest*}", service: legacy, rewrite: "/{rest}", public: true}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The gateway and a configuration, and no schema/, services/ or demo/."""
    shutil.copytree(ROOT / "bff", tmp_path / "bff", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bff.yaml").write_text(PLAIN)
    return tmp_path


def bff(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Isolated from the checkout, which the path entry of its environment would otherwise bring back.
    code = f"import sys; sys.path[:] = [{str(folder)!r}, *(p for p in sys.path if p != {str(ROOT)!r})]\n"
    code += f"from bff.cli import main; main({list(arguments)!r})"
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)


def test_a_plain_proxy_needs_no_schema_folder(folder):
    done = bff(folder, "check")
    assert done.returncode == 0, done.stderr
    assert "2 services" in done.stdout


def test_a_schema_module_that_cannot_import_what_it_needs_is_an_error_and_not_passed_by(folder):
    (folder / "schema").mkdir()
    (folder / "schema" / "__init__.py").write_text("import a_package_that_is_not_there\n")
    done = bff(folder, "check")
    assert done.returncode == 1
    assert "a_package_that_is_not_there" in done.stderr


def test_modules_that_do_not_fit_together_end_the_start_with_one_sentence(folder):
    (folder / "schema").mkdir()
    (folder / "schema" / "__init__.py").write_text("")
    (folder / "schema" / "legacy.py").write_text(
        "import strawberry\nfrom bff.sdk import extend\n"
        "@strawberry.type\nclass Thing:\n    name: str\n"
        "@strawberry.type\nclass Query:\n    thing: Thing\n"
        "@extend(Thing)\nclass Again:\n    name: str\n"
    )
    for command in ("run", "check"):
        done = bff(folder, command)
        assert done.returncode == 1
        assert "Thing.name is defined already" in done.stderr
        assert "Traceback" not in done.stderr
