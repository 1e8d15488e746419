"""The gateway as a package: a wheel, and the packages that it runs with."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import httpx
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.runtime import LOCK, SITE, pinned, python, site
from tests.running import ROOT, free_port

PLAIN = """
services: {legacy: {url: "http://legacy.internal"}}
routes: [{name: legacy, path: "/api/{rest*}", service: legacy, rewrite: "/{rest}", public: true}]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from what is in the project; a copy, since a build leaves folders behind."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "bff", source / "bff", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    ran = subprocess.run([*command, "-w", built, source], capture_output=True, text=True, check=False, timeout=110)
    assert ran.returncode == 0, ran.stderr
    (file,) = built.glob("*.whl")
    return file


def test_the_wheel_has_every_file_of_the_gateway_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {each for each in archive.namelist() if ".dist-info/" not in each}
    files = {str(each.relative_to(ROOT)) for each in (ROOT / "bff").rglob("*") if each.is_file()}
    sources_of_pages = {"bff/graphql/ide.jsx"}
    assert packed == {each for each in files if "__pycache__" not in each} - sources_of_pages


@pytest.fixture(scope="module")
def bff(wheel, tmp_path_factory) -> Path:
    """The command that installing it in a place of its own gives."""
    folder = tmp_path_factory.mktemp("installed")
    own = python(folder / "venv", site(folder / "packages"))
    into = [sys.executable, "-m", "pip", f"--python={own}", "install", "--quiet", "--no-deps", "--no-index"]
    # Where pip itself is not among the packages of that place, it runs from here.
    environ = {"PYTHONPATH": str(SITE), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([*into, wheel], env=environ, capture_output=True, text=True, check=False, timeout=110)
    assert ran.returncode == 0, ran.stderr
    return own.with_name("bff")


def run(command: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *arguments], cwd=folder, env={}, capture_output=True, text=True, check=False, timeout=110
    )


def test_installed_it_runs_as_a_plain_proxy_where_there_is_only_a_configuration(bff, tmp_path, real_services):
    (tmp_path / "bff.yaml").write_text(PLAIN.replace("http://legacy.internal", real_services.urls["products"]))
    port, admin = free_port(), free_port()
    told = {"BFF__SERVER__PORT": str(port), "BFF__ADMIN__PORT": str(admin)}
    patient = httpx.HTTPTransport(retries=7)
    with (
        subprocess.Popen([bff, "run"], cwd=tmp_path, env=told) as gateway,
        httpx.Client(transport=patient, timeout=30) as client,
    ):
        try:
            assert client.get(f"http://127.0.0.1:{port}/api/products/prd_1").json()["id"] == "prd_1"
            assert client.get(f"http://127.0.0.1:{admin}/console").status_code == 200
        finally:
            gateway.terminate()
        assert gateway.wait(30) == 0


def test_installed_it_finds_the_modules_of_the_team_in_the_folder_where_it_runs(bff, tmp_path):
    for name in ("schema", "services", "contracts", "operations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "bff.yaml", tmp_path)
    done = run(bff, tmp_path, "schema", "export")
    assert done.returncode == 0, done.stderr
    assert "type Order" in done.stdout


def test_what_is_deployed_is_what_was_tested():
    """The same versions with the same hashes, less what only development needs."""
    tested, deployed = pinned(ROOT / "requirements.lock"), pinned(LOCK)
    assert deployed.items() <= tested.items()
    assert all(hashes for _, hashes in deployed.values())
    assert not deployed.keys() & {"pytest", "mypy", "playwright", "setuptools"}


@pytest.mark.parametrize("version", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_what_is_deployed_is_all_that_other_pythons_need(version):
    """Packages need more of others where Python is older or newer than the one that the versions were pinned with."""
    other = {**default_environment(), "python_full_version": version, "python_version": version[:4], "extra": ""}
    deployed = {canonicalize_name(each) for each in pinned(LOCK)}
    needed = [Requirement(line) for each in deployed for line in requires(each) or []]
    needed = [each for each in needed if each.marker is None or each.marker.evaluate(other)]
    assert {canonicalize_name(each.name) for each in needed} <= deployed
