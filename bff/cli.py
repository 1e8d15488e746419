"""The command line: `bff run`, `bff check`, and what else an operator or a developer types."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from bff.config import Config
    from bff.graphql.ide import Example

main = typer.Typer(name="bff", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
config_commands = typer.Typer(help="The configuration.", no_args_is_help=True)
schema_commands = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)
keys_commands = typer.Typer(help="API keys.", no_args_is_help=True)
documents_commands = typer.Typer(help="Trusted documents.", no_args_is_help=True)
new_commands = typer.Typer(help="Write the first version of something.", no_args_is_help=True)
main.add_typer(config_commands, name="config")
main.add_typer(schema_commands, name="schema")
main.add_typer(keys_commands, name="keys")
main.add_typer(documents_commands, name="documents")
main.add_typer(new_commands, name="new")

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", envvar="BFF_CONFIG")]
Profile = Annotated[str, typer.Option(help="production or development.", envvar="BFF_PROFILE")]
DEFAULT_CONFIG = Path("bff.yaml")

IDENTITY = "http://127.0.0.1:8105"
QUERY = (
    "{ users(first: 10) { nodes { name orders(first: 3) { nodes { id total { amount } items { quantity product "
    "{ name price { amount } } } payment { status } } } } } }"
)
OPERATOR = (
    "users:read users:write users:admin products:read orders:read orders:write orders:admin "
    "payments:read payments:write payments:admin"
)


@main.command()
def run(
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
    demo: Annotated[bool, typer.Option(help="Start the demo's services too.")] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM: clients on the public port, operators on the admin port."""
    import uvloop

    from bff.config import ConfigError
    from bff.graphql.compose import SchemaError
    from bff.serve import serve

    settings = _config(config, profile)
    example = _example() if demo else None
    with _demo() if demo else nullcontext():
        try:
            uvloop.run(serve(settings, started=lambda: _banner(settings, profile, demo=demo), example=example))
        except (ConfigError, SchemaError) as error:
            _fail(str(error))


@main.command("demo")
def run_demo() -> None:
    """Run the demo's services and identity provider alone, on ports 8101 to 8105, until Ctrl-C."""
    with _demo() as shop:
        for name, url in shop.urls.items():
            typer.echo(f"{name:10}{url}")
        try:
            shop.wait()
        except KeyboardInterrupt:
            typer.echo()


@main.command()
def check(config: ConfigPath = DEFAULT_CONFIG, profile: Profile = "production") -> None:
    """Say whether the gateway would start with this configuration, and everything that keeps it from it."""
    from bff.app import build
    from bff.config import ConfigError
    from bff.graphql.trusted import DocumentsError

    settings = _config(config, profile)
    try:
        build(settings)
    except (ConfigError, DocumentsError) as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting is what was asked for
        _fail(f"{config}: the schema does not compose: {error}")
    typer.echo(f"{config}: fine, {len(settings.services)} services and {len(settings.all_routes())} routes")


@main.command()
def routes(config: ConfigPath = DEFAULT_CONFIG, profile: Profile = "production") -> None:
    """List the routes: what answers where, and who may pass."""
    rows = [("NAME", "METHODS", "PATH", "TO", "NEEDS", "COST")]
    for route in _config(config, profile).all_routes():
        scopes = ", ".join(sorted(route.read_scopes | route.write_scopes))
        needs = "nothing" if route.public else scopes or "a credential"
        to = f"{route.service} {route.rewrite or ''}".strip() if route.service else "the gateway"
        rows.append((route.name, ",".join(sorted(route.methods or ["*"])), route.path, to, needs, str(route.cost)))
    _table(rows)


@main.command()
def explain(
    paths: Annotated[list[Path], typer.Argument(help="Files with operations, or folders of .graphql files.")],
    variables: Annotated[str, typer.Option(help="Their values, as a JSON object.")] = "{}",
    operation: Annotated[str | None, typer.Option(help="Only the one of this name.")] = None,
    budget: Annotated[str | None, typer.Option(help="Fail if one is over calls=12,cost=5000, or unbounded.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Say what operations cost, which calls they make, in which order, and what their callers need.

    All is at worst. A variable without a value has its default, or where it has none the largest that is allowed.
    """
    from bff.app import schema_modules
    from bff.graphql.compose import SchemaError, compose
    from bff.graphql.cost import Costs
    from bff.graphql.explain import Budget, ExplainError
    from bff.graphql.explain import explain as explained

    settings = _config(config, profile)
    max_batch = {name: each.max_batch for name, each in settings.services.items()}
    try:
        values = json.loads(variables)
        if not isinstance(values, dict):
            _fail("--variables must be a JSON object")
        schema = compose(schema_modules(settings))._schema  # noqa: SLF001
        allowed = Budget.read(budget) if budget else None
        found = explained(Costs(schema, max_batch, settings.graphql.limits.list_size), paths, values, operation)
    except json.JSONDecodeError as error:
        _fail(f"--variables is not well-formed JSON: {error}")
    except (ExplainError, SchemaError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in found], indent=2))
    elif allowed is None:
        typer.echo("\n\n".join(each.as_text() for each in found))
    if allowed is not None:
        over = [f"{each.file}: {each.title}: {what}" for each in found for what in each.over(allowed)]
        if over:
            _fail("\n".join(over))
        if not as_json:
            typer.echo(f"{len(found)} operations are within {budget}")


@config_commands.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of bff.yaml, for editors."""
    from bff.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@schema_commands.command("export")
def schema_export(config: ConfigPath = DEFAULT_CONFIG, profile: Profile = "production") -> None:
    """Print the GraphQL schema in its definition language."""
    from bff.app import schema_modules
    from bff.graphql.compose import SchemaError, compose

    try:
        typer.echo(compose(schema_modules(_config(config, profile))).as_str())
    except SchemaError as error:
        _fail(str(error))


@main.command()
def token(
    subject: Annotated[str, typer.Option(help="The user's id, such as usr_1.")],
    scope: Annotated[str | None, typer.Option(help="Space-separated; a customer's if not given.")] = None,
    identity: Annotated[str, typer.Option(help="The demo's identity provider.")] = IDENTITY,
) -> None:
    """Print a token of the demo's identity provider, and nothing else."""
    typer.echo(_token(subject, scope, identity))


@documents_commands.command("build")
def documents_build(
    source: Annotated[Path, typer.Argument(help="A .graphql file, or a folder of them.")] = Path("operations"),
    format: Annotated[Literal["apollo", "relay"], typer.Option(help="Whose manifest.")] = "apollo",
    output: Annotated[Path | None, typer.Option(help="The file to write; printed if not given.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Write the manifest of an application's operations, once each of them fits the schema.

    Each operation is an entry, with the fragments that it needs from any of the files; its id is the SHA-256 of its
    text. `apollo` is what generate-persisted-query-manifest writes, with `__typename` where Apollo Client asks for it;
    `relay` is a JSON object from id to text.
    """
    from bff.app import schema_modules
    from bff.core.telemetry import Telemetry
    from bff.graphql.compose import SchemaError, compose
    from bff.graphql.documents import Documents
    from bff.graphql.trusted import manifest, read

    settings = _config(config, profile)
    try:
        text = manifest(source, format)
        schema = compose(schema_modules(settings))._schema  # noqa: SLF001 - strawberry has no other way to it
        Documents(schema, settings.graphql, Telemetry(), read(source))
    except SchemaError as error:
        _fail(str(error))
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {output}")


@keys_commands.command("create")
def keys_create(
    consumer: Annotated[str, typer.Option(help="Whose key it is.")],
    scope: Annotated[list[str] | None, typer.Option(help="What it may do; as often as there are scopes.")] = None,
    tier: Annotated[str, typer.Option(help="What it may spend.")] = "default",
    expires: Annotated[str | None, typer.Option(help="A date or time, such as 2027-01-31.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Print a new API key, and on the next line its hash, which is all that is kept of it.

    It is added to `auth.api_keys_file`, where there is one, and works once the gateway has looked; else the hash goes
    into `auth.api_keys`. A consumer has two keys at most, so that one can take the other's place.
    """
    from pydantic import TypeAdapter, ValidationError

    from bff.core.settings import Instant
    from bff.edge.credentials import keys_file

    settings = _config(config, profile) if config.exists() else None
    now = time.time()
    try:
        end = TypeAdapter(Instant).validate_python(expires) if expires else None
        key, entry = keys_file.new_key(consumer, scope or (), tier, now=now, expires=end)
    except ValidationError as error:
        _fail("; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors()))
    if settings and (path := settings.auth.api_keys_file):
        with _failing():
            keys_file.add(path, entry, settings.tiers, settings.auth.api_keys, now)
        typer.echo(f"Added to {path}.", err=True)
    typer.echo(key)
    typer.echo(entry.hash)


@keys_commands.command("list")
def keys_list(config: ConfigPath = DEFAULT_CONFIG, profile: Profile = "production") -> None:
    """List the API keys: whose they are, and what they may do. The keys themselves nobody has."""
    from bff.edge.credentials import keys_file

    auth, tiers = (settings := _config(config, profile)).auth, settings.tiers
    with _failing():
        path = auth.api_keys_file
        kept = keys_file.read(path, tiers, auth.api_keys) if path and path.exists() else ()
    rows = [("KEY", "CONSUMER", "TIER", "SCOPES", "CREATED", "EXPIRES", "IN")]
    for place, entries in ((config, auth.api_keys), (path, kept)):
        for each in entries:
            data = each.model_dump(mode="json")
            dates = [data["created"] or "", data["expires"] or "never"]
            if keys_file.has_expired(each, time.time()):
                dates[1] = "expired"
            name, scopes = keys_file.shown(each), " ".join(each.scopes)
            rows.append((name, each.consumer, each.tier, scopes, dates[0], dates[1], str(place)))
    _table(rows)


@keys_commands.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="As `bff keys list` shows it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Take an API key out of `auth.api_keys_file`: it stops working within `auth.api_keys_refresh`."""
    from bff.edge.credentials import keys_file

    settings = _config(config, profile)
    path = settings.auth.api_keys_file
    if path is None:
        _fail(f"{config} has no auth.api_keys_file: take the key out of auth.api_keys and start the gateway anew")
    with _failing():
        revoked = keys_file.revoke(path, key, settings.tiers, settings.auth.api_keys)
    typer.echo(f"Revoked {keys_file.shown(revoked)} of {revoked.consumer}.")


@new_commands.command("service")
def new_service(
    name: Annotated[str, typer.Argument(help="In the plural, such as reviews.")],
    openapi: Annotated[Path | None, typer.Option(help="The service's OpenAPI document.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the service is.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write services/NAME.py and schema/NAME.py, and the service's entry in the configuration."""
    from bff.scaffold import ScaffoldError
    from bff.scaffold import new_service as write

    try:
        written = write(name, root=Path.cwd(), url=url or f"http://{name}.internal", openapi=openapi, config=config)
    except ScaffoldError as error:
        _fail(str(error))
    for path in written:
        typer.echo(f"wrote {path}")


def _config(path: Path, profile: str) -> Config:
    from bff.config import ConfigError, read

    try:
        return read(path, profile=profile, environ=os.environ)
    except ConfigError as error:
        _fail(str(error))


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def _failing() -> Iterator[None]:
    """What is wrong with a file is said, not thrown."""
    from bff.config import ConfigError

    try:
        yield
    except ConfigError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


@contextmanager
def _demo() -> Iterator[Any]:
    # Looked up by name, since a team that adopts the gateway deletes the folder.
    try:
        demo = import_module("demo")
    except ModuleNotFoundError:
        _fail("There is no demo here: start from a checkout that still has its demo/ folder")
    try:
        with demo.processes() as shop:
            yield shop
    except (OSError, RuntimeError) as error:
        _fail(f"The demo does not start: {error}")


def _token(subject: str, scope: str | None, identity: str) -> str:
    try:
        return _granted(subject, scope, identity)
    except OSError as error:
        _fail(f"No token from the demo's identity provider at {identity}: {error}. Is `bff demo` or `make run` up?")


def _granted(subject: str, scope: str | None, identity: str) -> str:
    from urllib.parse import urlencode
    from urllib.request import urlopen

    form = {"grant_type": "urn:demo:subject", "client_id": "demo-cli", "client_secret": "demo-secret"}
    form |= {"subject": subject} | ({"scope": scope} if scope is not None else {})
    with urlopen(f"{identity}/token", urlencode(form).encode(), timeout=5) as response:  # noqa: S310 - the demo's
        answer: dict[str, str] = json.load(response)
    return answer["access_token"]


def _example(identity: str = IDENTITY) -> Example:
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


def _banner(config: Config, profile: str, *, demo: bool) -> None:
    base = f"http://{config.server.host}:{config.server.port}"
    lines = [
        f"The gateway is up ({profile}).",
        "",
        f"  GraphQL   {base}{config.graphql.path}{'  (GraphiQL in a browser)' if config.graphql.ide else ''}",
        *(f"  REST      {base}{route.path}" for route in config.routes),
        f"  Operators http://{config.admin.host}:{config.admin.port}/metrics, /healthz, /readyz",
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
