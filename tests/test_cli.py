"""What an operator or a developer types."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import httpx
import jsonschema_rs
import jwt
import pytest
import yaml
from graphql import build_schema
from typer.testing import CliRunner

from bff import __version__
from bff.cli import main
from tests.harness import BFF_YAML, PARTNER
from tests.running import running

ROOT = Path(__file__).parent.parent


def bff(*arguments: str, **environ: str):
    return CliRunner(env=environ).invoke(main, list(arguments))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "bff.yaml"
    path.write_text(BFF_YAML)
    return path


@pytest.fixture
def shop(real_services):
    return real_services


# check


def test_check_says_that_a_configuration_is_fine(config):
    ran = bff("check", "-c", str(config))
    assert ran.exit_code == 0
    assert ran.stdout == f"{config}: fine, 4 services and 6 routes\n"


def test_the_projects_own_configuration_is_fine_in_both_profiles():
    for profile in ("production", "development"):
        ran = bff("check", "-c", str(ROOT / "bff.yaml"), "--profile", profile)
        assert ran.exit_code == 0, ran.stderr


def test_check_says_all_that_is_wrong_at_once_with_file_line_key_and_a_suggestion(config):
    config.write_text(
        BFF_YAML.replace("products.internal", 'products.internal", timeot: "2s').replace("cost: 2", "cost: many")
    )
    ran = bff("check", "-c", str(config))
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert re.search(rf"{re.escape(str(config))}:\d+: services\.products\.timeot: .*did you mean `timeout`", ran.stderr)
    assert re.search(rf"{re.escape(str(config))}:\d+: routes\[2\]\.cost: ", ran.stderr)
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("text", ["", "services: [", "- a", "services: {users: {}}", "\x00", "services: {a: {url: x}}"])
def test_no_configuration_is_so_broken_that_it_is_not_said_clearly(config, text):
    config.write_text(text)
    ran = bff("check", "-c", str(config))
    assert ran.exit_code == 1
    assert str(config) in ran.stderr
    assert "Traceback" not in ran.stderr
    assert isinstance(ran.exception, SystemExit)


def test_a_configuration_that_is_not_there_is_said_so(tmp_path):
    ran = bff("check", "-c", str(tmp_path / "none.yaml"))
    assert ran.exit_code == 1
    assert "none.yaml" in ran.stderr
    assert isinstance(ran.exception, SystemExit)


def test_an_unknown_profile_is_said_so(config):
    ran = bff("check", "-c", str(config), "--profile", "staging")
    assert ran.exit_code == 1
    assert "production or development" in ran.stderr


def test_the_environment_says_which_configuration_and_profile_and_overrides_values(config):
    ran = bff("check", BFF_CONFIG=str(config), BFF_PROFILE="staging")
    assert "staging" in ran.stderr
    ran = bff("check", BFF_CONFIG=str(config), BFF__GRAPHQL__TIMEOUT="soon")
    assert "BFF__GRAPHQL__TIMEOUT" in ran.stderr


def test_a_secret_is_never_printed(config):
    config.write_text(BFF_YAML.replace("a secret that tests and their gateway share, long enough", "too-short-secret"))
    ran = bff("check", "-c", str(config))
    assert ran.exit_code == 1
    assert "too-short-secret" not in ran.stderr + ran.stdout


# routes, schema, config, keys


def test_routes_lists_what_answers_where_and_who_may_pass(config):
    ran = bff("routes", "-c", str(config))
    assert ran.exit_code == 0
    head, *rows = [line.split() for line in ran.stdout.splitlines()]
    assert head[:6] == ["NAME", "METHODS", "PATH", "CONDITIONS", "TO", "NEEDS"]
    assert [row[0] for row in rows] == ["graphql", "graphql", "users", "products", "orders", "payments"]
    orders = " ".join(rows[4])
    for part in ("/api/orders/{rest*}", "orders /orders/{rest}", "orders:read", "orders:write", "2"):
        assert part in orders
    assert "nothing" in rows[3]


BETA = """
  - name: beta
    path: /api/products/{id}
    methods: [GET, POST]
    headers: {x-beta: "1"}
    when: "caller.tier == 'partner' && !('old' in query)"
    service: products
    rewrite: /v2/products/{id}?q={query.term}
    scopes: {read: [users:read]}
    cost: 3
    concurrency: 4
"""


def test_routes_shows_conditions_and_bounds(config):
    config.write_text(BFF_YAML + BETA)
    (row,) = (line for line in bff("routes", "-c", str(config)).stdout.splitlines() if line.startswith("beta"))
    for part in (
        "GET,POST",
        "headers[x-beta] = 1",
        "when caller.tier",
        "users:read to read",
        "  3 ",
        "  4 ",
        "2MB",
        "30s",
    ):
        assert part in row


CHAT = """
  - name: chat
    path: /chat/{room}
    service: products
    websocket: {max_message: 64KB, max_open: 5}
"""
BOUNDS = "5 at a time, 20 of a caller, messages up to 64KB, silent for 10m"


def test_routes_shows_which_pass_websockets_on_and_within_which_bounds(config):
    config.write_text(BFF_YAML + CHAT)
    head, *rows = bff("routes", "-c", str(config)).stdout.splitlines()
    shown = {row.split()[0]: row[head.index("WEBSOCKETS") :].strip() for row in rows}
    assert shown["chat"] == BOUNDS
    assert shown["products"] == shown["graphql"] == "-"


def test_a_check_of_a_request_shows_what_holds_for_its_routes_websockets(config):
    config.write_text(BFF_YAML + CHAT)
    assert f"; websockets: {BOUNDS}" in " ".join(checked(config, "GET", "/chat/1")("layer"))
    assert "websocket" not in " ".join(checked(config, "GET", "/api/products")("layer"))


def checked(config, *arguments, key=PARTNER):
    ran = bff("check", "request", *arguments, "-H", f"X-API-Key: {key}", "-c", str(config))
    assert ran.exit_code == 0, ran.stderr
    rows = [(line[:10].strip(), line[10:].strip()) for line in ran.stdout.splitlines()]
    return lambda label: [text for name, text in rows if name == label]


def test_a_request_is_checked_without_any_service(config):
    config.write_text(BFF_YAML + BETA)
    found = checked(config, "GET", "/api/products/prd_1?term=a%26b", "-H", "X-Beta: 1")
    assert found("route") == [
        "beta  GET,POST  /api/products/{id}  headers[x-beta] = 1  when caller.tier == 'partner' && !('old' in query)"
    ]
    assert found("not")[0] == "products: beta goes first: it says more"
    assert "the caller is api_key partner, tier partner" in " ".join(found("layer"))
    assert "costs 3; 1000/minute, 4 at a time (enforce)" in " ".join(found("layer"))
    assert found("service") == ["GET http://products.internal/v2/products/prd_1?q=a%26b"]
    assert found("answer") == ["the service's"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["GET", "/api/products/prd_1"], "beta: headers[x-beta] = 1 does not hold: there is none"),
        (["GET", "/api/products/prd_1", "-H", "x-beta: 2"], "beta: headers[x-beta] = 1 does not hold: it is '2'"),
        (["PUT", "/api/products/prd_1", "-H", "x-beta: 1"], "beta: it answers GET, HEAD, POST"),
        (
            ["GET", "/api/products/prd_1?old", "-H", "x-beta: 1"],
            "beta: when: caller.tier == 'partner' && !('old' in query) does not hold",
        ),
    ],
)
def test_a_check_says_why_it_is_not_the_other_route(config, arguments, why):
    config.write_text(BFF_YAML + BETA)
    found = checked(config, *arguments)
    assert why in found("not")
    assert found("route")[0].startswith("products ")


def test_a_check_says_what_is_refused_and_why(config):
    assert checked(config, "GET", "/api/users/usr_1", key="bff_wrong")("answer")[0].startswith("401 UNAUTHENTICATED")
    assert checked(config, "GET", "/nowhere")("answer")[0].startswith("404 NOT_FOUND")
    big = checked(config, "POST", "/api/products", "--body", "x" * 3_000_000)
    assert big("answer")[0].startswith("413 PAYLOAD_TOO_LARGE")
    assert not big("service")


def test_schema_export_prints_the_schema_and_nothing_else(config):
    ran = bff("schema", "export", "-c", str(config))
    assert ran.exit_code == 0
    schema = build_schema(ran.stdout)
    assert schema.mutation_type.fields.keys() == {
        "updateUser",
        "placeOrder",
        "cancelOrder",
        "payOrder",
        "refundPayment",
    }


def test_a_service_that_is_not_configured_has_no_part_in_the_schema(config):
    settings = yaml.safe_load(BFF_YAML)
    settings["services"] = {name: settings["services"][name] for name in ("users", "products")}
    settings["routes"] = settings["routes"][:2]
    config.write_text(yaml.safe_dump(settings))
    ran = bff("schema", "export", "-c", str(config))
    assert ran.exit_code == 0, ran.stderr
    schema = build_schema(ran.stdout)
    assert "Order" not in schema.type_map
    assert "orders" not in schema.type_map["User"].fields


def test_config_schema_is_a_json_schema_that_takes_the_projects_own_configuration():
    ran = bff("config", "schema")
    assert ran.exit_code == 0
    schema = json.loads(ran.stdout)
    jsonschema_rs.meta.validate(schema)
    judge = jsonschema_rs.Draft202012Validator(schema)
    assert judge.is_valid(yaml.safe_load((ROOT / "bff.yaml").read_text()))
    assert not judge.is_valid({"services": {"users": {"url": "http://x", "timeot": "2s"}}})


def test_keys_create_prints_a_key_and_the_hash_that_lets_it_in(config):
    ran = bff("keys", "create", "--consumer", "acme")
    key, hashed = ran.stdout.splitlines()
    assert hashed == f"sha256:{sha256(key.encode()).hexdigest()}"
    assert len(key) > 40
    assert bff("keys", "create", "--consumer", "acme").stdout != ran.stdout
    settings = yaml.safe_load(BFF_YAML)
    settings["auth"]["api_keys"] = [{"consumer": "acme", "hash": hashed}]
    config.write_text(yaml.safe_dump(settings))
    assert bff("check", "-c", str(config)).exit_code == 0


def test_help_names_every_command():
    ran = bff("--help")
    for command in ("run", "demo", "check", "routes", "config", "schema", "token", "keys", "new"):
        assert re.search(rf"\b{command}\b", ran.stdout)


# token


def test_token_prints_a_customers_token_and_nothing_else(shop):
    ran = bff("token", "--subject", "usr_7", "--identity", shop.urls["identity"])
    assert ran.exit_code == 0
    assert ran.stdout.count("\n") == 1
    claims = jwt.decode(ran.stdout.strip(), options={"verify_signature": False})
    assert claims["sub"] == "usr_7"
    assert "orders:read" in claims["scope"].split()
    assert "admin" not in claims["scope"]


def test_token_takes_scopes(shop):
    ran = bff("token", "--subject", "usr_7", "--scope", "users:read users:admin", "--identity", shop.urls["identity"])
    assert jwt.decode(ran.stdout.strip(), options={"verify_signature": False})["scope"] == "users:read users:admin"


def test_token_says_what_to_do_when_there_is_no_identity_provider():
    ran = bff("token", "--subject", "usr_7", "--identity", "http://127.0.0.1:1")
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert "bff demo" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "urlopen" not in ran.stderr


# run


def test_run_serves_both_ports_until_it_is_told_to_end(shop, config):
    with running(config, shop) as gateway:
        assert httpx.get(f"{gateway.admin}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{gateway.admin}/readyz").status_code == 200
        token = bff("token", "--subject", "usr_7", "--identity", shop.urls["identity"]).stdout.strip()
        headers = {"authorization": f"Bearer {token}"}
        answer = httpx.post(f"{gateway.url}/graphql", json={"query": "{ me { id } }"}, headers=headers)
        assert answer.json() == {"data": {"me": {"id": "usr_7"}}}
        assert httpx.get(f"{gateway.url}/api/users/usr_7", headers=headers).json()["id"] == "usr_7"
        assert "http_server_request_duration_seconds" in httpx.get(f"{gateway.admin}/metrics").text
        gateway.process.terminate()
        assert gateway.process.wait(10) == 0
    lines = [json.loads(line) for line in gateway.stdout.splitlines()]
    assert [line["path"] for line in lines if line["event"] == "request"] == ["/graphql", "/api/users/usr_7"]
    assert "Traceback" not in gateway.stderr


def test_run_says_which_port_it_could_not_have(shop, config):
    with running(config, shop) as gateway:
        environ = os.environ | gateway.environ
        ran = subprocess.run(
            [sys.executable, "-m", "bff", "run", "-c", config],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    assert gateway.url.rpartition(":")[2] in ran.stderr
    assert "in use" in ran.stderr


def test_run_with_a_broken_configuration_says_so_and_ends(config):
    config.write_text("services: {users: {}}")
    started = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "bff", "run", "-c", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 1
    assert "services.users.url" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert time.monotonic() - started < 20


def test_the_banner_is_one_that_a_newcomer_can_act_on(shop, config):
    with running(config, shop, "--profile", "development") as gateway:
        banner = gateway.stderr
    for address in (f"{gateway.url}/graphql", f"{gateway.url}/api/users/", f"{gateway.admin}/console"):
        assert address in banner
    assert "development" in banner


# health


def test_health_says_whether_the_gateway_is_alive_and_ready(production):
    for more in ([], ["--ready"]):
        ran = bff("health", "--admin", production.admin, *more)
        assert (ran.exit_code, json.loads(ran.stdout)) == (0, {"status": "ok"}), ran.stderr


def test_health_finds_the_admin_port_in_the_configuration(config, production):
    port = production.admin.rpartition(":")[2]
    ran = bff("health", "-c", str(config), BFF__ADMIN__HOST="0.0.0.0", BFF__ADMIN__PORT=port)  # noqa: S104
    assert ran.exit_code == 0, ran.stderr


def test_health_says_why_a_gateway_is_not_ready(shop):
    needed = {"BFF__SERVICES__USERS__REQUIRED": "true", "BFF__SERVICES__USERS__URL": "http://127.0.0.1:9"}
    with running(ROOT / "bff.yaml", shop, **needed) as gateway:
        ran = bff("health", "--ready", "--admin", gateway.admin)
        assert ran.exit_code == 1
        assert json.loads(ran.stderr)["status"] == "unavailable"
        assert bff("health", "--admin", gateway.admin).exit_code == 0


@pytest.mark.parametrize("admin", ["http://127.0.0.1:9", "127.0.0.1:9000", "file:///etc/passwd", "http://[::1"])
def test_health_of_what_is_not_there_is_an_error_and_no_trace(admin):
    ran = bff("health", "--admin", admin)
    assert ran.exit_code == 1
    assert isinstance(ran.exception, SystemExit)
    assert admin in ran.stderr


def test_health_says_in_words_why_nothing_answers_or_only_half_of_it():
    ran = bff("health", "--admin", "http://127.0.0.1:9")
    assert ran.stderr == "The gateway's admin port, http://127.0.0.1:9, does not answer: Connection refused\n"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as beside:

        def half() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # who asks has no time, and may have left
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 99\r\n\r\n{")
                connection.recv(1000)

        answering = beside.submit(half)
        ran = bff("health", "--admin", f"http://127.0.0.1:{server.getsockname()[1]}", "--timeout", "0.5")
        answering.result(30)
    assert (ran.exit_code, type(ran.exception)) == (1, SystemExit)
    assert ran.stderr.endswith("does not answer: timed out\n")


def test_the_version_is_the_one_of_the_package_and_of_the_newest_changes():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert __version__ == package
    assert f"\n## {package}" in (ROOT / "CHANGELOG.md").read_text()
    assert bff("--version").output.startswith(f"bff {package} (Python 3.")
