"""What the gateway is made of, as `make sbom` writes it: whole, valid, and with the hashes of the locks."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.deploy.runtime import LOCK, pinned
from tests.running import ROOT


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sbom")
    make = ["make", "--no-print-directory", "sbom", f"SBOM={folder}"]
    ran = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stderr
    return folder


def components(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["components"]
    return found


@pytest.mark.parametrize("name", ["packages", "pages"])
def test_it_is_valid_by_its_schema(written, name):
    text = (written / f"{name}.cdx.json").read_text()
    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    assert JsonStrictValidator(version).validate_str(text) is None


def test_it_names_every_package_that_is_deployed_with_the_hashes_of_the_lock(written):
    named = {
        each["name"]: (each["version"], {one["content"] for one in each["externalReferences"][0]["hashes"]})
        for each in components(written / "packages.cdx.json")
    }
    assert named == {name: (version, {*hashes}) for name, (version, hashes) in pinned(LOCK).items()}


def test_it_names_every_package_that_pages_are_made_of_with_the_hashes_of_the_lock(written):
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    locked = {
        (path.rpartition("node_modules/")[2], each["version"]): each["integrity"]
        for path, each in packages.items()
        if path
    }
    named = {(each["name"], each["version"]): each["hashes"] for each in components(written / "pages.cdx.json")}
    assert named.keys() == locked.keys()
    for key, ((algorithm, _, digest),) in ((key, [each.partition("-")]) for key, each in locked.items()):
        assert named[key] == [{"alg": f"SHA-{algorithm.removeprefix('sha')}", "content": b64decode(digest).hex()}]
