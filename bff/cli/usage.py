"""`bff usage` and `bff schema diff`: who uses what of the gateway, and whom a change of its schema would hurt."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bff.cli.common import DEFAULT_CONFIG, AdminUrl, ConfigPath, Profile, ask_admin, fail, read_config, table, why
from bff.cli.look import schema_commands

if TYPE_CHECKING:
    from graphql import GraphQLSchema

    from bff.config import Config
    from bff.core.usage import Counts, Use
    from bff.graphql.breaking import Break

commands = typer.Typer()


@commands.command()
def usage(
    file: Annotated[Path | None, typer.Argument(help="As a gateway keeps it; else the running one is asked.")] = None,
    admin: AdminUrl = None,
    client: Annotated[str | None, typer.Option(help="Only of this client.")] = None,
    unused: Annotated[bool, typer.Option(help="What of the schema nobody uses, instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """List who has used which fields, arguments and types of GraphQL, and which routes, how often, and when last."""
    counts = _counts(str(file) if file else admin, config, profile)
    if unused:
        used = {each.thing for each in counts.uses("graphql")}
        left = [each for each in _fields(_schema(read_config(config, profile))) if each not in used]
        typer.echo(json.dumps(left, indent=2) if as_json else "\n".join(left))
        return
    found = {
        kind: [each for each in counts.uses(kind) if client in {None, each.client}] for kind in ("graphql", "rest")
    }
    if as_json:
        typer.echo(json.dumps({kind: list(map(_said, uses)) for kind, uses in found.items()}, indent=2))
        return
    rows = [(kind, each.thing, each.client, str(each.count), each.last) for kind in found for each in found[kind]]
    table([("KIND", "WHAT", "CLIENT", "REQUESTS", "LAST"), *rows])


@schema_commands.command("diff")
def schema_diff(
    against: Annotated[Path, typer.Option(help="The schema that clients have now, as `bff schema export` wrote it.")],
    source: Annotated[str | None, typer.Option("--usage", help="A file of a gateway, or its admin port.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Say what of the schema here breaks clients of another one, and with --usage, whom it would hurt, and how often.

    Ends with status 1 if a change breaks something; with --usage, if somebody has used that.
    """
    from graphql import GraphQLError, build_schema

    from bff.graphql.breaking import breaks

    try:
        before = build_schema(against.read_text())
    except (OSError, UnicodeDecodeError, GraphQLError, TypeError) as error:
        fail(f"{against}: {why(error)}")
    found = breaks(before, _schema(read_config(config, profile)))
    counts = _counts(source, config, profile) if source else None
    if counts is not None and not counts.days:
        fail(f"{source}: no usage is kept there yet, which does not mean that nobody would be hurt")
    hurt = [(each, _hurt(each, counts)) for each in found]
    if as_json:
        typer.echo(json.dumps([_as_json(each, who) for each, who in hurt], indent=2))
    else:
        for each, who in hurt:
            _tell(each, who, counts)
        typer.echo(_summary(found, [each for each, who in hurt if who], counts))
    if any(who or counts is None for _, who in hurt):
        raise typer.Exit(1)


def _counts(source: str | None, config: Path, profile: str) -> Counts:
    from bff.core.usage import Counts, UsageUnreadable

    if source is None or source.startswith(("http://", "https://")):
        return Counts(ask_admin("/-/usage", source, config, profile)["days"])
    try:
        return Counts.read(Path(source))
    except UsageUnreadable as error:
        fail(str(error))


def _schema(config: Config) -> GraphQLSchema:
    """The one here, read from its text like the other: directives that only modules know are in neither."""
    from graphql import build_schema

    from bff.assembly import schema_of
    from bff.graphql.compose import SchemaError

    try:
        return build_schema(schema_of(config).as_str())
    except SchemaError as error:
        fail(str(error))


def _fields(schema: GraphQLSchema) -> Iterable[str]:
    """Of objects and interfaces: what clients can select."""
    from graphql import is_interface_type, is_object_type

    for type_ in schema.type_map.values():
        if (is_object_type(type_) or is_interface_type(type_)) and not type_.name.startswith("__"):
            yield from (f"{type_.name}.{name}" for name in type_.fields)


def _hurt(change: Break, counts: Counts | None) -> list[Use]:
    """Who has used what it breaks, once each; of those who have used several parts of it, the part used most."""
    from bff.core.usage import Use

    found: dict[str, Use] = {}
    for each in counts.uses("graphql") if counts else ():
        if each.thing in change.hurts:
            before = found.get(each.client, each)
            most = max(before, each, key=lambda use: use.count)
            found[each.client] = Use(most.thing, each.client, most.count, max(before.last, each.last))
    return sorted(found.values(), key=lambda use: -use.count)


def _tell(change: Break, who: list[Use], counts: Counts | None) -> None:
    typer.echo(f"{'breaks' if who or counts is None else 'unused'}  {change.what}")
    for each in who:
        many = f"{each.count:,} request{'' if each.count == 1 else 's'}"
        typer.echo(f"          {each.client}: {many} with {each.thing}, last on {each.last}")


def _summary(found: list[Break], hurting: list[Break], counts: Counts | None) -> str:
    if not found:
        return "Nothing breaks."
    if counts is None:
        return f"{len(found)} {'change breaks' if len(found) == 1 else 'changes break'} clients, if any use it."
    since = min(counts.days)
    return f"{len(hurting)} of {len(found)} breaking changes would hurt somebody; others were not used since {since}."


def _said(use: Use) -> dict[str, Any]:
    return {"what": use.thing, "client": use.client, "requests": use.count, "last": use.last}


def _as_json(change: Break, who: list[Use]) -> dict[str, Any]:
    return {"change": change.kind, "what": change.what, "hurts": list(map(_said, who))}
