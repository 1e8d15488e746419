"""What `kubectl kustomize` makes of deploy/kubernetes, as far as that uses it; anything else is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
_CLUSTER_WIDE = {"Namespace"}


def rendered(folder: Path) -> list[Manifest]:
    """All manifests of a kustomization."""
    return _applied(folder, [])


def _applied(folder: Path, given: list[Manifest]) -> list[Manifest]:
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert said.pop("kind") in {"Kustomization", "Component"}
    assert said.pop("apiVersion").startswith("kustomize.config.k8s.io/v1")
    manifests = [*given, *_resources(folder, said.pop("resources", []))]
    manifests += [_config_map(folder, **each) for each in said.pop("configMapGenerator", [])]
    for each in said.pop("components", []):
        manifests = _applied(folder / each, manifests)
    for each in said.pop("patches", []):
        (target,) = [one for one in manifests if _is(one, **each["target"])]
        for operation in yaml.safe_load(each["patch"]):
            _patch(target, **operation)
    for each in said.pop("images", []):
        _name_images(manifests, each["name"], f"{each.get('newName', each['name'])}:{each['newTag']}")
    namespace = said.pop("namespace", None)
    for one in manifests:
        if namespace and one["kind"] not in _CLUSTER_WIDE:
            one["metadata"]["namespace"] = namespace
    assert not said, f"{folder} uses what is not known here: {said}"
    return manifests


def _resources(folder: Path, names: list[str]) -> Iterator[Manifest]:
    for path in map(folder.joinpath, names):
        yield from rendered(path) if path.is_dir() else yaml.safe_load_all(path.read_text())


def _config_map(folder: Path, name: str, files: list[str], options: dict[str, bool]) -> Manifest:
    assert options == {"disableNameSuffixHash": True}
    data = {file: (folder / file).read_text() for file in files}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _name_images(manifests: list[Manifest], name: str, new: str) -> None:
    for container in (each for one in manifests for each in containers(one)):
        if re.fullmatch(rf"{re.escape(name)}(:[^:/]+)?", container["image"]):
            container["image"] = new


def containers(manifest: Manifest) -> list[Manifest]:
    found: list[Manifest] = (
        manifest["spec"]["template"]["spec"]["containers"] if manifest["kind"] == "Deployment" else []
    )
    return found


def _is(manifest: Manifest, kind: str, name: str) -> bool:
    return (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)


def _patch(manifest: Manifest, op: str, path: str, value: object) -> None:
    """RFC 6902, to add to the end of a list and to replace what is there."""
    *way, last = path.strip("/").split("/")
    at: Any = manifest
    for each in way:
        at = at[int(each) if isinstance(at, list) else each]
    if op == "add":
        assert last == "-"
        at.append(value)
    else:
        assert op == "replace"
        assert last in at
        at[last] = value
