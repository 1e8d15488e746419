"""`bff keys`: API keys, in the file that the gateway follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Annotated

import typer

from bff.cli.common import DEFAULT_CONFIG, ConfigPath, Profile, fail, failing, group, read_config, table

if TYPE_CHECKING:
    from bff.core.store import StoreSettings
    from bff.edge.credentials import AuthSettings
    from bff.edge.credentials.api_keys import ApiKeySettings

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
    from bff.edge.credentials.api_keys import shown

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
            name, scopes = shown(each), " ".join(each.scopes)
            rows.append((name, each.consumer, each.tier, scopes, dates[0], dates[1], str(place)))
    table(rows)


@commands.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="As `bff keys list` shows it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    profile: Profile = "production",
) -> None:
    """Take an API key out of `auth.api_keys_file`: it stops working within `auth.api_keys_refresh`.

    With a `store`, all gateways that share it refuse the key within a second, also one that is in `auth.api_keys`.
    """
    from bff.core.store import store_settings
    from bff.edge.credentials import keys_file
    from bff.edge.credentials.api_keys import shown

    settings = read_config(config, profile)
    store, path = store_settings(settings.store), settings.auth.api_keys_file
    with failing():
        if not store.url.is_memory:
            revoked, known = asyncio.run(_revoke_everywhere(key, settings.auth, store, settings.tiers))
            if not known:
                fail(f"The store is away, so other gateways take {shown(revoked)} until their files say otherwise")
        elif path is None:
            fail(f"{config} has no auth.api_keys_file and no store: take the key out of auth.api_keys")
        else:
            revoked = keys_file.revoke(path, key, settings.tiers, settings.auth.api_keys)
    typer.echo(f"Revoked {shown(revoked)} of {revoked.consumer}.")


async def _revoke_everywhere(
    name: str, auth: AuthSettings, settings: StoreSettings, tiers: Iterable[str]
) -> tuple[ApiKeySettings, bool]:
    from httpx import AsyncBaseTransport

    from bff.core.store import SharedStore
    from bff.core.telemetry import JsonLog, Telemetry
    from bff.edge.credentials import Credentials
    from bff.edge.credentials.revocations import Revocations

    quiet = Telemetry(log=JsonLog(BytesIO()))
    store = SharedStore(settings, quiet)
    # Nobody is asked about keys.
    nobody, revocations = AsyncBaseTransport(), Revocations(store, quiet)
    credentials = Credentials(auth, nobody, tiers=frozenset(tiers), telemetry=quiet, revocations=revocations)
    await store.open()
    try:
        return await credentials.revoke(name)
    finally:
        await store.close()
