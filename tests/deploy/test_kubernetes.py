"""The manifests for Kubernetes: allowed by its schemas, and at one with the gateway in ports, paths and times."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kubernetes_validate
import pytest
import yaml

from bff.app import build
from bff.config import AdminSettings, Config, ServerSettings, read
from tests.deploy.image import stages
from tests.deploy.kustomize import Manifest, containers, rendered
from tests.harness import gateway
from tests.pki import Authority
from tests.running import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
BASE, PRODUCTION = FOLDER / "base", FOLDER / "overlays" / "production"
EACH = pytest.mark.parametrize("folder", [BASE, PRODUCTION], ids=lambda folder: folder.name)
# The oldest that knows all of what is used, and the newest that there is a schema of.
VERSIONS = ("1.31", "1.37")
LABELS = {"app.kubernetes.io/name": "bff"}


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [each for each in manifests if each["kind"] == kind]
    return found


def config_of(manifests: list[Manifest], folder: Path) -> Config:
    """bff.yaml of the ConfigMap, where the paths of the container lead to files of here."""
    text = one(manifests, "ConfigMap")["data"]["bff.yaml"]
    (folder / "admin-token").write_text("a token")
    file = folder / "bff.yaml"
    file.write_text(text.replace("/etc/bff/secrets", str(folder)).replace("/app/", f"{ROOT}/"))
    return read(file)


@EACH
@pytest.mark.parametrize("version", VERSIONS)
def test_the_cluster_takes_every_manifest(folder, version):
    for each in rendered(folder):
        if each["kind"] != "PodMonitor":  # of the Prometheus operator
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    "folder", [BASE, PRODUCTION] if shutil.which("kubectl") else [], ids=lambda folder: folder.name
)
def test_what_is_looked_at_here_is_what_kustomize_makes(folder):
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True, timeout=110)

    def known(manifests: Any) -> dict[tuple[str, str], Manifest]:
        return {(each["kind"], each["metadata"]["name"]): each for each in manifests}

    assert known(yaml.safe_load_all(made.stdout)) == known(rendered(folder))


@EACH
async def test_probes_ask_what_the_gateway_answers(folder):
    (container,) = containers(one(rendered(folder), "Deployment"))
    operators = httpx.ASGITransport(gateway().app.state.admin)
    async with httpx.AsyncClient(transport=operators, base_url="http://10.1.2.3:9000") as node:
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[name]["httpGet"]
            assert asked["port"] == "admin"
            assert (await node.get(asked["path"])).status_code == 200
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    # Nothing but the process itself decides whether it is restarted.
    assert {container[each]["httpGet"]["path"] for each in ("startupProbe", "livenessProbe")} == {"/healthz"}


@EACH
def test_ports_are_those_of_the_image(folder):
    manifests = rendered(folder)
    (container,) = containers(one(manifests, "Deployment"))
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": ServerSettings().port, "admin": AdminSettings().port}
    assert [each["targetPort"] for each in one(manifests, "Service")["spec"]["ports"]] == ["http"]
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]["securityContext"]
    user = {each.word: each.text for each in stages()["gateway"]}["USER"]
    assert user == f"{pod['runAsUser']}:{pod['runAsGroup']}"


@EACH
def test_a_pod_has_the_time_to_end_that_the_gateway_takes(folder, tmp_path):
    manifests = rendered(folder)
    drain = config_of(manifests, tmp_path).server.drain
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == drain.delay + drain.timeout + 10
    # Nodes hear within some seconds that a pod ends, and the port is open until then.
    assert drain.delay >= 5


@EACH
def test_a_pod_may_do_nothing_but_serve(folder):
    pod = one(rendered(folder), "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert containers(one(rendered(folder), "Deployment"))[0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one(rendered(folder), "ServiceAccount")["automountServiceAccountToken"] is False


@EACH
def test_everything_means_the_same_pods_and_names_what_is_there(folder):
    manifests = rendered(folder)
    deployment = one(manifests, "Deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"] == LABELS
    for each in (deployment, one(manifests, "PodDisruptionBudget")):
        assert each["spec"]["selector"] == {"matchLabels": LABELS}
    assert one(manifests, "Service")["spec"]["selector"] == LABELS
    assert one(manifests, "NetworkPolicy")["spec"]["podSelector"] == {"matchLabels": LABELS}
    target = one(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]  # else each `apply` would undo the autoscaler's work
    pod = deployment["spec"]["template"]["spec"]
    mounted = {each["name"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}
    assert not any("subPath" in each for each in pod["containers"][0]["volumeMounts"])


@EACH
def test_the_gateway_may_reach_what_its_configuration_names_and_nothing_else(folder):
    manifests = rendered(folder)
    allowed = set()
    for rule in one(manifests, "NetworkPolicy")["spec"]["egress"]:
        (to,) = rule["to"]
        labels = to.get("namespaceSelector", {}).get("matchLabels", {})
        namespace = labels.get("kubernetes.io/metadata.name", "outside")
        for port in rule["ports"]:
            allowed |= {(namespace, number) for number in range(port["port"], port.get("endPort", port["port"]) + 1)}
    text = one(manifests, "ConfigMap")["data"]["bff.yaml"]
    urls = [urlsplit(each) for each in re.findall(r"[a-z]+://[\w.:-]+", text)]
    within = [each for each in urls if str(each.hostname).endswith(".svc")]
    needed = {(str(each.hostname).split(".")[1], each.port) for each in within}
    assert {each.scheme for each in urls if each not in within} == {"https"}
    # Names are looked up, and traces sent where the component for it is used.
    assert allowed == needed | {("outside", 443), ("kube-system", 53), ("monitoring", 4318)}


@EACH
def test_the_gateway_understands_what_the_deployment_tells_it(folder, tmp_path):
    (container,) = containers(one(rendered(folder), "Deployment"))
    pair = Authority(tmp_path).issue("tls")
    told = {each["name"]: each["value"] for each in container["env"] if each["name"].startswith("BFF__")}
    for mounted, file in {"tls.crt": pair.cert, "tls.key": pair.key}.items():
        told = {name: value.replace(f"/etc/bff/tls/{mounted}", str(file)) for name, value in told.items()}
    config_of(rendered(folder), tmp_path)
    config = read(tmp_path / "bff.yaml", environ=told)
    assert config.server.http2 == (folder == PRODUCTION) == (config.server.tls is not None)
    assert build(config).state.readiness.draining is False


@EACH
async def test_the_autoscaler_asks_for_what_is_measured(folder):
    (pods, _) = one(rendered(folder), "HorizontalPodAutoscaler")["spec"]["metrics"]
    name = pods["pods"]["metric"]["name"]
    (rule,) = yaml.safe_load((FOLDER / "components" / "monitoring" / "adapter.yaml").read_text())["rules"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert gateway().telemetry.registry.get_sample_value(name) == 0
