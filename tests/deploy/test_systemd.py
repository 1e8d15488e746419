"""The systemd unit, and what a service manager hears of the gateway's life."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bff.config import AdminSettings, DrainSettings, ServerSettings
from tests.docs.test_docs import BLOCKS
from tests.running import ROOT, free_port, running

UNIT = ROOT / "deploy" / "systemd" / "bff.service"

if not shutil.which("systemd-analyze"):
    pytest.skip("there is no systemd here: make systemd", allow_module_level=True)


class Heard:
    """A service manager's socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)

    def next(self) -> str:
        return re.sub(r"(?<=USEC=)\d+", "N", self.socket.recv(4096).decode())


@pytest.fixture
def heard(tmp_path) -> Iterator[Heard]:
    manager = Heard(tmp_path / "notify")
    yield manager
    manager.socket.close()


def test_a_service_manager_hears_of_start_reload_and_end(heard, tmp_path, real_services):
    with running(ROOT / "bff.yaml", real_services, NOTIFY_SOCKET=str(tmp_path / "notify")) as gateway:
        assert heard.next() == "READY=1"
        assert httpx.get(f"{gateway.admin}/readyz").status_code == 200
        gateway.process.send_signal(signal.SIGHUP)
        assert [heard.next(), heard.next()] == ["RELOADING=1\nMONOTONIC_USEC=N", "READY=1"]
        gateway.process.send_signal(signal.SIGTERM)
        assert heard.next() == "STOPPING=1"
        assert gateway.process.wait(30) == 0


def test_of_several_workers_it_hears_the_first_process_alone(heard, tmp_path, real_services):
    several = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "BFF__SERVER__WORKERS": "2"}
    with running(ROOT / "bff.yaml", real_services, **several) as gateway:
        assert heard.next() == "READY=1"
        gateway.process.send_signal(signal.SIGTERM)
        assert heard.next() == "STOPPING=1"
        assert gateway.process.wait(30) == 0
    heard.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        heard.next()


def test_who_does_not_listen_any_more_is_not_missed(tmp_path, real_services):
    with running(ROOT / "bff.yaml", real_services, NOTIFY_SOCKET=str(tmp_path / "nobody")) as gateway:
        assert httpx.get(f"{gateway.admin}/healthz").status_code == 200


# The unit.


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.fixture
def installed(tmp_path) -> Path:
    """The unit, where the paths that it names lead to this checkout."""
    (tmp_path / "checkout").symlink_to(ROOT)
    unit = tmp_path / "bff.service"
    unit.write_text(UNIT.read_text().replace("/opt/bff", str(tmp_path / "checkout")))
    return unit


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=110)


def test_systemd_takes_the_unit(installed):
    checked = analyze("verify", "--man=no", installed)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_unit_is_shut_off_from_the_machine(installed):
    checked = analyze("security", "--offline=true", "--threshold=15", installed)
    assert checked.returncode == 0, checked.stdout


def test_the_unit_gives_requests_the_time_that_the_gateway_gives_them():
    drain = DrainSettings()
    (stop,) = settings("TimeoutStopSec")
    assert float(stop.removesuffix("s")) == drain.delay + drain.timeout + 10


def test_the_unit_lets_it_listen_at_its_ports():
    assert settings("SocketBindAllow") == [f"tcp:{each.port}" for each in (ServerSettings(), AdminSettings())]


# As `MemoryDenyWriteExecute` has it: PR_SET_MDWE, where Linux knows it.
NO_NEW_CODE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


def test_the_commands_of_the_unit_run_with_the_configuration_shown_and_the_credential(tmp_path, real_services):
    """In memory that nobody can write code to."""
    (shown,) = [each.text for each in BLOCKS if each.info == "yaml systemd"]
    (tmp_path / "bff.yaml").write_text(shown)
    (tmp_path / "admin-token").write_text("open sesame")
    (set_by_unit,) = settings("Environment")
    told = dict(each.split("=", 1) for each in set_by_unit.replace("/etc/bff", str(tmp_path)).split())
    port, admin = free_port(), free_port()
    told |= {"CREDENTIALS_DIRECTORY": str(tmp_path), "BFF__SERVER__PORT": str(port), "BFF__ADMIN__PORT": str(admin)}
    told["BFF__SERVICES__PRODUCTS__URL"] = real_services.urls["products"]
    (run,), (check, _) = settings("ExecStart"), settings("ExecReload")

    def start(command: str) -> subprocess.Popen[bytes]:
        words = command.replace("/opt/bff/.venv/bin/bff", f"{sys.executable} -m bff").split()
        return subprocess.Popen([sys.executable, "-c", NO_NEW_CODE, *words], cwd=ROOT, env=told)

    assert start(check).wait(30) == 0
    gateway = start(run)
    patient = httpx.HTTPTransport(retries=7)
    with gateway, httpx.Client(base_url=f"http://127.0.0.1:{admin}", transport=patient, timeout=30) as operators:
        try:
            assert operators.get("/healthz").status_code == 200
            assert operators.get("/-/config").status_code == 401
            assert operators.get("/-/config", headers={"authorization": "Bearer open sesame"}).status_code == 200
            assert httpx.get(f"http://127.0.0.1:{port}/api/products/prd_1").json()["id"] == "prd_1"
        finally:
            gateway.terminate()
        assert gateway.wait(30) == 0


def test_one_signal_ends_workers_not_two():
    assert settings("KillMode") == ["mixed"]
