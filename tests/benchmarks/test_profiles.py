import json
import signal
import subprocess
import sys
import time

from benchmarks.contenders import ROOT
from benchmarks.profiles import judged, matrix, owner, package, shares, stage

AUTH = f"{ROOT}/bff/edge/auth.py:Auth.__call__"
JWT = f"{ROOT}/.venv/lib/python3.11/site-packages/jwt/api_jwt.py:PyJWT.decode"
JSON = "/usr/lib/python3.11/json/decoder.py:JSONDecoder.decode"
SERVE = f"{ROOT}/bff/serve.py:serve"
COMMAND = f"{ROOT}/bff/cli/run.py:run"
RUN = "/usr/lib/python3.11/asyncio/runners.py:Runner.run"


def test_a_package_is_a_stage_of_the_project_a_library_or_pythons_own():
    assert [package(frame) for frame in (AUTH, f"{ROOT}/schema/orders.py:orders", JWT, JSON, RUN, "<string>:row")] == [
        "bff/edge",
        "schema",
        "jwt",
        "Python's library",
        "event loop",
        "generated code",
    ]


def test_the_server_is_an_owner_and_what_runs_it_is_not():
    server = f"{ROOT}/bff/server/connection.py:Connection.write"
    assert owner((COMMAND, RUN, SERVE, server)) == "bff/server/connection"


def test_a_librarys_time_belongs_to_the_module_that_called_it():
    assert owner((RUN, SERVE, AUTH, JWT, JSON)) == "bff/edge/auth"


def test_what_no_policy_has_called_belongs_to_whoever_runs_it():
    assert owner((COMMAND, RUN, SERVE)) == owner((COMMAND, RUN)) == "event loop"


def test_shares_add_up_to_one_with_what_is_too_small_for_a_line():
    found = shares([(990, (AUTH,)), (6, (JWT,)), (3, (JSON,)), (1, (RUN,))], lambda stack: package(stack[-1]))
    assert [(name, round(share, 3)) for name, share in found] == [("bff/edge", 0.99), ("jwt", 0.006), ("other", 0.004)]


def test_the_sampler_notes_where_a_program_spends_its_time(tmp_path):
    (tmp_path / "busy.py").write_text(
        "import sys, time\ndef burn():\n    sum(range(1000))\nwhile time.process_time() < 0.5:\n    burn()\n"
        "print('up', sys.argv, flush=True)\nwhile True:\n    burn()\n"
    )
    file = tmp_path / "samples.jsonl"
    argv = [sys.executable, "-m", "benchmarks.sampler", file, "busy", "argument"]
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == f"up ['{tmp_path}/busy.py', 'argument']\n"
        program.send_signal(signal.SIGUSR2)
        while not file.exists():
            time.sleep(0.01)
        program.kill()
    stacks = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(count for count, stack in stacks if stack[-1].endswith("busy.py:burn")) > 3


def test_a_stage_is_a_policy_of_the_edge_or_a_folder_of_the_gateway():
    owners = ["bff/edge/auth", "bff/core/answer", "bff/engine/plan", "schema/orders", "uvicorn"]
    assert [stage(each) for each in owners] == [
        "edge/auth",
        "core/answer",
        "engine",
        "schema and services",
        "event loop",
    ]


def test_a_matrix_has_a_line_for_each_part_and_a_column_for_each_workload():
    one = judged("G1", 2.0, [(3, (AUTH,)), (1, (JWT,))])
    other = judged("R1", 1.0, [(1, (AUTH,))])
    assert matrix([one, other], "package").splitlines()[2:] == [
        "| bff/edge | 1.500 | 1.000 |",
        "| jwt | 0.500 |  |",
        "| **all** | **2.000** | **1.000** |",
    ]
