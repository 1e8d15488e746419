"""`bff keys`: API keys, in the file that the gateway follows."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from bff.cli.common import DEFAULT_CONFIG, ConfigPath, Profile, fail, failing, group, read_config, table

commands = group("API keys.")


@commands.command("create")
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

    settings = read_config(config, profile) if config.exists() else None
    now = time.time()
    try:
        end = TypeAdapter(Instant).validate_python(expires) if expires else None
        key, entry = keys_file.new_key(consumer, scope or (), tier, now=now, expires=end)
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors()))
    if settings and (path := settings.auth.api_keys_file):
        with failing():
            keys_file.add(path, entry, settings.tiers, settings.auth.api_keys, now)
        typer.echo(f"Added to {path}.", err=True)
    typer.echo(key)
    typer.echo(entry.hash)


@commands.command("list")
def keys_list(config: ConfigPath = DEFAULT_CONFIG, profile: Profile = "production") -> None:
    """List the API keys: whose they are, and what they may do. The keys themselves nobody has."""
    from bff.edge.credentials import keys_file

    auth, tiers = (settings := read_config(config, profile)).auth, settings.tiers
    with failing():
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
    table(rows)


@commands.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="As `bff keys list` shows it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Take an API key out of `auth.api_keys_file`: it stops working within `auth.api_keys_refresh`."""
    from bff.edge.credentials import keys_file

    settings = read_config(config, profile)
    path = settings.auth.api_keys_file
    if path is None:
        fail(f"{config} has no auth.api_keys_file: take the key out of auth.api_keys and start the gateway anew")
    with failing():
        revoked = keys_file.revoke(path, key, settings.tiers, settings.auth.api_keys)
    typer.echo(f"Revoked {keys_file.shown(revoked)} of {revoked.consumer}.")
