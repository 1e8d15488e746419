"""Several workers as people run them: one port, one account, one set of metrics, and each may die."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from bff.console.totals import Totals
from bff.console.upstreams import upstreams_of_all
from bff.core.cpus import cpus
from tests.load import REQUEST, load
from tests.running import ROOT, Running, running, until

WORKERS = 4
QUERY = b'{"query": "{ product(id: \\"prd_1\\") { name } }"}'
GRAPHQL = (
    b"POST /graphql HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(QUERY), QUERY)
)
MANY = {
    "BFF__SERVER__WORKERS": str(WORKERS),
    "BFF__LIMITS__MODE": "off",
    "BFF__OBSERVABILITY__REQUESTS__SAMPLE": "1",
}


@pytest.fixture(scope="module")
def four(real_services) -> Iterator[Running]:
    with running(ROOT / "bff.yaml", real_services, **MANY) as gateway:
        yield gateway


def operators(gateway: Running, path: str) -> httpx.Response:
    return httpx.get(gateway.admin + path, timeout=30, trust_env=False)


def measured(gateway: Running, name: str, worker: int | None = None) -> float:
    """The sum of a metric's series."""
    text = operators(gateway, "/metrics" if worker is None else f"/metrics?worker={worker}").text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def answered(gateway: Running, worker: int | None = None) -> float:
    return measured(gateway, "http_server_request_duration_seconds_count", worker)


def worker_pids(gateway: Running) -> set[int]:
    """Those of its children that listen at its port."""
    port = int(gateway.url.rpartition(":")[2])
    found = set()
    for each in children(gateway.process.pid):
        if any(f"socket:[{inode}]" in sockets(each) for inode in listening(port)):
            found.add(each)
    return found


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sockets(pid: int) -> set[str]:
    there = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            there.add(str(each.readlink()))
    return there


def listening(port: int) -> list[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]


def ask(gateway: Running, request: bytes = REQUEST) -> bytes:
    port = int(gateway.url.rpartition(":")[2])
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request)
        while more := client.recv(65536):
            said += more
    return said


def test_connections_are_shared_evenly_and_what_is_measured_is_of_all(four):
    most = []
    for _ in range(5):  # the best of five: a worker that has no processor takes nobody
        before = answered(four), [answered(four, each) for each in range(WORKERS)]
        with ThreadPoolExecutor(16) as pool:
            said = list(pool.map(lambda _: ask(four), range(400)))
        assert all(each.startswith(b"HTTP/1.1 200 ") for each in said)
        each = [answered(four, at) - old for at, old in enumerate(before[1])]
        assert answered(four) - before[0] == sum(each) == 400
        most.append(max(each))
        if most[-1] < 2.5 * 400 / WORKERS:
            return
    pytest.fail(f"one of {WORKERS} workers had {most} of 400 requests")


def test_who_asks_for_openmetrics_gets_what_all_have_measured_too(four):
    recorded = b"\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
    assert ask(four, REQUEST.replace(b"\r\n\r\n", recorded)).startswith(b"HTTP/1.1 200 ")
    accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    answer = httpx.get(f"{four.admin}/metrics", headers=accept, timeout=30, trust_env=False)
    assert answer.status_code == 200
    assert answer.text.count("\nhttp_server_request_duration_seconds_count{") >= 1


def test_operators_are_told_of_all_workers(four):
    assert operators(four, "/healthz").json() == {"status": "ok"}
    assert operators(four, "/readyz").json() == {"status": "ok", "workers": {"ready": WORKERS, "of": WORKERS}}
    assert measured(four, "bff_workers") == WORKERS
    service = operators(four, "/-/upstreams/users").json()
    one = operators(four, "/-/upstreams/users?worker=0").json()
    assert service["retries_left"] == WORKERS * one["retries_left"]
    assert set(operators(four, "/-/upstreams").json()) == {"users", "products", "orders", "payments"}
    assert operators(four, "/-/upstreams/nobody").status_code == 404
    assert operators(four, "/-/nothing").status_code == 404
    assert operators(four, "/-/limits?worker=9").status_code == 404


def test_the_console_sees_what_passes_through_all_workers(four):
    before = operators(four, "/-/traffic").json()["all"]["count"]
    seen = set()
    for number in range(40 * WORKERS):
        id = f"seen-{number}"
        httpx.get(f"{four.url}/api/products/nothing-{number}", headers={"x-request-id": id}, trust_env=False)
        # As often as not it is the first worker's; the others' are found as well.
        kept = operators(four, f"/-/requests/{id}")
        assert kept.json()["request_id"] == id
        seen |= {each for each in range(WORKERS) if operators(four, f"/-/requests/{id}?worker={each}").is_success}
        if len(seen) > 1:
            break
    assert len(seen) > 1
    number += 1
    assert operators(four, "/-/traffic").json()["all"]["count"] >= before + number
    shown = json.loads(operators(four, "/-/live?snapshots=1").text.removeprefix("data: "))
    assert shown["workers"] == {"up": WORKERS, "of": WORKERS}
    assert shown["traffic"]["routes"]["products"]["count"] >= number
    listed = operators(four, "/-/requests?limit=1000").json()["requests"]
    assert {f"seen-{each}" for each in range(number)} <= {each["request_id"] for each in listed}
    assert len(operators(four, "/-/requests?limit=2").json()["requests"]) == 2
    assert operators(four, "/-/requests/nobody").status_code == 404


def test_the_death_of_a_worker_costs_no_more_than_what_it_had_in_hand(four):
    counted, lost = answered(four), measured(four, "bff_workers_lost_total")
    victim = max(worker_pids(four))
    with load(four) as clients:
        clients.go_on(25)
        os.kill(victim, signal.SIGKILL)

        def replaced() -> bool:
            assert operators(four, "/readyz").status_code == 200
            return measured(four, "bff_workers_lost_total") > lost and measured(four, "bff_workers") == WORKERS

        until(replaced)
        clients.go_on(26)
    # Eight clients have one request each under way at most.
    assert len(clients.lost) <= 8, clients.lost
    assert clients.refused == 0
    assert clients.answered > 50
    assert victim not in worker_pids(four)
    assert len(worker_pids(four)) == WORKERS
    assert answered(four) > counted, "what the dead one had counted counts on"
    assert '"event":"process_lost"' in four.stdout


def test_the_process_for_operators_is_replaced_as_well(four):
    others = worker_pids(four)
    (victim,) = set(children(four.process.pid)) - others
    os.kill(victim, signal.SIGKILL)
    until(lambda: set(children(four.process.pid)) - others - {victim})
    # The port is never closed: who asks meanwhile waits.
    assert operators(four, "/readyz").json()["workers"] == {"ready": WORKERS, "of": WORKERS}
    assert ask(four).startswith(b"HTTP/1.1 200 ")
    until(lambda: operators(four, "/-/limits").json()["store"]["up"])


@pytest.mark.parametrize("workers", [1, WORKERS])
def test_nothing_is_lost_by_the_end_under_load(real_services, workers):
    with running(ROOT / "bff.yaml", real_services, **{**MANY, "BFF__SERVER__WORKERS": str(workers)}) as gateway:
        with load(gateway) as clients:
            clients.go_on(50)
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(30) == 0
            until(lambda: clients.refused + len(clients.lost) >= 8)
        assert clients.lost == []
        assert clients.refused == 8


@pytest.mark.parametrize("workers", [1, WORKERS])
def test_a_service_that_hangs_does_not_hold_the_end_up_and_whoever_waits_is_told(real_services, workers):
    with socket.create_server(("127.0.0.1", 0)) as hung, ExitStack() as stack:
        more = {
            **MANY,
            "BFF__SERVER__WORKERS": str(workers),
            "BFF__SERVER__DRAIN__TIMEOUT": "1s",
            "BFF__SERVICES__PRODUCTS__URL": f"http://127.0.0.1:{hung.getsockname()[1]}",
            "BFF__SERVICES__PRODUCTS__TIMEOUT": "60s",
        }
        gateway = stack.enter_context(running(ROOT / "bff.yaml", real_services, **more))
        pool = stack.enter_context(ThreadPoolExecutor(8))
        said = [pool.submit(ask, gateway, each) for each in (REQUEST, GRAPHQL) * 4]
        for _ in said:
            stack.enter_context(hung.accept()[0])
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0
        for each in said:
            assert each.result().startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 504 ")), each.result()


def test_callers_have_one_account_with_all_workers(real_services):
    # Else a machine that is busy with other tests has the store count as away.
    patient = {"BFF__STORE": '{"timeout": "1s"}'}
    more = {**MANY, **patient, "BFF__LIMITS__MODE": "enforce", "BFF__LIMITS__PER_ADDRESS": "100000/minute"}
    more["BFF__TIERS__ANONYMOUS"] = '{"rate": ["60/minute"]}'
    with running(ROOT / "bff.yaml", real_services, **more) as gateway, ThreadPoolExecutor(16) as pool:
        statuses = [each[9:12] for each in pool.map(lambda _: ask(gateway), range(150))]
        while not all(answered(gateway, each) for each in range(WORKERS)):  # all have a part in it
            statuses.append(ask(gateway)[9:12])
        assert statuses.count(b"200") == 60, "anonymous callers have 60 a minute"
        assert statuses.count(b"429") == len(statuses) - 60
        left = operators(gateway, "/-/limits/address:127.0.0.1").json()["tiers"]["anonymous"]["windows"]
        assert [each["left"] for each in left.values()] == [0]
        assert operators(gateway, "/-/limits").json()["store"]["up"] is True
        [caller] = json.loads(operators(gateway, "/-/live?snapshots=1").text.removeprefix("data: "))["callers"]
        assert (caller["caller"], caller["tier"]) == ("address:127.0.0.…", "anonymous")
        assert [(each["limit"], each["left"]) for each in caller["windows"]] == [(60, 0)]


def test_a_second_signal_ends_it_at_once(real_services):
    more = {"BFF__SERVER__DRAIN__DELAY": "60s"}
    with running(ROOT / "bff.yaml", real_services, **MANY, **more) as gateway:
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: operators(gateway, "/readyz").status_code != 200)
        assert operators(gateway, "/readyz").json()["problems"] == {"gateway": "shutting down"}
        assert ask(gateway).startswith(b"HTTP/1.1 200 "), "until balancers have noticed, it works"
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_who_waits_when_a_second_signal_comes_is_told_and_the_log_has_a_line_for_it_and_no_traceback(
    real_services, workers
):
    with socket.create_server(("127.0.0.1", 0)) as hung, ExitStack() as stack:
        more = {
            **MANY,
            "BFF__SERVER__WORKERS": str(workers),
            "BFF__SERVICES__PRODUCTS__URL": f"http://127.0.0.1:{hung.getsockname()[1]}",
            "BFF__SERVICES__PRODUCTS__TIMEOUT": "20s",
        }
        gateway = stack.enter_context(running(ROOT / "bff.yaml", real_services, **more))
        pool = stack.enter_context(ThreadPoolExecutor(4))
        said = [pool.submit(ask, gateway, each) for each in (REQUEST, GRAPHQL) * 2]
        for _ in said:
            stack.enter_context(hung.accept()[0])
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: gateway.stdout.count('"event":"draining"') == workers)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0
        for each in said:
            assert each.result().startswith(b"HTTP/1.1 503 "), each.result()
        assert gateway.stdout.count('"status":503') == len(said)
        assert "Traceback" not in gateway.stdout + gateway.stderr


def test_workers_end_when_nobody_is_left_to_look_after_them(real_services):
    with running(ROOT / "bff.yaml", real_services, **MANY) as gateway:
        workers = children(gateway.process.pid)
        gateway.process.kill()
        until(lambda: not any(Path(f"/proc/{each}").exists() for each in workers))
        with pytest.raises(ConnectionRefusedError):
            ask(gateway)


def test_what_keeps_workers_from_starting_is_said_once(real_services):
    wrong = {"BFF__ENTITLEMENTS": '{"basic": ["Nobody.name"]}'}
    with pytest.raises(AssertionError) as error, running(ROOT / "bff.yaml", real_services, **MANY, **wrong):
        pass
    assert str(error.value).count("Nobody") == 1


def test_one_worker_is_one_process(development):
    assert children(development.process.pid) == []


TWO = {
    1: """# TYPE http_requests_total counter
http_requests_total{route="a"} 5.0
# TYPE active gauge
active 2.0
# TYPE breaker_state gauge
breaker_state{service="users"} 3.0
# TYPE store_up gauge
store_up 1.0
# TYPE seconds histogram
seconds_bucket{le="0.1"} 1.0
seconds_bucket{le="+Inf"} 2.0
seconds_count 2.0
seconds_sum 1.5
""",
    2: """# TYPE http_requests_total counter
http_requests_total{route="a"} 7.0
http_requests_total{route="b"} 1.0
# TYPE active gauge
active 3.0
# TYPE breaker_state gauge
breaker_state{service="users"} 0.0
# TYPE store_up gauge
store_up 0.0
# TYPE seconds histogram
seconds_bucket{le="0.1"} 1.0
seconds_bucket{le="+Inf"} 1.0
seconds_count 1.0
seconds_sum 0.05
""",
}


def lines(totals: Totals, said: dict[int, str | None]) -> set[str]:
    text = totals.text(said, CollectorRegistry()).decode()
    return {each for each in text.splitlines() if not each.startswith("#")}


def test_counts_and_histograms_add_up_and_gauges_by_what_they_mean():
    assert lines(Totals(), dict(TWO)) == {
        'http_requests_total{route="a"} 12.0',
        'http_requests_total{route="b"} 1.0',
        "active 5.0",
        'breaker_state{service="users"} 3.0',
        "store_up 0.0",
        'seconds_bucket{le="0.1"} 2.0',
        'seconds_bucket{le="+Inf"} 3.0',
        "seconds_count 3.0",
        "seconds_sum 1.55",
    }


def test_what_a_process_has_counted_counts_on_when_it_is_late_or_gone():
    totals = Totals()
    lines(totals, dict(TWO))
    late = lines(totals, {1: TWO[1], 2: None})
    assert {'http_requests_total{route="a"} 12.0', "active 5.0"} <= late
    gone = lines(totals, {1: TWO[1]})
    assert {'http_requests_total{route="a"} 12.0', "seconds_count 3.0", "active 2.0", "store_up 1.0"} <= gone
    anew = lines(totals, {1: TWO[1], 3: TWO[2]})
    assert {'http_requests_total{route="a"} 19.0', 'http_requests_total{route="b"} 2.0', "active 5.0"} <= anew


def test_of_a_target_that_only_one_worker_leaves_alone_that_judgement_is_shown():
    def seen(**by: object) -> dict[str, object]:
        target = {"url": "http://a", "up": True, "in_flight": 1, "errors": 2, "breaker": {"state": "closed"}, **by}
        return {"users": {"in_flight": 1, "waiting": 0, "retries_left": 10, "targets": [target]}}

    shown = upstreams_of_all([seen(), seen(breaker={"state": "open", "why": "refused"}), seen()])
    (target,) = shown["users"]["targets"]
    assert shown["users"]["retries_left"] == 30
    assert target["breaker"] == {"state": "open", "why": "refused"}
    assert (target["in_flight"], target["errors"]) == (3, 6)


def test_auto_is_what_the_machine_and_its_container_leave(tmp_path):
    quota = tmp_path / "cpu.max"
    here = len(os.sched_getaffinity(0))
    assert cpus(quota) == here
    for text, number in {"max 100000": here, "150000 100000": min(here, 2), "10000 100000": 1}.items():
        quota.write_text(text)
        assert cpus(quota) == number
