"""What can be seen of a gateway without running it: `bff check`, `routes`, `explain`, `config` and `schema`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Annotated, Any

import typer

from bff.cli.common import (
    DEFAULT_CONFIG,
    AdminUrl,
    ConfigPath,
    Profile,
    ask_admin,
    fail,
    group,
    read_config,
    table,
    warn,
)

commands = typer.Typer()
config_commands = group("The configuration.")
schema_commands = group("The GraphQL schema.")
check_commands = typer.Typer()
commands.add_typer(config_commands, name="config")
commands.add_typer(schema_commands, name="schema")
commands.add_typer(check_commands, name="check")


@check_commands.callback(invoke_without_command=True)
def check(context: typer.Context, config: ConfigPath = DEFAULT_CONFIG, profile: Profile = "production") -> None:
    """Say whether the gateway would start with this configuration, and everything that keeps it from it."""
    if context.invoked_subcommand:
        return
    from bff.app import build
    from bff.config import ConfigError
    from bff.graphql.trusted import DocumentsError

    settings = read_config(config, profile)
    try:
        build(settings)
    except (ConfigError, DocumentsError) as error:
        fail(str(error))
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting is what was asked for
        fail(f"{config}: the schema does not compose: {error}")
    warn(settings)
    typer.echo(
        f"{config}: fine, {_counted(settings.services, 'service')} and {_counted(settings.all_routes(), 'route')}"
    )


def _counted(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


@check_commands.command("request")
def check_request(
    method: Annotated[str, typer.Argument(help="Such as GET.")],
    target: Annotated[str, typer.Argument(help="Path and query, percent-encoded: /api/products?limit=2")],
    headers: Annotated[list[str] | None, typer.Option("--header", "-H", help="As often as there are headers.")] = None,
    body: Annotated[str | None, typer.Option(help="Text, @file, or @- for what is typed in.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Say what would become of a request: which route, through which layers, to which service; why not the others.

    It is sent through a gateway whose services are not there; what they would be asked is shown.
    """
    from bff.cli.request import body_of, explained
    from bff.config import ConfigError
    from bff.graphql.trusted import DocumentsError

    settings = read_config(config, profile)
    try:
        typer.echo(explained(settings, method.upper(), target, headers or [], body_of(body)))
    except (ConfigError, DocumentsError, OSError) as error:
        fail(str(error))


@commands.command()
def routes(config: ConfigPath = DEFAULT_CONFIG, profile: Profile = "production") -> None:
    """List the routes: what answers where and when, who may pass, what it costs, and its bounds."""
    from bff.cli.request import conditions, needs, websockets
    from bff.graphql.trusted import DocumentsError

    settings = read_config(config, profile)
    written = {each.name: each for each in settings.routes}
    rows = [("NAME", "METHODS", "PATH", "CONDITIONS", "TO", "NEEDS", "COST", "AT A TIME", "BODY", "TIME", "WEBSOCKETS")]
    try:
        all_routes = settings.all_routes()
    except DocumentsError as error:
        fail(str(error))
    for route in all_routes:
        of_rest = written.get(route.name)
        bounds = of_rest.model_dump(mode="json") if of_rest else {}
        rows.append(
            (
                route.name,
                ",".join(sorted(route.methods or ["*"])),
                route.path,
                ", ".join(conditions(route)) or "-",
                f"{route.service} {route.rewrite or ''}".strip() if route.service else _itself(bounds),
                needs(route),
                f"{route.cost}{' or as told' if route.cost_header else ''}",
                str(route.concurrency or "-"),
                bounds.get("max_body", "-"),
                bounds.get("timeout", "-"),
                (websockets(of_rest) if of_rest else "") or "-",
            )
        )
    table(rows)


def _itself(written: Mapping[str, Any]) -> str:
    redirect = written.get("redirect")
    return f"{redirect['status']} {redirect['to']}" if redirect else "the gateway"


@commands.command()
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
    from bff.assembly import schema_of
    from bff.graphql.compose import SchemaError, executable
    from bff.graphql.cost import Costs
    from bff.graphql.explain import Budget, ExplainError
    from bff.graphql.explain import explain as explained

    settings = read_config(config, profile)
    max_batch = {name: each.max_batch for name, each in settings.services.items()}
    try:
        values = json.loads(variables)
        if not isinstance(values, dict):
            fail("--variables must be a JSON object")
        schema = executable(schema_of(settings))
        allowed = Budget.read(budget) if budget else None
        found = explained(Costs(schema, max_batch, settings.graphql.limits.list_size), paths, values, operation)
    except json.JSONDecodeError as error:
        fail(f"--variables is not well-formed JSON: {error}")
    except (ExplainError, SchemaError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in found], indent=2))
    elif allowed is None:
        typer.echo("\n\n".join(each.as_text() for each in found))
    if allowed is not None:
        over = [f"{each.file}: {each.title}: {what}" for each in found for what in each.over(allowed)]
        if over:
            fail("\n".join(over))
        if not as_json:
            typer.echo(f"{len(found)} operations are within {budget}")


@config_commands.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of bff.yaml, for editors."""
    from bff.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@config_commands.command("diff")
def config_diff(
    against: Annotated[Path | None, typer.Option(help="A file to compare with, not the running gateway.")] = None,
    admin: AdminUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Say what a reload would change in the running gateway, key by key, and what of it needs a restart.

    With --against, what differs from that file, and nothing has to run. Secrets stay hidden.
    """
    from bff.config import needs_restart
    from bff.core.loading.changes import changes

    if against:
        found = changes(read_config(against, profile), read_config(config, profile))
        differing = [each._asdict() for each in found]
    else:
        said = ask_admin("/-/reload", admin, config, profile, refusals=frozenset({422}))
        if said.get("problems"):
            fail("The running gateway cannot use its file:\n" + "\n".join(said["problems"]))
        differing = said["changes"]
    if as_json:
        typer.echo(json.dumps(differing, indent=2))
        return
    if not differing:
        typer.echo("Nothing differs.")
    for each in differing:
        before, after = (json.dumps(each[side], ensure_ascii=False) for side in ("before", "after"))
        typer.echo(f"{each['key']}: {before} -> {after}{'  (restart)' if needs_restart(each['key']) else ''}")


@schema_commands.command("export")
def schema_export(
    entitlements: Annotated[str | None, typer.Option(help="What a table of `entitlements` leaves of it.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Print the GraphQL schema in its definition language: the whole of it, or what a partner sees."""
    from graphql import print_schema

    from bff.assembly import schema_of
    from bff.graphql.compose import SchemaError, executable
    from bff.graphql.views import UnknownCoordinate, view

    settings = read_config(config, profile)
    try:
        schema = schema_of(settings)
        if entitlements is None:
            typer.echo(schema.as_str())
            return
        table = settings.tables().tables.get(entitlements)
        if table is None:
            fail(f"there is no table `{entitlements}` in `entitlements`")
        left = view(executable(schema), table)
    except (SchemaError, UnknownCoordinate) as error:
        fail(str(error))
    typer.echo(print_schema(left) if left else "# nothing of GraphQL")
