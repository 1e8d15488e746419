"""Starting and ending the whole shop."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import demo

ROOT = Path(__file__).parent.parent.parent


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def eventually(condition, seconds=30.0) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_five_services_answer_soon_on_free_ports_and_are_gone_after():
    start = time.monotonic()
    with demo.processes(demo.FREE) as shop:
        took = time.monotonic() - start
        assert sorted(shop.urls) == sorted(demo.PORTS)
        assert len(set(shop.urls.values())) == 5
        pids = [child.pid for child in shop.children.values()]
        folder = shop.data
        assert httpx.get(f"{shop.urls['products']}/products/prd_1").status_code == 200
    assert took < 20  # 0.6 s on an idle machine
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{shop.urls['products']}/healthz")


def test_the_default_ports_are_the_documented_ones():
    assert demo.PORTS == {"users": 8101, "products": 8102, "orders": 8103, "payments": 8104, "identity": 8105}


def test_a_service_stops_and_starts_again_where_it_was_with_what_it_knew():
    with demo.processes(demo.FREE) as shop:
        url = f"{shop.urls['users']}/users/usr_1"
        caller = {"x-auth-subject": "usr_1"}
        httpx.patch(url, json={"name": "Kept"}, headers=caller)
        shop.stop("users")
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, headers=caller)
        shop.start("users")
        assert httpx.get(url, headers=caller).json()["name"] == "Kept"


def test_what_is_in_the_data_folder_outlives_the_shop(tmp_path):
    def keys(shop):
        return httpx.get(f"{shop.urls['identity']}/.well-known/jwks.json").json()

    with demo.processes(demo.FREE, data=tmp_path) as shop:
        before = keys(shop)
        httpx.patch(f"{shop.urls['users']}/users/usr_1", json={"name": "Kept"}, headers={"x-auth-subject": "usr_1"})
    with demo.processes(demo.FREE, data=tmp_path) as shop:
        assert keys(shop) == before
        user = httpx.get(f"{shop.urls['users']}/users/usr_1", headers={"x-auth-subject": "usr_1"}).json()
        assert user["name"] == "Kept"


def test_a_taken_port_is_an_error_at_once_and_leaves_nothing_running():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {**demo.FREE, "orders": taken.getsockname()[1]}
        with pytest.raises(OSError, match=str(ports["orders"])), demo.processes(ports):
            pytest.fail("it started")


def test_a_service_that_cannot_start_is_an_error_and_the_others_end(tmp_path):
    (tmp_path / "orders.db").write_text("this is no database " * 100)
    with pytest.raises(RuntimeError, match="orders"), demo.processes(demo.FREE, data=tmp_path):
        pytest.fail("it started")


def test_children_end_with_a_parent_that_is_killed():
    script = (
        "import time, demo\n"
        "with demo.processes(demo.FREE) as shop:\n"
        "    print(*(child.pid for child in shop.children.values()), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 5
        assert all(alive(pid) for pid in pids)
        parent.kill()
    assert eventually(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_told_to_end_and_says_nothing_wrong(ending):
    command = [sys.executable, "-m", "demo", "--free"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as running:
        urls = dict(running.stdout.readline().split() for _ in range(5))
        assert httpx.get(f"{urls['orders']}/healthz").status_code == 200
        running.send_signal(ending)
        assert running.wait(timeout=30) == 0
        assert running.stderr.read() == ""


def test_a_service_runs_by_itself(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "demo.products", "--port", str(port), "--data", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert eventually(lambda: answers(port))
        os.kill(running.pid, signal.SIGINT)
        running.wait(timeout=30)
        assert running.stderr.read() == ""


def answers(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/products/prd_1").status_code == 200
    return False


def test_the_demo_imports_nothing_of_the_gateway():
    script = (
        "import sys\n"
        "from demo import users, products, orders, payments, identity\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('bff', 'services', 'schema')])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"
