"""What README and docs show is true: examples load, compile and run; tables equal the code that they describe."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.request import urlopen

import httpx
import pytest
import typer
import yaml
from pydantic import TypeAdapter

import demo
import schema
import services
from bff.app import build
from bff.assembly import schema_modules
from bff.cli import main as commands
from bff.config import PROFILES, Config, ConfigError, load
from bff.core.errors import Code, GatewayError
from bff.core.loading import shape
from bff.core.settings import Settings
from bff.core.telemetry import Telemetry
from bff.generations import Generations
from bff.graphql.compose import compose
from bff.graphql.documents import Documents
from tests.harness import BFF_YAML, FOUR_SERVICES, bearer, gateway, operator, token
from tests.live.socket import Socket
from tests.pki import Authority
from tests.running import free_port
from tests.shop import answer as answered

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
ANY_SERVICE = {"services": {"any": {"url": "http://any.internal"}}}


class Block(NamedTuple):
    page: str
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```([^\n]+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, match[1], match[2])


BLOCKS = list(blocks())
CONFIGS = [each for each in BLOCKS if each.info == "yaml bff"]
MODULES = [each for each in BLOCKS if each.info.startswith("python ")]
SESSIONS = [each for each in BLOCKS if each.info == "sh demo"]


def cells(page: str) -> list[list[str]]:
    """All rows of all tables of a page."""
    lines = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def word(cell: str) -> str | None:
    match = re.fullmatch(r"`([^`]+)`", cell)
    return match[1] if match else None


# Examples


@pytest.mark.parametrize("block", CONFIGS, ids=str)
def test_a_configuration_loads_and_the_gateway_is_built_with_it(block):
    config = load(block.text, overrides={} if "services:" in block.text else ANY_SERVICE)
    assert config.services


def test_the_configuration_of_what_is_not_everywhere_installed_loads():
    (block,) = [each for each in BLOCKS if each.info == "yaml modsecurity"]
    assert load(block.text, overrides=ANY_SERVICE).firewall.modsecurity


def test_the_errors_shown_are_those_that_the_mistakes_give():
    pairs = [(one, other) for one, other in pairwise(BLOCKS) if one.info == "yaml bad" and other.info == "text errors"]
    assert pairs
    for mistakes, report in pairs:
        with pytest.raises(ConfigError) as error:
            load(mistakes.text)
        assert str(error.value).splitlines() == report.text.splitlines()


def test_every_block_is_of_a_kind_that_is_looked_at():
    kinds = {
        "yaml bff",
        "yaml modsecurity",
        "yaml bad",
        "text errors",
        "sh demo",
        "sh keys",
        "sh",
        "sh tls",
        "sh tls client",
        "yaml tls",
        "yaml alert",
        "yaml systemd",
        "json",
        "js clients",
        "graphql",
        "graphql operations/order_page.graphql",
    }
    assert [str(each) for each in BLOCKS if each.info not in kinds and each not in MODULES] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page):
    links = re.findall(
        r"\]\(([^)#:]+)\)", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    )
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_command_shown_exists():
    root: Any = typer.main.get_command(commands)
    known = set(root.commands)
    known |= {f"{name} {each}" for name, group in root.commands.items() for each in getattr(group, "commands", ())}
    shown = {
        match[1]
        for page in PAGES
        for match in re.finditer(
            r"`(?:\.venv/bin/)?bff ([a-z]+(?: (?:create|list|purge|revoke|schema|service|export))?)", page.read_text()
        )
    }
    assert {"run", "check", "token", "keys create"} <= shown <= known


def test_the_commands_about_keys_do_what_the_text_says(tmp_path):
    """In a folder of its own, with the configuration shown before them and the file that the text says beside it."""
    ((shown, commands_of_keys),) = [
        (one, other) for one, other in pairwise(BLOCKS) if one.info == "yaml bff" and other.info == "sh keys"
    ]
    (tmp_path / "bff.yaml").write_text(shown.text + "  api_keys_file: keys.yaml\n")
    script = commands_of_keys.text.replace("bff ", f"{shlex.quote(sys.executable)} -m bff ")
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    key, hashed, *table = ran.stdout.splitlines()
    assert (key[:9], hashed[:7]) == ("bff_acme_", "sha256:")
    assert [line.split()[1] for line in table] == ["CONSUMER", "acme", "acme"]
    assert table[-1].startswith(key[:13])


@pytest.fixture
def shown_modules(tmp_path, monkeypatch):
    """The modules of README and docs, beside those of the demo."""
    for block in MODULES:
        path = tmp_path / block.info.removeprefix("python ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    for package in (services, schema):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / package.__name__)])
    yield
    for block in MODULES:
        folder, name = Path(block.info.removeprefix("python ")).with_suffix("").parts
        sys.modules.pop(f"{folder}.{name}", None)
        vars(sys.modules[folder]).pop(name, None)


class Answers(httpx.AsyncBaseTransport):
    """The fake network of another gateway, and two more services."""

    def __init__(self, others: httpx.AsyncBaseTransport) -> None:
        self.others = others
        self.targets: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target = request.extensions["target"].decode()
        ids = target.partition("ids=")[2].partition("&")[0].split(",")
        if request.url.host == "inventory.internal":
            answer: Any = {"items": [{"product_id": id, "in_stock": 7} for id in ids if id != "prd_2"]}
        elif request.url.host == "reviews.internal" and request.method == "POST":
            answer = {"id": "rev_9", "product_id": "prd_1", "stars": 4, "text": "good"}
        elif request.url.host == "reviews.internal":
            answer = {
                "items": [{"id": "rev_1", "product_id": id, "stars": 5, "text": "fine"} for id in ids],
                "next_cursors": {},
            }
        else:
            return await self.others.handle_async_request(request)
        self.targets.append(target)
        return answered(200, answer)


async def ask(config: Config, document: str, network: Any) -> Any:
    transport = httpx.ASGITransport(build(config, network=network), client=("192.0.2.1", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.example") as client:
        return (await client.post("/graphql", json={"query": document}, headers=operator())).json()


def with_entry(page: str, name: str) -> Config:
    (entry,) = [yaml.safe_load(each.text) for each in CONFIGS if each.page == page and f"  {name}:" in each.text]
    return load(BFF_YAML, overrides=entry)


@pytest.mark.usefixtures("shown_modules")
async def test_the_fifth_service_of_the_readme_is_two_files_and_an_entry_and_costs_one_call():
    config = with_entry("README.md", "inventory")
    network = Answers(gateway().services)
    answer = await ask(config, "{ products(first: 3) { nodes { id availability { inStock } } } }", network)
    assert answer == {
        "data": {
            "products": {
                "nodes": [
                    {"id": "prd_1", "availability": {"inStock": 7}},
                    {"id": "prd_2", "availability": None},
                    {"id": "prd_3", "availability": {"inStock": 7}},
                ]
            }
        }
    }
    assert network.targets == ["/availability?ids=prd_1,prd_2,prd_3"]


@pytest.mark.usefixtures("shown_modules")
async def test_the_modules_of_extending_answer_with_pages_nodes_writes_and_errors():
    config = with_entry("docs/extending.md", "reviews")
    network = Answers(gateway().services)
    document = """{ products(first: 2) { nodes { reviews(first: 1) { nodes { stars product { id } } } } }
        node(id: "rev_1") { ... on Review { text } } }"""
    answer = await ask(config, document, network)
    reviews = [[{"stars": 5, "product": {"id": each}}] for each in ("prd_1", "prd_2")]
    assert [node["reviews"]["nodes"] for node in answer["data"]["products"]["nodes"]] == reviews
    assert answer["data"]["node"] == {"text": "fine"}
    assert len(network.targets) == 2
    refused = await ask(config, 'mutation { writeReview(productId: "prd_1", stars: 4, text: "") { id } }', network)
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.usefixtures("shown_modules")
async def test_the_module_of_cost_has_a_number_and_a_bound():
    known = parcels()
    document = known.document('{ parcel(id: "par_1") { stops } node(id: "par_2") { id } }')
    estimate = document.operation(None).cost.estimate({})
    assert (estimate.cost, estimate.calls) == (2 + 1 + 1, 1)


def parcels() -> Documents:
    module = import_module("schema.parcels")
    return Documents(compose([module])._schema, load(BFF_YAML).graphql, Telemetry(), max_batch={"parcels": 500})


def test_the_numbers_of_cost_are_right():
    schema = compose(schema_modules(load(BFF_YAML)))._schema
    known = Documents(schema, load(BFF_YAML).graphql, Telemetry(), max_batch={})
    rows = {word(row[0]): row[1] for row in cells("docs/cost.md") if (word(row[0]) or "").startswith("{")}
    numbers = {text: known.document(text).operation(None).cost.estimate({}).cost for text in rows if text}
    assert {text: int(re.match(r"\d+", said)[0]) for text, said in rows.items()} == numbers


@pytest.mark.usefixtures("shown_modules")
async def test_the_stream_of_extending_is_watched_with_its_scope():
    class Shipments(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert request.extensions["target"] == b"/shipments/shp_1/events"
            text = b'data: {"id": "shp_1", "place": "here"}\n\ndata: {"id": "shp_1", "place": "there"}\n\n'
            headers = {"content-type": "text/event-stream"}
            return httpx.Response(200, headers=headers, stream=httpx.ByteStream(text), request=request)

    app = build(with_entry("docs/extending.md", "shipments"), network=Shipments())
    query = 'subscription { shipmentMoved(id: "shp_1") { place } }'
    async with Socket(app, headers=bearer(token(scope="shipments:read"))) as socket:
        await socket.init()
        await socket.subscribe("1", query)
        places = [(await socket.hear())["payload"]["data"]["shipmentMoved"]["place"] for _ in range(2)]
    assert places == ["here", "there"]
    async with Socket(app, headers=operator()) as socket:
        await socket.init()
        await socket.subscribe("1", query)
        assert (await socket.hear())["payload"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.usefixtures("shown_modules")
async def test_the_module_of_policy_gives_each_caller_what_it_may_have():
    policies = yaml.safe_load(next(each.text for each in CONFIGS if each.page == "docs/policy.md"))["policies"]
    services = {"loyalty": {"url": "http://loyalty.internal"}}
    shop = gateway(BFF_YAML, policies=policies | {"gold": "caller.subject == 'usr_7'"}, services=services)
    document = "{ loyalty { points discount } voucher }"
    asked = {name: bearer(token(f"usr_{name}", scope)) for name, scope in {"7": "admin", "8": "loyalty:read"}.items()}
    assert (await shop.query(document)).data == {"loyalty": None, "voucher": None}
    gold = await shop.query(document, headers=asked["7"])
    assert gold.data == {"loyalty": {"points": 7, "discount": 20}, "voucher": "WELCOME"}
    other = await shop.query(document, headers=asked["8"])
    assert other.data == {"loyalty": {"points": 7, "discount": None}, "voucher": "WELCOME"}
    assert other.codes == ["FORBIDDEN"]


async def test_a_gateway_without_tiers_has_no_limit_and_answers():
    network = gateway().services
    text = next(each.text for each in CONFIGS if each.page == "README.md" and "public: true" in each.text)
    config = load(text.replace("http://127.0.0.1:8102", "http://products.internal"))
    transport = httpx.ASGITransport(build(config, network=network), client=("192.0.2.1", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.example") as client:
        answer = await client.get("/shop/products/prd_1")
    assert (answer.status_code, answer.json()["id"]) == (200, "prd_1")
    assert "ratelimit" not in answer.headers


# Tables


def written(value: Any) -> str:
    """As it is in YAML."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def leaves(model: type[Settings], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its default as people would write it; `*` and `[]` stand for names and places."""
    for name, field in model.model_fields.items():
        key, annotation = f"{path}{name}", field.annotation
        item = next(iter(shape.models(annotation)), None)
        if item is not None:
            yield from leaves(item, f"{key}.")
        elif inner := [each for each in typing.get_args(annotation) if shape.models(each)]:
            yield from leaves(inner[0], f"{key}.*." if typing.get_origin(annotation) is dict else f"{key}[].")
        elif field.is_required():
            yield key, "required"
        elif typing.get_origin(annotation) is dict:
            yield f"{key}.*", None
        else:
            kind: Any = Annotated[annotation, *field.metadata] if field.metadata else annotation
            default = TypeAdapter(kind).dump_python(field.default, mode="json")
            yield key, None if default is None else written(default)


def test_every_key_of_the_configuration_is_described_with_its_default():
    rows = {word(row[0]): row[1] for row in cells("docs/configuration.md") if len(row) == 3}
    described = {key: word(default) or default or None for key, default in rows.items() if key and "." in key}
    assert described == dict(leaves(Config))


def test_the_profiles_differ_in_what_the_docs_say():
    assert PROFILES == {
        "production": {"observability": {"traces": {"sample": 0.01}}},
        "development": {
            "graphql": {"get": True, "ide": True, "introspection": True, "batching": {"max_operations": 5}},
            "openapi": {"enabled": True},
            "observability": {"requests": {"sample": 1.0, "explain": True}},
        },
    }


def subclasses(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield error
    for each in error.__subclasses__():
        yield from subclasses(each)


def test_the_table_of_codes_is_the_closed_list_with_the_statuses_of_the_errors():
    table = {word(row[0]): int(row[1]) for row in cells("docs/errors.md") if len(row) >= 2 and row[1].isdigit()}
    assert set(table) == {code.value for code in Code}
    sent = {str(each.code): each.status for each in subclasses(GatewayError) if "code" in vars(each)}
    assert {code: table[code] for code in sent} == sent


async def test_the_table_of_the_access_log_has_the_fields_that_are_written():
    rows = [word(row[0]) for row in cells("docs/observability.md") if len(row) == 2]
    described = {name for name in rows if name}
    one = gateway(services={"orders": {"url": None, "targets": {"a": [f"http://orders-{n}.internal" for n in "12"]}}})
    await one.query(FOUR_SERVICES, headers=operator())
    await one.client.get("/nothing/here")
    async with Socket(one.app):
        pass
    route = {"name": "any", "path": "/any", "service": "users", "public": True, "cache": True}
    caching = gateway(routes=[route])
    await caching.client.get("/any")
    assert set().union(*one.access, *caching.access) == described


async def test_the_table_of_metrics_has_those_that_are_measured_with_their_labels(tmp_path):
    described = {
        word(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in cells("docs/observability.md") if len(row) == 3
    }
    pair = Authority(tmp_path).issue("server")
    arms = {"stable": ["http://orders.internal"], "next": ["http://orders-next.internal"]}
    mirrored = {"url": None, "targets": arms, "mirror": {"to": "next", "percent": 1}}
    coalesced = {"products": {"coalesce": True}, "orders": mirrored}
    routes = [{"name": "any", "path": "/any", "service": "users", "public": True, "cache": True, "websocket": True}]
    one = gateway(server={"tls": pair.settings}, store="redis://nowhere.internal", services=coalesced, routes=routes)
    Generations(one.config, telemetry=one.telemetry, network=one.services)
    pair.key.unlink()
    await one.app.state.tls.context.look()
    await one.query(FOUR_SERVICES, headers=operator())
    for headers in ({}, operator()):
        again = '{ product(id: "prd_9") { id } order(id: "ord_1") { items { product { id } } } }'
        await one.query(again, headers=headers)
    await one.client.get("/nothing/here")
    measured: dict[str, set[str]] = {}
    for family in one.telemetry.registry.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                name = f"{family.name}_total" if family.type == "counter" else family.name
                measured.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert {name: labels for name, labels in described.items() if name} == measured


def test_the_operation_shown_is_the_demo_s():
    (block,) = [each for each in BLOCKS if each.info.startswith("graphql operations/")]
    assert (ROOT / block.info.removeprefix("graphql ")).read_text() == block.text


async def test_the_page_shown_is_answered_and_the_other_operations_are_endpoints(tmp_path):
    for at, block in enumerate(each for each in BLOCKS if each.page == "docs/aggregates.md" and "@rest" in each.text):
        if "directive" not in block.text:
            (tmp_path / f"{at}.graphql").write_text(block.text)
    one = gateway(graphql={"documents": {"path": str(tmp_path)}})
    assert [each.name for each in one.config.aggregates] == ["OrderPage", "PlaceOrder", "RenameUser"]
    page = await one.client.get("/api/pages/order/ord_1", headers=operator())
    assert {"id", "status", "items", "payment"} <= page.json().keys()
    order = {"items": [{"productId": "prd_1", "quantity": 1}], "idempotencyKey": "once-and-only-once"}
    placed = await one.client.post("/api/actions/orders", json=order, headers=operator())
    assert (placed.status_code, placed.json()["status"]) == (201, "PENDING")
    renamed = await one.client.patch("/api/actions/users/usr_1", json={"name": "Ada"}, headers=operator())
    assert renamed.json()["updateUser"] == {"id": "usr_1", "name": "Ada"}


# Sessions


class Running(NamedTuple):
    public: int
    admin: int
    identity: str
    log: Path

    def run(self, session: str) -> subprocess.CompletedProcess[str]:
        here = session.replace("127.0.0.1:8000", f"127.0.0.1:{self.public}")
        here = here.replace("127.0.0.1:9000", f"127.0.0.1:{self.admin}")
        bff = f"{shlex.quote(sys.executable)} -m bff"
        here = here.replace(".venv/bin/bff token", f"{bff} token --identity {self.identity}")
        here = here.replace(".venv/bin/bff explain", f"{bff} explain")
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    """The demo and `bff run` with bff.yaml, as processes, on free ports."""
    log = tmp_path_factory.mktemp("docs") / "gateway.log"
    with demo.processes(demo.FREE) as shop:
        public, admin = free_port(), free_port()
        environ = {f"BFF__SERVICES__{name.upper()}__URL": url for name, url in shop.urls.items() if name != "identity"}
        identity = shop.urls["identity"]
        environ |= {
            "BFF__SERVER__PORT": str(public),
            "BFF__ADMIN__PORT": str(admin),
            "BFF__AUTH__JWT__0__ISSUER": identity,
            "BFF__AUTH__JWT__0__JWKS": f"{identity}/.well-known/jwks.json",
        }
        command = [sys.executable, "-m", "bff", "run", "--profile", "development"]
        with log.open("w") as out, subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, stdout=out) as process:
            try:
                await_answer(f"http://127.0.0.1:{admin}/readyz", process)
                yield Running(public, admin, identity, log)
            finally:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGTERM)
                process.wait(30)


def await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(url, timeout=10):  # noqa: S310 - it is http, on this machine
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing at {url}")


@pytest.mark.parametrize("session", SESSIONS, ids=str)
def test_a_session_runs_and_gives_what_the_text_says(session, running):
    done = running.run(session.text)
    assert done.returncode == 0, done.stderr
    assert '"errors"' not in done.stdout
    assert "INTERNAL_SERVER_ERROR" not in done.stdout


def session(page: str, part: str) -> str:
    (found,) = [each.text for each in SESSIONS if each.page == page and part in each.text]
    return found


def test_the_page_of_the_readme_is_the_one_that_it_shows(running):
    (shown,) = re.findall(r'^    (\{"id":"ord_1".*)$', (ROOT / "README.md").read_text(), re.MULTILINE)
    said = re.escape(shown).replace(re.escape("..."), ".*")
    assert re.fullmatch(said, running.run(session("README.md", "/api/pages/order/ord_1")).stdout)


def test_the_query_of_the_readme_gets_something_of_all_four_services(running):
    answer = running.run(session("README.md", "TOKEN=")).stdout
    assert all(part in answer for part in ('"name":"Ada Lovelace"', '"id":"ord_', '"price"', '"CAPTURED"'))


def test_the_two_fronts_take_from_one_account_at_the_prices_shown(running):
    lines = running.run(session("README.md", "ratelimit")).stdout.splitlines()
    left = [int(match[1]) for line in lines if (match := re.search(r";r=(\d+);", line))]
    assert len(left) == 2
    assert left[0] - left[1] == 1
    assert lines[1].strip() == 'ratelimit-policy: "partner-60";q=6000;w=60'


def test_the_request_to_look_for_is_in_the_log_with_its_trace(running):
    running.run(session("README.md", "look-for-me"))
    until = time.monotonic() + 30
    while '"look-for-me"' not in running.log.read_text():  # lines are written together, a little later
        assert time.monotonic() < until
        time.sleep(0.05)
    (line, *_) = [each for each in running.log.read_text().splitlines() if '"look-for-me"' in each]
    assert '"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"' in line


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\(docs/([a-z]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {page.name for page in ROOT.glob("docs/*.md")} == linked


def test_decisions_are_numbered_each_by_its_own():
    pages = sorted(ROOT.glob("docs/adr/*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. "), page.name
