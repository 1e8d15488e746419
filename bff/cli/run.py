"""`bff run` and what a demo needs besides: `bff demo`, `bff token`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bff.cli.common import DEFAULT_CONFIG, ConfigPath, Profile, fail, read_config, warn, why

if TYPE_CHECKING:
    from bff.config import Config
    from bff.core.systemd import ServiceManager
    from bff.generations import Read
    from bff.graphql.ide import Example

commands = typer.Typer()

IDENTITY = "http://127.0.0.1:8105"
QUERY = (
    "{ users(first: 10) { nodes { name orders(first: 3) { nodes { id total { amount } items { quantity product "
    "{ name price { amount } } } payment { status } } } } } }"
)
OPERATOR = (
    "users:read users:write users:admin products:read orders:read orders:write orders:admin "
    "payments:read payments:write payments:admin"
)


@commands.command()
def run(
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
    demo: Annotated[bool, typer.Option(help="Start the demo's services too.")] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM: clients on the public port, operators on the admin port."""
    from bff.config import ConfigError, traced
    from bff.core.systemd import ServiceManager
    from bff.graphql.compose import SchemaError

    settings = read_config(config, profile)
    warn(settings)
    shown = example() if demo else None
    manager = ServiceManager(os.environ.pop("NOTIFY_SOCKET", None))  # ours alone: processes that we start say nothing

    def started() -> None:
        _banner(settings, profile, demo=demo)
        manager.ready()

    with _demo() if demo else nullcontext():
        try:
            status = _serve(
                settings,
                started,
                lambda files: traced(config, profile=profile, environ=os.environ, files=files),
                shown,
                manager,
            )
        except (ConfigError, SchemaError) as error:
            fail(str(error))
    raise typer.Exit(status)


def _serve(
    config: Config, started: Callable[[], None], read: Read, shown: Example | None, manager: ServiceManager
) -> int:
    """Until the end, in one process or several; the status to end with."""
    if config.server.processes > 1:
        from bff.supervisor import Supervisor

        return Supervisor(config, started=started, read=read, example=shown, manager=manager).run()
    import uvloop

    from bff.serve import serve

    uvloop.run(serve(config, started=started, read=read, example=shown, manager=manager))
    return 0


@commands.command("demo")
def run_demo() -> None:
    """Run the demo's services and identity provider alone, on ports 8101 to 8105, until Ctrl-C."""
    with _demo() as shop:
        for name, url in shop.urls.items():
            typer.echo(f"{name:10}{url}")
        try:
            shop.wait()
        except KeyboardInterrupt:
            typer.echo()


@commands.command()
def token(
    subject: Annotated[str, typer.Option(help="The user's id, such as usr_1.")],
    scope: Annotated[str | None, typer.Option(help="Space-separated; a customer's if not given.")] = None,
    identity: Annotated[str, typer.Option(help="The demo's identity provider.")] = IDENTITY,
) -> None:
    """Print a token of the demo's identity provider, and nothing else."""
    typer.echo(_token(subject, scope, identity))


@contextmanager
def _demo() -> Iterator[Any]:
    # Looked up by name, since a team that adopts the gateway deletes the folder.
    try:
        demo = import_module("demo")
    except ModuleNotFoundError:
        fail("There is no demo here: start from a checkout that still has its demo/ folder")
    try:
        with demo.processes() as shop:
            yield shop
    except (OSError, RuntimeError) as error:
        fail(f"The demo does not start: {error}")


def _token(subject: str, scope: str | None, identity: str) -> str:
    try:
        return _granted(subject, scope, identity)
    except OSError as error:
        fail(f"No token from the demo's identity provider at {identity}: {why(error)}. Is `bff demo` or `make run` up?")


def _granted(subject: str, scope: str | None, identity: str) -> str:
    from urllib.parse import urlencode
    from urllib.request import urlopen

    form = {"grant_type": "urn:demo:subject", "client_id": "demo-cli", "client_secret": "demo-secret"}
    form |= {"subject": subject} | ({"scope": scope} if scope is not None else {})
    with urlopen(f"{identity}/token", urlencode(form).encode(), timeout=5) as response:  # noqa: S310 - the demo's
        answer: dict[str, str] = json.load(response)
    return answer["access_token"]


def example(identity: str = IDENTITY) -> Example:
    """What GraphiQL begins with: the demo's query, and a new token of its operator for each page that is loaded."""
    from graphql import parse, print_ast

    from bff.graphql.ide import Example

    async def headers() -> dict[str, str]:
        try:
            return {"Authorization": f"Bearer {await asyncio.to_thread(_granted, 'usr_1', OPERATOR, identity)}"}
        except OSError:
            return {}

    hints = "# Four services, one call to each.\n# Ctrl-Enter runs it, Ctrl-Space completes.\n\n"
    return Example(hints + print_ast(parse(f"query FourServices {QUERY}")), headers)


def _page(config: Config) -> str:
    return f"  ({config.openapi.page} in a browser)" if config.openapi.page else ""


def _banner(config: Config, profile: str, *, demo: bool) -> None:
    base = f"{'https' if config.server.tls else 'http'}://{config.server.host}:{config.server.port}"
    lines = [
        f"The gateway is up ({profile}).",
        "",
        f"  GraphQL   {base}{config.graphql.path}{'  (GraphiQL in a browser)' if config.graphql.ide else ''}",
        *(f"  REST      {base}{route.path}" for route in config.routes),
        *([f"  OpenAPI   {base}{config.openapi.path}{_page(config)}"] if config.openapi.enabled else []),
        f"  Operators http://{config.admin.host}:{config.admin.port}/console, /metrics, /healthz, /readyz",
    ]
    if demo:
        key = import_module("demo").API_KEY
        lines += [
            "",
            "Ask all four services at once, as an operator:",
            "",
            f"  TOKEN={_token('usr_1', OPERATOR, IDENTITY)}",
            f'  curl -s {base}{config.graphql.path} -H "Authorization: Bearer $TOKEN" \\',
            f"    -H 'Content-Type: application/json' -d '{json.dumps({'query': QUERY})}'",
            "",
            "Another token, a customer's: .venv/bin/bff token --subject usr_2",
            "",
            "A partner's key, on REST (and on GraphQL, under the same limits):",
            "",
            f"  curl -s {base}/api/products/prd_1 -H 'X-API-Key: {key}'",
        ]
    print("\n".join(lines), file=sys.stderr, flush=True)
